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

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

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
        assert!(connected[..read].ends_with(b"\0\n"), "{:?}", String::from_utf8_lossy(&connected[..read]));
        stream
    };
    let mut beating = open("0,1000");
    let mut silent = open("0,0");
    for _ in 0..4 {
        beating.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut beat = [0; 16];
        let read = beating.read(&mut beat).unwrap();
        assert!(beat[..read].iter().all(|octet| *octet == b'\n') && read > 0, "{beat:?}");
    }
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

/// STOMP 1.2, "SUBSCRIBE": "If the server cannot successfully create the subscription, the server MUST send
/// the client an ERROR frame and then close the connection."
#[test]
fn a_subscription_that_cannot_be_is_an_error_and_the_end() {
    let edge = Edge::keeping();
    for (headers, expected) in [
        ("id:s\ndestination:/queue/other\n", "no destination"),
        ("id:s\n", "without the header destination"),
        ("destination:/queue/graphite\n", "without the header id"),
        ("id:s\ndestination:/topic/graphite\n", "is a topic"),
        ("id:s\ndestination:/queue/graphite\nack:perhaps\n", "\"perhaps\""),
        ("id:s\ndestination:/queue/graphite\nselector:a = 1\n", "selectors are not served"),
    ] {
        let mut talk = Talk::new(&edge, "1.2");
        talk.say(format!("SUBSCRIBE\n{headers}receipt:asked\n\n\0"));
        assert_eq!(talk.ends_with_error(expected).header("receipt-id"), Some("asked"));
    }
}

/// STOMP 1.2, "SUBSCRIBE id Header": "Within the same connection, different subscriptions MUST use different
/// subscription identifiers"; another connection may use them, and so may a later subscription.
#[test]
fn subscription_ids_are_unique_in_a_session() {
    let edge = Edge::keeping();
    let mut one = Talk::subscribed(&edge, "1.2", "");
    let mut other = Talk::subscribed(&edge, "1.2", "");
    one.asks("UNSUBSCRIBE\nid:s\n");
    one.asks("SUBSCRIBE\nid:s\ndestination:/queue/graphite\n");
    one.say("SUBSCRIBE\nid:s\ndestination:/queue/graphite\n\n\0");
    one.ends_with_error("is open already");
    other.is_quiet();
}

/// STOMP 1.0, "SUBSCRIBE": the id is optional; UNSUBSCRIBE names the destination then, and ACK the message
/// alone.
#[test]
fn version_1_0_subscribes_without_an_id() {
    let edge = Edge::keeping();
    append(&edge, "a");
    let mut talk = Talk::new(&edge, "1.0");
    talk.asks("SUBSCRIBE\ndestination:/queue/graphite\nack:client\n");
    let message = talk.hears("MESSAGE");
    assert_eq!((message.header("subscription"), message.header("ack")), (None, None));
    talk.asks(&format!("ACK\nmessage-id:{}\n", message.header("message-id").unwrap()));
    talk.asks("UNSUBSCRIBE\ndestination:/queue/graphite\n");
    edge.subscribers_had(1, 0);
}

/// STOMP 1.2, "SUBSCRIBE ack Header": "The default value is auto": "The server will assume the client has
/// received the message as soon as it sends it".
#[test]
fn without_an_ack_header_nothing_is_to_be_acknowledged() {
    let edge = Edge::keeping();
    for (turn, version) in VERSIONS.into_iter().enumerate() {
        append(&edge, "a");
        let mut talk = Talk::subscribed(&edge, version, "");
        assert_eq!(talk.hears("MESSAGE").header("ack"), None);
        edge.subscribers_had(turn as i64 + 1, 0);
    }
}

/// STOMP 1.2, "SUBSCRIBE ack Header", client: "the acknowledgment operates on all messages received by the
/// client up to and including the message"; "If the connection fails before a client sends an ACK frame for
/// the message the server will assume the message has not been processed and MAY redeliver".
#[test]
fn a_cumulative_ack_leaves_what_came_after() {
    let edge = Edge::keeping();
    for (turn, version) in VERSIONS.into_iter().enumerate() {
        let mut talk = Talk::subscribed(&edge, version, "ack:client\n");
        let [_, second, _] = talk.is_sent(&edge, ["a", "b", "c"]);
        let id = if version == "1.2" { "id" } else { "subscription:s\nmessage-id" };
        talk.asks(&format!("ACK\n{id}:{second}\n"));
        let delivered = turn as i64 * 3;
        edge.subscribers_had(delivered + 2, 1);
        drop(talk);

        let mut next = Talk::subscribed(&edge, version, "");
        let message = next.hears("MESSAGE");
        assert_eq!((message.text(), message.header("redelivered")), (line("c"), Some("true")));
        edge.subscribers_had(delivered + 3, 0);
    }
}

