//! Sessions without sockets: frames as text.

use super::*;
use crate::ingest::stomp::Limits;
use crate::ingest::stomp::decode::{Decoded, Decoder};

const QUEUE: &str = "/queue/graphite";
const CONNECT: &str = "CONNECT\naccept-version:1.2\nhost:h\n\n\0";
const SUBSCRIBE: &str =
    "SUBSCRIBE\ndestination:/queue/graphite\nid:7\nack:client-individual\nprefetch-count:2\n\n\0";

struct Clients(Arc<watch::Sender<Queue>>);

impl Clients {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Queue::default())))
    }

    fn session(&self) -> Session {
        Session::new(QUEUE.into(), Arc::clone(&self.0), 1)
    }

    fn connected(&self) -> Session {
        let mut session = self.session();
        say(&mut session, CONNECT);
        session
    }

    fn load(&self) -> (usize, usize) {
        let load = self.0.borrow().load();
        (load.waiting, load.lent)
    }
}

/// Says `frames`, has messages delivered, and returns what is answered.
fn say(session: &mut Session, frames: &str) -> String {
    let mut decoder = Decoder::new(&Limits::default());
    let mut rest = frames.as_bytes();
    while let Decoded::Frame(frame, bytes) = decoder.decode(session.version(), rest).unwrap() {
        session.frame(&frame);
        rest = &rest[bytes..];
    }
    session.deliver(1 << 20);
    String::from_utf8(std::mem::take(&mut session.out)).unwrap()
}

fn send(session: &mut Session, body: &str) {
    say(session, &format!("SEND\ndestination:{QUEUE}\n\n{body}\0"));
}

/// The bodies of the MESSAGEs in `frames`.
fn bodies(frames: &str) -> Vec<&str> {
    let messages = frames.split('\0').filter(|frame| frame.trim_start().starts_with("MESSAGE"));
    messages.filter_map(|frame| Some(frame.split_once("\n\n")?.1)).collect()
}

#[test]
fn connected_says_what_it_is_and_agrees_on_beats() {
    let mut session = Clients::new().session();
    let said = say(&mut session, "CONNECT\naccept-version:1.0,1.1,1.2\nhost:/\nheart-beat:10000,8000\n\n\0");
    assert!(
        said.starts_with("CONNECTED\nversion:1.2\nsession:demo-1\nserver:packetboat-demo-broker/"),
        "{said}"
    );
    assert!(said.ends_with("\nheart-beat:5000,0\n\n\0\n"), "{said}");
    assert_eq!(session.beat(), Some(Duration::from_secs(8)));
}

#[test]
fn a_send_is_receipted_and_keeps_its_headers() {
    let clients = Clients::new();
    let mut producer = clients.connected();
    let send = "SEND\ndestination:/queue/graphite\npacketboat-seq:1-2\nreceipt:9\ncontent-length:3\n\na\0b\0";
    assert_eq!(say(&mut producer, send), "RECEIPT\nreceipt-id:9\n\n\0\n");
    let mut consumer = clients.connected();
    assert_eq!(
        say(&mut consumer, SUBSCRIBE),
        "MESSAGE\ndestination:/queue/graphite\nsubscription:7\nmessage-id:1\nack:1\ncontent-length:3\n\
         packetboat-seq:1-2\n\na\0b\0\n"
    );
}

#[test]
fn a_subscriber_holds_no_more_than_its_prefetch() {
    let clients = Clients::new();
    let (mut producer, mut consumer) = (clients.connected(), clients.connected());
    ["a", "b", "c", "d"].into_iter().for_each(|body| send(&mut producer, body));
    assert_eq!(bodies(&say(&mut consumer, SUBSCRIBE)), ["a", "b"]);
    assert_eq!(clients.load(), (2, 2));
    assert_eq!(bodies(&say(&mut consumer, "ACK\nid:2\n\n\0")), ["c"]);
    assert_eq!(bodies(&say(&mut consumer, "ACK\nid:1\n\n\0ACK\nid:3\n\n\0")), ["d"]);
    say(&mut consumer, "ACK\nid:4\n\n\0");
    assert_eq!(clients.load(), (0, 0));
}

