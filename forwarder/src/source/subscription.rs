//! A STOMP subscription as a source: MESSAGE -> check -> lease -> ACK.
//!
//! A [`Subscription`] lends, and its [`Courier`] keeps the session: the courier is to be run beside
//! whoever pumps, so that heart-beats go on while leases are out and a slow receiver keeps its session.
//!
//! ```text
//! socket --Delivery--> checker --Checked--> Subscription --Lease--> the pump
//!   ^ Answer              | (set aside)         | (confirmed, set aside)
//!   +---------------------+---------------------+
//! ```
//!
//! What can never be taken is put by, and acknowledged; but the batch of an upstream that is a node is left to
//! it, by a NACK with the reason: the node sets it aside, where it can be sent again. What one of the two ends
//! must be mended for, a batch of another mesh or of a later version, is no mistake of the batch: it stays where
//! it is, and the session ends.
//!
//! STOMP gives a message back only when its session ends. So once a lease was dropped nothing more is
//! lent, and when no lease is out the source ends as lost; the caller drops it and subscribes again.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::batch::Batch;
use crate::clock::Clock;
use crate::lease::{Lease, LeaseKey, Receipt, Returns};
use crate::source::{Source, SourceEnd};
use crate::stomp::Connection;

mod checker;
mod courier;

use checker::{Checked, Checker};
use courier::Carrier;
pub use courier::{Courier, CourierEnd};

/// RabbitMQ ends a consumer that holds a message for 30 minutes; ours gives it back before 20 are over.
pub const HOLD_MAX: Duration = Duration::from_secs(19 * 60);

/// Messages that are read ahead of the check, at most: what came is held with all that was read beside it, what was
/// checked alone.
const UNCHECKED_MAX: usize = 32;

/// What to subscribe to, and how much to hold.
#[derive(Debug, Clone)]
pub struct SubscriptionSettings {
    /// The destination.
    pub queue: String,
    /// The name of the mesh; a batch of another ends the session, and stays where it is.
    pub mesh: Arc<str>,
    /// Messages that the upstream may push without an ACK; at least one.
    pub prefetch: u16,
    /// As many as that of messages so small that they fit into the bytes which may be unanswered; no more than
    /// `prefetch`: it is the same for all.
    pub prefetch_of_small: u16,
    /// Headers that SUBSCRIBE carries besides ours.
    pub subscribe_headers: Vec<(String, String)>,
    /// A message without an ACK for this long ends the session, so that it goes back.
    pub hold_max: Duration,
    /// When lines of producers that are no nodes were accepted.
    pub clock: Clock,
}

/// The good lines of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Each ended by LF; empty: there were none.
    pub lines: Bytes,
    /// How many.
    pub count: u32,
}

/// What is bad could not be put by durably, so that its message must not be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InspectError(pub String);

/// Checks the lines that come, and keeps what must not go on. Whatever it takes
/// is durable when it returns: the message is acknowledged next.
pub trait Inspect: Send + Sync {
    /// Checks each line of `body`, puts the bad ones by, and returns the good ones. `sender` says where
    /// the body came from, for people.
    fn inspect(
        &self,
        body: &[u8],
        sender: &str,
    ) -> impl Future<Output = Result<Inspected, InspectError>> + Send;

    /// Puts a whole body by.
    fn set_aside(
        &self,
        body: &[u8],
        reason: &str,
        sender: &str,
    ) -> impl Future<Output = Result<(), InspectError>> + Send;
}

/// What the courier knows a message by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct MessageKey(u64);

/// What is said of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// We have it.
    Taken,
    /// It can never be taken, for this reason: its sender is to keep it, and to set it aside. For nodes only.
    Refused(String),
}

/// Counts the leases that were dropped.
#[derive(Default)]
struct Returned {
    leases: AtomicUsize,
    changed: Notify,
}