/// STOMP 1.2, "SUBSCRIBE ack Header", client-individual: "the ACK or NACK message operates on individual
/// messages". 1.1 has it too.
#[test]
fn an_individual_ack_leaves_what_came_before() {
    let edge = Edge::keeping();
    for version in ["1.1", "1.2"] {
        let mut talk = Talk::subscribed(&edge, version, "ack:client-individual\n");
        let [_, second] = talk.is_sent(&edge, ["a", "b"]);
        let id = if version == "1.2" { "id" } else { "subscription:s\nmessage-id" };
        talk.asks(&format!("ACK\n{id}:{second}\n"));
        drop(talk);
        Talk::subscribed(&edge, version, "").gets("a");
    }
    edge.subscribers_had(4, 0);
}

/// STOMP 1.2, "UNSUBSCRIBE": "to remove an existing subscription. Once the subscription is removed the STOMP
/// connections will no longer receive messages from that subscription." The others stand.
#[test]
fn unsubscribe_ends_one_subscription() {
    let edge = Edge::keeping();
    let mut talk = Talk::subscribed(&edge, "1.2", "");
    talk.asks("SUBSCRIBE\nid:t\ndestination:/queue/graphite\n");
    talk.asks("UNSUBSCRIBE\nid:s\n");
    for _ in 0..4 {
        append(&edge, "a");
        assert_eq!(talk.hears("MESSAGE").header("subscription"), Some("t"));
    }
    talk.asks("UNSUBSCRIBE\nid:t\n");
    append(&edge, "b");
    let mut other = Talk::subscribed(&edge, "1.2", "");
    other.gets("b");
    talk.is_quiet();
    talk.say("UNSUBSCRIBE\nid:s\n\n\0");
    talk.ends_with_error("there is no open subscription");
}

/// STOMP 1.2, "ACK": "The ACK frame MUST include an id header matching the ack header of the MESSAGE being
/// acknowledged."
#[test]
fn an_ack_names_a_message() {
    let edge = Edge::keeping();
    for (frame, expected) in [
        ("ACK\n\n\0", "without the header id"),
        ("ACK\nmessage-id:0-0\nsubscription:s\n\n\0", "without the header id"),
        ("ACK\nid:7-7\n\n\0", "was not sent in this session"),
        ("NACK\n\n\0", "without the header id"),
        ("NACK\nid:7-7\n\n\0", "was not sent in this session"),
    ] {
        let mut talk = Talk::subscribed(&edge, "1.2", "ack:client\n");
        talk.say(frame);
        talk.ends_with_error(expected);
    }
}

/// STOMP 1.2, "NACK": "NACK is the opposite of ACK. It is used to tell the server that the client did not
/// consume the message."
#[test]
fn what_is_nacked_comes_again() {
    let edge = Edge::keeping();
    let mut talk = Talk::subscribed(&edge, "1.2", "ack:client\n");
    let [_, second] = talk.is_sent(&edge, ["a", "b"]);
    // In the mode `client` it is cumulative, as ACK is.
    talk.asks(&format!("NACK\nid:{second}\n"));
    let mut again = [talk.hears("MESSAGE"), talk.hears("MESSAGE")];
    assert!(again.iter().all(|message| message.header("redelivered") == Some("true")), "{again:?}");
    again.sort_by_key(Frame::text);
    assert_eq!(again.each_ref().map(Frame::text), ["a", "b"].map(line));
    edge.subscribers_had(0, 2);
}

/// STOMP 1.0 has no NACK: "Client Commands".
#[test]
fn version_1_0_has_no_nack() {
    let edge = Edge::keeping();
    append(&edge, "a");
    let mut talk = Talk::subscribed(&edge, "1.0", "ack:client\n");
    let id = talk.gets("a");
    talk.say(format!("NACK\nmessage-id:{id}\n\n\0"));
    talk.ends_with_error("NACK is not in STOMP 1.0");
}

/// STOMP 1.2, "BEGIN": "messages sent or acknowledged during a transaction will be processed atomically based
/// on the transaction": at COMMIT all of it happens, and at ABORT nothing.
#[test]
fn sends_and_acks_of_a_transaction_happen_together() {
    let edge = Edge::keeping();
    append(&edge, "a");
    let mut talk = Talk::subscribed(&edge, "1.2", "ack:client-individual\nprefetch-count:1\n");
    let id = talk.gets("a");
    for end in ["ABORT", "COMMIT"] {
        edge.subscribers_had(0, 1);
        talk.asks("BEGIN\ntransaction:t\n");
        talk.say(send("b", "transaction:t\n"));
        talk.asks(&format!("ACK\nid:{id}\ntransaction:t\n"));
        talk.is_quiet();
        edge.subscribers_had(0, 1);
        talk.asks(&format!("{end}\ntransaction:t\n"));
    }
    edge.subscribers_had(1, 1);
    talk.gets("b");
}

