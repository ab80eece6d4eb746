//! What comes from the client: read, cut into frames, and brought to the intake. Each step waits for the
//! next one, so that a producer that is faster than the disk is held back by TCP and not by memory.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ingest::clients::Visit;
use crate::ingest::intake::{Intake, Ticket};
use crate::ingest::{Input, Sender};
use crate::spool::Subscribers;
use crate::users::{Credentials, Users};

use super::Settings;
use super::budget::Budget;
use super::decode::{Decoded, Decoder};
use super::lending::{Borrowing, Brought, Held as Lent, Lending};
use super::negotiate::Beats;
use super::outflow::{Held, Order};
use super::patience::Patience;
use super::read_buffer::ReadBuffer;
use super::reader::Reader;
use super::refusal::Refusal;
use super::session::{Action, Delivery, Gathered, Moment, Receipts, Session, Whole};
use super::subscriptions::Subscription;

/// Gathered lines of this size go to the intake, though there are more frames to look at.
const GATHERED_BYTES: usize = 64 * 1024;
/// Once the server stops, what has arrived is still read: until nothing comes for this long,
const STOP_QUIET: Duration = Duration::from_millis(50);
/// and for this long at most.
const STOP_READING: Duration = Duration::from_millis(500);

/// After so long without anything to read, a session keeps no room for more than a little.
const ROOM_KEPT_FOR: Duration = Duration::from_secs(1);

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
    pub(super) users: Users,
    /// Those of each queue; none where there are none.
    pub(super) subscribers: Arc<[Subscribers]>,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
}

/// What the reading side has to deal with next.
enum Event {
    /// Something was read.
    Read,
    /// A batch for a subscription.
    Brought(Brought),
    /// Nothing, for [`ROOM_KEPT_FOR`].
    Idle,
}

/// What is due if nothing is read by then.
#[derive(Debug)]
enum Due {
    Refuse(Refusal),
    GiveRoomBack,
}

/// How a wait for something to be read ended.
enum Waited {
    Read(io::Result<usize>),
    Brought(Brought),
    Due(Due),
}

/// Who is at the other end, as far as the connection tells.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) address: IpAddr,
    /// The names in its certificate, which was verified.
    pub(super) names: Vec<String>,
    /// `None` in tests only.
    pub(super) visit: Option<Visit>,
}

/// The reading side of a session.
pub(super) struct Inflow<R> {
    reader: R,
    common: Common,
    from: Sender,
    visitor: Visitor,
    session: Session,
    /// What brings batches to the subscriptions; until the first one, where it is to be started.
    borrowing: Borrowing,
    decoder: Decoder,
    buffer: ReadBuffer,
    patience: Patience,
    /// By when CONNECT must be there.
    connect_due: Instant,
    /// Bytes of the orders that the writing side has not written.
    outstanding: Arc<Semaphore>,
    /// When reading ends, once the server stops.
    stop_due: Option<Instant>,
    /// The queue that has no room for the SEND with which what is unread begins.
    held: Option<usize>,
}

impl<R: Reader> Inflow<R> {
    /// Reads the session `number` of `visitor`. With the first subscription, `lending` gets what is to be run
    /// beside it.
    pub(super) fn new(
        reader: R,
        common: Common,
        visitor: Visitor,
        number: u64,
        lending: oneshot::Sender<Lending>,
    ) -> Self {
        let limits = common.settings.limits;
        Self {
            reader,
            from: Sender { input: Input::Stomp, peer: visitor.address.to_string().into() },
            visitor,
            session: Session::new(Arc::clone(&common.settings), number, &common.budget),
            borrowing: Borrowing::of(lending),
            decoder: Decoder::new(&limits),
            buffer: ReadBuffer::new(limits.header_bytes + limits.body_bytes + 1, &common.budget),
            patience: Patience::new(limits.frame_time),
            connect_due: Instant::now() + limits.connect_time,
            outstanding: Arc::new(Semaphore::new(limits.outstanding_bytes)),
            stop_due: None,
            held: None,
            common,
        }
    }