impl Returns for Returned {
    fn give_back(&self, _: LeaseKey) {
        self.leases.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

/// Messages of one queue, lent as batches. Dropping it ends the session in order.
pub struct Subscription<I> {
    checked: mpsc::Receiver<Checked>,
    answers: mpsc::Sender<(MessageKey, Answer)>,
    inspect: Arc<I>,
    /// The upstream is a node of ours.
    from_node: bool,
    /// Batches of the last message that are not lent yet.
    waiting: VecDeque<(MessageKey, Batch)>,
    /// Leases that were not confirmed.
    lent: HashMap<LeaseKey, MessageKey>,
    /// Batches that are not done, of each message that is several: it is acknowledged with the last of them.
    undone: HashMap<MessageKey, usize>,
    next_lease: u64,
    returned: Arc<Returned>,
    end: Arc<OnceLock<CourierEnd>>,
    _closing: DropGuard,
}

impl<I: Inspect> Subscription<I> {
    /// Subscribes over an established session. Nothing moves until the courier runs.
    pub fn open<S: AsyncRead + AsyncWrite + Unpin>(
        connection: Connection<S>,
        settings: SubscriptionSettings,
        inspect: Arc<I>,
    ) -> (Self, Courier<S, I>) {
        let prefetch = usize::from(settings.prefetch.max(settings.prefetch_of_small).max(1));
        let (delivery_in, delivery_out) = mpsc::channel(UNCHECKED_MAX.min(prefetch));
        let (checked_in, checked_out) = mpsc::channel(prefetch);
        let (answers_in, answers_out) = mpsc::channel(prefetch);
        let closing = CancellationToken::new();
        let end = Arc::new(OnceLock::new());
        let from_node = connection.connected().is_node();
        let sender = format!("{} at {}", settings.queue, connection.peer());
        let checker = Checker {
            deliveries: delivery_out,
            checked: checked_in,
            answers: answers_in.clone(),
            inspect: inspect.clone(),
            from_node,
            mesh: settings.mesh.clone(),
            sender,
            clock: settings.clock.clone(),
        };
        let carrier = Carrier::subscribe(connection, settings, delivery_in, answers_out, closing.clone());
        let subscription = Self {
            checked: checked_out,
            answers: answers_in,
            inspect,
            from_node,
            waiting: VecDeque::new(),
            lent: HashMap::new(),
            undone: HashMap::new(),
            next_lease: 0,
            returned: Arc::default(),
            end: end.clone(),
            _closing: closing.drop_guard(),
        };
        (subscription, Courier::new(carrier, checker, end))
    }

    /// Leases that were dropped: their messages go back only with the end of this session.
    fn returned_leases(&self) -> usize {
        self.returned.leases.load(Ordering::Relaxed)
    }

    /// Why there is nothing more: what the courier said, or that it is gone.
    fn lost(&self) -> SourceEnd {
        let reason = self.end.get().map(ToString::to_string);
        SourceEnd::Lost(reason.unwrap_or_else(|| "nobody runs its courier".to_owned()))
    }

    fn lend(&mut self, message: MessageKey, batch: Batch) -> Lease {
        let key = LeaseKey(self.next_lease);
        self.next_lease += 1;
        self.lent.insert(key, message);
        Lease::new(key, batch, self.returned.clone())
    }

    /// One batch of a message is done; with the last one the message gets its answer.
    async fn done(&mut self, key: LeaseKey, answer: Answer) -> Result<(), SourceEnd> {
        let Some(message) = self.lent.remove(&key) else {
            return Err(SourceEnd::Lost(format!("lease {} is not from this session", key.0)));
        };
        if let Some(undone) = self.undone.get_mut(&message)
            && *undone > 1
        {
            *undone -= 1;
            return Ok(());
        }
        self.undone.remove(&message);
        self.answers.send((message, answer)).await.map_err(|_| self.lost())
    }
}

impl<I: Inspect> Source for Subscription<I> {
    async fn lease(&mut self) -> Result<Lease, SourceEnd> {
        loop {
            let returned = self.returned_leases();
            if returned > 0 && returned >= self.lent.len() {
                return Err(SourceEnd::Lost(format!(
                    "{returned} batches were given back, which a broker takes at the session's end only"
                )));
            }
            if returned > 0 {
                self.returned.changed.notified().await;
                continue;
            }
            if let Some((message, batch)) = self.waiting.pop_front() {
                return Ok(self.lend(message, batch));
            }
            tokio::select! {
                () = self.returned.changed.notified() => {}
                checked = self.checked.recv() => {
                    let Some(Checked { message, batches }) = checked else { return Err(self.lost()) };
                    if batches.len() > 1 {
                        self.undone.insert(message, batches.len());
                    }
                    self.waiting.extend(batches.into_iter().map(|batch| (message, batch)));
                }
            }
        }
    }

    async fn confirm(&mut self, lease: Lease, receipt: Receipt) -> Result<(), SourceEnd> {
        if receipt.key() != lease.key() {
            let (lease, receipt) = (lease.key().0, receipt.key().0);
            return Err(SourceEnd::Lost(format!("the receipt of lease {receipt} came for lease {lease}")));
        }
        self.done(lease.end(), Answer::Taken).await
    }

    async fn set_aside(&mut self, lease: Lease, reason: &str) -> Result<(), SourceEnd> {
        // A labelled batch is a whole message; one that was cut out of lines can only be kept here.
        if self.from_node && lease.batch().label.is_some() {
            return self.done(lease.end(), Answer::Refused(reason.to_owned())).await;
        }
        let mut lines = Vec::new();
        if let Err(error) = lease.batch().append_lines(&mut lines) {
            return Err(SourceEnd::Lost(error.to_string()));
        }
        let sender = match &lease.batch().label {
            Some(label) => label.origin.to_string(),
            None => "a producer at the broker".to_owned(),
        };
        let kept = self.inspect.set_aside(&lines, reason, &sender).await;
        kept.map_err(|error| SourceEnd::Lost(error.to_string()))?;
        self.done(lease.end(), Answer::Taken).await
    }
}

#[cfg(test)]
mod tests;
