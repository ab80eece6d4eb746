//! A STOMP session over any stream: carries frames and heart-beats, and notices a dead peer.
//!
//! It reads while it writes, so that two ends that both wait for the other to read cannot lock each
//! other up. All waiting is in [`Connection::turn`], which is cancel-safe, and so is all that calls it.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::codec::{self, Connected, Frame, Refused};
use super::heartbeat::Beats;
use super::inbox::{Inbox, Limits};
use super::outbox::Outbox;
use super::pulse::Pulse;
use super::{AckToken, Headers, Message, StompSettings, Version};

/// Room made for reads once less than [`READ_BYTES_MIN`] is left. Bodies are slices of that room, so a
/// new one for each read would let a small message keep 64 KiB alive.
const READ_BYTES: usize = 64 * 1024;
const READ_BYTES_MIN: usize = 4 * 1024;
/// After a failed write the peer's last words are still read, for this long at most.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// When to look at the clocks again if none of them runs.
const NO_CLOCK: Duration = Duration::from_secs(3600);
/// The id of DISCONNECT's receipt; those of a sink are numbers.
const DISCONNECT_RECEIPT: &str = "disconnect";

/// What an established session receives.
#[derive(Debug)]
pub enum Incoming {
    /// The upstream has processed the frame that carried this `receipt`.
    Receipt(String),
    /// A message of the subscription.
    Message(Message),
}

/// How a session ended. The connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StompEnd {
    /// No byte came, or none could be written, for this long.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// The upstream answered ERROR.
    #[error("the upstream says: {0}")]
    Error(String),
    /// The upstream, an agent of ours, will never take the frame that carried this `receipt`.
    #[error("the upstream says: {words}")]
    Refused {
        /// Of the frame.
        receipt: String,
        /// Why.
        words: String,
    },
    /// The connection was closed or broke.
    #[error("connection lost: {0}")]
    Closed(String),
    /// What came is not STOMP.
    #[error("the upstream sent something that is not STOMP: {0}")]
    Malformed(String),
}

