//! Runs argon2: at most two at a time, off the threads that serve the sessions, and once for all who
//! bring the same login and passcode at the same time. How many wait is bounded, and how many of one
//! network, so that those who guess cannot keep others out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::users::keyed::Tag;
use crate::users::stored_hash::StoredHash;

/// Checks at a time: a hash takes 19 MiB and 20 ms, or as much as its bounds allow.
const AT_A_TIME: usize = 2;
/// Different checks that run and wait: at 20 ms each the last waits for 5 s.
const UNDER_WAY_MAX: usize = 512;
/// Of one network.
const UNDER_WAY_PER_NETWORK: usize = 16;

/// What a check is. Passed in, so that a test can count.
pub(super) type Fits = Arc<dyn Fn(&StoredHash, &[u8]) -> bool + Send + Sync>;

/// Checks passcodes against hashes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Checker {
    fits: Fits,
    permits: Arc<Semaphore>,
    under_way: UnderWay,
}

/// The checks that run or wait.
#[derive(Debug, Clone, Default)]
struct UnderWay(Arc<Mutex<HashMap<Tag, Check>>>);

/// One of them.
#[derive(Debug)]
struct Check {
    network: IpAddr,
    verdict: Verdict,
}

/// `None` while it is not known.
type Verdict = watch::Receiver<Option<bool>>;

/// The duty to do a check, which many may wait for. Dropped without a verdict, another one takes over.
#[derive(Debug)]
struct Duty {
    tag: Tag,
    verdict: watch::Sender<Option<bool>>,
    under_way: UnderWay,
}

/// Too many checks wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

/// How somebody comes to a verdict.
enum Part {
    /// By doing the check.
    Does(Duty),
    /// Another one does it.
    Waits(Verdict),
}

impl Checker {
    pub(super) fn new(fits: Fits) -> Self {
        Self { fits, permits: Arc::new(Semaphore::new(AT_A_TIME)), under_way: UnderWay::default() }
    }

    /// Whether `passcode` fits `hash`. `tag` stands for both and for the login. Cancel-safe: a check that
    /// has begun goes on for the others who wait for it.
    pub(super) async fn check(
        &self,
        tag: Tag,
        network: IpAddr,
        hash: &Arc<StoredHash>,
        passcode: &[u8],
    ) -> Result<bool, Busy> {
        loop {
            match self.under_way.part(tag, network)? {
                Part::Does(duty) => return self.run(duty, Arc::clone(hash), passcode).await,
                Part::Waits(mut verdict) => {
                    if let Ok(verdict) = verdict.wait_for(Option::is_some).await {
                        return verdict.ok_or(Busy);
                    }
                }
            }
        }
    }

    async fn run(&self, duty: Duty, hash: Arc<StoredHash>, passcode: &[u8]) -> Result<bool, Busy> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let (fits, passcode) = (Arc::clone(&self.fits), passcode.to_vec());
        let check = move || {
            let _one_of_two = permit;
            let verdict = fits(&hash, &passcode);
            duty.verdict.send_replace(Some(verdict));
            verdict
        };
        #[expect(clippy::disallowed_methods, reason = "it is no business of the spool, and two run at most")]
        let checked = tokio::task::spawn_blocking(check);
        // It fails only if the runtime is shutting down.
        checked.await.map_err(|_| Busy)
    }
}

