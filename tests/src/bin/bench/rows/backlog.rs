//! How cost grows with the backlog: as long to open, as much for a line, as fast to drain, as much memory.

use std::time::Instant;

use ::tests::ports::Port;
use anyhow::{Context as _, Result};

use super::PEAK_RSS;
use crate::producer::{self, Sent};
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::Spool as _;
use crate::subject::Subject;
use crate::upstream::Upstream;
use crate::usage::cpu_seconds;

/// Millions of lines: twice as many, then ten times.
const MILLIONS: [usize; 3] = [1, 2, 20];
const LARGE: [usize; 2] = [200, 500];
/// CPU seconds that the kernel tells apart.
const TICK: f64 = 0.01;
/// A line of a larger backlog costs as much as one of the one before: within what counts as level.
const AS_MUCH: Mark = Mark::AtMost(1.0 / 0.9);

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let large = bench.settings.large.then_some(LARGE);
    let mut before: Option<Costs> = None;
    for millions in MILLIONS.into_iter().chain(large.into_iter().flatten()) {
        let group = format!("with a backlog of {millions} M lines");
        let costs = fill_and_drain(&group, millions, bench, report)?;
        if let Some(before) = before.replace(costs) {
            let times = |cost: fn(&Costs) -> f64| cost(&costs) / cost(&before);
            report.add_marked(
                &group,
                "CPU to take in a line, of the backlog before",
                times(|costs| costs.filled),
                AS_MUCH,
            );
            report.add_marked(
                &group,
                "CPU to drain a line, of the backlog before",
                times(|costs| costs.drained),
                AS_MUCH,
            );
            report.add_marked(
                &group,
                "drain rate, of the backlog before",
                times(|costs| costs.drain_rate),
                Mark::AtLeast(0.9),
            );
        }
    }
    Ok(())
}

/// CPU seconds a million lines, and lines a second.
#[derive(Clone, Copy)]
struct Costs {
    filled: f64,
    drained: f64,
    drain_rate: f64,
}

fn fill_and_drain(group: &str, millions: usize, bench: &Bench, report: &mut Report) -> Result<Costs> {
    let upstream = Port::free();
    let mut subject = Subject::before(upstream.address());
    let lines = bench.count(millions * 1_000_000);
    let sent = producer::plaintext(subject.graphite(), bench.plaintext(), lines)?;
    let filled = Sent { cpu_seconds: cpu_seconds(subject.process())?, ..sent };
    report.add(group, "CPU s/M lines taken in", filled.cpu_seconds_per_million());
    report.add_marked(group, "peak RSS MiB, filling", subject.peak_rss_mib()?, PEAK_RSS);
    let folder = subject.folder_bytes()? / sent.lines_f64();
    report.add(group, "B/line of all its files", folder);
    subject.stop()?;
    let stub = Upstream::start(upstream.address())?;
    let start = Instant::now();
    subject.restart();
    subject.ready();
    stub.wait_for_lines(sent.lines);
    let first = stub.first().context("lines without a first one")?;
    let wanted = if LARGE.contains(&millions) { 0.2 } else { 0.1 };
    let seconds = (first - start).as_secs_f64();
    report.add_marked(group, "s from start to first line", seconds, Mark::AtMost(wanted));
    let received = stub.received();
    let cpu_seconds = cpu_seconds(subject.process())?;
    let drained = Sent { lines: received.lines, elapsed: received.elapsed, cpu_seconds };
    report.add(group, "lines/s drained", drained.per_second());
    report.add(group, "CPU s/M lines drained", drained.cpu_seconds_per_million());
    report.add_marked(group, "peak RSS MiB, draining", subject.peak_rss_mib()?, PEAK_RSS);
    let at_least_a_tick = |sent: Sent| Sent { cpu_seconds: sent.cpu_seconds.max(TICK), ..sent };
    Ok(Costs {
        filled: at_least_a_tick(filled).cpu_seconds_per_million(),
        drained: at_least_a_tick(drained).cpu_seconds_per_million(),
        drain_rate: drained.per_second(),
    })
}
