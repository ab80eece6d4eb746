//! Reads what `strace` has written: calls, in the order in which they began and ended.
//!
//! The order is that of the lines. strace holds a thread at each beginning and each end of a call until it
//! has noted it, so that what one thread does because another has ended a call comes after that end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait::{until, when};

/// Longer strings are cut by strace. A page of SQLite and the largest write of a session are shorter.
const STRING_BYTES_MAX: &str = "70000";

/// One call of the traced process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Such as `fdatasync`.
    pub name: String,
    /// What its first file descriptor stands for: a path, or `socket:[NUMBER]`.
    pub target: String,
    /// The bytes that it writes, over all its buffers.
    pub bytes: Vec<u8>,
    /// The line of its beginning.
    pub began: usize,
    /// The line of its end, if it came to one, and what it returned.
    pub ended: Option<(usize, i64)>,
}

/// The words that run a program under strace, its `calls` traced into `file`. The program keeps its
/// process id, and strace ends with it.
pub fn wrapper(file: &Path, calls: &str) -> Vec<String> {
    let (calls, file) = (format!("trace={calls}"), file.display().to_string());
    // -D: the tracer is the child; -y: what a descriptor stands for; -xx: all strings in hex.
    let words = ["strace", "-D", "-f", "-y", "-xx", "-s", STRING_BYTES_MAX, "-e", &calls, "-o", &file];
    words.map(str::to_owned).to_vec()
}

/// Waits for the end of a trace, and reads it.
pub fn read(file: &PathBuf, limit: Duration) -> Vec<Call> {
    let trace = until(limit, "the end of the trace", || {
        let trace = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let last = trace.lines().next_back().unwrap_or_default().to_owned();
        when(last.contains("+++"), last).map(|()| trace)
    });
    parse(&trace)
}

/// The calls of a trace that was written with the options of [`wrapper`], by their beginnings. A call that
/// was interrupted counts as one that did not end.
///
/// # Panics
/// At a line that is none of strace's.
pub fn parse(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    // By thread, the call that has begun and not ended.
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let (thread, rest) = line.split_once(' ').unwrap_or_else(|| panic!("not of strace: {line}"));
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            if let Some(begun) = open.remove(thread) {
                end(&mut calls[begun], number, resumed);
            }
            continue;
        }
        let (name, arguments) = rest.split_once('(').unwrap_or_else(|| panic!("not of strace: {line}"));
        let mut call = Call {
            name: name.to_owned(),
            target: target(arguments),
            bytes: strings(arguments),
            began: number,
            ended: None,
        };
        if rest.ends_with("<unfinished ...>") {
            open.insert(thread, calls.len());
        } else {
            end(&mut call, number, arguments);
        }
        calls.push(call);
    }
    calls
}

/// ` = 24`, ` = -1 ENOSPC (No space left on device)`, ` = ?`; no string in hex looks like it.
fn end(call: &mut Call, line: usize, text: &str) {
    let returned =
        text.rsplit_once(" = ").map(|(_, returned)| returned.split(' ').next().unwrap_or_default());
    call.ended = returned.and_then(|returned| returned.parse().ok()).map(|returned| (line, returned));
}

/// `12<\x2f\x74>, ...`
fn target(arguments: &str) -> String {
    let within = |text: &str| Some(text.split_once('<')?.1.split_once('>')?.0.to_owned());
    let first = arguments.split(',').next().unwrap_or_default();
    String::from_utf8_lossy(&unescaped(&within(first).unwrap_or_default())).into_owned()
}

/// All that is between quotation marks.
fn strings(arguments: &str) -> Vec<u8> {
    arguments.split('"').skip(1).step_by(2).flat_map(unescaped).collect()
}

/// Pairs of `\xHH`; what is not one stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = rest.strip_prefix(b"\\x").and_then(|rest| rest.get(..2));
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(first));
        rest = if value.is_some() { &rest[4..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, target: &str, bytes: &[u8], began: usize, ended: Option<(usize, i64)>) -> Call {
        Call { name: name.to_owned(), target: target.to_owned(), bytes: bytes.to_vec(), began, ended }
    }

    #[test]
    fn calls_are_read_with_their_bytes_and_their_order() {
        let trace = r#"101 pwrite64(12<\x2f\x61>, "\x00\xff\x0a", 3, 4096) = 3
102 fdatasync(12<\x2f\x61> <unfinished ...>
103 sendto(9<\x73\x6f\x63\x6b\x65\x74\x3a\x5b\x31\x5d>, "\x68\x69", 2, MSG_NOSIGNAL, NULL, 0) = 2
102 <... fdatasync resumed>)        = 0
103 writev(9<\x2f\x62>, [{iov_base="\x61\x62", iov_len=2}, {iov_base="\x63", iov_len=1}], 2) = -1 EAGAIN (Resource temporarily unavailable)
102 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=1, si_uid=0} ---
103 fsync(12<\x2f\x61> <unfinished ...>
103 <... fsync resumed>) = ?
103 +++ exited with 0 +++
"#;
        assert_eq!(
            parse(trace),
            [
                call("pwrite64", "/a", b"\x00\xff\n", 0, Some((0, 3))),
                call("fdatasync", "/a", b"", 1, Some((3, 0))),
                call("sendto", "socket:[1]", b"hi", 2, Some((2, 2))),
                call("writev", "/b", b"abc", 4, Some((4, -1))),
                call("fsync", "/a", b"", 6, None),
            ]
        );
    }

    #[test]
    fn an_end_may_be_padded_to_its_column() {
        let calls = parse("7 fdatasync(3<\\x61>)                      = 0\n");
        assert_eq!(calls, [call("fdatasync", "a", b"", 0, Some((0, 0)))]);
    }

    #[test]
    #[should_panic(expected = "not of strace")]
    fn what_is_no_trace_is_not_taken_for_one() {
        parse("bash: strace: command not found\n");
    }
}
