//! What the hosts of the demo measure: a value of each name every second, spread evenly over it.
//!
//! The names of a slot have a value at once, with one timestamp. A producer that was held back catches
//! up slot by slot, so that every name has a value for every second.

use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use forwarder::Clock;
use tokio::time::{Instant, sleep_until};

/// Names of one host.
const NAMES_OF_A_HOST: u32 = 100;
const KINDS: [&str; 10] = ["core", "disk", "fs", "irq", "load", "mem", "net", "proc", "sock", "temp"];
/// Slots in a second, at the least.
const SLOTS_MIN: u32 = 20;
/// Names in a slot, at the most: so that a message or a write stays small.
const SLOT_NAMES_MAX: u32 = 1000;

/// The metrics of some names of one region, from its start on.
#[derive(Debug)]
pub(super) struct Load {
    region: &'static str,
    names: Range<u32>,
    slots: u32,
    started: Instant,
    first_second: i64,
    next: u64,
}

impl Load {
    /// The first values are due now.
    pub(super) fn new(region: &'static str, names: Range<u32>, clock: &Clock) -> Self {
        let slots = SLOTS_MIN.max(u32::try_from(names.len()).unwrap_or(u32::MAX).div_ceil(SLOT_NAMES_MAX));
        Self { region, names, slots, started: Instant::now(), first_second: clock.now_seconds(), next: 0 }
    }

    /// Waits until the next slot is due; its lines, each ended by LF. Cancel-safe.
    pub(super) async fn next(&mut self) -> Vec<u8> {
        let slots = u64::from(self.slots);
        let offset =
            Duration::from_secs(self.next / slots) + Duration::from_secs(1) / self.slots * self.slot();
        sleep_until(self.started + offset).await;
        let lines = self.lines();
        self.next += 1;
        lines
    }

    /// The next slot's place in its second.
    fn slot(&self) -> u32 {
        u32::try_from(self.next % u64::from(self.slots)).unwrap_or_default()
    }

    fn lines(&self) -> Vec<u8> {
        let second = self.first_second.saturating_add_unsigned(self.next / u64::from(self.slots));
        let (mut lines, region) = (Vec::new(), self.region);
        for name in self.names.clone().filter(|name| name % self.slots == self.slot()) {
            let (host, nth) = (name / NAMES_OF_A_HOST, name % NAMES_OF_A_HOST);
            let (kind, nth) = (KINDS[nth as usize % KINDS.len()], nth as usize / KINDS.len());
            let hundredths = noise(name, second) % 10_000;
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            // Writing to a Vec cannot fail.
            _ = writeln!(lines, "{region}.host{host:03}.{kind}{nth} {whole}.{rest:02} {second}");
        }
        lines
    }
}

/// A number that nobody guesses, so that the values compress no better than real ones (SplitMix64).
fn noise(name: u32, second: i64) -> u64 {
    let mut noise = u64::from(name).rotate_left(40) ^ second.unsigned_abs();
    noise = (noise ^ (noise >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    noise = (noise ^ (noise >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    noise ^ (noise >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::demo::ledger::{Counts, Ledger};

    fn load(names: Range<u32>) -> Load {
        Load::new("us", names, &Clock::manual(Arc::new(AtomicI64::new(1_000_000))))
    }

    #[tokio::test(start_paused = true)]
    async fn every_name_has_one_value_every_second() {
        for names in [0..1, 3..7, 0..20_000, 500..30_500] {
            let count = names.len() as u64;
            let mut load = load(names);
            let ledger = Ledger::default();
            for _ in 0..3 * load.slots {
                let lines = load.next().await;
                assert!(memchr::memchr_iter(b'\n', &lines).count() <= SLOT_NAMES_MAX as usize);
                ledger.enter(&lines);
            }
            assert_eq!(ledger.counts(), Counts { metrics: 3 * count, copies: 0, odd: 0 });
            assert!(load.started.elapsed() < Duration::from_secs(3));
            assert!(load.started.elapsed() > Duration::from_secs(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_held_back_catches_up() {
        let mut load = load(0..1);
        load.next().await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let ledger = Ledger::default();
        for _ in 0..5 * load.slots {
            ledger.enter(&load.next().await);
        }
        assert_eq!(load.started.elapsed().as_secs(), 5, "it did not wait");
        assert_eq!(ledger.counts().metrics, 5);
    }

    #[test]
    fn a_line_is_what_a_host_says() {
        let load = load(1234..1235);
        let lines = (0..u64::from(load.slots)).map(|next| Load { next, names: 1234..1235, ..load }.lines());
        let lines = String::from_utf8(lines.collect::<Vec<_>>().concat()).unwrap();
        let value: f64 = lines
            .strip_prefix("us.host012.load3 ")
            .and_then(|rest| rest.strip_suffix(" 1000\n"))
            .unwrap()
            .parse()
            .unwrap();
        assert!((0.0..100.0).contains(&value), "{lines}");
    }
}
