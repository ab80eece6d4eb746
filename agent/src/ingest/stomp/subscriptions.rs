//! The subscriptions of a session, and what it has been sent and has not acknowledged. No I/O and no
//! clock. It does not know what a loan is: whatever it hands out, the caller ends or drops.
//!
//! A message is known by `SUBSCRIPTION-MESSAGE`, two numbers of the session, in `message-id` and in `ack`:
//! plain characters, which clients of every version hand back unchanged.

use std::collections::BTreeMap;

use super::frame::{Command, Frame};
use super::refusal::{Refusal, quoted};
use super::version::Version;

/// Subscriptions of a session at most.
pub(super) const OPEN_MAX: usize = 64;
/// Batches that a subscription may hold unacknowledged unless it asks for another number.
const PREFETCH: usize = 16;
/// Batches that a subscription may ask for.
pub(super) const PREFETCH_MAX: usize = 256;

/// What an ACK acknowledges (STOMP 1.2, "SUBSCRIBE ack Header").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckMode {
    /// Nothing need be: sent is enough.
    Auto,
    /// Its message and all those before it of the subscription.
    Client,
    /// Its message.
    ClientIndividual,
}

/// What a SUBSCRIBE has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Tells the subscriptions of a session apart, closed ones too.
    pub(super) number: u32,
    /// As the client calls it; STOMP 1.0 lets it be absent.
    pub(super) id: Option<Vec<u8>>,
    /// The queue, by its number, and as the client calls it.
    pub(super) queue: usize,
    pub(super) destination: Vec<u8>,
    pub(super) ack: AckMode,
    /// Batches that it may hold unacknowledged.
    pub(super) prefetch: usize,
    /// Whether it takes batches as nodes pass them on, rather than plain lines.
    pub(super) takes_frames: bool,
}

/// What an ACK or a NACK names, by the numbers of the messages.
pub(super) type Named = Vec<u64>;

/// The open subscriptions of a session; `L` is what it has to give back or to end.
#[derive(Debug)]
pub(super) struct Subscriptions<L> {
    open: Vec<Subscription>,
    unacked: BTreeMap<u64, (u32, L)>,
    next_subscription: u32,
    next_message: u64,
}

