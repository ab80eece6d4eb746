//! How long a line takes from its write to the stub: 10,000 lines a second on one connection, each written when it is
//! due, within a tick. A line's value is its number, so that it is known again.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::tests::ports::Port;
use anyhow::{Context as _, Result};

use crate::producer::{Sent, connect};
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::{Spool, Yardstick};
use crate::subject::Subject;
use crate::upstream::Upstream;

const RATE: usize = 10_000;
const TIME: Duration = Duration::from_secs(6);
const TICK: Duration = Duration::from_millis(1);
const LATENCY: &str = "latency at 10,000 lines/s";
const TIMESTAMP: u64 = 1_700_000_000;

/// When each line came, by its number.
type Arrivals = Arc<Mutex<Vec<Option<Instant>>>>;

/// Of all lines of one run.
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    cpu_percent: f64,
}

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let upstream = Port::free();
    let yardstick = Yardstick::start(upstream.address())?;
    let theirs = pass(&yardstick, &upstream, bench, || ())?;
    drop(yardstick);
    let subject = Subject::before(upstream.address());
    let ours = pass(&subject, &upstream, bench, || subject.linked())?;
    report.add_pair(LATENCY, "p50 ms", ours.p50_ms, theirs.p50_ms, &[Mark::AtMost(3.0)]);
    report.add_pair(LATENCY, "p99 ms", ours.p99_ms, theirs.p99_ms, &[Mark::AtMost(7.0)]);
    let marks = [Mark::AtMost(5.0)];
    report.add_pair(LATENCY, "% of a core", ours.cpu_percent, theirs.cpu_percent, &marks);
    Ok(())
}

fn pass(spool: &impl Spool, upstream: &Port, bench: &Bench, linked: impl FnOnce()) -> Result<Latency> {
    let time = bench.time(TIME);
    let count = usize::try_from(time.as_micros())? * RATE / 1_000_000;
    let arrivals: Arrivals = Arc::new(Mutex::new(vec![None; count]));
    let stub = Upstream::watched(upstream.address(), {
        let arrivals = Arc::clone(&arrivals);
        move |body| note(body, &arrivals)
    })?;
    linked();
    let mut departures = Vec::with_capacity(count);
    let sent = spool.measured(|| {
        let elapsed = send(spool, count, &mut departures)?;
        stub.wait_for_lines(count as u64);
        Ok(Sent { lines: count as u64, elapsed, cpu_seconds: 0.0 })
    })?;
    let arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    let mut delays = Vec::with_capacity(count);
    for (departure, arrival) in departures.iter().zip(&*arrivals) {
        delays.push(arrival.context("a line came without its number")?.duration_since(*departure));
    }
    delays.sort_unstable();
    let millis = |percent: usize| delays[(count - 1) * percent / 100].as_secs_f64() * 1e3;
    let cpu_percent = 100.0 * sent.cpu_seconds / sent.elapsed.as_secs_f64();
    Ok(Latency { p50_ms: millis(50), p99_ms: millis(99), cpu_percent })
}

/// Writes `count` lines at the rate, and notes when each was written.
fn send(spool: &impl Spool, count: usize, departures: &mut Vec<Instant>) -> Result<Duration> {
    let mut stream = connect(spool.graphite())?;
    let (start, mut text) = (Instant::now(), String::new());
    while departures.len() < count {
        let due = usize::try_from(start.elapsed().as_micros())? * RATE / 1_000_000;
        text.clear();
        for number in departures.len()..due.min(count) {
            writeln!(text, "bench.host{:04}.latency {number} {TIMESTAMP}", number % 500)?;
        }
        let now = Instant::now();
        stream.write_all(text.as_bytes())?;
        departures.resize(due.min(count).max(departures.len()), now);
        thread::sleep(TICK);
    }
    Ok(start.elapsed())
}

fn note(body: &[u8], arrivals: &Mutex<Vec<Option<Instant>>>) {
    let now = Instant::now();
    let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    for line in body.split(|&byte| byte == b'\n') {
        let number =
            std::str::from_utf8(line).ok().and_then(|line| line.split(' ').nth(1)?.parse::<usize>().ok());
        if let Some(arrival) = number.and_then(|number| arrivals.get_mut(number)) {
            arrival.get_or_insert(now);
        }
    }
}
