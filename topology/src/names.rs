//! Names: what one may look like, how one is quoted in a message, and which known one was meant.

use std::fmt::Write;

/// The longest name of a mesh, node or link, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Above this likeness (Jaro-Winkler, 0 to 1) a name is offered as the one that was meant.
const LIKENESS_MIN: f64 = 0.8;
/// So that a file full of wrong names is still answered at once.
const CANDIDATES_MAX: usize = 1000;
/// How much of a text a message repeats, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// What [`is_name`] wants, for the mend.
pub(crate) const NAME_RULE: &str =
    "use up to 64 letters, digits, `-` and `_`, beginning with a letter or digit";

/// Whether a text may be a name. Names become header values, metric labels, directories and systemd
/// instances, and stand between dots in a key path.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() <= NAME_BYTES_MAX
        && text.bytes().all(fits)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// The candidate that is most like `word`, if any is like it at all.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// A text from the file, made safe for a terminal and a log line: control characters are escaped and
/// the end of a long text is left out.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::new();
    for (index, char) in text.chars().enumerate() {
        if index == QUOTED_CHARS_MAX {
            out.push_str("...");
            break;
        }
        if char.is_control() || is_invisible(char) {
            // Writing into a String does not fail.
            _ = write!(out, "{}", char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

/// Marks that turn the direction of a line or take no room: they could make a message lie.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_headers_metrics_and_paths() {
        for good in ["eu", "us-east_1", "7", &"a".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-eu", "_eu", ".", "..", "a.b", "a/b", "a b", "a:b", "é", "a\n", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_closest_name_is_offered_and_a_strange_one_is_not() {
        assert_eq!(closest("eu-hb", ["us", "eu", "edge"]), Some("eu"));
        assert_eq!(closest("forwrad", ["listen", "forward"]), Some("forward"));
        assert_eq!(closest("zebra", ["us", "eu"]), None);
        assert_eq!(closest("eu", []), None);
    }

    #[test]
    fn a_message_cannot_be_bent_by_what_it_quotes() {
        assert_eq!(plain("a\u{1b}[31m\n"), "a\\u{1b}[31m\\u{a}");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(plain(&"x".repeat(1000)), format!("{}...", "x".repeat(80)));
    }
}
