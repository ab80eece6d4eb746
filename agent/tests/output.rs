//! What a command says when its output cannot be written.

use std::fs::OpenOptions;
use std::io;
use std::process::{Command, Stdio};

/// The exit code and the complaint of the check of a right topology with this standard output.
fn check(out: Stdio) -> io::Result<(Option<i32>, String)> {
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topology/examples/world.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let running = command.args(["topology", "check", topology]).stdout(out).stderr(Stdio::piped()).spawn()?;
    let done = running.wait_with_output()?;
    Ok((done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned()))
}

/// As `head` does once it has enough.
#[test]
fn who_reads_no_more_is_no_failure() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert_eq!(check(writer.into()).unwrap(), (Some(0), String::new()));
}

#[test]
fn a_full_disk_is_one() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, said) = check(full.into()).unwrap();
    assert_eq!(code, Some(1));
    assert!(said.contains("No space left on device"), "{said}");
}
