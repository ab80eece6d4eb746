//! Transactions, DISCONNECT, MESSAGE, and how a session opens.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tests::edge::Edge;

use crate::{Talk, VERSIONS, append, send};

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
