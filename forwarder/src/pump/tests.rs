use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::model::*;
use super::*;
use crate::redial::keep_pumping;
use crate::retry::Retry;

/// Longer than any of these tests should take on the stepped clock.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Does what its script says, and after its end takes everything.
struct Script(VecDeque<Act>);

impl Judge for Script {
    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        let waits = !matches!(self.0.front(), Some(Act::End(_) | Act::Pause(_) | Act::Away(..)));
        if waits && in_flight.is_empty() {
            return None;
        }
        Some(self.0.pop_front().unwrap_or(Act::Confirm(0)))
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let any = any::<usize>();
    let act = prop_oneof![
        8 => any.prop_map(Act::Confirm),
        1 => any.prop_map(Act::TakeAndClose),
        1 => any.prop_map(Act::Refuse),
        2 => any.prop_map(Act::Lose),
        1 => Just(Act::End(SinkEnd::Error("no".into()))),
        1 => Just(Act::End(SinkEnd::Closed("end of stream".into()))),
        1 => Just(Act::End(SinkEnd::Silent(Duration::from_secs(60)))),
        2 => (0_u64..5000).prop_map(|ms| Act::Pause(Duration::from_millis(ms))),
        1 => (any, 0_u64..5000).prop_map(|(losses, ms)| Act::Away(losses, Duration::from_millis(ms))),
    ];
    prop::collection::vec(act, 0..200)
}

fn in_runtime<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("runtime");
    runtime.block_on(async { timeout(LIMIT, test).await.expect("it hangs") })
}

/// Runs a link until everything has found its end.
async fn run_link(model: &Model, upstream: &Upstream, stop: &CancellationToken) -> LinkWatch {
    let (mut source, watch) = (model.clone(), watch());
    let (retry, trouble) = (Retry::default(), Trouble::new());
    let ended = keep_pumping(&mut source, upstream.clone(), retry, trouble, &watch, stop).await;
    ended.expect("the model is never lost");
    watch
}

proptest! {
    #[test]
    fn whatever_the_upstream_does_nothing_is_lost_and_nothing_confirmed_without_its_word(
        acts in acts(),
        count in 0_usize..60,
        window in 1_usize..10,
        stops_ms in prop::collection::vec(0_u64..10_000, 0..4),
    ) {
        in_runtime(async {
            let model = Model::with(count as u64);
            let upstream = Upstream::new(&model, window, Script(acts.into()));
            for stop_ms in stops_ms {
                let stop = CancellationToken::new();
                let stopping = async {
                    tokio::time::sleep(Duration::from_millis(stop_ms)).await;
                    stop.cancel();
                };
                tokio::join!(run_link(&model, &upstream, &stop), stopping);
                model.books().check(count);
                assert!(model.books().lent.is_empty(), "a stopped link keeps nothing");
            }
            run_link(&model, &upstream, &CancellationToken::new()).await;
            let books = model.books();
            books.check(count);
            assert_eq!(books.confirmed.len() + books.set_aside.len(), count);
        });
    }

    #[test]
    fn where_nothing_is_lost_the_order_is_kept(
        pauses in prop::collection::vec(0_u64..100, 0..60),
        window in 1_usize..10,
    ) {
        in_runtime(async {
            let model = Model::with(60);
            let act = |ms| [Act::Pause(Duration::from_millis(ms)), Act::Confirm(0)];
            let script = Script(pauses.into_iter().flat_map(act).collect());
            let upstream = Upstream::new(&model, window, script);
            run_link(&model, &upstream, &CancellationToken::new()).await;
            let in_order: Vec<_> = (0..60).map(LeaseKey).collect();
            assert_eq!(model.books().taken, in_order);
            assert_eq!(model.books().confirmed, in_order);
        });
    }

    #[test]
    fn the_poison_among_good_ones_is_found_and_only_it_is_set_aside(
        poison in prop::collection::btree_set(0_u64..80, 0..5),
        window in 1_usize..20,
        closes in any::<bool>(),
    ) {
        in_runtime(async {
            let poison: BTreeSet<_> = poison.into_iter().map(LeaseKey).collect();
            // More good ones than the poison needs neighbours: 8 for each, 80 at the least.
            let model = Model::with(160);
            let upstream = Upstream::new(&model, window, Poison { poison: poison.clone(), closes });
            let watch = run_link(&model, &upstream, &CancellationToken::new()).await;
            let books = model.books();
            books.check(160);
            assert_eq!(books.set_aside.iter().copied().collect::<BTreeSet<_>>(), poison);
            assert_eq!(watch.status().set_aside_batches, poison.len() as u64);
        });
    }
}

/// Takes batches in order, and ends the session at one of these.
struct Poison {
    poison: BTreeSet<LeaseKey>,
    closes: bool,
}

