//! Keeps the session of a subscription: heart-beats, deliveries, answers and the farewell.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::checker::{Checker, Delivery};
use super::{Answer, Inspect, InspectError, MessageKey, SubscriptionSettings};
use crate::stomp::{AckToken, Connection, Incoming, Message, StompEnd};
use crate::wire::WIRE_VERSION;

/// RabbitMQ puts the id unescaped into other headers, so it is a plain one.
const SUBSCRIPTION_ID: &str = "0";
/// Of the one by which a session asks for more; see [`Carrier::widen`].
const WIDER_ID: &str = "1";
/// With bodies of more bytes than this unanswered nothing is read: a prefetch counts messages, and one of them may
/// be of 4 MiB. It is what a pool to Graphite may have in flight; to hold more would only take memory.
pub(super) const UNANSWERED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Answers that are written together, at most.
const ANSWERS_AT_ONCE: usize = 256;
/// How long a farewell may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Why a subscription's session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CourierEnd {
    /// The subscription was dropped, and all ACKs were taken by the upstream.
    #[error("the subscription was closed")]
    Closed,
    /// The session broke.
    #[error(transparent)]
    Stomp(#[from] StompEnd),
    /// A message was held too long, and goes back.
    #[error("a message had no ACK for {0:?} and is given back")]
    Held(Duration),
    /// A batch of another mesh or of a later version came, which cannot be taken before one of the two ends is
    /// mended: it stays where it is, and all goes back.
    #[error("{message} stays where it is: {why}")]
    Foreign {
        /// Which, and where it came from.
        message: String,
        /// And what is to be mended.
        why: String,
    },
    /// What is bad could not be put by.
    #[error("a message could not be set aside: {0}")]
    Inspect(#[from] InspectError),
}

/// Keeps the session of one subscription. To be run beside the pump that drains it.
pub struct Courier<S, I> {
    carrier: Carrier<S>,
    checker: Checker<I>,
    end: Arc<OnceLock<CourierEnd>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, I: Inspect> Courier<S, I> {
    pub(super) fn new(carrier: Carrier<S>, checker: Checker<I>, end: Arc<OnceLock<CourierEnd>>) -> Self {
        Self { carrier, checker, end }
    }

    /// Runs until the subscription is dropped or the session is lost; messages without an ACK go back.
    pub async fn run(mut self) -> CourierEnd {
        let end = tokio::select! {
            end = self.carrier.run() => end,
            Err(end) = self.checker.run() => end,
        };
        // Told before the channels close, so that whoever waits on them finds the reason.
        self.end.get_or_init(|| end.clone());
        match end {
            CourierEnd::Closed => self.carrier.say_farewell().await,
            CourierEnd::Held(_) | CourierEnd::Foreign { .. } => {
                // The answers on their way are still good; the farewell's own fate changes nothing.
                self.carrier.say_farewell().await;
                end
            }
            CourierEnd::Stomp(_) | CourierEnd::Inspect(_) => end,
        }
    }
}

impl<S, I> fmt::Debug for Courier<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("end", &self.end).finish_non_exhaustive()
    }
}

/// A message that has no answer yet.
struct Unacked {
    token: AckToken,
    since: Instant,
    body_bytes: usize,
}

