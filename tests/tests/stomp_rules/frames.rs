//! Frames, heart-beats and what every frame has in common.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use tests::edge::Edge;
use tests::wait::{until, when};

use crate::{Talk, VERSIONS, append, line, send};

const BEATS: usize = 4;
/// A busy machine may be late. Beats as often as the agent wishes for them, not the client, would take longer.
const BEATS_LIMIT: Duration = Duration::from_secs(15);

/// STOMP 1.2, "Value Encoding": "C style string literal escapes are used to encode any CR, LF or colon"; a
/// MESSAGE names the subscription by the `id` of its SUBSCRIBE.
#[test]
fn header_escapes_come_back_as_escapes() {
    let edge = Edge::keeping();
    for (version, id) in [("1.2", r"a\cb\\c\r\n"), ("1.1", r"a\cb\\c\n"), ("1.0", r"a\cb")] {
        let mut talk = Talk::new(&edge, version);
        talk.asks(&format!("SUBSCRIBE\nid:{id}\ndestination:/queue/graphite\n"));
        append(&edge, "a");
        assert_eq!(talk.hears("MESSAGE").header("subscription"), Some(id), "{version}");
    }
}

/// STOMP 1.2, "Value Encoding": "Undefined escape sequences such as \t MUST be treated as a fatal protocol
/// error."
#[test]
fn undefined_escapes_are_fatal() {
    let edge = Edge::keeping();
    for (version, escape) in [("1.2", r"\t"), ("1.1", r"\r")] {
        let mut talk = Talk::new(&edge, version);
        talk.say(send("a", &format!("receipt:asked\nx:{escape}\n")));
        let error = talk.ends_with_error(escape);
        assert_eq!(error.header("receipt-id"), Some("asked"));
    }
}

/// STOMP 1.2, "Repeated Header Entries": "only the first header entry SHOULD be used as the value".
#[test]
fn the_first_of_repeated_headers_counts() {
    let edge = Edge::keeping();
    let mut talk = Talk::new(&edge, "1.2");
    talk.say(send("a", "destination:/queue/other\nreceipt:first\nreceipt:second\n"));
    talk.is_told("first");
}

/// STOMP 1.2, "Header content-length": "If a content-length header is included, this number of octets MUST be
/// read, regardless of whether or not there are NULL octets in the body."
#[test]
fn a_body_with_its_length_may_hold_nul() {
    let edge = Edge::keeping();
    let mut talk = Talk::new(&edge, "1.2");
    let body = format!("{}\nb\0ad 1 1700000000\n", line("good"));
    let length = body.len();
    talk.say(format!("SEND\ndestination:/queue/graphite\ncontent-length:{length}\nreceipt:1\n\n{body}\0"));
    talk.say(send("next", "receipt:2\n"));
    talk.is_told("1");
    talk.is_told("2");
    // The line with the NUL is bad; the two others are kept.
    edge.subscribers_had(0, 2);
}

/// STOMP 1.2, "STOMP Frames": "The NULL octet can be optionally followed by multiple EOLs."
#[test]
fn eols_may_follow_a_frame() {
    let edge = Edge::keeping();
    let mut talk = Talk::new(&edge, "1.2");
    talk.say(format!("\n\r\n{}\n\r\n\n\n{}\r\n", send("a", "receipt:1\n"), send("b", "receipt:2\n")));
    talk.is_told("1");
    talk.is_told("2");
}

/// STOMP 1.2, "Size Limits": "servers MAY place maximum limits on: the number of frame headers [...], the
/// maximum length of header lines, the maximum size of a frame body. If these limits are exceeded the server
/// SHOULD send the client an ERROR frame and then close the connection."
#[test]
fn what_is_too_large_is_an_error() {
    let edge = Edge::keeping();
    let check = |frame: &str, expected| {
        let mut talk = Talk::new(&edge, "1.2");
        talk.say(frame);
        talk.ends_with_error(expected);
    };
    let many: String = (0..200).map(|number| format!("x-{number}:1\n")).collect();
    check(&send("a", &many), "headers");
    check(&format!("SEND\nx:{}", "y".repeat(20_000)), "headers");
    check("SEND\ndestination:/queue/graphite\ncontent-length:100000000\n\n", "body");
    append(&edge, "others.do.not.notice");
}

/// STOMP 1.2, "Heart-beating": "the server MUST [...] send [...] every MAX(sx,cy) milliseconds", an EOL where
/// nothing else is to be sent; 0 means that it is not wanted.
#[test]
fn beats_come_as_often_as_agreed() {
    let edge = Edge::keeping();
    let open = |heart_beat| {
        let mut stream = TcpStream::connect(edge.stomp()).unwrap();
        let connect = format!("CONNECT\naccept-version:1.2\nhost:h\nheart-beat:{heart_beat}\n\n\0");
        stream.write_all(connect.as_bytes()).unwrap();
        let mut connected = [0; 4096];
        let read = stream.read(&mut connected).unwrap();
        // A first beat may have come with it.
        let frame = connected[..read].trim_ascii_end();
        assert!(frame.ends_with(b"\0"), "{:?}", String::from_utf8_lossy(frame));
        stream
    };
    let mut beating = open("0,1000");
    let mut silent = open("0,0");
    beating.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut beats = 0;
    until(BEATS_LIMIT, "beats", || {
        let mut octets = [0; 16];
        if let Ok(read) = beating.read(&mut octets) {
            assert!(octets[..read].iter().all(|octet| *octet == b'\n') && read > 0, "{octets:?}");
            beats += read;
        }
        when(beats >= BEATS, beats)
    });
    silent.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let nothing = silent.read(&mut [0; 16]).unwrap_err();
    assert!(matches!(nothing.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{nothing}");
}

/// STOMP 1.2, "SEND": "If the server cannot successfully process the SEND frame for any reason, the server
/// MUST send the client an ERROR frame and then close the connection."
#[test]
fn a_send_that_cannot_be_taken_is_an_error_and_the_end() {
    let edge = Edge::keeping();
    for version in VERSIONS {
        let mut talk = Talk::new(&edge, version);
        talk.say(send("a", "receipt:before\n"));
        talk.say("SEND\ndestination:/queue/graphite\nreceipt:bad\n\nno line\0");
        talk.is_told("before");
        assert_eq!(talk.ends_with_error("no good line").header("receipt-id"), Some("bad"));
    }
}

/// STOMP 1.2, "Header receipt": "Any client frame other than CONNECT MAY specify a receipt header".
#[test]
fn every_frame_has_its_receipt() {
    let edge = Edge::keeping();
    append(&edge, "a");
    let mut talk = Talk::subscribed(&edge, "1.2", "ack:client-individual\n");
    let id = talk.gets("a");
    talk.asks("BEGIN\ntransaction:t\n");
    talk.say(send("b", "transaction:t\nreceipt:send\n"));
    talk.is_told("send");
    talk.asks(&format!("ACK\nid:{id}\ntransaction:t\n"));
    talk.asks("ABORT\ntransaction:t\n");
    talk.asks(&format!("NACK\nid:{id}\n"));
    talk.asks("UNSUBSCRIBE\nid:s\n");
    talk.asks("BEGIN\ntransaction:t\n");
    talk.asks("COMMIT\ntransaction:t\n");
    talk.asks("DISCONNECT\n");
    talk.ends();
}
