use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::lease::{Lease, LeaseKey, Receipt};
use crate::pump::model::{Act, Judge, Model, Session, Upstream, watch};
use crate::watch::LinkState;

const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Takes everything; the first dials fail.
struct Unreachable(usize);

impl Judge for Unreachable {
    fn dialled(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }

    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        in_flight.first().map(|_| Act::Confirm(0))
    }
}

async fn run_link(model: &Model, judge: impl Judge + 'static, stop: &CancellationToken) -> LinkWatch {
    let (upstream, watch, mut source) = (Upstream::new(model, 5, judge), watch(), model.clone());
    let (retry, trouble) = (Retry::default(), Trouble::new());
    let link = keep_pumping(&mut source, upstream, retry, trouble, &watch, stop);
    timeout(LIMIT, link).await.expect("it hangs").expect("the model is never lost");
    watch
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_upstream_is_dialled_until_it_is_there() {
    let model = Model::with(20);
    let begin = Instant::now();
    let watch = run_link(&model, Unreachable(1000), &CancellationToken::new()).await;
    assert_eq!(model.books().confirmed.len(), 20);
    assert_eq!(watch.status().reconnects, 0);
    // A thousand attempts took hours, so the delays did grow.
    assert!(begin.elapsed() > Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_ends_while_it_dials() {
    let (model, stop) = (Model::with(20), CancellationToken::new());
    let stopping = async {
        sleep(Duration::from_secs(100)).await;
        stop.cancel();
    };
    let (watch, ()) = tokio::join!(run_link(&model, Unreachable(usize::MAX), &stop), stopping);
    let status = watch.status();
    assert_eq!(status.state, LinkState::Down);
    assert_eq!(status.last_error.as_deref(), Some("connection lost: connection refused"));
    assert_eq!(model.books().waiting.len(), 20);
}

/// Told so while it waits for more, or once its source is closed.
#[tokio::test(start_paused = true)]
async fn a_link_that_stops_says_goodbye() {
    let model = Model::with(20);
    run_link(&model, Unreachable(1), &CancellationToken::new()).await;
    let ends = |model: &Model| {
        let books = model.books();
        (books.confirmed.len(), books.farewells)
    };
    assert_eq!(ends(&model), (20, 1));

    let (model, stop) = (Model::with(20), CancellationToken::new());
    let stopping = async {
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
    };
    tokio::join!(run_link(&model, Slow(1, false), &stop), stopping);
    assert_eq!(ends(&model), (5, 1));
}

#[test]
fn links_and_consumers_can_be_tasks() {
    fn is_task<T: Send>(_: T) {}
    let (model, stop, watch) = (Model::with(0), CancellationToken::new(), watch());
    let pool = || Upstream::new(&model, 5, Mute);
    let broker = Broker {
        model: model.clone(),
        log: Log::default(),
        open: true,
        lives: Arc::default(),
        beats: Arc::default(),
    };
    let subscribe = Subscribe(broker, Instant::now());
    let (retry, trouble, mut source) = (Retry::default, Trouble::new(), model.clone());
    is_task(keep_pumping(&mut source, pool(), retry(), trouble, &watch, &stop));
    is_task(drain(pool(), retry(), subscribe, retry(), &watch, &stop));
}

/// A spool that breaks when something is confirmed.
struct Broken(Model);

impl Source for Broken {
    async fn lease(&mut self) -> Result<Lease, SourceEnd> {
        self.0.lease().await
    }

    async fn confirm(&mut self, _: Lease, _: Receipt) -> Result<(), SourceEnd> {
        Err(SourceEnd::Lost("disk I/O error".into()))
    }

    async fn set_aside(&mut self, _: Lease, _: &str) -> Result<(), SourceEnd> {
        Err(SourceEnd::Lost("disk I/O error".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_is_lost_ends_the_link_with_an_error() {
    let model = Model::with(20);
    let (upstream, watch) = (Upstream::new(&model, 5, Unreachable(1)), watch());
    let (mut source, stop) = (Broken(model.clone()), CancellationToken::new());
    let (retry, trouble) = (Retry::default(), Trouble::new());
    let link = keep_pumping(&mut source, upstream, retry, trouble, &watch, &stop);
    assert!(matches!(link.await, Err(SourceEnd::Lost(_))));
    model.books().check(20);
    assert_eq!(model.books().waiting.len(), 20);
    assert_eq!(watch.status().state, LinkState::Down);
}

/// What a consumer does, written down; a broker whose subscriptions lend out of a model.
#[derive(Clone)]
struct Broker {
    model: Model,
    log: Log,
    /// Whether it takes subscriptions.
    open: bool,
    /// How long each subscription lasts; then for ever.
    lives: Arc<Mutex<VecDeque<Duration>>>,
    beats: Arc<AtomicUsize>,
}

type Log = Arc<Mutex<Vec<(&'static str, u64)>>>;

fn note(log: &Log, begin: Instant, what: &'static str) {
    let seconds = begin.elapsed().as_secs();
    log.lock().expect("log").push((what, seconds));
}

/// Lends while its courier carries.
struct Subscription {
    model: Model,
    dropped: Arc<Notify>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.dropped.notify_one();
    }
}

impl Source for Subscription {
    async fn lease(&mut self) -> Result<Lease, SourceEnd> {
        match self.model.lease().await {
            // A queue that is empty does not end its subscription.
            Err(SourceEnd::Closed) => std::future::pending().await,
            lease => lease,
        }
    }

    async fn confirm(&mut self, lease: Lease, receipt: Receipt) -> Result<(), SourceEnd> {
        self.model.confirm(lease, receipt).await
    }

    async fn set_aside(&mut self, lease: Lease, reason: &str) -> Result<(), SourceEnd> {
        self.model.set_aside(lease, reason).await
    }
}

#[derive(Clone)]
struct Subscribe(Broker, Instant);

type Courier = Pin<Box<dyn Future<Output = &'static str> + Send>>;

impl Connect for Subscribe {
    type Session = (Subscription, Courier);
    type Error = SourceEnd;

    async fn connect(&mut self) -> Result<Self::Session, SourceEnd> {
        let Self(broker, begin) = self.clone();
        if !broker.open {
            return Err(SourceEnd::Lost("connection refused".into()));
        }
        note(&broker.log, begin, "subscribed");
        let subscription = Subscription { model: broker.model.clone(), dropped: Arc::default() };
        let dropped = subscription.dropped.clone();
        Ok((subscription, Box::pin(carry(broker, begin, dropped))))
    }
}

/// Beats every ten seconds until the subscription is dropped, or its life is over.
async fn carry(broker: Broker, begin: Instant, dropped: Arc<Notify>) -> &'static str {
    let life = broker.lives.lock().expect("lives").pop_front();
    let life_over = sleep(life.unwrap_or(LIMIT * 2));
    let beating = async {
        loop {
            sleep(Duration::from_secs(10)).await;
            broker.beats.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::select! {
        () = dropped.notified() => {
            sleep(Duration::from_secs(1)).await;
            note(&broker.log, begin, "farewell");
            "closed"
        }
        () = life_over => {
            note(&broker.log, begin, "lost");
            "the broker is gone"
        }
        () = beating => "never",
    }
}

/// A pool that is open whenever its judge says so.
struct Open(Upstream, Log, Instant);

impl Connect for Open {
    type Session = Session;
    type Error = SinkEnd;

    async fn connect(&mut self) -> Result<Session, SinkEnd> {
        note(&self.1, self.2, "dialled");
        self.0.connect().await
    }
}

struct Drained {
    model: Model,
    log: Vec<(&'static str, u64)>,
    beats: usize,
    watch: LinkWatch,
}

impl Drained {
    fn events(&self) -> Vec<&'static str> {
        self.log.iter().map(|(what, _)| *what).collect()
    }

    fn count(&self, what: &str) -> usize {
        self.log.iter().filter(|(event, _)| *event == what).count()
    }
}

/// Drains 20 messages for `time`; `lives` are those of the first subscriptions, in seconds.
async fn drain_for(time: Duration, lives: &[u64], judge: impl Judge + 'static) -> Drained {
    drain_broker(time, lives, true, judge).await
}

async fn drain_broker(time: Duration, lives: &[u64], open: bool, judge: impl Judge + 'static) -> Drained {
    let (model, log, beats) = (Model::with(20), Log::default(), Arc::new(AtomicUsize::new(0)));
    let lives = lives.iter().map(|life| Duration::from_secs(*life)).collect();
    let broker = Broker {
        model: model.clone(),
        log: log.clone(),
        open,
        lives: Arc::new(Mutex::new(lives)),
        beats: beats.clone(),
    };
    let (begin, stop, watch) = (Instant::now(), CancellationToken::new(), watch());
    let pool = Open(Upstream::new(&model, 5, judge), log.clone(), begin);
    let subscribe = Subscribe(broker, begin);
    let draining = drain(pool, Retry::default(), subscribe, Retry::default(), &watch, &stop);
    let stopping = async {
        sleep(time).await;
        stop.cancel();
    };
    timeout(LIMIT, async { tokio::join!(draining, stopping) }).await.expect("it hangs");
    let log = log.lock().expect("log").clone();
    model.books().check(20);
    assert!(model.books().lent.is_empty());
    Drained { model, log, beats: beats.load(Ordering::Relaxed), watch }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_drains_its_queue_and_keeps_its_session() {
    let drained = drain_for(LIMIT / 2, &[], Unreachable(1)).await;
    assert_eq!(drained.events(), ["dialled", "subscribed", "farewell"]);
    assert_eq!(drained.model.books().confirmed.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_subscribed_before_graphite_stands() {
    let drained = drain_for(LIMIT / 2, &[], Unreachable(50)).await;
    let mut expected = vec!["dialled"; 50];
    expected.extend(["subscribed", "farewell"]);
    assert_eq!(drained.events(), expected);
}

/// Takes five, is gone for ten seconds, and comes back at the third dial.
struct Restarted {
    taken: usize,
    dials: usize,
}

impl Judge for Restarted {
    fn dialled(&mut self) -> bool {
        self.dials += 1;
        self.dials == 1 || self.dials > 3
    }

    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        if self.taken == 5 && self.dials == 1 {
            return Some(Act::End(SinkEnd::Closed("no connection for 10s".into())));
        }
        in_flight.first()?;
        self.taken += 1;
        Some(Act::Confirm(0))
    }
}

#[tokio::test(start_paused = true)]
async fn without_graphite_the_session_is_closed_and_it_subscribes_once_one_stands() {
    let drained = drain_for(LIMIT / 2, &[], Restarted { taken: 0, dials: 0 }).await;
    let gone = ["dialled", "subscribed", "farewell", "dialled", "dialled"];
    let back = ["dialled", "subscribed", "farewell"];
    assert_eq!(drained.events(), [&gone[..], &back].concat());
    assert_eq!(drained.model.books().confirmed.len(), 20);
    let error = drained.watch.status().last_error;
    assert_eq!(error.as_deref(), Some("connection lost: connection refused"));
}

/// Takes what it is given, and never answers.
struct Mute;

impl Judge for Mute {
    fn act(&mut self, _: &[LeaseKey]) -> Option<Act> {
        None
    }
}

/// Ends so many seconds after it was opened.
struct ShortLived(u64, bool);

impl Judge for ShortLived {
    fn act(&mut self, _: &[LeaseKey]) -> Option<Act> {
        self.1 = !self.1;
        let pause = Act::Pause(Duration::from_secs(self.0));
        let end = Act::End(SinkEnd::Closed("no connection for 10s".into()));
        Some(if self.1 { pause } else { end })
    }
}

#[tokio::test(start_paused = true)]
async fn the_pool_is_watched_while_the_broker_is_away() {
    let drained = drain_broker(Duration::from_secs(600), &[], false, ShortLived(30, false)).await;
    assert!(drained.count("dialled") >= 10, "{:?}", drained.log);
    assert_eq!(drained.count("subscribed"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_does_not_cost_the_pool_its_connections() {
    let drained = drain_broker(LIMIT / 2, &[], false, Mute).await;
    assert_eq!(drained.events(), ["dialled"]);
}

/// Takes one every so many seconds.
struct Slow(u64, bool);

impl Judge for Slow {
    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        in_flight.first()?;
        self.1 = !self.1;
        let pause = Act::Pause(Duration::from_secs(self.0));
        Some(if self.1 { pause } else { Act::Confirm(0) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_graphite_keeps_its_session_which_beats_meanwhile() {
    // Each of five in flight is answered after 1000 s, and all of them after 4000 s.
    let drained = drain_for(Duration::from_secs(4100), &[], Slow(200, false)).await;
    assert_eq!(drained.events(), ["dialled", "subscribed", "farewell"]);
    assert_eq!(drained.model.books().confirmed.len(), 20);
    assert!(drained.beats > 400, "{} beats", drained.beats);
}

#[tokio::test(start_paused = true)]
async fn a_lost_subscription_takes_the_pool_with_it_and_both_come_back() {
    let drained = drain_for(LIMIT / 2, &[15, 15], Slow(10, false)).await;
    assert_eq!((drained.count("dialled"), drained.count("subscribed")), (3, 3));
    assert_eq!((drained.count("lost"), drained.count("farewell")), (2, 1));
    assert_eq!(drained.model.books().confirmed.len(), 20);
    let error = drained.watch.status().last_error;
    assert_eq!(error.as_deref(), Some("the source was lost: the broker is gone"));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_while_graphite_hangs_gives_all_back() {
    let drained = drain_for(LIMIT / 2, &[1200], Mute).await;
    assert_eq!(drained.log[2], ("lost", 1200));
    assert_eq!((drained.count("dialled"), drained.count("subscribed")), (2, 2));
    assert_eq!(drained.model.books().waiting.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_stands_for_a_second_only_is_opened_again_gently() {
    let hour = Duration::from_secs(3600);
    let drained = drain_for(hour, &[1; 4000], Mute).await;
    let subscribed = drained.count("subscribed");
    assert!((100..1000).contains(&subscribed), "{subscribed}");
    let drained = drain_for(hour, &[], ShortLived(1, false)).await;
    let dialled = drained.count("dialled");
    assert!((100..1000).contains(&dialled), "{dialled}");
}
