//! Header escapes, which differ by protocol version.
//!
//! STOMP 1.0 has none; 1.1 has `\\`, `\n` and `\c`; 1.2 adds `\r` ("Value Encoding" of each
//! specification). CONNECT and CONNECTED are not escaped in any of them.

use bytes::{BufMut, BytesMut};

use super::Version;

/// Appends `text` as a header name or value. What a version cannot express is replaced by a blank, and
/// a NUL, which ends a frame and has no escape in any version, is left out.
pub(super) fn escape(text: &str, version: Version, out: &mut BytesMut) {
    if !text.contains(['\0', '\n', '\r', ':', '\\']) {
        return out.put_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        match (byte, version) {
            (0, _) => {}
            (b'\n' | b'\r', Version::V1_0) | (b'\r', Version::V1_1) => out.put_u8(b' '),
            (b'\n', _) => out.put_slice(b"\\n"),
            (b'\r', Version::V1_2) => out.put_slice(b"\\r"),
            (b':', Version::V1_1 | Version::V1_2) => out.put_slice(b"\\c"),
            (b'\\', Version::V1_1 | Version::V1_2) => out.put_slice(b"\\\\"),
            (byte, _) => out.put_u8(byte),
        }
    }
}

/// Undoes [`escape`]. An undefined escape stays as it is: the specification calls it an error, but
/// ActiveMQ passes on what a producer wrote, and a header that we do not even read must not stop a
/// queue. What is not UTF-8 is replaced.
pub(super) fn unescape(text: Vec<u8>, version: Version) -> String {
    let plain = if text.contains(&b'\\') { without_escapes(&text, version) } else { text };
    String::from_utf8(plain).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn without_escapes(mut rest: &[u8], version: Version) -> Vec<u8> {
    let mut plain = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let escaped =
            (byte == b'\\').then(|| after.first().and_then(|&code| meaning(code, version))).flatten();
        plain.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[1..] } else { after };
    }
    plain
}

fn meaning(code: u8, version: Version) -> Option<u8> {
    match (code, version) {
        (_, Version::V1_0) => None,
        (b'n', _) => Some(b'\n'),
        (b'c', _) => Some(b':'),
        (b'\\', _) => Some(b'\\'),
        (b'r', Version::V1_2) => Some(b'\r'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, version: Version, expected: &str) {
        let mut out = BytesMut::new();
        escape(text, version, &mut out);
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn each_version_has_its_escapes() {
        check("a:b\\c\nd\re\0f", Version::V1_2, "a\\cb\\\\c\\nd\\ref");
        check("a:b\\c\nd\re\0f", Version::V1_1, "a\\cb\\\\c\\nd ef");
        check("a:b\\c\nd\re\0f", Version::V1_0, "a:b\\c d ef");
    }

    #[test]
    fn undefined_escapes_and_a_last_backslash_stay() {
        assert_eq!(unescape(b"a\\tb\\".to_vec(), Version::V1_2), "a\\tb\\");
        assert_eq!(unescape(b"a\\rb".to_vec(), Version::V1_1), "a\\rb");
        assert_eq!(unescape(b"a\\cb".to_vec(), Version::V1_0), "a\\cb");
        assert_eq!(unescape(b"\\\\n".to_vec(), Version::V1_2), "\\n");
    }

    #[test]
    fn what_is_not_utf_8_is_replaced() {
        assert_eq!(unescape(b"a\xffb".to_vec(), Version::V1_2), "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(text in "[^\0]*") {
            let mut out = BytesMut::new();
            escape(&text, Version::V1_2, &mut out);
            prop_assert!(!out.contains(&b'\n') && !out.contains(&b':'));
            prop_assert_eq!(unescape(out.to_vec(), Version::V1_2), text);
        }
    }
}
