//! Numbers for people.

/// With a comma between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A size in the largest unit of which there is one.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fits = UNITS.into_iter().find(|(_, scale)| bytes >= *scale);
    match fits {
        Some((unit, scale)) => format!("{}.{} {unit}", bytes / scale, bytes % scale * 10 / scale),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        let shown = [0, 12, 999, 1000, 12_345, 999_999, 1_000_000].map(grouped);
        assert_eq!(shown, ["0", "12", "999", "1,000", "12,345", "999,999", "1,000,000"]);
    }

    #[test]
    fn sizes_have_a_unit() {
        let shown = [0, 1023, 1024, 1536, 4 << 20, (4 << 30) - 1, 5 << 40].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "4.0 MiB", "3.9 GiB", "5.0 TiB"]);
    }
}
