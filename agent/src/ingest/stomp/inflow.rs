//! What comes from the client: read, cut into frames, and brought to the intake. Each step waits for the
//! next one, so that a producer that is faster than the disk is held back by TCP and not by memory.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ingest::Sender;
use crate::ingest::intake::Intake;

use super::Settings;
use super::budget::Budget;
use super::decode::{Decoded, Decoder};
use super::negotiate::Beats;
use super::outflow::{Held, Order};
use super::patience::Patience;
use super::read_buffer::ReadBuffer;
use super::refusal::Refusal;
use super::session::{Action, Gathered, Moment, Session};

/// Gathered lines of this size go to the intake, though there are more frames to look at.
const GATHERED_BYTES: usize = 64 * 1024;
/// Once the server stops, what has arrived is still read: until nothing comes for this long,
const STOP_QUIET: Duration = Duration::from_millis(50);
/// and for this long at most.
const STOP_READING: Duration = Duration::from_millis(500);

/// How the reading side ended.
#[derive(Debug)]
pub(super) enum InflowEnd {
    /// The client sent DISCONNECT.
    Disconnected,
    /// The client closed its side, in the middle of a frame or between two.
    Left { mid_frame: bool },
    /// The connection broke.
    Broken(io::Error),
    /// The client gets this ERROR.
    Refused(Refusal),
    /// The writing side ended first and says why.
    Unwritten,
}

/// What all sessions of a server have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) settings: Arc<Settings>,
    pub(super) budget: Budget,
    pub(super) intake: Intake,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
}