/// A STOMP session. Dropping it closes the stream without a farewell.
pub struct Connection<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    inbox: Inbox,
    /// Frames and heart-beats that are still to be written.
    outbox: Outbox,
    /// Bytes were written since the last flush.
    unflushed: bool,
    peer: String,
    connected: Connected,
    pulse: Pulse,
    /// The first write that failed, and until when the peer's last words are awaited.
    write_failed: Option<(String, Instant)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A stream on which nothing was said yet.
    pub(super) fn raw(stream: S, peer: &str, settings: &StompSettings) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let limits =
            Limits { head_bytes_max: settings.head_bytes_max, body_bytes_max: settings.body_bytes_max };
        let connected =
            Connected { version: Version::V1_2, server: None, heart_beat: None, headers: Headers::default() };
        Self {
            reader,
            writer,
            inbox: Inbox::new(limits),
            outbox: Outbox::default(),
            unflushed: false,
            peer: peer.to_owned(),
            connected,
            pulse: Pulse::new(settings.stall_limit, Instant::now()),
            write_failed: None,
        }
    }

    pub(super) fn establish(&mut self, connected: Connected, beats: Beats) {
        self.connected = connected;
        self.pulse.agree(beats);
    }

    /// The upstream's answer to CONNECT.
    pub fn connected(&self) -> &Connected {
        &self.connected
    }

    /// The far end, as the topology names it.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Bytes that are not written yet. Whoever queues frames keeps this bounded by [`Self::drained`].
    pub fn queued_bytes(&self) -> usize {
        self.outbox.remaining()
    }

    /// Queues a SEND.
    pub fn send<'a>(
        &mut self,
        destination: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        body: &Bytes,
    ) {
        self.queue(|version, out| codec::put_send(destination, headers, body, version, out));
    }

    /// Queues a SUBSCRIBE with `ack:client-individual`.
    pub fn subscribe<'a>(
        &mut self,
        destination: &str,
        id: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        self.queue(|version, out| codec::put_subscribe(destination, id, headers, version, out.end()));
    }

    /// Queues an ACK.
    pub fn ack(&mut self, token: &AckToken) {
        self.queue(|version, out| codec::put_ack(token, version, out.end()));
    }

    /// Queues a NACK that tells a node why it is never to send the message again.
    pub fn nack(&mut self, token: &AckToken, reason: &str) {
        self.queue(|version, out| codec::put_nack(token, reason, version, out.end()));
    }

    pub(super) fn queue(&mut self, put: impl FnOnce(Version, &mut Outbox)) {
        if self.outbox.is_empty() {
            self.pulse.has_written(Instant::now());
        }
        put(self.connected.version, &mut self.outbox);
    }

    /// Waits for the next frame while writing what is queued. Cancel-safe.
    pub async fn next(&mut self) -> Result<Incoming, StompEnd> {
        let frame = self.frame().await?;
        incoming(frame)
    }

    /// As [`Self::next`], but returns `None` once at most `low_bytes` are queued. Cancel-safe.
    pub async fn drained(&mut self, low_bytes: usize) -> Result<Option<Incoming>, StompEnd> {
        self.pulse.listen(Instant::now());
        loop {
            if let Some(frame) = self.take_frame()? {
                return incoming(frame).map(Some);
            }
            if self.queued_bytes() <= low_bytes {
                return Ok(None);
            }
            self.turn().await?;
        }
    }

    /// Writes what is queued, and heart-beats, without reading: for a receiver that has no room.
    /// Returns only when the session has ended. Cancel-safe.
    pub async fn hold(&mut self) -> StompEnd {
        self.pulse.stop_listening();
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
            if let Some((error, _)) = &self.write_failed {
                return StompEnd::Closed(error.clone());
            }
        }
    }

    /// Says DISCONNECT, waits for its receipt and closes; all within `limit`. Receipts of earlier frames
    /// are to be collected first: RabbitMQ forgets them.
    pub async fn close(mut self, limit: Duration) -> Result<(), StompEnd> {
        let deadline = Instant::now() + limit;
        self.queue(|_, out| codec::put_disconnect(DISCONNECT_RECEIPT, out.end()));
        loop {
            match timeout_at(deadline, self.next()).await {
                Ok(Ok(Incoming::Receipt(id))) if id == DISCONNECT_RECEIPT => break,
                Ok(Ok(_)) => {}
                Ok(Err(end)) => return Err(end),
                Err(_) => return Err(StompEnd::Silent(limit)),
            }
        }
        match timeout_at(deadline, self.writer.shutdown()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StompEnd::Closed(error.to_string())),
            Err(_) => Err(StompEnd::Silent(limit)),
        }
    }

    /// The next frame of any kind. Cancel-safe.
    pub(super) async fn frame(&mut self) -> Result<Frame, StompEnd> {
        self.pulse.listen(Instant::now());
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            self.turn().await?;
        }
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, StompEnd> {
        let read = |raw| codec::read(raw, self.connected.version);
        match self.inbox.next().and_then(|raw| raw.map(read).transpose()) {
            Ok(frame) => Ok(frame),
            Err(error) => Err(StompEnd::Malformed(error.to_string())),
        }
    }

    /// Does what can be done first: write, read, or beat. Cancel-safe.
    async fn turn(&mut self) -> Result<(), StompEnd> {
        self.beat_if_due();
        let wake = self.wake_at();
        let may_write = self.write_failed.is_none() && (self.unflushed || !self.outbox.is_empty());
        self.make_room();
        tokio::select! {
            // The clock comes last: a process that was held up looks for bytes before it calls the peer dead.
            biased;
            written = write_some(&mut self.writer, &mut self.outbox), if may_write => self.wrote(written),
            read = self.reader.read_buf(self.inbox.buffer()), if self.pulse.is_reading() => self.has_read(read)?,
            () = sleep_until(wake) => self.check_clocks()?,
        }
        Ok(())
    }

    fn make_room(&mut self) {
        let buffer = self.inbox.buffer();
        if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
            buffer.reserve(READ_BYTES);
        }
    }

    fn wrote(&mut self, written: std::io::Result<usize>) {
        match written {
            Ok(bytes) => {
                self.unflushed = bytes > 0;
                self.pulse.has_written(Instant::now());
            }
            Err(error) => self.write_failed = Some((error.to_string(), Instant::now() + LAST_WORDS)),
        }
    }

    fn has_read(&mut self, read: std::io::Result<usize>) -> Result<(), StompEnd> {
        match read {
            // A write that met a reset has taken the error with it, and the read sees an end without one.
            Ok(0) => Err(StompEnd::Closed(match &self.write_failed {
                Some((error, _)) => format!("the upstream closed it, and writing failed: {error}"),
                None => "the upstream closed it".to_owned(),
            })),
            Ok(_) => {
                self.pulse.has_read(Instant::now());
                Ok(())
            }
            Err(error) => Err(StompEnd::Closed(error.to_string())),
        }
    }

    fn beat_if_due(&mut self) {
        let now = Instant::now();
        if self.outbox.is_empty() && self.pulse.beat_at().is_some_and(|due| due <= now) {
            self.outbox.end().extend_from_slice(b"\n");
            self.pulse.has_written(now);
        }
    }

    fn wake_at(&self) -> Instant {
        if let Some((_, until)) = &self.write_failed {
            return *until;
        }
        let clocks = self.pulse.look_at(!self.outbox.is_empty());
        clocks.unwrap_or_else(|| Instant::now() + NO_CLOCK)
    }

    fn check_clocks(&self) -> Result<(), StompEnd> {
        let now = Instant::now();
        if let Some((error, until)) = &self.write_failed {
            return if *until <= now { Err(StompEnd::Closed(error.clone())) } else { Ok(()) };
        }
        match self.pulse.silence(!self.outbox.is_empty(), now) {
            Some(silence) => Err(StompEnd::Silent(silence)),
            None => Ok(()),
        }
    }
}

/// Without the bytes on their way: CONNECT holds the passcode.
impl<S> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("connected", &self.connected)
            .field("queued_bytes", &self.outbox.remaining())
            .finish_non_exhaustive()
    }
}

fn incoming(frame: Frame) -> Result<Incoming, StompEnd> {
    match frame {
        Frame::Receipt(id) => Ok(Incoming::Receipt(id)),
        Frame::Message(message) => Ok(Incoming::Message(message)),
        Frame::Error(Refused { words, for_ever: None }) => Err(StompEnd::Error(words)),
        Frame::Error(Refused { words, for_ever: Some(receipt) }) => Err(StompEnd::Refused { receipt, words }),
        Frame::Connected(_) => Err(StompEnd::Malformed("a second CONNECTED".to_owned())),
    }
}

/// Writes a piece of `outbox`, or flushes if nothing is left. Returns the bytes written. Cancel-safe.
async fn write_some(writer: &mut (impl AsyncWrite + Unpin), outbox: &mut Outbox) -> std::io::Result<usize> {
    if outbox.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write_buf(outbox).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

#[cfg(test)]
mod tests;
