//! A source and an upstream in memory, for the tests of the pump and of what is around it. The source
//! checks each confirmation; the upstream does what its [`Judge`] says.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::batch::{Batch, Encoding, Part};
use crate::clock::Clock;
use crate::lease::{Lease, LeaseKey, Receipt, Returns};
use crate::redial::Connect;
use crate::sink::{Event, Sink, SinkEnd};
use crate::source::{Source, SourceEnd};
use crate::watch::{LinkObserver, LinkWatch};

/// The upstream answers after this long, so that the pump can fill its window meanwhile.
const ROUND_TRIP: Duration = Duration::from_millis(1);

/// What becomes of the batches. One mutex holds it all.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) waiting: BTreeMap<LeaseKey, Batch>,
    pub(crate) lent: BTreeMap<LeaseKey, Batch>,
    /// What the upstream has taken, in order, repeats included.
    pub(crate) taken: Vec<LeaseKey>,
    pub(crate) confirmed: Vec<LeaseKey>,
    pub(crate) set_aside: Vec<LeaseKey>,
    /// Leases that were dropped.
    pub(crate) given_back: usize,
    /// Sessions that were ended in order.
    pub(crate) farewells: usize,
}

impl Books {
    /// Every batch is in exactly one place.
    pub(crate) fn check(&self, count: usize) {
        let places = [self.waiting.keys(), self.lent.keys()];
        let mut all: Vec<_> = places.into_iter().flatten().collect();
        all.extend(self.confirmed.iter().chain(&self.set_aside));
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (count, count));
    }
}

/// The source: lends oldest first, and is closed once everything has found its end.
#[derive(Clone, Default)]
pub(crate) struct Model(Arc<Shared>);

#[derive(Default)]
struct Shared {
    books: Mutex<Books>,
    changed: Notify,
}

impl Model {
    pub(crate) fn with(count: u64) -> Self {
        let model = Self::default();
        (0..count).for_each(|number| model.add(number));
        model
    }

    pub(crate) fn add(&self, number: u64) {
        self.books().waiting.insert(LeaseKey(number), batch(number));
        self.0.changed.notify_one();
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lease(&self) -> Option<Result<Lease, SourceEnd>> {
        let mut books = self.books();
        match books.waiting.pop_first() {
            Some((key, batch)) => {
                books.lent.insert(key, batch.clone());
                Some(Ok(Lease::new(key, batch, self.0.clone())))
            }
            None => books.lent.is_empty().then_some(Err(SourceEnd::Closed)),
        }
    }
}

impl Returns for Shared {
    fn give_back(&self, key: LeaseKey) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = books.lent.remove(&key).expect("what is given back was lent");
        books.waiting.insert(key, batch);
        books.given_back += 1;
        self.changed.notify_one();
    }
}

impl Source for Model {
    async fn lease(&mut self) -> Result<Lease, SourceEnd> {
        loop {
            if let Some(answer) = self.try_lease() {
                return answer;
            }
            self.0.changed.notified().await;
        }
    }

    async fn confirm(&mut self, lease: Lease, receipt: Receipt) -> Result<(), SourceEnd> {
        let mut books = self.books();
        assert_eq!(lease.key(), receipt.key());
        assert!(books.taken.contains(&lease.key()), "confirmed what was not taken");
        let key = lease.end();
        books.lent.remove(&key).expect("what is confirmed was lent");
        books.confirmed.push(key);
        self.0.changed.notify_one();
        Ok(())
    }

    async fn set_aside(&mut self, lease: Lease, _reason: &str) -> Result<(), SourceEnd> {
        let mut books = self.books();
        let key = lease.end();
        books.lent.remove(&key).expect("what is set aside was lent");
        books.set_aside.push(key);
        self.0.changed.notify_one();
        Ok(())
    }
}

fn batch(number: u64) -> Batch {
    let line = format!("a.b {number} {number}\n");
    Batch {
        label: None,
        encoding: Encoding::Plain,
        accepted_ms: 0..=0,
        parts: vec![Part {
            seq: number,
            lines: 1,
            raw_bytes: u32::try_from(line.len()).expect("a short line"),
            body: Bytes::from(line),
            plain: None,
        }],
    }
}