/// The reading side of a session.
pub(super) struct Inflow<R> {
    reader: R,
    common: Common,
    from: Sender,
    session: Session,
    decoder: Decoder,
    buffer: ReadBuffer,
    patience: Patience,
    /// By when CONNECT must be there.
    connect_due: Instant,
    /// Bytes of the orders that the writing side has not written.
    outstanding: Arc<Semaphore>,
    /// When reading ends, once the server stops.
    stop_due: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Inflow<R> {
    /// Reads the session `number` of `from`.
    pub(super) fn new(reader: R, common: Common, from: Sender, number: u64) -> Self {
        let limits = common.settings.limits;
        Self {
            reader,
            from,
            session: Session::new(Arc::clone(&common.settings), number, &common.budget),
            decoder: Decoder::new(&limits),
            buffer: ReadBuffer::new(limits.header_bytes + limits.body_bytes + 1, &common.budget),
            patience: Patience::new(limits.frame_time),
            connect_due: Instant::now() + limits.connect_time,
            outstanding: Arc::new(Semaphore::new(limits.outstanding_bytes)),
            stop_due: None,
            common,
        }
    }

    /// Reads until the session ends. The writing side ends with `orders`.
    pub(super) async fn run(&mut self, orders: mpsc::Sender<Held>) -> InflowEnd {
        loop {
            let step = match self.read().await {
                Ok(()) => self.digest(&orders).await,
                Err(Unread::Ended(end)) => Err(end),
                Err(Unread::Refused(refusal)) => {
                    self.carry_out(self.session.refuse(refusal, None), &orders).await
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Gives up everything but the reader.
    pub(super) fn into_reader(self) -> R {
        self.reader
    }

    /// Reads something, or tells why there is nothing to be read.
    async fn read(&mut self) -> Result<(), Unread> {
        self.wait_for_room().await?;
        let began = Instant::now();
        if self.common.stop.is_cancelled() && began >= *self.stop_due.get_or_insert(began + STOP_READING) {
            return Err(Refusal::Stopping.into());
        }
        let due = self.next_due(began);
        if let Some((due, refusal)) = &due
            && *due <= began
        {
            return Err(refusal.clone().into());
        }
        let mid_frame = self.decoder.is_mid_frame();
        let read = tokio::select! {
            biased;
            read = self.reader.read_buf(self.buffer.ready()?) => read,
            () = stopped_and_quiet(&self.common.stop) => return Err(Refusal::Stopping.into()),
            refusal = overdue(due) => return Err(refusal.into()),
        };
        match read.map_err(|error| Unread::Ended(InflowEnd::Broken(error)))? {
            0 => return Err(Unread::Ended(InflowEnd::Left { mid_frame })),
            read => self.buffer.filled(read),
        }
        if mid_frame {
            self.patience.spent(began.elapsed());
        }
        Ok(())
    }

    /// While the spool is full a producer is not read, and its clocks stand still. A session that is
    /// still to be opened is read, since its client waits for CONNECTED; and so is one with an open
    /// transaction, to be refused.
    async fn wait_for_room(&self) -> Result<(), Unread> {
        if !self.session.is_connected() || self.session.has_open_transaction() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.common.intake.room() => Ok(()),
            () = self.common.stop.cancelled() => Err(Refusal::Stopping.into()),
        }
    }

    /// When patience ends if nothing comes, and what to say then.
    fn next_due(&self, now: Instant) -> Option<(Instant, Refusal)> {
        let connect_time = self.common.settings.limits.connect_time;
        let connect =
            (!self.session.is_connected()).then_some((self.connect_due, Refusal::ConnectTime(connect_time)));
        let silent =
            self.patience.left(self.decoder.is_mid_frame()).map(|(left, refusal)| (now + left, refusal));
        [connect, silent, self.session.next_due()].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// Takes the frames out of what was read.
    async fn digest(&mut self, orders: &mpsc::Sender<Held>) -> Result<(), InflowEnd> {
        let moment = Moment {
            now: Instant::now(),
            now_seconds: self.common.clock.now_seconds(),
            spool_full: self.common.intake.is_full(),
        };
        let mut used = 0;
        loop {
            let unread = &self.buffer.unread()[used..];
            let action = match self.decoder.decode(self.session.version(), unread) {
                Ok(Decoded::Frame(frame, bytes)) => {
                    used += bytes;
                    self.patience.frame_done();
                    self.session.frame(&frame, moment)
                }
                Ok(Decoded::Partial(bytes)) => {
                    self.buffer.consume(used + bytes);
                    return self.flush(orders).await;
                }
                Err(fault) => {
                    let receipt = self.decoder.receipt(self.session.version(), unread);
                    self.session.refuse(fault.into(), receipt.as_deref())
                }
            };
            self.carry_out(action, orders).await?;
        }
    }

    async fn carry_out(&mut self, action: Action, orders: &mpsc::Sender<Held>) -> Result<(), InflowEnd> {
        match action {
            Action::GoOn if self.session.gathered.checked.lines.len() < GATHERED_BYTES => Ok(()),
            Action::GoOn => self.flush(orders).await,
            Action::Open(Beats { ours, clients }) => {
                if let Some(interval) = clients {
                    self.patience.expect_beats(interval);
                }
                let open = Order::Open { version: self.session.version(), beat: ours };
                self.order(open, 0, orders).await
            }
            Action::Commit(mut transaction, _share) => {
                self.flush(orders).await?;
                let ticket = self.common.intake.accept_whole(&self.from, &mut transaction.checked).await;
                let bytes = transaction.receipts.frames.len();
                self.order(Order::AfterCommit(ticket, transaction.receipts), bytes, orders).await
            }
            Action::Close { last, why } => {
                self.flush(orders).await?;
                let bytes = last.len();
                self.order(Order::Last(last), bytes, orders).await?;
                Err(why.map_or(InflowEnd::Disconnected, InflowEnd::Refused))
            }
        }
    }

    /// Brings the gathered lines to the intake, and has the replies written.
    async fn flush(&mut self, orders: &mpsc::Sender<Held>) -> Result<(), InflowEnd> {
        let replies = std::mem::take(&mut self.session.replies);
        if !replies.is_empty() {
            let bytes = replies.len();
            self.order(Order::Now(replies), bytes, orders).await?;
        }
        let Gathered { checked, receipts } = &mut self.session.gathered;
        if checked.is_empty() {
            return Ok(());
        }
        let ticket = self.common.intake.accept(&self.from, checked).await;
        checked.lines.shrink_to(2 * GATHERED_BYTES);
        let receipts = std::mem::take(receipts);
        let bytes = receipts.frames.len();
        self.order(Order::AfterCommit(ticket, receipts), bytes, orders).await
    }

    /// Waits while too many bytes are outstanding.
    async fn order(&self, order: Order, bytes: usize, orders: &mpsc::Sender<Held>) -> Result<(), InflowEnd> {
        let bytes = (bytes + size_of::<Held>()).min(self.common.settings.limits.outstanding_bytes);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let permit = Arc::clone(&self.outstanding).acquire_many_owned(permits).await.ok();
        orders.send(Held { order, permit }).await.map_err(|_| InflowEnd::Unwritten)
    }
}

/// Why a read gave nothing.
#[derive(Debug)]
enum Unread {
    Ended(InflowEnd),
    Refused(Refusal),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn stopped_and_quiet(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(STOP_QUIET).await;
}

/// Waits until patience has ended; for ever if it has no end.
async fn overdue(due: Option<(Instant, Refusal)>) -> Refusal {
    match due {
        Some((due, refusal)) => {
            sleep_until(due).await;
            refusal
        }
        None => pending().await,
    }
}