#[test]
fn what_a_session_does_not_acknowledge_goes_to_the_next_one() {
    let clients = Clients::new();
    let mut producer = clients.connected();
    ["a", "b", "c"].into_iter().for_each(|body| send(&mut producer, body));
    let mut first = clients.connected();
    assert_eq!(bodies(&say(&mut first, SUBSCRIBE)), ["a", "b"]);
    say(&mut first, "ACK\nid:1\n\n\0UNSUBSCRIBE\nid:7\n\n\0");
    drop(first);
    let again = say(&mut clients.connected(), SUBSCRIBE);
    assert_eq!(bodies(&again), ["b", "c"]);
    assert!(again.contains("message-id:2\nack:2\ncontent-length:1\nredelivered:true\n"), "{again}");
}

#[test]
fn a_nack_gives_one_message_back() {
    let clients = Clients::new();
    let (mut producer, mut consumer) = (clients.connected(), clients.connected());
    send(&mut producer, "a");
    say(&mut consumer, SUBSCRIBE);
    assert_eq!(bodies(&say(&mut consumer, "NACK\nid:1\n\n\0")), ["a"], "it is delivered anew");
    assert_eq!(clients.load(), (0, 1));
}

#[test]
fn a_full_queue_holds_producers_and_not_subscribers() {
    let clients = Clients::new();
    let (mut producer, mut consumer) = (clients.connected(), clients.connected());
    let body = "x".repeat(1 << 20);
    for sent in 0..16 {
        assert!(!producer.is_paused(), "after {sent} MiB");
        send(&mut producer, &body);
    }
    assert!(producer.is_paused());
    say(&mut consumer, SUBSCRIBE);
    assert!(!consumer.is_paused());
    say(&mut consumer, "ACK\nid:1\n\n\0");
    assert!(!producer.is_paused());
}

#[test]
fn disconnect_is_receipted_and_ends_the_session() {
    let mut session = Clients::new().connected();
    assert_eq!(say(&mut session, "DISCONNECT\nreceipt:bye\n\n\0"), "RECEIPT\nreceipt-id:bye\n\n\0\n");
    assert!(session.is_closing());
}

#[track_caller]
fn refused(mut session: Session, frame: &str, why: &str) {
    let said = say(&mut session, frame);
    assert!(said.starts_with(&format!("ERROR\nmessage:{why}")), "{said}");
    assert!(session.is_closing());
}

#[test]
fn what_it_does_not_do_it_says() {
    let clients = Clients::new();
    refused(clients.session(), SUBSCRIBE, "the first frame of a session is CONNECT or STOMP");
    refused(clients.session(), "CONNECT\naccept-version:9.9\nhost:h\n\n\0", "no version in common");
    refused(clients.connected(), CONNECT, "the demo's broker does not serve CONNECT here");
    refused(clients.connected(), "BEGIN\ntransaction:1\n\n\0", "the demo's broker does not serve BEGIN here");
    refused(
        clients.connected(),
        "SEND\ndestination:/queue/x\n\n\0",
        "the demo's broker has one queue, /queue/graphite",
    );
    refused(
        clients.connected(),
        "SEND\ndestination:/queue/graphite\ntransaction:1\n\n\0",
        "the demo's broker has no transactions",
    );
    refused(
        clients.connected(),
        "SUBSCRIBE\ndestination:/queue/graphite\nid:1\nack:auto\n\n\0",
        "the demo's broker has ack\\cclient-individual only",
    );
    refused(clients.connected(), "ACK\nid:1\n\n\0", "ACK of a message that this session does not hold");
}

#[test]
fn nobody_acknowledges_for_another() {
    let clients = Clients::new();
    let (mut producer, mut consumer) = (clients.connected(), clients.connected());
    send(&mut producer, "a");
    say(&mut consumer, SUBSCRIBE);
    refused(clients.connected(), "ACK\nid:1\n\n\0", "ACK of a message");
    assert_eq!(clients.load(), (0, 1));
}
