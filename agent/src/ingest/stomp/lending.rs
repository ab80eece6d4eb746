//! Brings batches to the subscriptions of one session, each as far as its prefetch allows.
//!
//! It runs beside reading and writing and is waited for by neither: whoever waits for a batch does so in
//! turn with all other subscribers of the queue, and one that stood still there, because its client does
//! not read, would keep all of them waiting. So a place for the batch is reserved first.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::Arc;

use forwarder::Batch;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::spool::{Loan, Standing, Subscribers};

use super::subscriptions::OPEN_MAX;

/// Batches that may wait until the reading side takes them in hand. Who waits for a batch has reserved a place
/// for it: there is one for each subscription, so that those of quiet queues leave one for the others.
const BROUGHT: usize = OPEN_MAX;
/// Changes of subscriptions that may wait.
const WISHES: usize = 8;

/// A batch for a subscription. Dropped, it is given back.
pub(super) struct Brought {
    pub(super) subscription: u32,
    pub(super) loan: Held,
    pub(super) batch: Batch,
}

/// A loan that counts against the prefetch of its subscription.
pub(super) struct Held {
    pub(super) loan: Loan,
    _credit: OwnedSemaphorePermit,
}

impl Held {
    /// The subscriber does not take it, and says so: it goes back, and counts as a delivery in vain.
    pub(super) fn refused(mut self) {
        self.loan.delivered();
    }

