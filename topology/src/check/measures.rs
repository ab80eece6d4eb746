//! Sizes and durations, read from text. A bare number is a fault: nobody knows what it counts.

use std::time::Duration;

use super::book::Complaint;
use crate::names::plain;

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
const SIZE_MEND: &str = "write a whole number and KiB, MiB, GiB or TiB (kB, MB, GB, TB), such as 4GiB";

/// Below this not even a few batches of 64 KiB have room.
const SIZE_BYTES_MIN: u64 = 16 << 20;
/// SQLite counts in signed 64 bits, and no disk is larger.
const SIZE_BYTES_MAX: u64 = i64::MAX as u64;

const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// A producer waits as long for its receipt.
const INTERVAL_MAX: Duration = Duration::from_secs(10);

/// A size on disk, in bytes.
pub(crate) fn size(text: &str) -> Result<u64, Complaint> {
    let complain = |what: &str, mend: &str| Err(Complaint::new(format!("`{}` {what}", plain(text)), mend));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = (&text[..digits], text[digits..].trim());
    if number.is_empty() {
        return complain("is no size", SIZE_MEND);
    }
    if unit.is_empty() {
        return complain("is a size without a unit", SIZE_MEND);
    }
    let Some((_, factor)) = UNITS.iter().find(|(known, _)| *known == unit) else {
        return match likely_unit(unit) {
            Some(meant) => complain("has an unknown unit", &format!("did you mean {number}{meant}?")),
            None => complain("is no size", SIZE_MEND),
        };
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)) {
        Some(bytes) if bytes < SIZE_BYTES_MIN => {
            complain("is too little to work with", "write 16MiB or more")
        }
        Some(bytes) if bytes <= SIZE_BYTES_MAX => Ok(bytes),
        _ => complain("is more than any disk holds", "write less than 8000000TiB"),
    }
}

/// `20gib`, `20G` and `20g` mean 20GiB, most likely.
fn likely_unit(unit: &str) -> Option<&'static str> {
    let same = |known: &str| known.eq_ignore_ascii_case(unit);
    let first = |known: &str| known.len() == 3 && known[..1].eq_ignore_ascii_case(unit);
    UNITS.iter().map(|(known, _)| *known).find(|known| same(known) || first(known))
}

/// How long an open batch may wait.
pub(crate) fn interval(text: &str) -> Result<Duration, Complaint> {
    let complain = |what: &str, mend: &str| Err(Complaint::new(format!("`{}` {what}", plain(text)), mend));
    let mend = "write a number and a unit, such as 20ms";
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return complain("is a duration without a unit", mend);
    }
    match humantime::parse_duration(text) {
        Ok(interval) if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => Ok(interval),
        Ok(_) => complain("is out of range", "write 1ms to 10s"),
        Err(_) => complain("is no duration", mend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_error(text: &str) -> String {
        let Complaint { message, mend } = size(text).unwrap_err();
        format!("{message}; {mend}")
    }

    fn interval_error(text: &str) -> String {
        let Complaint { message, mend } = interval(text).unwrap_err();
        format!("{message}; {mend}")
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert_eq!(size("16384 KiB"), Ok(16 << 20));
        assert_eq!(size("20MB"), Ok(20_000_000));
        assert_eq!(size("16777216B"), Ok(16 << 20));
    }

    #[test]
    fn a_size_without_a_unit_is_a_fault() {
        let rest = "write a whole number and KiB, MiB, GiB or TiB (kB, MB, GB, TB), such as 4GiB";
        assert_eq!(size_error("20"), format!("`20` is a size without a unit; {rest}"));
        assert_eq!(size_error("GiB"), format!("`GiB` is no size; {rest}"));
        assert_eq!(size_error("1.5GiB"), format!("`1.5GiB` is no size; {rest}"));
        assert_eq!(size_error("-1GiB"), format!("`-1GiB` is no size; {rest}"));
    }

    #[test]
    fn a_likely_unit_is_offered() {
        assert_eq!(size_error("20gib"), "`20gib` has an unknown unit; did you mean 20GiB?");
        assert_eq!(size_error("20G"), "`20G` has an unknown unit; did you mean 20GiB?");
        assert_eq!(size_error("20k"), "`20k` has an unknown unit; did you mean 20KiB?");
    }

    #[test]
    fn sizes_are_neither_too_small_nor_too_large() {
        assert_eq!(size_error("0GiB"), "`0GiB` is too little to work with; write 16MiB or more");
        assert_eq!(size_error("16383KiB"), "`16383KiB` is too little to work with; write 16MiB or more");
        let rest = "is more than any disk holds; write less than 8000000TiB";
        assert_eq!(size_error("8388608TiB"), format!("`8388608TiB` {rest}"));
        assert_eq!(size_error("99999999999999999999B"), format!("`99999999999999999999B` {rest}"));
        assert_eq!(size("8388607TiB"), Ok(8_388_607 << 40));
    }

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(interval("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(interval("1s 500ms"), Ok(Duration::from_millis(1500)));
        let rest = "write a number and a unit, such as 20ms";
        assert_eq!(interval_error("20"), format!("`20` is a duration without a unit; {rest}"));
        assert_eq!(interval_error("soon"), format!("`soon` is no duration; {rest}"));
        assert_eq!(
            interval_error("99999999999999999999s"),
            format!("`99999999999999999999s` is no duration; {rest}")
        );
        assert_eq!(interval_error("0ms"), "`0ms` is out of range; write 1ms to 10s");
        assert_eq!(interval_error("11s"), "`11s` is out of range; write 1ms to 10s");
    }
}
