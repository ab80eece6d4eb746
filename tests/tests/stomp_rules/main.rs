//! The rules of the STOMP specification (<https://stomp.github.io/stomp-specification-1.2.html>, and 1.1 and
//! 1.0 where they differ), one test a rule, at the running agent over a raw socket. Each names its section.
//!
//! Rules that are tested beside the code, with their section, under `agent/src/ingest/stomp/`:
//!
//! | section | where |
//! |---|---|
//! | STOMP Frames; Value Encoding; Repeated Header Entries; Size Limits | `decode/tests.rs`, `version.rs`, `encode.rs` |
//! | CONNECT or STOMP Frame; CONNECTED Frame; Protocol Negotiation; Body; BEGIN, COMMIT, ABORT without ACKs; RECEIPT | `session/tests.rs` |
//! | Heart-beating: what is agreed, and a client that misses its beats | `session/tests.rs`, `server/tests/limits.rs` |
//! | Connection Lingering; ERROR | `server/tests/receipts.rs` |
//! | SUBSCRIBE ack Header; ACK at 1.1 and 1.0 | `subscriptions/tests.rs`, `server/tests/subscribers.rs` |
//!
//! One rule is not kept, and cannot be: MESSAGE does not repeat the headers that an application gave to its
//! SEND. An agent keeps lines, not messages, and one MESSAGE holds the lines of many SENDs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod frames;
mod sessions;
mod subscriptions;

use std::io::{ErrorKind, Write as _};

use tests::edge::Edge;
use tests::stomp::{Frame, Stomp};

const VERSIONS: [&str; 3] = ["1.0", "1.1", "1.2"];

/// One session, and what is usual to say in it.
struct Talk(Stomp);

impl Talk {
    fn new(edge: &Edge, version: &str) -> Self {
        Self(Stomp::connect(edge.stomp(), &[("accept-version", version)]).unwrap())
    }

    /// With one subscription to the queue, which is answered.
    fn subscribed(edge: &Edge, version: &str, more: &str) -> Self {
        let mut talk = Self::new(edge, version);
        talk.asks(&format!("SUBSCRIBE\nid:s\ndestination:/queue/graphite\n{more}"));
        talk
    }

    /// Bytes as they are.
    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.socket().write_all(bytes.as_ref()).unwrap();
    }

    /// The next frame.
    fn hears(&mut self, command: &str) -> Frame {
        let frame = self.0.read().unwrap();
        assert_eq!(frame.command, command, "{frame:?}");
        frame
    }

    /// Says a frame without a body that wants a receipt, and gets it as the next frame.
    fn asks(&mut self, frame: &str) {
        self.say(format!("{frame}receipt:asked\n\n\0"));
        self.is_told("asked");
    }

    /// The next frame is this RECEIPT.
    fn is_told(&mut self, receipt: &str) {
        assert_eq!(self.hears("RECEIPT").header("receipt-id"), Some(receipt));
    }

    /// The next frame is an ERROR that says so, and then the connection is closed.
    fn ends_with_error(mut self, expected: &str) -> Frame {
        let error = self.hears("ERROR");
        assert!(error.text().contains(expected), "{expected:?}: {error:?}");
        self.ends();
        error
    }

    fn ends(mut self) {
        let end = self.0.read().unwrap_err();
        assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{end}");
    }

    /// Nothing waits for the client: what is answered at once is the next frame.
    fn is_quiet(&mut self) {
        self.asks("BEGIN\ntransaction:quiet\n");
        self.asks("ABORT\ntransaction:quiet\n");
    }

    /// Has each line sent as it waits for it, so that each is a MESSAGE; tells how ACKs name them.
    fn is_sent<const N: usize>(&mut self, edge: &Edge, names: [&str; N]) -> [String; N] {
        names.map(|name| {
            append(edge, name);
            self.gets(name)
        })
    }

    /// The next frame is a MESSAGE of this one line; tells how an ACK names it.
    fn gets(&mut self, name: &str) -> String {
        let message = self.hears("MESSAGE");
        assert_eq!(message.text(), line(name));
        message.header("ack").or(message.header("message-id")).unwrap().to_owned()
    }
}

fn line(name: &str) -> String {
    format!("{name} 1 1700000000")
}

fn send(name: &str, more: &str) -> String {
    format!("SEND\ndestination:/queue/graphite\n{more}\n{}\0", line(name))
}

/// What waits for no subscriber may be joined to what comes after it.
fn append(edge: &Edge, name: &str) {
    let mut producer = Talk::new(edge, "1.2");
    producer.say(send(name, "receipt:sent\n"));
    producer.is_told("sent");
}
