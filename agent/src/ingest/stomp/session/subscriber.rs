//! What a session says as a subscriber, and what it is told: SUBSCRIBE, UNSUBSCRIBE, ACK, NACK and MESSAGE.

use super::super::encode;
use super::super::frame::{Command, Frame};
use super::super::lending::{Brought, Held};
use super::super::message;
use super::super::refusal::{Refusal, reason};
use super::super::subscriptions::AckMode;
use super::super::transaction::Answer;
use super::{Action, Receipts, Session};

/// A batch that was brought for a subscription.
#[derive(Debug)]
pub(in crate::ingest::stomp) enum Delivery {
    /// Write this. Without an acknowledgement to wait for, `done` is confirmed once it is written.
    Message { frame: Vec<u8>, done: Option<Held> },
    /// Set it aside.
    Damaged(Held, String),
    /// The subscription was closed meanwhile.
    Nobody,
}

impl Session {
    pub(super) fn subscribe(&mut self, frame: &Frame<'_>) -> Result<Action, Refusal> {
        let queue = self.queue(frame)?;
        let destination = &self.settings.destinations[queue];
        if !self.rights.may_subscribe(destination) {
            return Err(self.not_allowed("SUBSCRIBE to", destination));
        }
        if !self.settings.serves {
            return Err(Refusal::NotServed(destination.clone()));
        }
        let subscription =
            self.subscriptions.subscribe(frame, self.version, queue, destination.as_bytes(), self.is_node)?;
        let receipt = self.receipt(frame);
        self.replies.extend(receipt);
        Ok(Action::Subscribe(subscription))
    }

    pub(super) fn unsubscribe(&mut self, frame: &Frame<'_>) -> Result<Action, Refusal> {
        let (number, given_back) = self.subscriptions.unsubscribe(frame)?;
        drop(given_back);
        let receipt = self.receipt(frame);
        self.replies.extend(receipt);
        Ok(Action::Unsubscribe(number))
    }

    /// ACK and NACK.
    pub(super) fn answer(&mut self, frame: &Frame<'_>) -> Result<Action, Refusal> {
        let named = self.subscriptions.named(frame, self.version)?;
        let is_ack = frame.command == Command::Ack;
        if let Some(name) = frame.header("transaction") {
            self.transactions.answer(&name, Answer { named, is_ack })?;
            if let Some(id) = frame.header("receipt") {
                encode::buffered_receipt(self.version, &id, &mut self.replies);
            }
            return Ok(Action::GoOn);
        }
        let loans = self.subscriptions.take(&named);
        if is_ack {
            let mut receipts = Receipts::default();
            if let Some(id) = frame.header("receipt") {
                receipts.add(self.version, &id);
            }
            return Ok(Action::Acked { loans, receipts });
        }
        let receipt = self.receipt(frame);
        self.replies.extend(receipt);
        // A node of ours tells why it can never take a batch.
        if let Some(said) = frame.header("packetboat-reason").filter(|_| self.is_node) {
            return Ok(Action::SetAside { loans, reason: reason(&said) });
        }
        loans.into_iter().for_each(Held::refused);
        Ok(Action::GoOn)
    }

    /// Makes a MESSAGE of what was brought (STOMP 1.2, "MESSAGE").
    pub(in crate::ingest::stomp) fn deliver(&mut self, brought: Brought) -> Delivery {
        let Brought { subscription, mut loan, batch } = brought;
        let Some(open) = self.subscriptions.get(subscription).cloned() else { return Delivery::Nobody };
        let encoded = match message::encode(batch, &open, &self.settings) {
            Ok(encoded) => encoded,
            Err(error) => return Delivery::Damaged(loan, error.to_string()),
        };
        let redelivered = loan.loan.is_redelivered();
        // A node that collects is not to blame for the line that it is cut off by.
        if !open.takes_frames {
            loan.loan.delivered();
        }
        let (number, done) = match open.ack {
            AckMode::Auto => (self.subscriptions.next_message(), Some(loan)),
            AckMode::Client | AckMode::ClientIndividual => {
                (self.subscriptions.send(subscription, loan), None)
            }
        };
        let frame = message::frame(self.version, &open, number, redelivered, &encoded);
        Delivery::Message { frame, done }
    }
}
