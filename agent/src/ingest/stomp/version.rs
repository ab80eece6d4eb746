//! The versions of STOMP that are spoken, and how each escapes its headers.

use std::borrow::Cow;
use std::fmt;

/// A version of the protocol. The later is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V1_0,
    V1_1,
    V1_2,
}

/// An escape that the version does not define (STOMP 1.2, "Value Encoding": a fatal protocol error).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UndefinedEscape;

impl Version {
    /// From the least to the greatest.
    pub(super) const ALL: [Self; 3] = [Self::V1_0, Self::V1_1, Self::V1_2];

    /// As headers spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }

    /// What the octet after a backslash stands for.
    fn meaning(self, escaped: u8) -> Option<u8> {
        match (self, escaped) {
            (Self::V1_0, _) => None,
            (_, b'n') => Some(b'\n'),
            (_, b'c') => Some(b':'),
            (_, b'\\') => Some(b'\\'),
            (Self::V1_2, b'r') => Some(b'\r'),
            _ => None,
        }
    }

    /// How an octet of a header is written, where it cannot stand for itself.
    fn escape_of(self, octet: u8) -> Option<&'static [u8]> {
        match (self, octet) {
            // 1.0 cannot write it at all; better a blank than a header that is cut.
            (Self::V1_0, b'\n') => Some(b" "),
            (Self::V1_0, _) => None,
            (_, b'\n') => Some(b"\\n"),
            (_, b':') => Some(b"\\c"),
            (_, b'\\') => Some(b"\\\\"),
            (Self::V1_2, b'\r') => Some(b"\\r"),
            _ => None,
        }
    }

    /// Takes the escapes out of a header's name or value. 1.0 has none.
    pub(super) fn unescape(self, written: &[u8]) -> Result<Cow<'_, [u8]>, UndefinedEscape> {
        if self == Self::V1_0 || memchr::memchr(b'\\', written).is_none() {
            return Ok(Cow::Borrowed(written));
        }
        let mut plain = Vec::with_capacity(written.len());
        let mut octets = written.iter().copied();
        while let Some(octet) = octets.next() {
            plain.push(match octet {
                b'\\' => octets.next().and_then(|escaped| self.meaning(escaped)).ok_or(UndefinedEscape)?,
                _ => octet,
            });
        }
        Ok(Cow::Owned(plain))
    }

    /// Appends a header's name or value, escaped.
    pub(super) fn escape(self, plain: &[u8], out: &mut Vec<u8>) {
        for &octet in plain {
            match self.escape_of(octet) {
                Some(escape) => out.extend_from_slice(escape),
                None => out.push(octet),
            }
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, written: &str, plain: Result<&str, UndefinedEscape>) {
        let found = version.unescape(written.as_bytes());
        assert_eq!(found, plain.map(|plain| Cow::Borrowed(plain.as_bytes())), "{written:?} at {version}");
    }

    /// STOMP 1.2 and 1.1, "Value Encoding".
    #[test]
    fn escapes_are_those_of_the_version() {
        check(Version::V1_2, r"a\cb\nc\\d\re", Ok("a:b\nc\\d\re"));
        check(Version::V1_1, r"a\cb\nc\\d", Ok("a:b\nc\\d"));
        check(Version::V1_0, r"a\cb\t\", Ok(r"a\cb\t\"));
    }

    /// STOMP 1.2, "Value Encoding": "Undefined escape sequences such as \t MUST be treated as a fatal
    /// protocol error."
    #[test]
    fn undefined_escapes_are_errors() {
        check(Version::V1_2, r"a\t", Err(UndefinedEscape));
        check(Version::V1_2, r"a\", Err(UndefinedEscape));
        check(Version::V1_1, r"a\r", Err(UndefinedEscape));
    }
}
