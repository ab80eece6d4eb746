//! What each frame of a client means: frame in, frames out, and the queue in between. No I/O.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::queue::{Message, Queue};
use crate::ingest::stomp::encode;
use crate::ingest::stomp::frame::{Command, Frame};
use crate::ingest::stomp::negotiate;
use crate::ingest::stomp::version::Version;

/// How often it can send a heart-beat. It wishes for none: on loopback a dead peer is a closed one.
const BEATS_OFFERED: Duration = Duration::from_secs(5);
/// Messages that a subscriber gets without an ACK, unless it says how many.
const PREFETCH: usize = 100;
/// Headers of a SEND that are not the message's.
const OF_THE_SEND: [&[u8]; 4] = [b"destination", b"receipt", b"content-length", b"transaction"];

/// One session. Dropped, it gives back what it has not acknowledged.
#[derive(Debug)]
pub(super) struct Session {
    destination: Arc<str>,
    queue: Arc<watch::Sender<Queue>>,
    number: u64,
    version: Option<Version>,
    beat: Option<Duration>,
    subscription: Option<Subscription>,
    lent: BTreeSet<u64>,
    has_sent: bool,
    closing: bool,
    /// To be written to the client.
    pub(super) out: Vec<u8>,
}

#[derive(Debug)]
struct Subscription {
    id: Vec<u8>,
    prefetch: usize,
}

impl Session {
    /// `number` tells sessions apart.
    pub(super) fn new(destination: Arc<str>, queue: Arc<watch::Sender<Queue>>, number: u64) -> Self {
        Self {
            destination,
            queue,
            number,
            version: None,
            beat: None,
            subscription: None,
            lent: BTreeSet::new(),
            has_sent: false,
            closing: false,
            out: Vec::new(),
        }
    }

    /// Tells when there may be something to deliver, or room again.
    pub(super) fn watch(&self) -> watch::Receiver<Queue> {
        self.queue.subscribe()
    }

    pub(super) fn version(&self) -> Version {
        self.version.unwrap_or(Version::V1_0)
    }

    /// The longest time without a byte for the client.
    pub(super) fn beat(&self) -> Option<Duration> {
        self.beat
    }

    /// Whether it ends once everything is written.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// A producer is not read while the queue is full: its TCP feels it. Who only subscribes always is,
    /// since its ACKs make room.
    pub(super) fn is_paused(&self) -> bool {
        self.has_sent && !self.queue.borrow().has_room()
    }

