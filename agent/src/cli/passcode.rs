//! `packetboat passcode`: the hash of a passcode, for `passcode_hash` of a user in the topology.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::Failure;
use crate::users::hash_passcode;

/// Shorter ones are soon guessed by whoever gets hold of the hash.
const CHARACTERS_MIN: usize = 8;
/// Longer ones are a mistake, such as a whole file.
const BYTES_MAX: usize = 1024;

/// Why there is no passcode to hash.
#[derive(Debug, thiserror::Error)]
enum PasscodeError {
    #[error("the passcode is empty")]
    Empty,
    #[error("the passcode has fewer than {CHARACTERS_MIN} characters: take a longer one")]
    Short,
    #[error("the passcode has more than {BYTES_MAX} bytes: it is to be the first line of standard input")]
    Long,
    #[error("the passcode has control characters, which no STOMP header can carry: take others")]
    Control,
    #[error("the passcode is not UTF-8, which STOMP headers are")]
    NotUtf8,
    #[error("the passcodes differ: start again")]
    Differ,
    #[error("cannot read the passcode: {0}")]
    Read(#[from] io::Error),
}

pub(super) fn run() -> Result<(), Failure> {
    let stdin = io::stdin();
    let passcode = if stdin.is_terminal() {
        ask(|prompt| rpassword::prompt_password(prompt))?
    } else {
        read(stdin.lock())?
    };
    writeln!(io::stdout(), "{}", hash_passcode(passcode.as_bytes())?)?;
    Ok(())
}

/// Asks twice, on the terminal: standard output is for the hash only.
fn ask(mut prompt: impl FnMut(&str) -> io::Result<String>) -> Result<String, PasscodeError> {
    let passcode = checked(prompt("Passcode: ")?)?;
    if prompt("Once more: ")? == passcode { Ok(passcode) } else { Err(PasscodeError::Differ) }
}

/// Takes the first line.
fn read(input: impl BufRead) -> Result<String, PasscodeError> {
    let mut line = Vec::new();
    // Room for a line end of two bytes and for one byte too many.
    input.take(BYTES_MAX as u64 + 3).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    checked(String::from_utf8(line.to_vec()).map_err(|_| PasscodeError::NotUtf8)?)
}

fn checked(passcode: String) -> Result<String, PasscodeError> {
    match passcode {
        passcode if passcode.is_empty() => Err(PasscodeError::Empty),
        passcode if passcode.len() > BYTES_MAX => Err(PasscodeError::Long),
        passcode if passcode.contains(char::is_control) => Err(PasscodeError::Control),
        passcode if passcode.chars().count() < CHARACTERS_MIN => Err(PasscodeError::Short),
        passcode => Ok(passcode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_the_input_is_the_passcode() {
        let check = |input: &[u8], expected: &str| match read(input) {
            Ok(passcode) => assert_eq!(passcode, expected),
            Err(error) => assert!(error.to_string().contains(expected), "{error}, not {expected}"),
        };
        check(b"correct horse", "correct horse");
        check(b" correct:horse\\ \r\nmore\n", " correct:horse\\ ");
        check("pa\u{df}w\u{f6}rter".as_bytes(), "pa\u{df}w\u{f6}rter");
        check(b"", "is empty");
        check(b"\ncorrect horse\n", "is empty");
        check(b"correct\thorse\n", "has control characters");
        check(b"correct horse\r\r\n", "has control characters");
        check(b"1234567\n", "has fewer than 8 characters");
        check("\u{df}\u{df}\u{df}\u{df}".as_bytes(), "has fewer than 8 characters");
        check(b"correct \xff horse\n", "is not UTF-8");
        check(&[b'a'; 1024], &"a".repeat(1024));
        check(&[[b'a'; 1024].as_slice(), b"\r\n"].concat(), &"a".repeat(1024));
        check(&[b'a'; 1025], "has more than 1024 bytes");
        check(&[b'a'; 1 << 20], "has more than 1024 bytes");
    }

    #[test]
    fn a_terminal_is_asked_twice() {
        let ask = |answers: &[&'static str]| {
            let mut answers = answers.iter().map(|&answer| answer.to_owned());
            let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
            ask(|_| answers.next().ok_or_else(gone)).map_err(|error| error.to_string())
        };
        assert_eq!(ask(&["correct horse", "correct horse"]).as_deref(), Ok("correct horse"));
        assert_eq!(
            ask(&["correct horse", "correct hose"]),
            Err("the passcodes differ: start again".to_owned())
        );
        let short = ask(&["1234567"]).unwrap_err();
        assert!(short.contains("fewer than 8"), "it is told before the second question: {short}");
        assert!(ask(&[]).unwrap_err().starts_with("cannot read the passcode: "));
    }
}
