//! The same 100,000 lines a second over one connection and over a thousand: CPU and rows while the link stands, bytes
//! and rows while it is down.

use std::time::Duration;

use ::tests::ports::Port;
use anyhow::Result;

use crate::paced;
use crate::producer::Sent;
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::Spool as _;
use crate::subject::Subject;
use crate::upstream::Upstream;

const RATE: usize = 100_000;
const CONNECTIONS: [usize; 2] = [1, 1_000];
const TIME: Duration = Duration::from_secs(4);
const ROWS: Mark = Mark::AtMost(2000.0);

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut costs = Vec::new();
    for connections in CONNECTIONS {
        let plural = if connections == 1 { "" } else { "s" };
        let group = format!("100,000 lines/s over {connections} connection{plural}");
        costs.push(link_up(&group, bench.count(connections), bench, report)?);
        link_down(&group, bench.count(connections), bench, report)?;
    }
    let grown = costs[1] / costs[0];
    report.add_marked("1000 connections instead of 1", "times the CPU", grown, Mark::AtMost(1.5));
    Ok(())
}

/// The CPU time of a million lines.
fn link_up(group: &str, connections: usize, bench: &Bench, report: &mut Report) -> Result<f64> {
    let upstream = Port::free();
    let stub = Upstream::start(upstream.address())?;
    let subject = Subject::before(upstream.address());
    subject.linked();
    let sent = subject.measured(|| {
        let sent = send(&subject, connections, bench)?;
        stub.wait_for_lines(sent.lines);
        Ok(sent)
    })?;
    let (received, seconds) = (stub.received(), sent.elapsed.as_secs_f64());
    report.add(group, "lines/s", sent.per_second());
    report.add(group, "CPU s/M lines", sent.cpu_seconds_per_million());
    report.add_marked(group, "rows/s", received.rows_f64() / seconds, ROWS);
    report.add(group, "SENDs/s", received.sends_f64() / seconds);
    Ok(sent.cpu_seconds_per_million())
}

fn link_down(group: &str, connections: usize, bench: &Bench, report: &mut Report) -> Result<()> {
    let upstream = Port::free();
    let mut subject = Subject::before(upstream.address());
    let sent = send(&subject, connections, bench)?;
    let rows = subject.backlog_rows() / sent.elapsed.as_secs_f64();
    report.add_marked(group, "rows/s, link down", rows, ROWS);
    subject.stop()?;
    let bytes = subject.disk_bytes()? / sent.lines_f64();
    report.add_marked(group, "B/line on disk", bytes, Mark::AtMost(12.0));
    Ok(())
}

fn send(subject: &Subject, connections: usize, bench: &Bench) -> Result<Sent> {
    paced::send(subject.graphite(), bench.plaintext(), RATE, connections, bench.time(TIME))
}