impl UnderWay {
    fn part(&self, tag: Tag, network: IpAddr) -> Result<Part, Busy> {
        let mut checks = self.lock();
        let is_full = checks.len() >= UNDER_WAY_MAX
            || checks.values().filter(|check| check.network == network).count() >= UNDER_WAY_PER_NETWORK;
        match checks.entry(tag) {
            Entry::Occupied(check) => Ok(Part::Waits(check.get().verdict.clone())),
            Entry::Vacant(_) if is_full => Err(Busy),
            Entry::Vacant(place) => {
                let (sender, verdict) = watch::channel(None);
                place.insert(Check { network, verdict });
                Ok(Part::Does(Duty { tag, verdict: sender, under_way: self.clone() }))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Tag, Check>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.tag);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::task::{unconstrained, yield_now};
    use tokio::time::timeout;

    use super::*;
    use crate::users::keyed::Key;
    use crate::users::stored_hash::tests::quick;

    /// What the checks of a test did.
    #[derive(Debug, Default)]
    pub(in crate::users) struct Runs {
        now: AtomicUsize,
        most: AtomicUsize,
        total: AtomicUsize,
        /// While it is set, no check ends.
        held: AtomicBool,
    }

    impl Runs {
        /// A check that takes `pause` longer than the real one, and is counted.
        pub(in crate::users) fn counted(self: &Arc<Self>, pause: Duration) -> Fits {
            let runs = Arc::clone(self);
            Arc::new(move |hash, passcode| {
                let now = runs.now.fetch_add(1, Ordering::SeqCst) + 1;
                runs.most.fetch_max(now, Ordering::SeqCst);
                runs.total.fetch_add(1, Ordering::SeqCst);
                #[expect(clippy::disallowed_methods, reason = "argon2 blocks its thread, too")]
                std::thread::sleep(pause);
                while runs.held.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                let fits = hash.fits(passcode);
                runs.now.fetch_sub(1, Ordering::SeqCst);
                fits
            })
        }

        pub(in crate::users) fn most(&self) -> usize {
            self.most.load(Ordering::SeqCst)
        }

        pub(in crate::users) fn total(&self) -> usize {
            self.total.load(Ordering::SeqCst)
        }
    }

    /// Polls `attempts`, so that all of them have begun before the first check is done; then lets them
    /// end.
    pub(in crate::users) async fn all_at_once<F: Future>(
        checker: &Checker,
        attempts: impl Iterator<Item = F>,
    ) -> Vec<F::Output> {
        let both = checker.permits.acquire_many(2).await.unwrap();
        let mut attempts = pin!(unconstrained(join_all(attempts)));
        assert!(attempts.as_mut().now_or_never().is_none());
        drop(both);
        attempts.await
    }

    const PAUSE: Duration = Duration::from_millis(5);

    struct Scene {
        runs: Arc<Runs>,
        checker: Checker,
        key: Key,
        hash: Arc<StoredHash>,
    }

    impl Scene {
        fn new() -> Self {
            let runs = Arc::new(Runs::default());
            let checker = Checker::new(runs.counted(PAUSE));
            let hash = Arc::new(StoredHash::parse(&quick("right")).unwrap());
            Self { runs, checker, key: Key::draw().unwrap(), hash }
        }

        async fn check(&self, network: u32, passcode: &str) -> Result<bool, Busy> {
            let tag = self.key.tag(&[passcode.as_bytes()]);
            self.checker.check(tag, IpAddr::V4(network.into()), &self.hash, passcode.as_bytes()).await
        }

        fn is_idle(&self) -> bool {
            self.checker.under_way.lock().is_empty() && self.checker.permits.available_permits() == AT_A_TIME
        }
    }

    #[tokio::test]
    async fn two_run_at_a_time_and_the_others_wait() {
        let scene = Scene::new();
        let guesses: Vec<String> = (0..50).map(|number| format!("guess {number}")).collect();
        let checks = guesses.iter().zip(0..).map(|(guess, network)| scene.check(network, guess));
        assert!(join_all(checks).await.iter().all(|verdict| *verdict == Ok(false)));
        assert_eq!((scene.runs.most(), scene.runs.total()), (2, 50));
        assert!(scene.is_idle());
    }

    #[tokio::test]
    async fn one_run_answers_all_who_bring_the_same() {
        let scene = Scene::new();
        let right = all_at_once(&scene.checker, (0..50).map(|_| scene.check(1, "right"))).await;
        assert!(right.iter().all(|verdict| *verdict == Ok(true)));
        assert_eq!(scene.runs.total(), 1);
        let wrong = all_at_once(&scene.checker, (0..50).map(|_| scene.check(1, "wrong"))).await;
        assert!(wrong.iter().all(|verdict| *verdict == Ok(false)));
        assert_eq!(scene.runs.total(), 2);
    }

    #[tokio::test]
    async fn one_network_cannot_take_all_places_nor_can_many() {
        let scene = Scene::new();
        let guess = |number: u32| format!("guess {number}");
        let guesses: Vec<String> = (0..600).map(guess).collect();
        let busy = async |count: usize, network: fn(u32) -> u32| {
            let attempts =
                (0..).zip(&guesses[..count]).map(|(number, guess)| scene.check(network(number), guess));
            let verdicts = all_at_once(&scene.checker, attempts).await;
            verdicts.iter().filter(|verdict| **verdict == Err(Busy)).count()
        };
        assert_eq!(busy(40, |_| 1).await, 40 - UNDER_WAY_PER_NETWORK);
        assert_eq!(busy(600, |number| number).await, 600 - UNDER_WAY_MAX);
        assert!(scene.is_idle());
    }

    #[tokio::test]
    async fn who_leaves_takes_nothing_along() {
        let scene = Scene::new();
        // Both permits are taken, so the first of the two who bring the same waits, and then leaves.
        let (a, b) = (scene.check(1, "a"), scene.check(1, "b"));
        let leaves = timeout(Duration::ZERO, scene.check(1, "right"));
        let stays = scene.check(1, "right");
        let (a, b, left, stayed) = tokio::join!(a, b, leaves, stays);
        assert_eq!((a, b, stayed), (Ok(false), Ok(false), Ok(true)));
        assert!(left.is_err(), "it did not wait");
        assert_eq!(scene.runs.most(), 2);
        // One that leaves while its check runs leaves it to those who wait for it.
        let before = scene.runs.total();
        scene.runs.held.store(true, Ordering::SeqCst);
        let mut leaves = Box::pin(scene.check(1, "c"));
        while scene.runs.total() == before {
            assert!(leaves.as_mut().now_or_never().is_none());
            yield_now().await;
        }
        drop(leaves);
        let mut stays = Box::pin(scene.check(1, "c"));
        assert!(stays.as_mut().now_or_never().is_none());
        scene.runs.held.store(false, Ordering::SeqCst);
        assert_eq!(stays.await, Ok(false));
        assert_eq!(scene.runs.total(), before + 1);
    }
}
