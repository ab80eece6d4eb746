//! A session with a STOMP upstream as a sink: each batch is one persistent SEND, confirmed by its own
//! RECEIPT and by nothing else.
//!
//! It knows no retry: what it held when the session ended is given back by being dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use topology::model;

use crate::lease::{Lease, Receipt};
use crate::sink::{Event, Sink, SinkEnd};
use crate::stomp::{Connected, Connection, Incoming, StompEnd};
use crate::wire::{self, Encoded};

/// How long a farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// `send` returns once no more than this waits to be written.
const OUTBOX_LOW_BYTES: usize = 64 * 1024;

/// What a sink says on the wire, and how much it has in flight.
#[derive(Debug, Clone)]
pub struct StompSinkSettings {
    /// The destination of each SEND.
    pub queue: String,
    /// The name of the mesh.
    pub mesh: Arc<str>,
    /// The name of this node.
    pub node: Arc<str>,
    /// How bodies travel.
    pub encoding: model::Encoding,
    /// Whether the upstream is an agent of ours, which says itself what it takes.
    pub is_agent: bool,
    /// Headers that each SEND carries besides ours.
    pub send_headers: Vec<(String, String)>,
    /// Batches in flight at most.
    pub window_count: usize,
    /// Body bytes in flight: beyond it there is no room for another batch.
    pub window_bytes: usize,
    /// With something in flight, the session is silent after this long without a receipt.
    pub receipt_deadline: Duration,
}

/// Its window is wide enough for 40 MB/s at a round trip of 100 ms.
pub const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Batches in flight unless said otherwise.
pub const WINDOW_COUNT: usize = 256;
/// From the link's last receipt, unless said otherwise.
pub const RECEIPT_DEADLINE: Duration = Duration::from_secs(60);

struct InFlight {
    lease: Lease,
    body_bytes: usize,
}

/// Whether CONNECTED says that the upstream takes bodies as they are stored.
fn takes_zstd(connected: &Connected) -> bool {
    let header = |name| connected.headers.get(name).unwrap_or_default();
    header("packetboat-wire") == wire::WIRE_VERSION
        && header("packetboat-encodings").split(',').any(|encoding| encoding.trim() == wire::ZSTD)
}

/// Sends batches over one STOMP session.
pub struct StompSink<S> {
    connection: Connection<S>,
    settings: StompSinkSettings,
    /// By the number that is the SEND's `receipt`.
    in_flight: HashMap<u64, InFlight>,
    in_flight_bytes: usize,
    next_receipt: u64,
    /// What was heard while sending.
    heard: VecDeque<Event>,
    /// Told once `heard` is empty, so that what was receipted before the end is still confirmed.
    ended: Option<SinkEnd>,
    /// The last receipt, or the first SEND after nothing was in flight.
    progress_at: Instant,
}