impl<L> Subscriptions<L> {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), unacked: BTreeMap::new(), next_subscription: 0, next_message: 0 }
    }

    pub(super) fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The subscription of that number, unless it is closed.
    pub(super) fn get(&self, number: u32) -> Option<&Subscription> {
        self.open.iter().find(|open| open.number == number)
    }

    /// Opens what `frame` asks for, of the queue of that number (STOMP 1.2, "SUBSCRIBE"). Only a node gets
    /// batches as nodes pass them on.
    pub(super) fn subscribe(
        &mut self,
        frame: &Frame<'_>,
        version: Version,
        queue: usize,
        destination: &[u8],
        is_node: bool,
    ) -> Result<Subscription, Refusal> {
        if frame.header("selector").is_some() {
            return Err(Refusal::Selector);
        }
        let id = frame.header("id").map(|id| id.into_owned());
        if id.is_none() && version > Version::V1_0 {
            return Err(Refusal::HeaderMissing { command: "SUBSCRIBE", header: "id" });
        }
        let is_taken = |open: &Subscription| match &id {
            Some(id) => open.id.as_ref() == Some(id),
            None => open.id.is_none() && open.destination == destination,
        };
        if self.open.iter().any(is_taken) {
            return Err(Refusal::SubscriptionOpen(quoted(id.as_deref().unwrap_or(destination))));
        }
        if self.open.len() == OPEN_MAX {
            return Err(Refusal::SubscriptionCount(OPEN_MAX));
        }
        let subscription = Subscription {
            number: self.next_subscription,
            id,
            queue,
            destination: destination.to_vec(),
            ack: ack_mode(frame)?,
            prefetch: prefetch(frame)?,
            takes_frames: is_node && frame.header("packetboat-wire").as_deref() == Some(b"1"),
        };
        self.next_subscription += 1;
        self.open.push(subscription.clone());
        Ok(subscription)
    }

    /// Closes what `frame` names (STOMP 1.2, "UNSUBSCRIBE"); what it has not acknowledged is handed out.
    pub(super) fn unsubscribe(&mut self, frame: &Frame<'_>) -> Result<(u32, Vec<L>), Refusal> {
        let id = frame.header("id");
        let destination = frame.header("destination");
        let is_meant = |open: &Subscription| match (&id, &destination) {
            (Some(id), _) => open.id.as_deref() == Some(&**id),
            // STOMP 1.0, "UNSUBSCRIBE": by its destination, where it has no id.
            (None, Some(destination)) => open.id.is_none() && open.destination == **destination,
            (None, None) => false,
        };
        let Some(index) = self.open.iter().position(is_meant) else {
            return Err(match id.or(destination) {
                Some(asked) => Refusal::SubscriptionUnknown(quoted(&asked)),
                None => Refusal::HeaderMissing { command: "UNSUBSCRIBE", header: "id" },
            });
        };
        let closed = self.open.remove(index).number;
        let numbers: Named = self.of(closed, u64::MAX);
        Ok((closed, self.take(&numbers)))
    }

    /// Gives the next message of a subscription its number, and keeps `loan` until it is acknowledged.
    pub(super) fn send(&mut self, subscription: u32, loan: L) -> u64 {
        let number = self.next_message();
        self.unacked.insert(number, (subscription, loan));
        number
    }

    /// The number of a message for which no acknowledgement is awaited.
    pub(super) fn next_message(&mut self) -> u64 {
        let number = self.next_message;
        self.next_message += 1;
        number
    }

    /// The messages that an ACK or a NACK names and that await it: none where that was said before, or where
    /// nobody waits for it (STOMP 1.2, "ACK" and "NACK"; 1.1 and 1.0 name the message by `message-id`).
    pub(super) fn named(&self, frame: &Frame<'_>, version: Version) -> Result<Named, Refusal> {
        let command = frame.command.as_str();
        if frame.command == Command::Nack && version == Version::V1_0 {
            return Err(Refusal::NackVersion);
        }
        let header = if version == Version::V1_2 { "id" } else { "message-id" };
        let id = frame.header(header).ok_or(Refusal::HeaderMissing { command, header })?;
        let unknown = || Refusal::MessageUnknown { command, id: quoted(&id) };
        let (subscription, message) = numbers(&id).ok_or_else(unknown)?;
        if subscription >= self.next_subscription || message >= self.next_message {
            return Err(unknown());
        }
        // STOMP 1.1, "ACK": the header must match; at 1.0 some clients send `undefined`.
        if version == Version::V1_1 {
            let header = "subscription";
            let named = frame.header(header).ok_or(Refusal::HeaderMissing { command, header })?;
            if self.get(subscription).is_some_and(|open| open.id.as_deref() != Some(&*named)) {
                return Err(unknown());
            }
        }
        let Some(open) = self.get(subscription) else { return Ok(Named::new()) };
        Ok(match open.ack {
            AckMode::Auto => Named::new(),
            AckMode::Client => self.of(subscription, message),
            AckMode::ClientIndividual => {
                let is_its = |(owner, _): &(u32, L)| *owner == subscription;
                self.unacked
                    .get(&message)
                    .filter(|unacked| is_its(unacked))
                    .map(|_| message)
                    .into_iter()
                    .collect()
            }
        })
    }

    /// Hands out the loans of these messages; those that are gone are left out.
    pub(super) fn take(&mut self, named: &[u64]) -> Vec<L> {
        named.iter().filter_map(|number| self.unacked.remove(number)).map(|(_, loan)| loan).collect()
    }

    /// What a subscription has not acknowledged, up to message `last`.
    fn of(&self, subscription: u32, last: u64) -> Named {
        let up_to = self.unacked.range(..=last);
        up_to.filter(|(_, (owner, _))| *owner == subscription).map(|(&number, _)| number).collect()
    }
}

/// What `message-id` and `ack` say of a message.
pub(super) fn message_id(subscription: u32, message: u64) -> String {
    format!("{subscription}-{message}")
}

fn numbers(id: &[u8]) -> Option<(u32, u64)> {
    let (subscription, message) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some((subscription.parse().ok()?, message.parse().ok()?))
}

fn ack_mode(frame: &Frame<'_>) -> Result<AckMode, Refusal> {
    match frame.header("ack").as_deref() {
        None | Some(b"auto") => Ok(AckMode::Auto),
        Some(b"client") => Ok(AckMode::Client),
        Some(b"client-individual") => Ok(AckMode::ClientIndividual),
        Some(other) => Err(Refusal::AckMode(quoted(other))),
    }
}

/// RabbitMQ's name for it counts before ActiveMQ's. More than is allowed is cut, as brokers do.
fn prefetch(frame: &Frame<'_>) -> Result<usize, Refusal> {
    let asked = ["prefetch-count", "activemq.prefetchSize"].into_iter().find_map(|name| {
        let value = frame.header(name)?;
        Some((name, value))
    });
    let Some((name, value)) = asked else { return Ok(PREFETCH) };
    let number = std::str::from_utf8(&value).ok().and_then(|text| text.trim().parse::<usize>().ok());
    match number.filter(|number| *number > 0) {
        Some(number) => Ok(number.min(PREFETCH_MAX)),
        None => Err(Refusal::Prefetch { name, asked: quoted(&value) }),
    }
}

#[cfg(test)]
mod tests;
