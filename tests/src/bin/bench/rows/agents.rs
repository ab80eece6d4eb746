//! From agent to agent, both durable: a backlog drains as it lies in the spool, compressed, until the receiver has
//! committed all of it.

use anyhow::Result;

use super::PEAK_RSS;
use crate::producer;
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::Spool as _;
use crate::subject::Subject;
use crate::usage::{cpu_seconds, cpu_seconds_at_rest, forget_peak_rss};

const LINES: usize = 20_000_000;
const AGENTS: &str = "drain agent to agent, zstd";

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut hub = Subject::hub();
    hub.stop()?;
    let edge = Subject::before_hub(hub.stomp());
    let sent = producer::plaintext(edge.graphite(), bench.plaintext(), bench.count(LINES))?;
    cpu_seconds_at_rest(edge.process())?;
    forget_peak_rss(edge.process())?;
    hub.restart();
    hub.ready();
    let before = cpu_seconds(hub.process())?;
    let drained = edge.measured(|| edge.watch_drain(sent.lines))?;
    let receiver = cpu_seconds_at_rest(hub.process())? - before;
    report.add_marked(AGENTS, "lines/s", drained.per_second(), Mark::AtLeast(8e6));
    report.add(AGENTS, "CPU s/M lines, sender", drained.cpu_seconds * 1e6 / sent.lines_f64());
    report.add(AGENTS, "CPU s/M lines, receiver", receiver * 1e6 / sent.lines_f64());
    report.add_marked(AGENTS, "peak RSS MiB, sender", edge.peak_rss_mib()?, PEAK_RSS);
    report.add_marked(AGENTS, "peak RSS MiB, receiver", hub.peak_rss_mib()?, PEAK_RSS);
    Ok(())
}
