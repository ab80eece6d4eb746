//! STOMP in over one session while the link is down, with a receipt for each message and a window of messages on the
//! way; beside the yardstick's plaintext.

use ::tests::ports::Port;
use anyhow::Result;

use super::PEAK_RSS;
use crate::producer;
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::{Spool as _, Yardstick};
use crate::subject::Subject;

const LINES: usize = 10_000_000;
const SINGLE_LINES: usize = 1_000_000;

pub(super) fn measure(lines_per_message: usize, bench: &Bench, report: &mut Report) -> Result<()> {
    let (group, lines) = match lines_per_message {
        1 => ("STOMP in, 1 line a message", SINGLE_LINES),
        _ => ("STOMP in, 500 lines a message", LINES),
    };
    let (payload, upstream) = (bench.stomp(lines_per_message), Port::free());
    let subject = Subject::before(upstream.address());
    let send = || producer::stomp(subject.stomp(), &payload, bench.count(lines));
    if lines_per_message == 1 {
        let sent = subject.measured(send)?;
        report.add(group, "CPU s/M lines", sent.cpu_seconds_per_million());
        report.add_marked(group, "lines/s", sent.per_second(), Mark::AtLeast(5e5));
    } else {
        let yardstick = Yardstick::start(upstream.address())?;
        let plaintext = || producer::plaintext(yardstick.graphite(), bench.plaintext(), bench.count(LINES));
        let theirs = yardstick.measured(plaintext)?;
        drop(yardstick);
        let sent = subject.measured(send)?;
        let marks = [Mark::OfYardstick(1.0), Mark::AtLeast(4e6)];
        report.add_carried(group, (&sent, &theirs), &[Mark::OfYardstick(1.0)], &marks);
    }
    report.add_marked(group, "peak RSS MiB", subject.peak_rss_mib()?, PEAK_RSS);
    Ok(())
}
