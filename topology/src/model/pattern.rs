//! Metric name patterns: which link takes a metric.

use std::error::Error;
use std::fmt;

/// A metric name pattern in the manner of Graphite: `*` stays within a segment, `**` crosses dots; both
/// may stand for nothing. A pattern is held against the whole name up to its first tag (`;`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks and keeps a pattern.
    ///
    /// # Errors
    ///
    /// What no metric name can match, and the rest of Graphite's patterns (`?`, `[a-z]`, `{a,b}`).
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let error = |reason, mend| Err(PatternError { reason, mend });
        if text.is_empty() {
            error("is empty and would match nothing", "write `**` for every metric")
        } else if text.contains("***") {
            error("has three stars in a row", "write `*` within a segment or `**` across dots")
        } else if text.contains(['?', '[', ']', '{', '}']) {
            error("uses more than `*` and `**`, which are all there is", "write one pattern for each case")
        } else if text.contains(';') {
            error("names tags, which are not matched", "match the name, up to its first `;`")
        } else if text.contains(|char: char| char.is_whitespace() || char.is_control()) {
            error("has blanks, and no metric name has", "write one pattern to an item of the list")
        } else {
            Ok(Pattern(text.to_owned()))
        }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches every name there can be.
    pub fn matches_all(&self) -> bool {
        self.0 == "**"
    }

    /// Whether a metric's name matches. Without allocation; the time grows with the length of the name,
    /// and with its square only where `*` follows `**`.
    pub fn matches(&self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        let untagged = name.split(|&byte| byte == b';').next().unwrap_or(name);
        matches(self.0.as_bytes(), untagged)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A star that was passed: where the pattern goes on after it, and up to where it has taken the name.
#[derive(Clone, Copy)]
struct Star {
    pattern: usize,
    name: usize,
}

/// Where the two differ, the last star takes one byte more; once that meets a dot, the last `**` does.
/// Going back further is never needed: what an earlier star could take, a later one can as well.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut at = Star { pattern: 0, name: 0 };
    let mut within: Option<Star> = None;
    let mut across: Option<Star> = None;
    loop {
        let rest = &pattern[at.pattern..];
        if rest.starts_with(b"**") {
            at.pattern += 2;
            (within, across) = (None, Some(at));
        } else if rest.first() == Some(&b'*') {
            at.pattern += 1;
            within = Some(at);
        } else if rest.is_empty() && at.name == name.len() {
            return true;
        } else if !rest.is_empty() && rest.first() == name.get(at.name) {
            at = Star { pattern: at.pattern + 1, name: at.name + 1 };
        } else if let Some(star) = within.filter(|star| name.get(star.name).is_some_and(|&byte| byte != b'.'))
        {
            at = Star { name: star.name + 1, ..star };
            within = Some(at);
        } else if let Some(star) = across.filter(|star| star.name < name.len()) {
            at = Star { name: star.name + 1, ..star };
            (within, across) = (None, Some(at));
        } else {
            return false;
        }
    }
}

/// A text that is not a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    /// What is wrong.
    pub reason: &'static str,
    /// What makes it right.
    pub mend: &'static str,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.mend)
    }
}

impl Error for PatternError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        assert_eq!(Pattern::parse(pattern).unwrap().matches(name), expected, "{pattern} {name}");
    }

    #[test]
    fn a_star_stays_within_a_segment() {
        check("cpu.*.load", "cpu.a.load", true);
        check("cpu.*.load", "cpu..load", true);
        check("cpu.*.load", "cpu.a.b.load", false);
        check("cpu.*", "cpu", false);
        check("cpu.*", "cpu.a.b", false);
        check("*", "cpu", true);
        check("*", "cpu.a", false);
        check("c*u*x.l", "cpuaxx.l", true);
    }

    #[test]
    fn two_stars_cross_dots() {
        check("**", "", true);
        check("cpu.**", "cpu.a.b.c", true);
        check("cpu.**", "cpu", false);
        check("**.load", "a.b.load", true);
        check("**.load", "a.b.load1", false);
        check("a.**.z*", "a.b.c.z.z1", true);
        check("a.**.z*", "a.b.c.z.y", false);
    }

    #[test]
    fn tags_are_left_out() {
        check("disk.*", "disk.used;datacenter=dc1.eu", true);
        check("disk.used", "disk.used;a=b", true);
        check("disk", "disk.used;a=b", false);
    }

    #[test]
    fn what_can_never_match_is_refused() {
        let error = |text| Pattern::parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "is empty and would match nothing; write `**` for every metric");
        assert_eq!(
            error("a.***"),
            "has three stars in a row; write `*` within a segment or `**` across dots"
        );
        assert_eq!(
            error("a.{b,c}"),
            "uses more than `*` and `**`, which are all there is; write one pattern for each case"
        );
        assert_eq!(error("a;b=c"), "names tags, which are not matched; match the name, up to its first `;`");
        assert_eq!(
            error("a b"),
            "has blanks, and no metric name has; write one pattern to an item of the list"
        );
    }

    /// The definition, as plain as it can be said and as slow.
    fn defined(pattern: &[u8], name: &[u8]) -> bool {
        if let Some(rest) = pattern.strip_prefix(b"**") {
            (0..=name.len()).any(|taken| defined(rest, &name[taken..]))
        } else if let Some(rest) = pattern.strip_prefix(b"*") {
            let segment = name.iter().take_while(|&&byte| byte != b'.').count();
            (0..=segment).any(|taken| defined(rest, &name[taken..]))
        } else {
            match (pattern.split_first(), name.split_first()) {
                (None, None) => true,
                (Some((a, pattern)), Some((b, name))) => a == b && defined(pattern, name),
                _ => false,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn matching_agrees_with_its_definition(pattern in "(\\*{0,2}[ab.]){0,6}\\*{0,2}", name in "[ab.]{0,10}") {
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(pattern, name), defined(pattern, name));
        }
    }
}
