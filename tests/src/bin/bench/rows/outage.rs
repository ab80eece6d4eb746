//! Plaintext in over one connection while the link is down: a line counts once it is on disk, which the FIN in answer
//! to the half-close says. Then an answering stub stands up, and all of it drains: from its first SEND to its last.

use ::tests::ports::Port;
use anyhow::Result;

use super::PEAK_RSS;
use crate::bare_reader;
use crate::producer::{self, Sent};
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::{Spool, Yardstick};
use crate::subject::Subject;
use crate::upstream::Upstream;
use crate::usage::{forget_peak_rss, peak_rss_mib};

const LINES: usize = 10_000_000;
const IN: &str = "plaintext in, link down";
const DRAIN: &str = "drain to an answering stub";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let lines = bench.count(LINES);
    let bare = bare_reader::measure(bench.plaintext(), lines / 2)?;
    report.add("a reader that only counts", "lines/s", bare.per_second());
    let upstream = Port::free();

    let yardstick = Yardstick::start(upstream.address())?;
    let their_in = take(&yardstick, bench, lines)?;
    let (their_drain, _) = drain(&yardstick, &upstream, their_in.lines)?;
    report.add("the yardstick", "peak RSS MiB", peak_rss_mib(yardstick.process())?);
    drop(yardstick);

    let subject = Subject::before(upstream.address());
    let our_in = take(&subject, bench, lines)?;
    let marks = [Mark::OfYardstick(1.0), Mark::AtMost(0.28)];
    report.add_carried(IN, (&our_in, &their_in), &marks, &[Mark::OfYardstick(1.0)]);
    report.add(IN, "lines/row", our_in.lines_f64() / subject.backlog_rows());
    report.add(IN, "lines/commit", our_in.lines_f64() / subject.commits());
    report.add_marked(IN, "peak RSS MiB", subject.peak_rss_mib()?, PEAK_RSS);
    forget_peak_rss(subject.process())?;
    let (our_drain, lines_per_send) = drain(&subject, &upstream, our_in.lines)?;
    let marks = [Mark::OfYardstick(1.0), Mark::AtMost(0.09)];
    report.add_carried(DRAIN, (&our_drain, &their_drain), &marks, &[Mark::OfYardstick(1.0)]);
    report.add(DRAIN, "lines/SEND", lines_per_send);
    report.add_marked(DRAIN, "peak RSS MiB", subject.peak_rss_mib()?, PEAK_RSS);
    Ok(())
}

fn take(spool: &impl Spool, bench: &Bench, lines: usize) -> Result<Sent> {
    spool.measured(|| producer::plaintext(spool.graphite(), bench.plaintext(), lines))
}

/// And how many lines a SEND had.
fn drain(spool: &impl Spool, upstream: &Port, lines: u64) -> Result<(Sent, f64)> {
    let mut lines_per_send = 0.0;
    let drained = spool.measured(|| {
        let stub = Upstream::start(upstream.address())?;
        stub.wait_for_lines(lines);
        let received = stub.received();
        lines_per_send = received.lines as f64 / received.sends_f64();
        Ok(Sent { lines: received.lines, elapsed: received.elapsed, cpu_seconds: 0.0 })
    })?;
    Ok((drained, lines_per_send))
}
