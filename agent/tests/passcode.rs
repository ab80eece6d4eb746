//! `packetboat passcode` as an operator runs it, without a terminal.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use argon2::{Argon2, PasswordVerifier};

fn passcode(input: &[u8]) -> io::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.arg("passcode").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    child.wait_with_output()
}

#[test]
fn it_prints_one_hash_and_nothing_else() {
    let Output { status, stdout, stderr } = passcode(b"correct horse\nanother line\n").unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    assert!(stdout.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && stdout.ends_with('\n'), "{stdout}");
    let hash = stdout.trim_end_matches('\n');
    assert!(!hash.contains('\n') && !hash.contains("correct"), "{hash}");
    assert_eq!(Argon2::default().verify_password(b"correct horse", hash), Ok(()));
    assert!(Argon2::default().verify_password(b"correct horse\n", hash).is_err());
}

#[test]
fn what_is_no_passcode_is_told_in_one_line() {
    for (input, fault) in [
        (&b""[..], "is empty"),
        (b"secret\n", "has fewer than 8 characters"),
        (b"sec\x07ret code\n", "has control characters"),
    ] {
        let Output { status, stdout, stderr } = passcode(input).unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{stderr}");
        assert!(stderr.starts_with("packetboat: the passcode ") && stderr.contains(fault), "{stderr}");
        assert!(!stderr.contains("ret") && stderr.lines().count() == 1, "{stderr}");
    }
}
