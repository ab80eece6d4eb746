//! Who failed to log in waits before the next attempt, longer each time. Pure but for the waiting.
//!
//! What is counted is a network (an IPv4 address, or the 64 bits of an IPv6 one that its owner does not
//! choose) with one login, and the network with whatever logins. The first is against guessing: up to
//! 5 s. The second is against those who try many logins, each of which costs a check: up to half a
//! second between two attempts, so that a producer with a wrong passcode hardly delays the others on its host.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::users::keyed::Tag;

/// After the first failure.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// Between attempts of one network on one login.
const LOGIN_DELAY_MAX: Duration = Duration::from_secs(5);
/// Between attempts of one network on all logins.
const NETWORK_DELAY_MAX: Duration = Duration::from_millis(500);
/// Whoever would have to wait longer is refused at once.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How many may wait at a time.
const WAITING_MAX: usize = 1024;
/// How many culprits are known. To make room by failing under other names costs more checks than the
/// delay that it would spare.
const KNOWN_MAX: usize = 4096;
/// When a culprit that is free to try again, and does not, is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Who is made to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Culprit {
    network: IpAddr,
    /// `None`: with whatever login.
    login: Option<Tag>,
}

/// Who has failed lately.
#[derive(Debug, Default)]
pub(super) struct Penalties(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    culprits: HashMap<Culprit, Penalty>,
    waiting: usize,
}

#[derive(Debug, Clone, Copy)]
struct Penalty {
    failures: u32,
    /// When the next attempt may be made.
    free_at: Instant,
}

/// Too many attempts: refused at once, and not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooOften {
    /// In how many seconds an attempt might be worth while.
    pub(super) seconds: u64,
}

/// One who waits.
struct Waiting<'a>(&'a Penalties);

impl Culprit {
    pub(super) fn of_login(network: IpAddr, login: Tag) -> Self {
        Self { network, login: Some(login) }
    }

    pub(super) fn of_network(network: IpAddr) -> Self {
        Self { network, login: None }
    }

    fn delay(&self, failures: u32) -> Duration {
        let max = if self.login.is_some() { LOGIN_DELAY_MAX } else { NETWORK_DELAY_MAX };
        let doublings = failures.saturating_sub(1).min(16);
        (DELAY_MIN * (1 << doublings)).min(max)
    }
}

/// The part of an address that its owner cannot change at will.
pub(super) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

impl Penalties {
    /// Waits until all of `culprits` may make their next attempt, which is this one: attempts at the same
    /// time have to wait for each other.
    pub(super) async fn wait(&self, culprits: &[Culprit]) -> Result<(), TooOften> {
        if let Some((due, _waiting)) = self.next_attempt(culprits)? {
            sleep_until(due).await;
        }
        Ok(())
    }

    /// Their attempt failed.
    pub(super) fn failed(&self, culprits: &[Culprit]) {
        let now = Instant::now();
        let mut known = self.lock();
        for &culprit in culprits {
            known.make_room_for(&culprit, now);
            let penalty = known.culprits.entry(culprit).or_insert(Penalty { failures: 0, free_at: now });
            if penalty.is_forgotten(now) {
                penalty.failures = 0;
            }
            penalty.failures = penalty.failures.saturating_add(1);
            penalty.free_at = penalty.free_at.max(now + culprit.delay(penalty.failures));
        }
    }

    /// Their attempt succeeded: what was before is forgotten.
    pub(super) fn succeeded(&self, culprits: &[Culprit]) {
        let mut known = self.lock();
        for culprit in culprits {
            known.culprits.remove(culprit);
        }
    }

