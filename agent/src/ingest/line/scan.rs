//! Measures the fields at the start of a line, byte by byte or eight at a time. Converts nothing but
//! timestamps.

/// Digits of the latest timestamp.
const TIMESTAMP_DIGITS_MAX: usize = 10;

/// How many bytes of `!` to `~` there are at the start. Eight at a time, since names are most of a line.
pub(super) fn graphic_ascii(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        // The high bit of a byte comes up if it was up, or by a borrow below `!`, or by a carry above
        // `~`. A borrow or carry may spoil the bytes above it, never the first that is found.
        let found = (word | word.wrapping_sub(EACH * 0x21) | word.wrapping_add(EACH)) & (EACH * 0x80);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_graphic()).count()
}

/// The length of the decimal number without exponent at the start; 0 if there is none.
pub(super) fn plain_number(bytes: &[u8]) -> usize {
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let whole = digits(&bytes[sign..]);
    let point = sign + whole;
    if bytes.get(point) != Some(&b'.') {
        return if whole == 0 { 0 } else { point };
    }
    let fraction = digits(&bytes[point + 1..]);
    if whole + fraction == 0 { 0 } else { point + 1 + fraction }
}

/// How many ASCII digits there are at the start.
pub(super) fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Length and value of the integer at the start, of which no more than the digits of a timestamp are
/// read.
pub(super) fn short_integer(bytes: &[u8]) -> (usize, i64) {
    let mut value = 0;
    let mut length = 0;
    for byte in bytes.iter().take(TIMESTAMP_DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()) {
        value = value * 10 + i64::from(byte - b'0');
        length += 1;
    }
    (length, value)
}
