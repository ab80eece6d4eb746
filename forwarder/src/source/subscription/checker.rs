//! Turns messages into batches: wire frames of nodes by their headers, everything else line by line. Anybody at a
//! broker may write such headers, so that the lines under them are held against the line rule, too.

use std::sync::Arc;

use bytes::Bytes;
use memchr::{memchr, memrchr};
use tokio::sync::mpsc;

use super::{Answer, CourierEnd, Inspect, Inspected, MessageKey};
use crate::batch::{BATCH_RAW_BYTES_MAX, Batch, Encoding, Part};
use crate::clock::Clock;
use crate::stomp::Message;
use crate::wire::{self, Decoded};

/// A message as it came.
pub(super) struct Delivery {
    pub(super) key: MessageKey,
    pub(super) message: Message,
}

/// A message that may be lent, as one batch or, if it is large, as several.
pub(super) struct Checked {
    pub(super) message: MessageKey,
    pub(super) batches: Vec<Batch>,
}

/// What comes of a message.
enum Outcome {
    /// To be lent.
    Good(Vec<Batch>),
    /// There is nothing to lend.
    Done(Answer),
}

/// Walks deliveries in order.
pub(super) struct Checker<I> {
    pub(super) deliveries: mpsc::Receiver<Delivery>,
    pub(super) checked: mpsc::Sender<Checked>,
    pub(super) answers: mpsc::Sender<(MessageKey, Answer)>,
    pub(super) inspect: Arc<I>,
    /// The upstream is a node of ours.
    pub(super) from_node: bool,
    pub(super) mesh: Arc<str>,
    /// The queue and the upstream, for people.
    pub(super) sender: String,
    pub(super) clock: Clock,
}

impl<I: Inspect> Checker<I> {
    /// Returns when nobody delivers, or nobody listens, any more.
    pub(super) async fn run(&mut self) -> Result<(), CourierEnd> {
        while let Some(Delivery { key, message }) = self.deliveries.recv().await {
            let is_open = match self.check(&message).await? {
                Outcome::Good(batches) => self.checked.send(Checked { message: key, batches }).await.is_ok(),
                Outcome::Done(answer) => self.answers.send((key, answer)).await.is_ok(),
            };
            if !is_open {
                break;
            }
        }
        Ok(())
    }

    /// What is good of a message; what is not has been put by when this returns.
    async fn check(&self, message: &Message) -> Result<Outcome, CourierEnd> {
        if message.cut_bytes > 0 {
            let reason = format!("the body is {} bytes too large", message.cut_bytes);
            return self.refuse(message, reason).await;
        }
        match wire::decode(|name| message.headers.get(name), &message.body, &self.mesh) {
            Ok(Some(Decoded { batch, lines })) => self.inspect(message, &lines, Some(batch)).await,
            Ok(None) => self.inspect(message, &message.body, None).await,
            Err(error) if error.may_be_mended() => {
                Err(CourierEnd::Foreign { message: self.sender_of(message), why: error.to_string() })
            }
            Err(error) => self.refuse(message, error.to_string()).await,
        }
    }

    /// The `labelled` batch whose lines these are goes on as it came if all of them pass as they are; else, as from
    /// any producer, those that pass.
    async fn inspect(
        &self,
        message: &Message,
        lines: &[u8],
        labelled: Option<Batch>,
    ) -> Result<Outcome, CourierEnd> {
        let inspected = self.inspect.inspect(lines, &self.sender_of(message)).await?;
        let good = match labelled {
            Some(batch) if inspected.lines == lines => vec![batch],
            _ => batches(inspected, self.clock.now_ms()),
        };
        Ok(if good.is_empty() { Outcome::Done(Answer::Taken) } else { Outcome::Good(good) })
    }

    /// Leaves it to the node that sent it; what a broker brings is put by.
    async fn refuse(&self, message: &Message, reason: String) -> Result<Outcome, CourierEnd> {
        if self.from_node {
            return Ok(Outcome::Done(Answer::Refused(reason)));
        }
        self.inspect.set_aside(&message.body, &reason, &self.sender_of(message)).await?;
        Ok(Outcome::Done(Answer::Taken))
    }

    fn sender_of(&self, message: &Message) -> String {
        format!("message {} of {}", message.id, self.sender)
    }
}

/// Lines without a label, in batches of at most [`BATCH_RAW_BYTES_MAX`]. A larger line is a batch of its
/// own, though no line rule lets one pass.
fn batches(inspected: Inspected, now_ms: i64) -> Vec<Batch> {
    let Inspected { lines: mut rest, count } = inspected;
    let mut batches = Vec::new();
    while !rest.is_empty() && count > 0 {
        let own = rest.split_to(first_cut(&rest));
        let lines = memchr::memchr_iter(b'\n', &own).count();
        batches.push(batch(own, u32::try_from(lines).unwrap_or(u32::MAX), now_ms));
    }
    batches
}

/// The end of the last line that fits.
fn first_cut(lines: &[u8]) -> usize {
    if lines.len() <= BATCH_RAW_BYTES_MAX {
        return lines.len();
    }
    let fits = memrchr(b'\n', &lines[..BATCH_RAW_BYTES_MAX]);
    fits.or_else(|| memchr(b'\n', lines)).map_or(lines.len(), |line_end| line_end + 1)
}

fn batch(lines: Bytes, count: u32, now_ms: i64) -> Batch {
    let raw_bytes = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    Batch {
        label: None,
        encoding: Encoding::Plain,
        parts: vec![Part { seq: 0, lines: count, raw_bytes, body: lines, plain: None }],
        accepted_ms: now_ms..=now_ms,
    }
}