    /// Takes the next frame of the client.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) {
        let done = match (frame.command, self.version) {
            (Command::Connect | Command::Stomp, None) => self.connect(frame),
            (_, None) => Err("the first frame of a session is CONNECT or STOMP".to_owned()),
            (Command::Send, _) => self.send(frame),
            (Command::Subscribe, _) => self.subscribe(frame),
            (Command::Ack, _) => self.end_lease(frame, Queue::done),
            (Command::Nack, _) => self.end_lease(frame, Queue::give_back),
            (Command::Unsubscribe, _) => {
                self.subscription = None;
                Ok(())
            }
            (Command::Disconnect, _) => {
                self.closing = true;
                Ok(())
            }
            (command, _) => Err(format!("the demo's broker does not serve {} here", command.as_str())),
        };
        let receipt = frame.header("receipt");
        match done {
            Ok(()) => {
                if let Some(id) = receipt {
                    encode::receipt(self.version(), &id, &mut self.out);
                }
            }
            Err(why) => self.refuse(&why, receipt.as_deref()),
        }
    }

    /// Answers ERROR, and ends.
    pub(super) fn refuse(&mut self, why: &str, receipt: Option<&[u8]>) {
        encode::error(self.version(), why, receipt, &[], &mut self.out);
        self.closing = true;
    }

    /// Writes the messages that the subscription may have, until `out_bytes_max` wait to be written.
    pub(super) fn deliver(&mut self, out_bytes_max: usize) {
        let version = self.version();
        let subscription = self.subscription.as_ref().filter(|_| !self.closing);
        let Some(Subscription { id, prefetch }) = subscription else { return };
        let (lent, out) = (&mut self.lent, &mut self.out);
        self.queue.send_if_modified(|queue| {
            while lent.len() < *prefetch && out.len() < out_bytes_max && queue.has_waiting() {
                let Some((number, message)) = queue.lend() else { break };
                lent.insert(number);
                write_message(version, &self.destination, id, number, message, out);
            }
            // Nobody waits for fewer messages.
            false
        });
    }

    fn connect(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let version = negotiate::version(frame).map_err(|refusal| refusal.to_string())?;
        if version > Version::V1_0 {
            let beats = negotiate::beats(frame, BEATS_OFFERED, Duration::ZERO);
            self.beat = beats.map_err(|refusal| refusal.to_string())?.ours;
        }
        self.version = Some(version);
        let session = format!("demo-{}", self.number);
        let beats = format!("{},0", BEATS_OFFERED.as_millis());
        let headers: [(&str, &[u8]); 4] = [
            ("version", version.as_str().as_bytes()),
            ("session", session.as_bytes()),
            ("server", concat!("packetboat-demo-broker/", env!("CARGO_PKG_VERSION")).as_bytes()),
            ("heart-beat", beats.as_bytes()),
        ];
        encode::frame(version, "CONNECTED", &headers, b"", &mut self.out);
        Ok(())
    }

    fn send(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        self.check_destination(frame)?;
        if frame.header("transaction").is_some() {
            return Err("the demo's broker has no transactions".to_owned());
        }
        let kept = frame.all_headers().filter(|(name, _)| !OF_THE_SEND.contains(&&**name));
        let message = Message {
            headers: kept.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            body: frame.body.to_vec(),
            redelivered: false,
        };
        self.has_sent = true;
        self.queue.send_modify(|queue| queue.push(message));
        Ok(())
    }

    fn subscribe(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        self.check_destination(frame)?;
        if self.subscription.is_some() {
            return Err("the demo's broker has one subscription for each session".to_owned());
        }
        if frame.header("ack").as_deref() != Some(b"client-individual") {
            return Err("the demo's broker has ack:client-individual only".to_owned());
        }
        let prefetch = frame.header("prefetch-count");
        let prefetch = prefetch.and_then(|count| std::str::from_utf8(&count).ok()?.parse().ok());
        let prefetch = prefetch.filter(|&count| count > 0);
        self.subscription = Some(Subscription {
            id: frame.header("id").unwrap_or_default().into_owned(),
            prefetch: prefetch.unwrap_or(PREFETCH),
        });
        Ok(())
    }

    fn check_destination(&self, frame: &Frame<'_>) -> Result<(), String> {
        match frame.header("destination") {
            Some(asked) if *asked == *self.destination.as_bytes() => Ok(()),
            _ => Err(format!("the demo's broker has one queue, {}", self.destination)),
        }
    }

    /// ACK or NACK, by `id` (1.2) or `message-id`.
    fn end_lease(&mut self, frame: &Frame<'_>, end: fn(&mut Queue, u64)) -> Result<(), String> {
        let id = frame.header("id").or_else(|| frame.header("message-id"));
        let number = id.and_then(|id| std::str::from_utf8(&id).ok()?.parse().ok());
        match number.filter(|number| self.lent.remove(number)) {
            Some(number) => {
                self.queue.send_modify(|queue| end(queue, number));
                Ok(())
            }
            None => Err(format!("{} of a message that this session does not hold", frame.command.as_str())),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.queue.send_modify(|queue| self.lent.iter().for_each(|&number| queue.give_back(number)));
    }
}

fn write_message(
    version: Version,
    destination: &str,
    subscription: &[u8],
    number: u64,
    message: &Message,
    out: &mut Vec<u8>,
) {
    let (number, length) = (number.to_string(), message.body.len().to_string());
    let mut headers: Vec<(&str, &[u8])> = vec![
        ("destination", destination.as_bytes()),
        ("subscription", subscription),
        ("message-id", number.as_bytes()),
        ("ack", number.as_bytes()),
        ("content-length", length.as_bytes()),
    ];
    if message.redelivered {
        headers.push(("redelivered", b"true"));
    }
    // Names are UTF-8 (STOMP 1.2, "Headers"); one that is not reaches nobody.
    let sent = message.headers.iter();
    headers
        .extend(sent.filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value.as_slice()))));
    encode::frame(version, "MESSAGE", &headers, &message.body, out);
}

#[cfg(test)]
mod tests;