impl Judge for Poison {
    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        let next = in_flight.first()?;
        let end = match (self.poison.contains(next), self.closes) {
            (false, _) => return Some(Act::Confirm(0)),
            (true, true) => SinkEnd::Closed("end of stream".into()),
            (true, false) => SinkEnd::Error("malformed".into()),
        };
        Some(Act::End(end))
    }
}

/// A full queue: each session has room for so many batches, in turn, and then closes. When there are
/// no more of them, it has room for all.
struct Full(VecDeque<usize>, usize);

impl Judge for Full {
    fn dialled(&mut self) -> bool {
        self.1 = self.0.pop_front().unwrap_or(usize::MAX);
        true
    }

    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        in_flight.first()?;
        let Some(room) = self.1.checked_sub(1) else {
            return Some(Act::End(SinkEnd::Closed("end of stream".into())));
        };
        self.1 = room;
        Some(Act::Confirm(0))
    }
}

#[test]
fn if_all_are_refused_nothing_is_set_aside_and_the_link_says_so() {
    in_runtime(async {
        let (model, stop) = (Model::with(200), CancellationToken::new());
        let full = Full(vec![0; 100_000].into(), 0);
        let upstream = Upstream::new(&model, 50, full);
        let (mut source, watch) = (model.clone(), watch());
        let link =
            keep_pumping(&mut source, upstream.clone(), Retry::default(), Trouble::new(), &watch, &stop);
        let day = tokio::time::sleep(LIMIT / 2);
        tokio::select! {
            _ = link => panic!("it gave up"),
            () = day => {}
        }
        let status = watch.status();
        assert_eq!(status.state, crate::watch::LinkState::Refused);
        assert_eq!(
            status.last_error.as_deref(),
            Some("every batch is refused: connection lost: end of stream")
        );
        // Backed off: 15 s on average, and 5 s for neighbours at most.
        assert!(status.reconnects > 2000 && status.reconnects < 4000, "{status:?}");
        model.books().check(200);
        assert_eq!(model.books().waiting.len(), 200);
    });
}

#[test]
fn a_queue_that_is_full_now_and_then_costs_no_batch() {
    for pattern in [&[0_usize][..], &[1], &[2], &[5], &[0, 1], &[1, 1, 0], &[1, 2, 0, 4], &[3, 1]] {
        in_runtime(async {
            let model = Model::with(100);
            let rooms = pattern.iter().copied().cycle().take(200).collect();
            let upstream = Upstream::new(&model, 20, Full(rooms, 0));
            run_link(&model, &upstream, &CancellationToken::new()).await;
            model.books().check(100);
            assert_eq!(model.books().confirmed.len(), 100, "{pattern:?}");
        });
    }
}

#[test]
fn a_suspect_without_neighbours_is_tried_again_and_delivered() {
    in_runtime(async {
        let model = Model::with(1);
        let upstream = Upstream::new(&model, 20, Full([0, 0, 0, 0].into(), 0));
        run_link(&model, &upstream, &CancellationToken::new()).await;
        assert_eq!(model.books().confirmed, [LeaseKey(0)]);
    });
}

#[test]
fn after_the_poison_the_window_grows_to_full() {
    in_runtime(async {
        let model = Model::with(2000);
        let poison = BTreeSet::from([LeaseKey(3)]);
        let judge = Widest { poison: Poison { poison, closes: false }, widest_late: 0 };
        let judge = std::sync::Arc::new(std::sync::Mutex::new(judge));
        let upstream = Upstream { model: model.clone(), window: 30, judge: judge.clone() };
        run_link(&model, &upstream, &CancellationToken::new()).await;
        assert_eq!(model.books().set_aside, [LeaseKey(3)]);
        assert_eq!(judge.lock().expect("judge").widest_late, 30);
    });
}

/// Remembers how many were in flight together at the end.
struct Widest {
    poison: Poison,
    widest_late: usize,
}

impl Judge for Widest {
    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        if in_flight.first()? > &LeaseKey(1000) {
            self.widest_late = self.widest_late.max(in_flight.len());
        }
        self.poison.act(in_flight)
    }
}

/// Answers only after this long.
struct Slow(Duration, bool);

impl Judge for Slow {
    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        in_flight.first()?;
        self.1 = !self.1;
        Some(if self.1 { Act::Pause(self.0) } else { Act::Confirm(0) })
    }
}