/// The socket's side of a courier.
pub(super) struct Carrier<S> {
    connection: Connection<S>,
    deliveries: mpsc::Sender<Delivery>,
    answers: mpsc::Receiver<(MessageKey, Answer)>,
    closing: CancellationToken,
    settings: SubscriptionSettings,
    /// More was asked for.
    is_wide: bool,
    /// What came and has no answer yet, oldest first.
    unacked: BTreeMap<MessageKey, Unacked>,
    /// Of their bodies.
    unacked_bytes: usize,
    next_message: u64,
    /// Came while the checker had enough: nothing is read until there is room.
    surplus: Option<Delivery>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier<S> {
    pub(super) fn subscribe(
        connection: Connection<S>,
        settings: SubscriptionSettings,
        deliveries: mpsc::Sender<Delivery>,
        answers: mpsc::Receiver<(MessageKey, Answer)>,
        closing: CancellationToken,
    ) -> Self {
        let prefetch = settings.prefetch.max(1);
        let mut carrier = Self {
            connection,
            deliveries,
            answers,
            closing,
            settings,
            is_wide: false,
            unacked: BTreeMap::new(),
            unacked_bytes: 0,
            next_message: 0,
            surplus: None,
        };
        carrier.ask(SUBSCRIPTION_ID, prefetch);
        carrier
    }

    fn ask(&mut self, id: &str, prefetch: u16) {
        let SubscriptionSettings { queue, subscribe_headers, .. } = &self.settings;
        let prefetch = prefetch.to_string();
        // Each broker knows one of the two, and both push without limit unless told.
        let own = [
            ("prefetch-count", prefetch.as_str()),
            ("activemq.prefetchSize", prefetch.as_str()),
            // An agent of ours hands batches on as they are stored.
            ("packetboat-wire", WIRE_VERSION),
        ];
        let broker = subscribe_headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.connection.subscribe(queue, id, own.into_iter().chain(broker));
    }

    /// Asks for more, once in a session, where the prefetch is about to be the bound and what came is small: for as
    /// many as fill the bytes that may be unanswered. It could not be asked for from the start: RabbitMQ hears no ACK
    /// and no heart-beat before it has written all that it may push, and where that is large and Graphite slow it
    /// takes us for dead.
    fn widen(&mut self) {
        let (prefetch, wide) = (self.settings.prefetch.max(1), self.settings.prefetch_of_small);
        let held = self.unacked.len();
        if self.is_wide || held < usize::from(prefetch).div_ceil(2) {
            return;
        }
        let fit = UNANSWERED_BYTES_MAX / (self.unacked_bytes / held).max(1);
        let more = u16::try_from(fit).unwrap_or(u16::MAX).min(wide).saturating_sub(prefetch);
        if more >= prefetch {
            self.is_wide = true;
            self.ask(WIDER_ID, more);
        }
    }

    async fn run(&mut self) -> CourierEnd {
        loop {
            let oldest = self.unacked.first_key_value().map(|(_, unacked)| unacked.since);
            let gives_back_at = oldest.map(|since| since + self.settings.hold_max);
            let mut answers = Vec::new();
            let is_reading = self.surplus.is_none() && self.unacked_bytes < UNANSWERED_BYTES_MAX;
            tokio::select! {
                () = self.closing.cancelled() => return CourierEnd::Closed,
                1.. = self.answers.recv_many(&mut answers, ANSWERS_AT_ONCE) => {
                    answers.iter().for_each(|(key, answer)| self.answer(*key, answer));
                }
                true = has_room(&self.deliveries), if self.surplus.is_some() => self.hand_on_surplus(),
                incoming = advance(&mut self.connection, is_reading) => match incoming {
                    Ok(Incoming::Message(message)) => self.deliver(message),
                    Ok(Incoming::Receipt(_)) => {}
                    Err(end) => return end.into(),
                },
                () = sleep_until(gives_back_at.unwrap_or_else(Instant::now)), if gives_back_at.is_some() => {
                    return CourierEnd::Held(self.settings.hold_max);
                }
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        let key = MessageKey(self.next_message);
        self.next_message += 1;
        let (token, body_bytes) = (message.ack.clone(), message.body.len());
        self.unacked.insert(key, Unacked { token, since: Instant::now(), body_bytes });
        self.unacked_bytes += body_bytes;
        self.widen();
        self.surplus = Some(Delivery { key, message });
        self.hand_on_surplus();
    }

    /// Without a checker there is nobody to hand it to, and the session is about to end.
    fn hand_on_surplus(&mut self) {
        let Some(delivery) = self.surplus.take() else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(delivery)) = self.deliveries.try_send(delivery) {
            self.surplus = Some(delivery);
        }
    }

    fn answer(&mut self, key: MessageKey, answer: &Answer) {
        let Some(Unacked { token, body_bytes, .. }) = self.unacked.remove(&key) else { return };
        self.unacked_bytes -= body_bytes;
        match answer {
            Answer::Taken => self.connection.ack(&token),
            Answer::Refused(reason) => self.connection.nack(&token, reason),
        }
    }

    /// Writes the answers that are still on their way, and has DISCONNECT's receipt vouch for them.
    async fn say_farewell(mut self) -> CourierEnd {
        while let Ok((key, answer)) = self.answers.try_recv() {
            self.answer(key, &answer);
        }
        match self.connection.close(CLOSE_LIMIT).await {
            Ok(()) => CourierEnd::Closed,
            Err(end) => end.into(),
        }
    }
}

/// Waits for room; only we send, so it stays. `false`: there will never be any.
async fn has_room(deliveries: &mpsc::Sender<Delivery>) -> bool {
    deliveries.reserve().await.is_ok()
}

/// The next frame; while nothing may be read, only heart-beats go on. Cancel-safe.
async fn advance<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    is_reading: bool,
) -> Result<Incoming, StompEnd> {
    if is_reading { connection.next().await } else { Err(connection.hold().await) }
}
