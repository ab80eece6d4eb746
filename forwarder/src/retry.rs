//! How long a link waits before it dials again. The `backoff` crate is named here only.
//!
//! It never gives up. The delay is uniform from zero to an interval that doubles from 500 ms (a blip
//! is mended before anybody looks, and a transatlantic dial takes 200 ms of it) to 30 s (a mended
//! link carries again 15 s later on average, while a dead upstream is dialled four times a minute).

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};
use tokio::time::Instant;

/// The interval of the first delay.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// No delay is longer.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// A session without traffic has proved itself after this long. Longer than the deadline for
/// receipts, so that an upstream that only listens never counts as stable.
const STABLE_AFTER: Duration = Duration::from_secs(120);

/// The delays between the attempts of one link.
#[derive(Debug)]
pub struct Retry {
    backoff: ExponentialBackoff<RuntimeClock>,
    delay_max: Duration,
    stands_since: Option<Instant>,
}

impl Default for Retry {
    fn default() -> Self {
        Self::new(FIRST_INTERVAL, DELAY_MAX)
    }
}

impl Retry {
    /// Delays from an interval of `first` up to one of `delay_max`.
    pub fn new(first: Duration, delay_max: Duration) -> Self {
        // Spread by all of itself, half an interval gives a uniform delay from zero to the whole.
        let mut backoff = ExponentialBackoffBuilder::<RuntimeClock>::new()
            .with_initial_interval(first.min(delay_max) / 2)
            .with_max_interval(delay_max / 2)
            .with_randomization_factor(1.0)
            .with_multiplier(2.0)
            .with_max_elapsed_time(None)
            .build();
        backoff.reset();
        Self { backoff, delay_max, stands_since: None }
    }

    /// A session stands. That alone proves little: an upstream may accept and close for ever.
    pub fn stands(&mut self) {
        self.stands_since = Some(Instant::now());
    }

    /// The session has moved something: the next delay starts over.
    pub fn confirmed(&mut self) {
        self.backoff.reset();
    }

    /// How long to wait before the next attempt; never above the cap. Starts over if the last
    /// session stood for long enough.
    pub fn delay(&mut self) -> Duration {
        if let Some(since) = self.stands_since.take()
            && since.elapsed() >= STABLE_AFTER
        {
            self.backoff.reset();
        }
        // Without a limit on the elapsed time there always is a delay. The crate rounds it in
        // floating point and may end above the interval, so the cap is put on here.
        let delay = self.backoff.next_backoff().unwrap_or(self.delay_max);
        delay.min(self.delay_max)
    }
}

/// The clock of the runtime, which a test can step.
#[derive(Debug, Default)]
struct RuntimeClock;

impl backoff::Clock for RuntimeClock {
    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[tokio::test(start_paused = true)]
    async fn over_a_day_it_never_gives_up_and_never_exceeds_its_cap() {
        let mut retry = Retry::default();
        let begin = Instant::now();
        let mut delays = Vec::new();
        while begin.elapsed() < DAY {
            let delay = retry.delay();
            assert!(delay <= DELAY_MAX, "{delay:?}");
            delays.push(delay);
            tokio::time::advance(delay).await;
        }
        // A policy that has given up would answer the cap for ever: the mean would be 30 s.
        let mean = begin.elapsed() / u32::try_from(delays.len()).expect("count");
        assert!(mean > DELAY_MAX * 4 / 10 && mean < DELAY_MAX * 6 / 10, "{mean:?}");
        let last = &delays[delays.len() - 500..];
        assert!(last.iter().any(|delay| *delay < DELAY_MAX / 10));
        assert!(last.iter().any(|delay| *delay > DELAY_MAX * 9 / 10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_interval_doubles_from_the_first_to_the_cap() {
        for _ in 0..200 {
            let mut retry = Retry::default();
            for attempt in 0..10 {
                let interval = FIRST_INTERVAL * (1 << attempt);
                assert!(retry.delay() <= interval.min(DELAY_MAX) + Duration::from_nanos(1));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cap_below_the_first_interval_holds() {
        let mut retry = Retry::new(FIRST_INTERVAL, Duration::from_millis(10));
        assert!((0..1000).all(|_| retry.delay() <= Duration::from_millis(10)));
    }

    /// The longest of the first delays after `session`, over many links that were at the cap.
    async fn longest_after(session: impl AsyncFn(&mut Retry)) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            let mut retry = Retry::default();
            let before = (0..10).map(|_| retry.delay()).max();
            assert!(before > Some(FIRST_INTERVAL));
            session(&mut retry).await;
            longest = longest.max(retry.delay());
        }
        longest
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_session_that_proved_itself_starts_it_over() {
        let stood = async |retry: &mut Retry, time| {
            retry.stands();
            tokio::time::advance(time).await;
        };
        let first = FIRST_INTERVAL + Duration::from_nanos(1);
        let blink = Duration::from_millis(1);
        assert!(longest_after(async |retry| stood(retry, STABLE_AFTER).await).await <= first);
        assert!(longest_after(async |retry| stood(retry, STABLE_AFTER - blink).await).await > first);
        let moved = async |retry: &mut Retry| {
            retry.stands();
            retry.confirmed();
        };
        assert!(longest_after(moved).await <= first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_between_attempts_is_no_session() {
        let waited = async |_: &mut Retry| tokio::time::advance(DAY).await;
        assert!(longest_after(waited).await > FIRST_INTERVAL * 2);
    }
}