    /// Reads until the session ends. The writing side ends with `orders`.
    pub(super) async fn run(&mut self, orders: mpsc::Sender<Box<Held>>) -> InflowEnd {
        loop {
            let step = match self.next().await {
                Ok(Event::Read) => self.digest(&orders).await,
                Ok(Event::Brought(brought)) => Box::pin(self.deliver(brought, &orders)).await,
                Ok(Event::Idle) => {
                    self.buffer.give_back();
                    self.session.gathered.give_back();
                    Ok(())
                }
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

    /// Gives up everything but the reader, and what counts the connection.
    pub(super) fn into_reader(self) -> (R, Option<Visit>) {
        (self.reader, self.visitor.visit)
    }

    /// Reads something, or gets a batch, or tells why there is nothing to be read.
    async fn next(&mut self) -> Result<Event, Unread> {
        if let Some(queue) = self.held {
            self.wait_for_room(queue).await?;
            self.held = None;
            return Ok(Event::Read);
        }
        let began = Instant::now();
        if self.common.stop.is_cancelled() && began >= *self.stop_due.get_or_insert(began + STOP_READING) {
            return Err(Refusal::Stopping.into());
        }
        let due = self.next_due(began);
        if let Some((at, Due::Refuse(refusal))) = &due
            && *at <= began
        {
            return Err(refusal.clone().into());
        }
        let mid_frame = self.decoder.is_mid_frame();
        let (buffer, reader, borrowing) = (self.buffer.ready()?, &mut self.reader, &mut self.borrowing);
        // Neither goes first each time: a client that sends without a pause gets its messages all the same.
        let either = async {
            tokio::select! {
                read = reader.read_buf(buffer) => Waited::Read(read),
                brought = borrowing.next() => Waited::Brought(brought),
            }
        };
        let waited = tokio::select! {
            biased;
            either = either => either,
            () = stopped_and_quiet(&self.common.stop) => return Err(Refusal::Stopping.into()),
            due = overdue(due) => Waited::Due(due),
        };
        self.patience.waited(began.elapsed(), mid_frame);
        let read = match waited {
            Waited::Read(read) => read,
            // What goes to a client says nothing about whether it is there.
            Waited::Brought(brought) => return Ok(Event::Brought(brought)),
            Waited::Due(Due::GiveRoomBack) => return Ok(Event::Idle),
            Waited::Due(Due::Refuse(refusal)) => return Err(refusal.into()),
        };
        self.patience.heard();
        match read.map_err(|error| Unread::Ended(InflowEnd::Broken(error)))? {
            0 => return Err(Unread::Ended(InflowEnd::Left { mid_frame })),
            read => self.buffer.filled(read),
        }
        Ok(Event::Read)
    }

    /// While a queue is full a producer is not read from its SEND on, and its clocks stand still. One that has
    /// closed its side may be gone, and is told: those who are gone are not to take the place of others.
    async fn wait_for_room(&mut self, queue: usize) -> Result<(), Unread> {
        loop {
            tokio::select! {
                biased;
                () = self.common.intake.room(queue) => return Ok(()),
                () = self.common.stop.cancelled() => return Err(Refusal::Stopping.into()),
                // It was on its way when the last subscription was closed, and goes back.
                nobodys = self.borrowing.next() => drop(nobodys),
                () = self.reader.left() => return Err(Refusal::SpoolFull.into()),
            }
        }
    }

    /// What is due next if nothing comes: the end of patience, and what to say then, or of idle room.
    fn next_due(&self, now: Instant) -> Option<(Instant, Due)> {
        let connect_time = self.common.settings.limits.connect_time;
        let connect =
            (!self.session.is_connected()).then_some((self.connect_due, Refusal::ConnectTime(connect_time)));
        let silent =
            self.patience.left(self.decoder.is_mid_frame()).map(|(left, refusal)| (now + left, refusal));
        let refusals = [connect, silent, self.session.next_due()].into_iter().flatten();
        let is_roomy = self.buffer.is_roomy() || self.session.gathered.is_roomy();
        let idle =
            is_roomy.then(|| (now + ROOM_KEPT_FOR.saturating_sub(self.patience.silent()), Due::GiveRoomBack));
        refusals.map(|(at, refusal)| (at, Due::Refuse(refusal))).chain(idle).min_by_key(|(at, _)| *at)
    }

    /// Takes the frames out of what was read.
    async fn digest(&mut self, orders: &mpsc::Sender<Box<Held>>) -> Result<(), InflowEnd> {
        let (now, now_seconds) = (Instant::now(), self.common.clock.now_seconds());
        let mut used = 0;
        loop {
            // Asked for each frame: whoever has to be heard cannot wait for room later on.
            let full = self.common.intake.full();
            let moment = Moment { now, now_seconds, full: &full };
            let unread = &self.buffer.unread()[used..];
            let version = self.session.version();
            let action = match self.decoder.decode(version, unread) {
                Ok(Decoded::Frame(frame, bytes)) => {
                    self.held = self.session.waits_for(&frame, &full);
                    if self.held.is_some() {
                        self.buffer.consume(used);
                        return self.flush(orders).await;
                    }
                    used += bytes;
                    self.patience.frame_done();
                    self.session.frame(&frame, moment)
                }
                Ok(Decoded::Partial(bytes)) => {
                    let head = self.decoder.head(version, unread);
                    self.held = head.and_then(|head| self.session.waits_for(&head, &full));
                    self.buffer.consume(used + bytes);
                    return self.flush(orders).await;
                }
                Err(fault) => {
                    let head = self.decoder.head(version, unread);
                    let receipt = head.and_then(|head| head.header("receipt").map(|id| id.into_owned()));
                    self.session.refuse(fault.into(), receipt.as_deref())
                }
            };
            self.carry_out(action, orders).await?;
        }
    }

    async fn carry_out(&mut self, action: Action, orders: &mpsc::Sender<Box<Held>>) -> Result<(), InflowEnd> {
        match action {
            Action::GoOn if self.session.gathered.lines_bytes() < GATHERED_BYTES => Ok(()),
            Action::GoOn => self.flush(orders).await,
            // Apart, so that the thousands of sessions that wait for their next line stay small.
            action => Box::pin(self.carry_out_apart(action, orders)).await,
        }
    }

    async fn carry_out_apart(
        &mut self,
        action: Action,
        orders: &mpsc::Sender<Box<Held>>,
    ) -> Result<(), InflowEnd> {
        match action {
            Action::GoOn => self.flush(orders).await,
            Action::Admit(credentials) => match self.admit(credentials).await {
                Action::Open(beats) => self.open(beats, orders).await,
                Action::Close { last, why } => self.close(last, why, orders).await,
                _ => Ok(()),
            },
            Action::Open(beats) => self.open(beats, orders).await,
            Action::Commit(Whole { mut lines, acked }, _share) => {
                self.flush(orders).await?;
                let ends = acked.into_iter().map(Lent::into_loan).collect();
                let ticket = self.common.intake.accept_whole(&self.from, &mut lines.checked, ends).await;
                self.after_commit(ticket, lines.receipts, orders).await
            }
            Action::Pass { queue, batch, lines, receipts } => {
                self.flush(orders).await?;
                let from = Sender { input: Input::Node, ..self.from.clone() };
                let ticket = self.common.intake.pass(&from, queue, &batch, &lines).await;
                self.after_commit(ticket, receipts, orders).await
            }
            Action::Subscribe(subscription) => {
                self.flush(orders).await?;
                self.borrow(&subscription).await;
                Ok(())
            }
            Action::Unsubscribe(subscription) => {
                self.borrowing.close(subscription).await;
                Ok(())
            }
            Action::Acked { loans, receipts } => self.acked(loans, receipts, orders).await,
            Action::SetAside { loans, reason } => {
                let reason = format!("the subscriber at {} says: {reason}", self.from.peer);
                for loan in loans {
                    loan.into_loan().set_aside(&reason).map_err(|_| InflowEnd::Unwritten)?;
                }
                Ok(())
            }
            Action::Close { last, why } => self.close(last, why, orders).await,
        }
    }

    /// Finds out who the client is: the session is open, or refused.
    async fn admit(&mut self, credentials: Credentials) -> Action {
        let claim = credentials.claim(&self.visitor.names, self.visitor.address);
        match self.common.users.admit(claim).await {
            Ok(rights) => self.session.admitted(rights),
            Err(denied) => self.session.refuse(denied.into(), None),
        }
    }

    async fn open(&mut self, beats: Beats, orders: &mpsc::Sender<Box<Held>>) -> Result<(), InflowEnd> {
        self.decoder.open();
        let Beats { ours, clients } = beats;
        if let Some(interval) = clients {
            self.patience.expect_beats(interval);
        }
        let open = Order::Open { version: self.session.version(), beat: ours };
        self.order(open, 0, orders).await?;
        // Whoever was too fast in its last session is so in this one.
        self.slow_down(0).await;
        Ok(())
    }

    async fn close(
        &mut self,
        last: Vec<u8>,
        why: Option<Refusal>,
        orders: &mpsc::Sender<Box<Held>>,
    ) -> Result<(), InflowEnd> {
        self.flush(orders).await?;
        let bytes = last.len();
        self.order(Order::Last(last), bytes, orders).await?;
        Err(why.map_or(InflowEnd::Disconnected, InflowEnd::Refused))
    }

    /// Has batches brought for a new subscription.
    async fn borrow(&mut self, subscription: &Subscription) {
        let Some(subscribers) = self.common.subscribers.get(subscription.queue).cloned() else { return };
        self.borrowing.open(subscription.number, subscribers, subscription.prefetch).await;
    }

    /// Has a batch written to its subscriber.
    async fn deliver(&mut self, brought: Brought, orders: &mpsc::Sender<Box<Held>>) -> Result<(), InflowEnd> {
        match self.session.deliver(brought) {
            Delivery::Message { frame, done } => {
                let bytes = frame.len();
                let done = done.map(Lent::into_loan);
                self.order(Order::Message { frame, done }, bytes, orders).await
            }
            Delivery::Damaged(loan, reason) => {
                loan.into_loan().set_aside(&reason).map_err(|_| InflowEnd::Unwritten)
            }
            Delivery::Nobody => Ok(()),
        }
    }

    /// Ends what a subscriber has acknowledged: with the next commit, or, for a receipt, at once.
    async fn acked(
        &mut self,
        loans: Vec<Lent>,
        receipts: Receipts,
        orders: &mpsc::Sender<Box<Held>>,
    ) -> Result<(), InflowEnd> {
        let loans = loans.into_iter().map(Lent::into_loan);
        if receipts.frames.is_empty() {
            for loan in loans {
                loan.confirm().map_err(|_| InflowEnd::Unwritten)?;
            }
            return Ok(());
        }
        let ticket = self.common.intake.end(loans.collect()).await;
        self.after_commit(ticket, receipts, orders).await
    }

    /// Brings the gathered lines to the intake, and has the replies written.
    async fn flush(&mut self, orders: &mpsc::Sender<Box<Held>>) -> Result<(), InflowEnd> {
        let replies = std::mem::take(&mut self.session.replies);
        if !replies.is_empty() {
            let bytes = replies.len();
            self.order(Order::Now(replies), bytes, orders).await?;
        }
        let Gathered { checked, receipts } = &mut self.session.gathered;
        let lines = checked.iter().map(|checked| u64::from(checked.count)).sum();
        let mut tickets: Option<Ticket> = None;
        for (queue, checked) in checked.iter_mut().enumerate().filter(|(_, checked)| !checked.is_empty()) {
            let ticket = self.common.intake.take(&self.from, queue, checked).await;
            checked.lines.shrink_to(2 * GATHERED_BYTES);
            tickets = Some(match tickets {
                Some(before) => before.and(ticket),
                None => ticket,
            });
        }
        let Some(ticket) = tickets else { return Ok(()) };
        let receipts = std::mem::take(receipts);
        self.after_commit(ticket, receipts, orders).await?;
        self.slow_down(lines).await;
        Ok(())
    }

    /// A client that is too fast is not read for a while. Nodes of ours are held back by what they may have
    /// in flight.
    async fn slow_down(&self, lines: u64) {
        let visit = self.visitor.visit.as_ref().filter(|_| !self.session.is_peer());
        if let Some(due) = visit.and_then(|visit| visit.sent(lines, Instant::now())) {
            // Whether it was stopped meanwhile is asked before the next read.
            self.common.stop.run_until_cancelled(sleep_until(due)).await;
        }
    }

    async fn after_commit(
        &self,
        ticket: Ticket,
        receipts: Receipts,
        orders: &mpsc::Sender<Box<Held>>,
    ) -> Result<(), InflowEnd> {
        let bytes = receipts.frames.len();
        self.order(Order::AfterCommit(ticket, receipts), bytes, orders).await
    }

    /// Waits while too many bytes are outstanding.
    async fn order(
        &self,
        order: Order,
        bytes: usize,
        orders: &mpsc::Sender<Box<Held>>,
    ) -> Result<(), InflowEnd> {
        let bytes = (bytes + size_of::<Held>()).min(self.common.settings.limits.outstanding_bytes);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let permit = Arc::clone(&self.outstanding).acquire_many_owned(permits).await.ok();
        orders.send(Box::new(Held { order, permit })).await.map_err(|_| InflowEnd::Unwritten)
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

/// Waits until something is due; for ever if nothing is.
async fn overdue(due: Option<(Instant, Due)>) -> Due {
    match due {
        Some((at, due)) => {
            sleep_until(at).await;
            due
        }
        None => pending().await,
    }
}
