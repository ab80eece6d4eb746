//! What a line takes on disk: bytes of the spool's database after an orderly stop, when nothing is in the write-ahead
//! log (WAL). The reserve beside it is always the same.

use ::tests::ports::Port;
use anyhow::Result;

use crate::lines::Payload;
use crate::producer;
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::Spool as _;
use crate::subject::Subject;

const LINES: usize = 2_000_000;
/// Of the long ones, which are made in memory.
const DISTINCT_LINES: usize = 200_000;
const DISK: &str = "disk";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let lines = bench.count(LINES);
    let usual = bytes_per_line(bench.plaintext(), lines)?;
    report.add_marked(DISK, "B/line", usual, Mark::AtMost(9.0));
    let tagged = Payload::tagged(bench.count(DISTINCT_LINES));
    let share = bytes_per_line(&tagged, lines / 4)? / tagged.bytes_per_line();
    report.add_marked(DISK, "share of raw, tagged", share, Mark::AtMost(0.2));
    Ok(())
}

fn bytes_per_line(payload: &Payload, lines: usize) -> Result<f64> {
    let upstream = Port::free();
    let mut subject = Subject::before(upstream.address());
    let sent = producer::plaintext(subject.graphite(), payload, lines)?;
    subject.stop()?;
    Ok(subject.disk_bytes()? / sent.lines_f64())
}