impl From<StompEnd> for SinkEnd {
    fn from(end: StompEnd) -> Self {
        match end {
            StompEnd::Silent(duration) => Self::Silent(duration),
            StompEnd::Error(words) => Self::Error(words),
            StompEnd::Refused { words, .. } => Self::Refused(words),
            StompEnd::Closed(cause) => Self::Closed(cause),
            malformed @ StompEnd::Malformed(_) => Self::Closed(malformed.to_string()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> StompSink<S> {
    /// Takes over an established session.
    pub fn new(connection: Connection<S>, mut settings: StompSinkSettings) -> Self {
        if settings.is_agent && !takes_zstd(connection.connected()) {
            settings.encoding = model::Encoding::Plain;
        }
        Self {
            connection,
            settings,
            in_flight: HashMap::new(),
            in_flight_bytes: 0,
            next_receipt: 1,
            heard: VecDeque::new(),
            ended: None,
            progress_at: Instant::now(),
        }
    }

    /// Sent, and not told to be done.
    fn in_flight(&self) -> usize {
        self.in_flight.len() + self.heard.len()
    }

    /// Why the upstream would refuse what has passed it before.
    fn would_loop(&self, lease: &Lease) -> Option<String> {
        let upstream = self.connection.connected().headers.get("packetboat-node")?;
        let label = lease.batch().label.as_ref()?;
        let has_passed = *label.origin == *upstream || label.hops.iter().any(|hop| **hop == *upstream);
        has_passed.then(|| format!("loop: it has passed `{upstream}` before"))
    }

    fn put_in_flight(&mut self, mut lease: Lease, encoded: &Encoded) {
        if self.in_flight.is_empty() {
            self.progress_at = Instant::now();
        }
        let number = self.next_receipt;
        self.next_receipt += 1;
        let receipt = number.to_string();
        let own = [("persistent", "true"), ("content-type", "text/plain"), ("receipt", receipt.as_str())];
        let wire = encoded.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let broker = self.settings.send_headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // Of repeated headers the first counts, so that no configured header replaces one of ours.
        let headers = own.into_iter().chain(wire).chain(broker);
        self.connection.send(&self.settings.queue, headers, &encoded.body);
        let body_bytes = encoded.body.len();
        self.in_flight_bytes += body_bytes;
        lease.forget_plain();
        self.in_flight.insert(number, InFlight { lease, body_bytes });
    }

    fn end(&mut self, end: StompEnd) {
        self.ended = Some(match end {
            StompEnd::Refused { receipt, words } => match self.take_in_flight(&receipt) {
                Some(lease) => {
                    self.heard.push_back(Event::Refused(lease, words.clone()));
                    SinkEnd::Refused(words)
                }
                // A refusal of nothing in flight is no more than an ERROR.
                None => SinkEnd::Error(words),
            },
            end => end.into(),
        });
    }

    fn take_in_flight(&mut self, receipt: &str) -> Option<Lease> {
        let InFlight { lease, body_bytes } = self.in_flight.remove(&receipt.parse().ok()?)?;
        self.in_flight_bytes -= body_bytes;
        Some(lease)
    }

    /// A receipt confirms its own SEND. One that is unknown, or came twice, confirms nothing.
    fn on_receipt(&mut self, id: &str) {
        let Some(lease) = self.take_in_flight(id) else {
            tracing::debug!(receipt = id, peer = self.connection.peer(), "a receipt for nothing in flight");
            return;
        };
        self.progress_at = Instant::now();
        let receipt = Receipt::of(&lease);
        self.heard.push_back(Event::Confirmed(lease, receipt));
    }

    /// Carries the session on until something was heard, it has ended, or no more than `low_bytes` wait
    /// to be written. Cancel-safe.
    async fn carry_on(&mut self, low_bytes: Option<usize>) {
        let connection = &mut self.connection;
        let step = async {
            match low_bytes {
                Some(low_bytes) => connection.drained(low_bytes).await,
                None => connection.next().await.map(Some),
            }
        };
        let result = if self.in_flight.is_empty() {
            step.await
        } else {
            let deadline = self.progress_at + self.settings.receipt_deadline;
            match timeout_at(deadline, step).await {
                Ok(result) => result,
                Err(_) => Err(StompEnd::Silent(self.progress_at.elapsed())),
            }
        };
        match result {
            Ok(Some(Incoming::Receipt(id))) => self.on_receipt(&id),
            Ok(Some(Incoming::Message(_)) | None) => {}
            Err(end) => self.end(end),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Sink for StompSink<S> {
    /// Ok also when the session ends meanwhile: [`Sink::event`] tells that, after what was heard before.
    async fn send(&mut self, lease: Lease) -> Result<(), SinkEnd> {
        if let Some(end) = &self.ended {
            return Err(end.clone());
        }
        if let Some(loop_) = self.would_loop(&lease) {
            self.heard.push_back(Event::Refused(lease, loop_));
            return Ok(());
        }
        let StompSinkSettings { mesh, node, encoding, .. } = &self.settings;
        match wire::encode(lease.batch(), mesh, node, *encoding) {
            Ok(encoded) => self.put_in_flight(lease, &encoded),
            Err(error) => self.heard.push_back(Event::Refused(lease, error.to_string())),
        }
        while self.ended.is_none() && self.connection.queued_bytes() > OUTBOX_LOW_BYTES {
            self.carry_on(Some(OUTBOX_LOW_BYTES)).await;
        }
        Ok(())
    }

    async fn event(&mut self) -> Result<Event, SinkEnd> {
        loop {
            if let Some(event) = self.heard.pop_front() {
                return Ok(event);
            }
            if let Some(end) = &self.ended {
                return Err(end.clone());
            }
            self.carry_on(None).await;
        }
    }

    fn has_room(&self) -> bool {
        self.ended.is_none()
            && self.in_flight() < self.settings.window_count
            && self.in_flight_bytes < self.settings.window_bytes
    }

    /// Says DISCONNECT and waits for its receipt: so the upstream knows that nobody broke off. Not while
    /// receipts are outstanding, which RabbitMQ would forget.
    async fn close(self) {
        if self.ended.is_some() || self.in_flight() > 0 {
            return;
        }
        if let Err(end) = self.connection.close(FAREWELL_MAX).await {
            tracing::debug!(%end, "the farewell went unanswered");
        }
    }
}

#[cfg(test)]
mod tests;
