//! Why a client gets an ERROR: what is wrong, and how to mend it. An ERROR ends the session (STOMP 1.2,
//! "ERROR").

use std::time::Duration;

use crate::ingest::line::{LINE_BYTES_MAX, Reason, Refused};
use crate::users::{Denied, OtherNode};

use super::decode::DecodeError;

/// Why a session ends with an ERROR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error("{0} before CONNECT: the first frame of a session is CONNECT or STOMP")]
    NotConnected(&'static str),
    #[error("{0} a second time: a session is opened once")]
    Reconnected(&'static str),
    #[error("no version in common: accept-version {0:?} was asked, and 1.0, 1.1 and 1.2 are spoken here")]
    Version(String),
    #[error(
        "heart-beat {0:?} is not two numbers of milliseconds: send for example heart-beat:10000,10000, or none"
    )]
    HeartBeat(String),
    #[error("{0} has a body: only SEND may have one")]
    Body(&'static str),
    #[error("{command} without the header {header}: add it")]
    HeaderMissing { command: &'static str, header: &'static str },
    #[error("no destination {asked:?}: metrics are taken at {known}")]
    Destination { asked: String, known: String },
    #[error("{asked:?} is a topic, and there are queues only: metrics are taken at {known}")]
    Topic { asked: String, known: String },
    #[error("content-encoding {0:?} is not understood: send plain lines, without that header")]
    ContentEncoding(String),
    #[error(
        "{0} has no subscribers here: this agent forwards its metrics; say `serve: true` for it in the topology, or \
         subscribe where they go"
    )]
    NotServed(String),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    OtherNode(#[from] OtherNode),
    #[error("the user {login:?} may not {what} {destination:?}: the topology says what it may")]
    NotAllowed { login: String, what: &'static str, destination: String },
    #[error("selectors are not served: subscribe without one, and choose by name after receiving")]
    Selector,
    #[error("ack {0:?} is not understood: auto, client and client-individual are")]
    AckMode(String),
    #[error("{name} {asked:?} is not a number of batches from 1 on: send for example {name}:16")]
    Prefetch { name: &'static str, asked: String },
    #[error("the subscription {0:?} is open already: UNSUBSCRIBE it, or use another id")]
    SubscriptionOpen(String),
    #[error("there is no open subscription {0:?}: SUBSCRIBE first")]
    SubscriptionUnknown(String),
    #[error("{0} subscriptions are open, and no more are allowed in one session")]
    SubscriptionCount(usize),
    #[error("{command} of {id:?}, which was not sent in this session: name a message as its MESSAGE did")]
    MessageUnknown { command: &'static str, id: String },
    #[error("NACK is not in STOMP 1.0: let the session end, or speak 1.1 or 1.2")]
    NackVersion,
    /// Not this time.
    #[error("the batch is not taken: {0}")]
    Wire(String),
    /// Never.
    #[error("the batch is refused: {0}")]
    Batch(String),
    #[error("no line in the body: send lines of the form name value timestamp")]
    NoLine,
    #[error("no good line in the body; the first one, {line:?}, {fault}")]
    NoGoodLine { line: String, fault: String },
    #[error("the transaction {0:?} is open already: COMMIT or ABORT it, or use another name")]
    TransactionOpen(String),
    #[error("there is no open transaction {0:?}: BEGIN it first")]
    TransactionUnknown(String),
    #[error("more than {0} transactions are open: COMMIT or ABORT one first")]
    TransactionCount(usize),
    #[error(
        "the open transactions hold more than {0} bytes: COMMIT earlier, and send the rest in another one"
    )]
    TransactionBytes(usize),
    #[error("the transaction {name:?} is open for more than {seconds} s: COMMIT earlier")]
    TransactionTime { name: String, seconds: u64 },
    #[error("the spool is full, and the metrics were not taken: send them again later")]
    SpoolFull,
    #[error(
        "large frames and transactions of all clients take all the memory meant for them: send less at a time"
    )]
    Memory,
    #[error("no CONNECT within {} s", .0.as_secs_f32())]
    ConnectTime(Duration),
    #[error("a frame took more than {} s: it ends with a NUL, which may be missing", .0.as_secs_f32())]
    FrameTime(Duration),
    #[error("nothing came for {} s, not even a heart-beat", .0.as_secs_f32())]
    Silent(Duration),
    #[error("{0} connections are open, and no more are allowed: keep one and send all metrics through it")]
    Connections(usize),
    #[error(
        "{0} connections of this address are open, and no more are allowed: keep one and send all metrics through it"
    )]
    ConnectionsOfClient(usize),
    #[error("this port speaks STOMP over TLS only: connect with TLS, or to a port without it")]
    NeedsTls,
    #[error("the metrics could not be stored ({0}): send them again")]
    NotCommitted(String),
    #[error("the agent is stopping: connect again later, and send again what has no receipt")]
    Stopping,
}

impl Refusal {
    /// For a body whose lines were all refused, of which this is the first.
    pub(super) fn no_good_line(first: Option<&Refused>) -> Self {
        let Some(Refused { reason, line }) = first else {
            return Self::NoLine;
        };
        let fault = match reason {
            Reason::TooLong => format!("is longer than {LINE_BYTES_MAX} bytes"),
            Reason::Fields => "is not name value timestamp".to_owned(),
            Reason::Name => "has a name that is not UTF-8 or has control characters".to_owned(),
            Reason::Value => "has a value that is not a finite decimal number".to_owned(),
            Reason::NotAllowed => "has a name that this user may not send".to_owned(),
            Reason::Timestamp => "has a timestamp that is not a number of seconds since 1970".to_owned(),
        };
        Self::NoGoodLine { line: quoted(line), fault }
    }
}

/// The beginning of what a client sent, fit for a message.
pub(super) fn quoted(bytes: &[u8]) -> String {
    const QUOTED_BYTES_MAX: usize = 60;
    beginning(bytes, QUOTED_BYTES_MAX)
}

/// What a node says of a batch that it will never take: a sentence, and no more.
pub(super) fn reason(bytes: &[u8]) -> String {
    const REASON_BYTES_MAX: usize = 1000;
    beginning(bytes, REASON_BYTES_MAX)
}

fn beginning(bytes: &[u8], bytes_max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(bytes_max)]).into_owned()
}