/// STOMP 1.2, "NACK": "transaction: optional", as for ACK: it waits for its COMMIT.
#[test]
fn a_nack_in_a_transaction_waits_for_its_commit() {
    let edge = Edge::keeping();
    append(&edge, "a");
    let mut talk = Talk::subscribed(&edge, "1.2", "ack:client-individual\n");
    let id = talk.gets("a");
    talk.asks("BEGIN\ntransaction:t\n");
    talk.asks(&format!("NACK\nid:{id}\ntransaction:t\n"));
    talk.asks("ABORT\ntransaction:t\n");
    // Nothing was said of it yet, so it can still be refused, and be acknowledged when it comes again.
    talk.asks("BEGIN\ntransaction:t\n");
    talk.asks(&format!("NACK\nid:{id}\ntransaction:t\n"));
    talk.asks("COMMIT\ntransaction:t\n");
    let message = talk.hears("MESSAGE");
    assert_eq!(message.header("redelivered"), Some("true"));
    talk.asks(&format!("ACK\nid:{}\n", message.header("ack").unwrap()));
    edge.subscribers_had(1, 0);
}

/// STOMP 1.2, "BEGIN": "Any started transactions which have not been committed will be implicitly aborted if
/// the client sends a DISCONNECT frame or if the TCP connection fails for any reason."
#[test]
fn an_open_transaction_ends_with_its_session() {
    let edge = Edge::keeping();
    append(&edge, "a");
    for disconnects in [true, false] {
        let mut talk = Talk::subscribed(&edge, "1.2", "ack:client\n");
        let id = talk.gets("a");
        talk.asks("BEGIN\ntransaction:t\n");
        talk.say(send("b", "transaction:t\n"));
        talk.asks(&format!("ACK\nid:{id}\ntransaction:t\n"));
        if disconnects {
            talk.asks("DISCONNECT\n");
            talk.ends();
        }
        edge.subscribers_had(0, 1);
    }
    Talk::subscribed(&edge, "1.2", "").gets("a");
    edge.subscribers_had(1, 0);
}

/// STOMP 1.2, "DISCONNECT": "the client [...] is assured that all previous frames have been received by the
/// server"; "Clients MUST NOT send any more frames after the DISCONNECT frame is sent."
#[test]
fn the_receipt_of_disconnect_is_the_last_frame() {
    let edge = Edge::keeping();
    for (turn, version) in VERSIONS.into_iter().enumerate() {
        let mut talk = Talk::new(&edge, version);
        let sends: String = (0..100).map(|number| send("a", &format!("receipt:{number}\n"))).collect();
        talk.say(sends + "DISCONNECT\nreceipt:bye\n\n\0" + &send("late", "receipt:late\n"));
        for number in 0..100 {
            talk.is_told(&number.to_string());
        }
        talk.is_told("bye");
        talk.ends();
        edge.subscribers_had(0, (turn as i64 + 1) * 100);
    }
}

/// STOMP 1.2, "DISCONNECT": an ACK before it has been taken when its receipt comes.
#[test]
fn disconnect_is_receipted_after_the_acks_before_it() {
    let edge = Edge::keeping();
    append(&edge, "a");
    let mut talk = Talk::subscribed(&edge, "1.2", "ack:client\n");
    let id = talk.gets("a");
    talk.say(format!("ACK\nid:{id}\n\n\0"));
    talk.asks("DISCONNECT\n");
    let books = edge.agent.books(tests::edge::SUBSCRIBERS);
    assert_eq!((&books["delivered"]["lines"], &books["backlog"]["lines"]), (&1.into(), &0.into()), "{books}");
}

/// STOMP 1.2, "MESSAGE": "MUST include a destination header [...], a message-id header with a unique
/// identifier for that message and a subscription header"; "ack [...] MUST" be there where one is due; "SHOULD
/// include a content-length header and a content-type header if a body is present".
#[test]
fn a_message_has_its_headers() {
    let edge = Edge::keeping();
    for (version, has_ack) in [("1.0", false), ("1.1", false), ("1.2", true)] {
        let mut talk = Talk::subscribed(&edge, version, "ack:client\n");
        let messages = ["a", "b"].map(|name| {
            append(&edge, name);
            talk.hears("MESSAGE")
        });
        for message in &messages {
            assert_eq!(message.header("destination"), Some("/queue/graphite"));
            assert_eq!(message.header("subscription"), Some("s"));
            assert_eq!(message.header("content-type"), Some("text/plain"));
            assert_eq!(message.header("content-length"), Some(&*message.body.len().to_string()));
            assert_eq!(message.header("ack").is_some(), has_ack, "{version}");
        }
        let [first, second] = messages.each_ref().map(|message| message.header("message-id").unwrap());
        assert_ne!(first, second);
        let id = if version == "1.2" { "id" } else { "subscription:s\nmessage-id" };
        talk.asks(&format!("ACK\n{id}:{second}\n"));
    }
}

/// STOMP 1.2, "Connecting": the stream opens with CONNECT, or STOMP.
#[test]
fn both_openings_are_answered() {
    let edge = Edge::keeping();
    for opening in ["CONNECT", "STOMP"] {
        let mut stream = TcpStream::connect(edge.stomp()).unwrap();
        write!(stream, "{opening}\r\naccept-version:1.2\r\nhost:h\r\n\r\n\0").unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"CONNECTED\n");
    }
}