    /// The loan alone, to be ended.
    pub(super) fn into_loan(self) -> Loan {
        self.loan
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// A change of a session's subscriptions.
enum Wish {
    Open { subscription: u32, subscribers: Subscribers, prefetch: usize },
    Close { subscription: u32 },
}

/// Most clients never subscribe, and thousands of them are to cost little.
pub(super) struct Borrowing(State);

enum State {
    Never(Option<oneshot::Sender<Lending>>),
    Since(Borrower),
}

/// The session's end of it.
struct Borrower {
    wishes: mpsc::Sender<Wish>,
    brought: mpsc::Receiver<Brought>,
}

/// To be run beside the session.
pub(super) struct Lending {
    wishes: mpsc::Receiver<Wish>,
    places: mpsc::Sender<Brought>,
    open: HashMap<u32, Open>,
    waiting: FuturesUnordered<BoxFuture<'static, Option<u32>>>,
}

struct Open {
    subscribers: Subscribers,
    credit: Arc<Semaphore>,
    closed: CancellationToken,
    _standing: Standing,
}

impl Borrowing {
    /// With the first subscription, `start` gets what is to be run beside the session.
    pub(super) fn of(start: oneshot::Sender<Lending>) -> Self {
        Self(State::Never(Some(start)))
    }

    /// From now on batches come for `subscription`.
    pub(super) async fn open(&mut self, subscription: u32, subscribers: Subscribers, prefetch: usize) {
        if let State::Never(start) = &mut self.0 {
            let (borrower, lending) = lending();
            // Nobody runs it only where the session is at its end.
            drop(start.take().map(|start| start.send(lending)));
            self.0 = State::Since(borrower);
        }
        if let State::Since(borrower) = &self.0 {
            borrower.open(subscription, subscribers, prefetch).await;
        }
    }

    /// No more come, but for those on their way.
    pub(super) async fn close(&self, subscription: u32) {
        if let State::Since(borrower) = &self.0 {
            borrower.close(subscription).await;
        }
    }

    /// Waits for a batch; for ever without a subscription. Cancel-safe.
    pub(super) async fn next(&mut self) -> Brought {
        match &mut self.0 {
            State::Never(_) => pending().await,
            State::Since(borrower) => borrower.next().await,
        }
    }
}

/// The two ends of what brings batches to a session.
fn lending() -> (Borrower, Lending) {
    let (wish, wishes) = mpsc::channel(WISHES);
    let (places, brought) = mpsc::channel(BROUGHT);
    let lending = Lending { wishes, places, open: HashMap::new(), waiting: FuturesUnordered::new() };
    (Borrower { wishes: wish, brought }, lending)
}

impl Borrower {
    async fn open(&self, subscription: u32, subscribers: Subscribers, prefetch: usize) {
        // It is gone only if the session is.
        drop(self.wishes.send(Wish::Open { subscription, subscribers, prefetch }).await);
    }

    async fn close(&self, subscription: u32) {
        drop(self.wishes.send(Wish::Close { subscription }).await);
    }

    async fn next(&mut self) -> Brought {
        match self.brought.recv().await {
            Some(brought) => brought,
            // It is gone only if the session is.
            None => pending().await,
        }
    }
}

impl Lending {
    /// Runs until the session lets go of its end.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(Wish::Open { subscription, subscribers, prefetch }) => {
                        let standing = subscribers.join();
                        let credit = Arc::new(Semaphore::new(prefetch));
                        let closed = CancellationToken::new();
                        self.open.insert(subscription, Open { subscribers, credit, closed, _standing: standing });
                        self.wait_for(subscription);
                    }
                    Some(Wish::Close { subscription }) => {
                        if let Some(open) = self.open.remove(&subscription) {
                            open.closed.cancel();
                        }
                    }
                    None => return,
                },
                // No pattern that a closed one would fail: the others were not polled then, one of them perhaps
                // in its turn for the queue's next batch, which keeps all its subscribers waiting.
                brought = self.waiting.next(), if !self.waiting.is_empty() => {
                    if let Some(Some(subscription)) = brought {
                        self.wait_for(subscription);
                    }
                }
            }
        }
    }

    /// Has the next batch brought for a subscription, unless it is closed.
    fn wait_for(&self, subscription: u32) {
        let Some(Open { subscribers, credit, closed, .. }) = self.open.get(&subscription) else { return };
        let (subscribers, credit, places) = (subscribers.clone(), Arc::clone(credit), self.places.clone());
        let closed = closed.clone();
        self.waiting.push(Box::pin(async move {
            let bring = async {
                let credit = credit.acquire_owned().await.ok()?;
                let place = places.reserve_owned().await.ok()?;
                let (loan, batch) = subscribers.lease().await.ok()?;
                place.send(Brought { subscription, loan: Held { loan, _credit: credit }, batch });
                Some(subscription)
            };
            closed.run_until_cancelled(bring).await.flatten()
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forwarder::Clock;
    use tokio::time::timeout;

    use super::*;
    use crate::metrics::Metrics;
    use crate::spool::{Commit, Desk, LinkConfig, LinkSet, RawBatch, Rest, Spool, SpoolConfig};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Each waits with a place reserved, and nothing comes for them.
    #[tokio::test]
    async fn subscriptions_of_a_quiet_queue_leave_room_for_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SpoolConfig::for_test(dir.path());
        config.links.push(LinkConfig { name: "busy".to_owned(), max_size_bytes: None });
        config.link_sets.push(LinkSet { queue: 0, links: vec![1] });
        let metrics = Arc::new(Metrics::new().unwrap());
        let spool = Spool::open(config, 0).unwrap();
        let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), Clock::system());
        std::thread::spawn(|| worker.run());
        let subscribers = |link: usize| {
            let observer = metrics.link_observer("test", "agent");
            Subscribers::new(desk.clone(), link, Rest::default(), observer, Clock::system())
        };
        let (quiet, busy) = (subscribers(0), subscribers(1));
        let (mut borrower, lending) = lending();
        let bring = async {
            for subscription in 0..40 {
                borrower.open(subscription, quiet.clone(), 1).await;
            }
            borrower.open(40, busy, 1).await;
            let commit = Arc::<Commit>::default();
            let lines = RawBatch { raw: b"a 1 1\n".to_vec(), lines: 1, ..RawBatch::default() };
            desk.append(vec![desk.seal(lines, 1)], Arc::clone(&commit), desk.slot().await);
            borrower.next().await.subscription
        };
        let brought = async {
            tokio::select! {
                subscription = bring => subscription,
                () = lending.run() => unreachable!("the session has its end"),
            }
        };
        assert_eq!(timeout(PATIENCE, brought).await.unwrap(), 40);
    }
}
