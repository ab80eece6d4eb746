//! A STOMP session that sends lines and counts those whose receipt has come.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use forwarder::Transport;
use forwarder::batch::BATCH_RAW_BYTES_MAX;
use forwarder::stomp::{self, ConnectError, Connection, EndpointError, Incoming, StompEnd, StompSettings};
use memchr::memrchr;
use tokio::time::{Instant, timeout_at};
use topology::model::Endpoint;

use crate::cli::emit::EmitArguments;

/// SENDs that may be without a receipt.
const WINDOW: usize = 64;
/// How long a farewell may take once everything is receipted.
const FAREWELL: Duration = Duration::from_millis(200);

/// Why the session ended before everything was taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProducerError {
    #[error("{0}{mend}", mend = mend(.0))]
    Connect(#[from] ConnectError),
    #[error("{to}: {end}")]
    Ended { to: Endpoint, end: StompEnd },
    #[error("no receipt from {to} within {limit:?}; its spool may be full")]
    Silent { to: Endpoint, limit: Duration },
}

fn mend(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Upstream { failures }
            if failures.iter().all(|(_, error)| matches!(error, EndpointError::Dial(_))) =>
        {
            "; is an agent running there? --to HOST:PORT names another"
        }
        // The others say themselves what to do.
        _ => "",
    }
}

/// An open session.
#[derive(Debug)]
pub(super) struct Producer {
    connection: Connection<Transport>,
    to: Endpoint,
    destination: String,
    /// How long the next receipt may take.
    limit: Duration,
    receipts_asked: u64,
    /// Lines of each SEND without a receipt, by the receipt that was asked for.
    in_flight: BTreeMap<u64, u64>,
    /// When the latest receipt came, or the first SEND after a pause was sent.
    waiting_since: Instant,
    taken: u64,
}

impl Producer {
    pub(super) async fn connect(args: &EmitArguments) -> Result<Self, ProducerError> {
        let settings = StompSettings {
            connect_timeout: args.timeout,
            handshake_timeout: args.timeout,
            ..StompSettings::default()
        };
        Ok(Self {
            connection: stomp::connect(&args.upstream(), None, &settings).await?,
            to: args.to.clone(),
            destination: args.destination.clone(),
            limit: args.timeout,
            receipts_asked: 0,
            in_flight: BTreeMap::new(),
            waiting_since: Instant::now(),
            taken: 0,
        })
    }

    /// Lines whose receipt has come.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether more may be sent before receipts have come.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < WINDOW
    }

    /// Queues `lines`, `count` of them, each ended by LF, in SENDs of the size of a batch.
    pub(super) fn send(&mut self, lines: &[u8], count: u64) {
        let mut rest = (lines, count);
        while !rest.0.is_empty() {
            let (first, then) = cut(rest.0);
            let lines =
                if then.is_empty() { rest.1 } else { memchr::memchr_iter(b'\n', first).count() as u64 };
            self.send_frame(first, lines);
            rest = (then, rest.1 - lines);
        }
    }

    fn send_frame(&mut self, lines: &[u8], count: u64) {
        self.receipts_asked += 1;
        if self.in_flight.is_empty() {
            self.waiting_since = Instant::now();
        }
        self.in_flight.insert(self.receipts_asked, count);
        let receipt = self.receipts_asked.to_string();
        let headers = [("receipt", receipt.as_str()), ("persistent", "true"), ("content-type", "text/plain")];
        // Consumers that write a body into Graphite's socket add the last LF themselves.
        let body = lines.strip_suffix(b"\n").unwrap_or(lines);
        self.connection.send(&self.destination, headers.into_iter(), &Bytes::copy_from_slice(body));
    }

    /// Waits for the next receipt; with none to come it only keeps the session alive. Cancel-safe.
    pub(super) async fn receipt(&mut self) -> Result<(), ProducerError> {
        let next = self.connection.next();
        let heard = if self.in_flight.is_empty() {
            next.await
        } else {
            let silent = |_| ProducerError::Silent { to: self.to.clone(), limit: self.limit };
            timeout_at(self.waiting_since + self.limit, next).await.map_err(silent)?
        };
        match heard {
            Ok(Incoming::Receipt(id)) => {
                // Nobody else gives receipts: one that was not asked for confirms nothing.
                if let Some(lines) = id.parse().ok().and_then(|id: u64| self.in_flight.remove(&id)) {
                    self.taken += lines;
                    self.waiting_since = Instant::now();
                }
                Ok(())
            }
            Ok(Incoming::Message(_)) => Ok(()),
            Err(end) => Err(ProducerError::Ended { to: self.to.clone(), end }),
        }
    }

    /// Waits until everything that was sent is taken.
    pub(super) async fn all_taken(&mut self) -> Result<(), ProducerError> {
        while !self.in_flight.is_empty() {
            self.receipt().await?;
        }
        Ok(())
    }

    /// Says goodbye. Everything is receipted, so that it does not matter how that ends.
    pub(super) async fn leave(self) {
        drop(self.connection.close(FAREWELL).await);
    }
}

/// The lines that fit into one SEND, and the others.
fn cut(lines: &[u8]) -> (&[u8], &[u8]) {
    if lines.len() <= BATCH_RAW_BYTES_MAX {
        return (lines, &[]);
    }
    // A line is far shorter than a batch, so that there is an LF.
    let end = memrchr(b'\n', &lines[..BATCH_RAW_BYTES_MAX]).map_or(lines.len(), |lf| lf + 1);
    lines.split_at(end)
}