    /// When, unless at once.
    fn next_attempt(&self, culprits: &[Culprit]) -> Result<Option<(Instant, Waiting<'_>)>, TooOften> {
        let now = Instant::now();
        let mut known = self.lock();
        let penalty = |culprit| known.culprits.get(culprit).filter(|penalty| !penalty.is_forgotten(now));
        let Some(free_at) = culprits.iter().filter_map(penalty).map(|penalty| penalty.free_at).max() else {
            return Ok(None);
        };
        let due = free_at.max(now);
        let wait = due - now;
        if wait > WAIT_MAX || known.waiting >= WAITING_MAX {
            return Err(TooOften { seconds: wait.as_secs() + 1 });
        }
        for culprit in culprits {
            if let Some(penalty) = known.culprits.get_mut(culprit) {
                // Each from its own time: what one login waits for is not for all of its network to wait for.
                penalty.free_at = penalty.free_at.max(now) + culprit.delay(penalty.failures);
            }
        }
        known.waiting += 1;
        Ok(Some((due, Waiting(self))))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn make_room_for(&mut self, culprit: &Culprit, now: Instant) {
        if self.culprits.len() < KNOWN_MAX || self.culprits.contains_key(culprit) {
            return;
        }
        self.culprits.retain(|_, penalty| !penalty.is_forgotten(now));
        if self.culprits.len() < KNOWN_MAX {
            return;
        }
        let first_free = self.culprits.iter().min_by_key(|(_, penalty)| penalty.free_at);
        if let Some((&first_free, _)) = first_free {
            self.culprits.remove(&first_free);
        }
    }
}

impl Penalty {
    fn is_forgotten(&self, now: Instant) -> bool {
        now >= self.free_at + FORGOTTEN_AFTER
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::keyed::Key;

    fn address(text: &str) -> IpAddr {
        network(text.parse().unwrap())
    }

    fn login(number: u32) -> Culprit {
        let key = Key::draw().unwrap();
        Culprit::of_login(address("192.0.2.1"), key.tag(&[&number.to_le_bytes()]))
    }

    /// How long the next attempt waits.
    async fn waited(penalties: &Penalties, culprits: &[Culprit]) -> Result<Duration, TooOften> {
        let before = Instant::now();
        penalties.wait(culprits).await?;
        Ok(before.elapsed())
    }

    #[test]
    fn a_network_is_what_its_owner_cannot_change_at_will() {
        let check = |peer: &str, expected: &str| assert_eq!(address(peer).to_string(), expected);
        check("192.0.2.1", "192.0.2.1");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        check("::1", "::");
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_doubles_up_to_its_bound_and_a_success_ends_it() {
        let penalties = Penalties::default();
        let who = login(1);
        assert_eq!(waited(&penalties, &[who]).await, Ok(Duration::ZERO));
        for expected_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
            penalties.failed(&[who]);
            assert_eq!(waited(&penalties, &[who]).await, Ok(Duration::from_millis(expected_ms)));
        }
        penalties.succeeded(&[who]);
        assert_eq!(waited(&penalties, &[who]).await, Ok(Duration::ZERO));
        penalties.failed(&[who]);
        assert_eq!(waited(&penalties, &[who]).await, Ok(DELAY_MIN), "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_with_whatever_logins_waits_less() {
        let penalties = Penalties::default();
        let whole = Culprit::of_network(address("192.0.2.1"));
        for number in 0..100 {
            penalties.failed(&[login(number), whole]);
        }
        assert_eq!(waited(&penalties, &[login(1000), whole]).await, Ok(NETWORK_DELAY_MAX));
        assert_eq!(waited(&penalties, &[login(1001)]).await, Ok(Duration::ZERO));
        let other = Culprit::of_network(address("192.0.2.2"));
        assert_eq!(waited(&penalties, &[other]).await, Ok(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_waits_long_delays_the_others_of_its_network_little() {
        let penalties = Penalties::default();
        let whole = Culprit::of_network(address("192.0.2.1"));
        let guessed = login(1);
        (0..10).for_each(|_| penalties.failed(&[guessed, whole]));
        let (long, other) = ([guessed, whole], [login(2), whole]);
        let (long, other) = tokio::join!(waited(&penalties, &long), waited(&penalties, &other));
        assert_eq!(long, Ok(LOGIN_DELAY_MAX));
        assert_eq!(other, Ok(2 * NETWORK_DELAY_MAX), "it is the second attempt of its network");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_the_same_time_wait_for_each_other_and_too_many_are_refused() {
        let penalties = Penalties::default();
        let who = [login(1)];
        for _ in 0..4 {
            penalties.failed(&who);
        }
        // 0.8 s apart, from 0.8 s on.
        let waits = futures_util::future::join_all((0..100).map(|_| waited(&penalties, &who))).await;
        let expected = (1..=6).map(|number| Ok(Duration::from_millis(800 * number)));
        assert_eq!(waits[..6], expected.collect::<Vec<_>>());
        assert!(waits[6..].iter().all(|wait| *wait == Err(TooOften { seconds: 6 })), "{:?}", waits[6]);
        assert_eq!(penalties.lock().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_forgotten_after_ten_minutes() {
        let penalties = Penalties::default();
        let who = login(1);
        for _ in 0..10 {
            penalties.failed(&[who]);
        }
        tokio::time::advance(LOGIN_DELAY_MAX + FORGOTTEN_AFTER).await;
        assert_eq!(waited(&penalties, &[who]).await, Ok(Duration::ZERO));
        penalties.failed(&[who]);
        assert_eq!(waited(&penalties, &[who]).await, Ok(DELAY_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn neither_those_known_nor_those_waiting_grow_without_bound() {
        let penalties = Penalties::default();
        let culprits: Vec<Culprit> = (0..5000).map(login).collect();
        penalties.failed(&culprits[..1]);
        tokio::time::advance(Duration::from_millis(1)).await;
        penalties.failed(&culprits[1..]);
        assert_eq!(penalties.lock().culprits.len(), KNOWN_MAX);
        assert_eq!(waited(&penalties, &culprits[..1]).await, Ok(Duration::ZERO), "the first made room");
        penalties.failed(&culprits);
        let all = culprits.iter().map(|culprit| waited(&penalties, std::slice::from_ref(culprit)));
        let refused = futures_util::future::join_all(all).await;
        let refused = refused.iter().filter(|wait| wait.is_err()).count();
        assert_eq!(refused, KNOWN_MAX - WAITING_MAX);
        tokio::time::advance(LOGIN_DELAY_MAX + FORGOTTEN_AFTER).await;
        penalties.failed(&[login(6000)]);
        assert_eq!(penalties.lock().culprits.len(), 1, "who is forgotten makes room first");
    }
}
