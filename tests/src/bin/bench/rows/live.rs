//! Plaintext in at full speed while the link stands to an answering stub: from its first SEND to its last.

use ::tests::ports::Port;
use anyhow::Result;

use super::PEAK_RSS;
use crate::producer::{self, Sent};
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::{Spool, Yardstick};
use crate::subject::Subject;
use crate::upstream::Upstream;

const LINES: usize = 10_000_000;
const LIVE: &str = "live, in to out";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let upstream = Port::free();
    let yardstick = Yardstick::start(upstream.address())?;
    let theirs = pass(&yardstick, &upstream, bench, || ())?;
    drop(yardstick);
    let subject = Subject::before(upstream.address());
    let ours = pass(&subject, &upstream, bench, || subject.linked())?;
    let marks = [Mark::OfYardstick(1.0), Mark::AtMost(0.36)];
    report.add_carried(LIVE, (&ours, &theirs), &marks, &[Mark::OfYardstick(1.0)]);
    report.add_marked(LIVE, "peak RSS MiB", subject.peak_rss_mib()?, PEAK_RSS);
    Ok(())
}

fn pass(spool: &impl Spool, upstream: &Port, bench: &Bench, linked: impl FnOnce()) -> Result<Sent> {
    let stub = Upstream::start(upstream.address())?;
    linked();
    spool.measured(|| {
        let sent = producer::plaintext(spool.graphite(), bench.plaintext(), bench.count(LINES))?;
        stub.wait_for_lines(sent.lines);
        Ok(Sent { elapsed: stub.received().elapsed, ..sent })
    })
}
