//! `packetboat demo` as a process, without a terminal.

use std::process::{Command, Stdio};

#[test]
fn without_a_terminal_it_cuts_mends_and_tells_the_verdict() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let demo = demo.args(["demo", "--seconds", "3", "--rate", "2000"]).env_remove("PACKETBOAT_LOG");
    let done = demo.stdin(Stdio::null()).output().unwrap();
    let (told, complaints) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{told}{complaints}");
    assert_eq!(complaints, "", "no log");
    let verdict = told.lines().last().unwrap_or_default();
    let number = |word: &str| -> u64 {
        let fields: Vec<&str> = verdict.split([' ', ',', ':']).filter(|field| !field.is_empty()).collect();
        let place = fields.windows(2).position(|pair| pair[1].starts_with(word)).expect(word);
        fields[place].parse().expect(word)
    };
    assert!(verdict.starts_with("nothing lost: "), "{told}");
    assert!(number("metrics") >= 4000, "{verdict}");
    assert_eq!(number("missing"), 0, "{verdict}");
}

#[test]
fn wrong_numbers_are_wrong_use() {
    for arguments in [["--seconds", "0"], ["--rate", "1"], ["--rate", "many"]] {
        let mut demo = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        let done = demo.arg("demo").args(arguments).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
    }
}
