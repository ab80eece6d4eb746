//! Agent to agent over a long line: 90 ms there and back, 100 Mbit/s, and once in the minute that is measured every
//! connection is reset.

use std::thread;
use std::time::{Duration, Instant};

use ::tests::proxy::Proxy;
use ::tests::wait::{until, when};
use anyhow::Result;

use super::LIMIT;
use crate::producer;
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::Spool as _;
use crate::subject::Subject;

const ONE_WAY: Duration = Duration::from_millis(45);
const BYTES_PER_SECOND: usize = 100_000_000 / 8;
const TIME: Duration = Duration::from_secs(60);
/// Enough to dial again.
const TIME_MIN: Duration = Duration::from_secs(3);
/// More than the line carries in that time.
const LINES: usize = 100_000_000;
const WAN: &str = "WAN, 90 ms, 100 Mbit/s, a reset a minute";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let line = bench.count(BYTES_PER_SECOND) as u64;
    let hub = Subject::hub();
    let way = Proxy::before(hub.stomp());
    way.delay(ONE_WAY);
    way.throttle(line);
    way.cut();
    let edge = Subject::before_hub(way.address());
    producer::plaintext(edge.graphite(), bench.plaintext(), bench.count(LINES))?;
    way.mend();
    until(LIMIT, "the first bytes", || when(way.bytes_up() > line / 20, way.bytes_up()));

    let time = bench.time(TIME).max(TIME_MIN);
    let (start, bytes, lines) = (Instant::now(), way.bytes_up(), hub.accepted());
    thread::sleep(time / 2);
    way.reset_all();
    thread::sleep(time.saturating_sub(start.elapsed()));
    let (bytes, lines) = ((way.bytes_up() - bytes) as f64, hub.accepted() - lines);
    let carried = bytes / start.elapsed().as_secs_f64();
    report.add_marked(WAN, "share of the line", carried / line as f64, Mark::AtLeast(0.95));
    report.add_marked(WAN, "B/line on the wire", bytes / lines, Mark::AtMost(9.0));
    report.add(WAN, "lines/s", lines / start.elapsed().as_secs_f64());
    Ok(())
}