/// What the upstream does next.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// It takes the nth batch in flight and says so.
    Confirm(usize),
    /// It takes the nth batch in flight, and its word is lost with the session.
    TakeAndClose(usize),
    Refuse(usize),
    Lose(usize),
    /// It loses the first so many batches in flight, and takes none for this long.
    Away(usize, Duration),
    End(SinkEnd),
    Pause(Duration),
}

/// Decides what the upstream does.
pub(crate) trait Judge: Send {
    /// Somebody dials: whether a session stands.
    fn dialled(&mut self) -> bool {
        true
    }

    /// What happens with these in flight. `None`: nothing until there are more.
    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act>;
}

/// The upstream; it can be dialled.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) model: Model,
    pub(crate) window: usize,
    pub(crate) judge: Arc<Mutex<dyn Judge>>,
}

impl Upstream {
    pub(crate) fn new(model: &Model, window: usize, judge: impl Judge + 'static) -> Self {
        Self { model: model.clone(), window, judge: Arc::new(Mutex::new(judge)) }
    }

    pub(crate) fn session(&self) -> Session {
        Session { upstream: self.clone(), in_flight: Vec::new(), pause: None, away: None }
    }
}

impl Connect for Upstream {
    type Session = Session;
    type Error = SinkEnd;

    async fn connect(&mut self) -> Result<Session, SinkEnd> {
        let stands = self.judge.lock().expect("judge").dialled();
        let refused = || SinkEnd::Closed("connection refused".into());
        stands.then(|| self.session()).ok_or_else(refused)
    }
}

pub(crate) struct Session {
    upstream: Upstream,
    in_flight: Vec<Lease>,
    pause: Option<Instant>,
    away: Option<(usize, Instant)>,
}

impl Session {
    fn take(&mut self, index: usize) -> Lease {
        let lease = self.in_flight.remove(index % self.in_flight.len());
        self.upstream.model.books().taken.push(lease.key());
        lease
    }
}

impl Sink for Session {
    async fn send(&mut self, lease: Lease) -> Result<(), SinkEnd> {
        // It may have gone away since there was room.
        assert!(self.has_room() || self.away.is_some(), "sent without room");
        self.in_flight.push(lease);
        Ok(())
    }

    async fn event(&mut self) -> Result<Event, SinkEnd> {
        loop {
            if let Some((losses, until)) = &mut self.away {
                if *losses > 0 && !self.in_flight.is_empty() {
                    *losses -= 1;
                    return Ok(Event::Lost(self.in_flight.remove(0)));
                }
                sleep_until(*until).await;
                self.away = None;
                return Ok(Event::Room);
            }
            let until = *self.pause.get_or_insert_with(|| Instant::now() + ROUND_TRIP);
            sleep_until(until).await;
            self.pause = None;
            let keys: Vec<_> = self.in_flight.iter().map(Lease::key).collect();
            let act = self.upstream.judge.lock().expect("judge").act(&keys);
            match act {
                None => return pending().await,
                Some(Act::Pause(time)) => self.pause = Some(Instant::now() + time),
                Some(Act::Away(losses, time)) => self.away = Some((losses, Instant::now() + time)),
                Some(Act::End(end)) => return Err(end),
                Some(Act::Confirm(index)) => {
                    let lease = self.take(index);
                    let receipt = Receipt::of(&lease);
                    return Ok(Event::Confirmed(lease, receipt));
                }
                Some(Act::TakeAndClose(index)) => {
                    let lease = self.take(index);
                    self.in_flight.push(lease);
                    return Err(SinkEnd::Closed("end of stream".into()));
                }
                Some(Act::Refuse(index)) => {
                    let lease = self.in_flight.remove(index % self.in_flight.len());
                    return Ok(Event::Refused(lease, "not this one".into()));
                }
                Some(Act::Lose(index)) => {
                    let lease = self.in_flight.remove(index % self.in_flight.len());
                    return Ok(Event::Lost(lease));
                }
            }
        }
    }

    async fn close(self) {
        self.upstream.model.books().farewells += 1;
    }

    fn has_room(&self) -> bool {
        self.away.is_none() && self.in_flight.len() < self.upstream.window
    }
}

/// Hears everything and remembers nothing.
pub(crate) struct Deaf;

impl LinkObserver for Deaf {
    fn link_up(&self, _: bool) {}
    fn reconnected(&self) {}
    fn confirmed(&self, _: u64, _: Duration, _: Duration) {}
}

pub(crate) fn watch() -> LinkWatch {
    LinkWatch::new("eu", Clock::system(), Arc::new(Deaf))
}
