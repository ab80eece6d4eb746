//! An agent that has nothing to do, with its link standing.

use std::thread;
use std::time::{Duration, Instant};

use ::tests::ports::Port;
use anyhow::Result;

use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::Spool as _;
use crate::subject::Subject;
use crate::upstream::Upstream;
use crate::usage::{cpu_seconds_at_rest, fine_cpu_seconds, rss_mib};

const TIME: Duration = Duration::from_secs(10);
const IDLE: &str = "idle";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let upstream = Port::free();
    let _stub = Upstream::start(upstream.address())?;
    let subject = Subject::before(upstream.address());
    subject.linked();
    let process = subject.process();
    cpu_seconds_at_rest(process)?;
    let (start, before) = (Instant::now(), fine_cpu_seconds(process)?);
    thread::sleep(bench.time(TIME));
    let used = fine_cpu_seconds(process)? - before;
    let percent = 100.0 * used / start.elapsed().as_secs_f64();
    report.add_marked(IDLE, "% of a core", percent, Mark::AtMost(0.1));
    report.add_marked(IDLE, "RSS MiB", rss_mib(process)?, Mark::AtMost(12.0));
    Ok(())
}