/// One session that is told to stop when its window is full.
async fn stopped_session(model: &Model, answer_after: Duration) -> (End, Duration) {
    let upstream = Upstream::new(model, 5, Slow(answer_after, false));
    let (mut source, mut sink) = (model.clone(), upstream.session());
    let (stop, begin, mut trouble) = (CancellationToken::new(), Instant::now(), Trouble::new());
    let (watch, stopping) = (watch(), async {
        sleep(Duration::from_millis(1)).await;
        stop.cancel();
    });
    let pumping = pump(&mut source, &mut sink, &mut trouble, &watch, &stop);
    let (end, ()) = tokio::join!(pumping, stopping);
    drop(sink);
    (end, begin.elapsed())
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_leases_no_more_and_waits_for_what_is_in_flight() {
    let model = Model::with(20);
    let (end, _) = stopped_session(&model, Duration::from_secs(1)).await;
    assert!(matches!(end, End::Stopped), "{end:?}");
    let in_flight: Vec<_> = (0..5).map(LeaseKey).collect();
    assert_eq!(model.books().confirmed, in_flight);
    assert_eq!(model.books().waiting.len(), 15);
}

#[tokio::test(start_paused = true)]
async fn but_not_for_ever() {
    let model = Model::with(20);
    let (end, lasted) = stopped_session(&model, LIMIT).await;
    assert!(matches!(end, End::Stopped), "{end:?}");
    assert!(lasted < GRACE * 2);
    assert_eq!(model.books().waiting.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_closed_source_ends_the_pump_once_all_is_confirmed() {
    let model = Model::with(20);
    let upstream = Upstream::new(&model, 5, Script(VecDeque::new()));
    let (mut source, mut sink, mut trouble) = (model.clone(), upstream.session(), Trouble::new());
    let stop = CancellationToken::new();
    let end = pump(&mut source, &mut sink, &mut trouble, &watch(), &stop).await;
    assert!(matches!(end, End::Source(SourceEnd::Closed)), "{end:?}");
    assert_eq!(model.books().confirmed.len(), 20);
}

/// Says nothing until it is hurried.
struct Leisurely(VecDeque<Lease>, bool);

impl Sink for Leisurely {
    async fn send(&mut self, lease: Lease) -> Result<(), SinkEnd> {
        self.0.push_back(lease);
        Ok(())
    }

    async fn event(&mut self) -> Result<Event, SinkEnd> {
        match self.0.pop_front() {
            Some(lease) if self.1 => Ok(Event::Refused(lease, "seen".into())),
            lease => {
                lease.into_iter().for_each(|lease| self.0.push_front(lease));
                std::future::pending().await
            }
        }
    }

    fn has_room(&self) -> bool {
        self.0.len() < 5
    }

    fn hurry(&mut self) {
        self.1 = true;
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_hurries_its_sink() {
    let (model, stop) = (Model::with(20), CancellationToken::new());
    let (mut source, mut sink) = (model.clone(), Leisurely(VecDeque::new(), false));
    let (begin, watch, mut trouble) = (Instant::now(), watch(), Trouble::new());
    let pumping = pump(&mut source, &mut sink, &mut trouble, &watch, &stop);
    let stopping = async {
        sleep(Duration::from_secs(3600)).await;
        stop.cancel();
    };
    let (end, ()) = tokio::join!(pumping, stopping);
    assert!(matches!(end, End::Stopped), "{end:?}");
    assert_eq!((begin.elapsed(), model.books().set_aside.len()), (Duration::from_secs(3600), 5));
}

/// A sink that never finishes what it sends.
struct Blocked;

impl Sink for Blocked {
    async fn send(&mut self, lease: Lease) -> Result<(), SinkEnd> {
        let _held = lease;
        std::future::pending().await
    }

    async fn event(&mut self) -> Result<Event, SinkEnd> {
        std::future::pending().await
    }

    fn has_room(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_stuck_does_not_hold_up_a_stop() {
    let model = Model::with(20);
    let (stop, mut trouble, watch) = (CancellationToken::new(), Trouble::new(), watch());
    let (mut source, mut sink) = (model.clone(), Blocked);
    let pumping = pump(&mut source, &mut sink, &mut trouble, &watch, &stop);
    let stopping = async {
        sleep(Duration::from_secs(30)).await;
        stop.cancel();
    };
    let (end, ()) = tokio::join!(timeout(LIMIT, pumping), stopping);
    assert!(matches!(end.expect("it hangs"), End::Stopped));
    model.books().check(20);
    assert_eq!(model.books().waiting.len(), 20);
}

/// Loses each batch once, and writes down what it saw.
struct LosesOnce(BTreeSet<LeaseKey>);

impl Judge for LosesOnce {
    fn act(&mut self, in_flight: &[LeaseKey]) -> Option<Act> {
        let is_new = self.0.insert(*in_flight.first()?);
        Some(if is_new { Act::Lose(0) } else { Act::Confirm(0) })
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_while_the_sink_goes_on_is_sent_again_on_the_same_lease() {
    let model = Model::with(20);
    let upstream = Upstream::new(&model, 5, LosesOnce(BTreeSet::new()));
    let watch = run_link(&model, &upstream, &CancellationToken::new()).await;
    assert_eq!(model.books().confirmed.len(), 20);
    assert_eq!(model.books().given_back, 0);
    assert_eq!(watch.status().reconnects, 0);
}
