//! A backlog ten times as large: as long to open, as fast to drain, as much memory.

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

const LINES: [usize; 2] = [2_000_000, 20_000_000];
const LARGE: usize = 200_000_000;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut before = None;
    for full in LINES.into_iter().chain(bench.settings.large.then_some(LARGE)) {
        let group = format!("with a backlog of {} M lines", full / 1_000_000);
        let drained = fill_and_drain(&group, full, bench, report)?;
        if let Some(before) = before.replace(drained) {
            let grown = drained.per_second() / before.per_second();
            report.add_marked(&group, "drain rate, of a tenth's", grown, Mark::AtLeast(0.9));
        }
    }
    Ok(())
}

fn fill_and_drain(group: &str, full: usize, bench: &Bench, report: &mut Report) -> Result<Sent> {
    let upstream = Port::free();
    let mut subject = Subject::before(upstream.address());
    let sent = producer::plaintext(subject.graphite(), bench.plaintext(), bench.count(full))?;
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
    let wanted = if full > LINES[1] { 0.2 } else { 0.1 };
    let seconds = (first - start).as_secs_f64();
    report.add_marked(group, "s from start to first line", seconds, Mark::AtMost(wanted));
    let received = stub.received();
    let cpu_seconds = cpu_seconds(subject.process())?;
    let drained = Sent { lines: received.lines, elapsed: received.elapsed, cpu_seconds };
    report.add(group, "lines/s drained", drained.per_second());
    report.add(group, "CPU s/M lines drained", drained.cpu_seconds_per_million());
    report.add_marked(group, "peak RSS MiB, draining", subject.peak_rss_mib()?, PEAK_RSS);
    Ok(drained)
}
