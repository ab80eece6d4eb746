//! What the agent takes in and gives out, and what that costs; `tests/bench` runs it.
//!
//! In each run, in this order:
//! - **plaintext**, **STOMP, 500 lines** and **STOMP, 1 line** a message, at full speed over one connection
//!   into a fresh agent whose link is down. A line counts once it is on disk: the plaintext producer stops
//!   its watch at the FIN that answers its half-close, the STOMP producer at its last receipt, with a
//!   window of messages on the way. Just before each of them the **yardstick** is taken: the same lines
//!   to a reader that only counts them. Ratios are between the two of a pair.
//! - **drain**: the agent is stopped and started again, and what the plaintext producer left goes to a
//!   stub of a STOMP upstream that answers each receipt at once; the watch runs from its first SEND to
//!   its last.
//! - **paced** streams of 1 k, 10 k and 100 k lines/s from 1 and from 1000 connections: with the link up,
//!   the rows of the spool (each batch is one, as its number on the wire tells) and the SENDs; with it
//!   down, the rows.
//!
//! CPU seconds are user and system time of the agent's process. Peak memory is its `VmHWM`. Bytes on disk
//! are those of the spool's database after an orderly stop, when nothing is in the write-ahead log (WAL); the
//! size of that is shown apart, as it was at the end of the load. Neither counts the preallocated reserve,
//! which is always the same.

#![expect(
    clippy::disallowed_methods,
    reason = "an instrument measures real time with the real clock, and waits in it"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table and the progress of a command")]

mod lines;
mod paced;
mod producer;
mod report;
mod subject;
mod upstream;
mod usage;
mod yardstick;

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::lines::Payload;
use crate::producer::Sent;
use crate::report::{Mark, Report};
use crate::subject::Subject;
use crate::upstream::Upstream;
use crate::usage::cpu_seconds;

/// Each is sent over and over; the lines of a batch are compressed by themselves, so that it does not show.
const DISTINCT_LINES: usize = 500_000;
/// Of the lines at full speed, those sent as messages of their own.
const SINGLE_LINES_SHARE: usize = 5;
const PACED_RATES: [usize; 3] = [1_000, 10_000, 100_000];
const PACED_CONNECTIONS: [usize; 2] = [1, 1_000];

/// Measures the agent on loopback.
#[derive(Debug, Parser)]
#[command(name = "tests/bench")]
struct Settings {
    /// Runs; the table shows their median.
    #[arg(long, default_value = "5")]
    runs: NonZeroUsize,
    /// Lines sent at full speed.
    #[arg(long, default_value = "5000000")]
    lines: NonZeroUsize,
    /// Seconds that each paced stream takes.
    #[arg(long = "seconds", value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    paced_time: Duration,
    /// JSON lines in place of the table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let settings = Settings::parse();
    let mut report = Report::default();
    let payloads = Payloads::new();
    for run in 1..=settings.runs.get() {
        eprintln!("run {run} of {}", settings.runs);
        let lines = settings.lines.get();
        plaintext_and_drain(&payloads.plaintext, lines, &mut report)?;
        stomp("STOMP, 500 lines a message", &payloads.messages, lines, &payloads, &mut report)?;
        let singles = (lines / SINGLE_LINES_SHARE).max(1);
        stomp("STOMP, 1 line a message", &payloads.singles, singles, &payloads, &mut report)?;
        for rate in PACED_RATES {
            for connections in PACED_CONNECTIONS {
                paced_up(rate, connections, settings.paced_time, &payloads, &mut report)?;
                paced_down(rate, connections, settings.paced_time, &payloads, &mut report)?;
            }
        }
    }
    let text = if settings.json { report.json_lines() } else { report.table() };
    println!("{text}");
    Ok(())
}

fn seconds(text: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

/// What is sent, made before anything is measured.
struct Payloads {
    plaintext: Payload,
    /// 500 lines to a message.
    messages: Payload,
    /// One line to a message.
    singles: Payload,
}

impl Payloads {
    fn new() -> Self {
        Self {
            plaintext: Payload::plaintext(DISTINCT_LINES),
            messages: Payload::stomp(DISTINCT_LINES, 500),
            singles: Payload::stomp(DISTINCT_LINES / SINGLE_LINES_SHARE, 1),
        }
    }
}

fn plaintext_and_drain(payload: &Payload, lines: usize, report: &mut Report) -> Result<()> {
    let group = "plaintext";
    let yardstick = yardstick::measure(payload, lines)?;
    report.add("yardstick", "lines/s", yardstick.per_second());
    report.add("yardstick", "CPU s/M lines", yardstick.cpu_seconds_per_million());

    let mut subject = Subject::with_link_down()?;
    let sent = subject.measured(|| producer::plaintext(subject.graphite(), payload, lines))?;
    report.add_rate(group, &sent, &yardstick, Some(Mark::AtLeast(2e6)));
    report.add(group, "lines/row", sent.lines_f64() / subject.backlog_rows());
    what_it_took(group, &mut subject, &sent, report)?;

    let upstream = Upstream::start(subject.upstream())?;
    report.add("drain", "s to be ready", subject.restart().as_secs_f64());
    subject.wait_until_drained();
    let received = upstream.received();
    let cpu_seconds = cpu_seconds(subject.process())?;
    let drained = Sent { lines: received.lines, elapsed: received.elapsed, cpu_seconds };
    report.add_rate("drain", &drained, &yardstick, None);
    report.add("drain", "lines/SEND", drained.lines_f64() / received.sends_f64());
    report.add_marked("drain", "peak RSS MiB", subject.peak_rss_mib()?, Mark::AtMost(64.0));
    Ok(())
}

fn stomp(
    group: &'static str,
    payload: &Payload,
    lines: usize,
    payloads: &Payloads,
    report: &mut Report,
) -> Result<()> {
    let yardstick = yardstick::measure(&payloads.plaintext, lines)?;
    let mut subject = Subject::with_link_down()?;
    let sent = subject.measured(|| producer::stomp(subject.stomp(), payload, lines))?;
    let mark = (payload.lines_per_message() == 1).then_some(Mark::AtLeast(2e5));
    report.add_rate(group, &sent, &yardstick, mark);
    what_it_took(group, &mut subject, &sent, report)
}

/// What the agent needed to take `sent`. It is stopped.
fn what_it_took(group: &str, subject: &mut Subject, sent: &Sent, report: &mut Report) -> Result<()> {
    report.add(group, "lines/commit", sent.lines_f64() / subject.commits());
    report.add_marked(group, "peak RSS MiB", subject.peak_rss_mib()?, Mark::AtMost(64.0));
    report.add(group, "WAL MiB", subject.wal_bytes()? / 1024.0 / 1024.0);
    subject.stop()?;
    report.add_marked(group, "B/line on disk", subject.disk_bytes()? / sent.lines_f64(), Mark::AtMost(12.0));
    Ok(())
}

fn paced_up(
    rate: usize,
    connections: usize,
    time: Duration,
    payloads: &Payloads,
    report: &mut Report,
) -> Result<()> {
    let subject = Subject::with_link_up()?;
    let upstream = subject.stub()?;
    let paced = subject.measured(|| {
        let paced = paced::send(subject.graphite(), &payloads.plaintext, rate, connections, time)?;
        upstream.wait_for_lines(paced.lines);
        Ok(paced)
    })?;
    let received = upstream.received();
    let group = format!("paced, {rate} lines/s from {connections}");
    let paced_seconds = paced.elapsed.as_secs_f64();
    report.add(&group, "lines/s sent", paced.lines_f64() / paced_seconds);
    report.add(&group, "rows/s", received.rows_f64() / paced_seconds);
    report.add(&group, "SENDs/s", received.sends_f64() / paced_seconds);
    report.add(&group, "CPU s/M lines", paced.cpu_seconds_per_million());
    report.add_marked(&group, "peak RSS MiB", subject.peak_rss_mib()?, Mark::AtMost(64.0));
    Ok(())
}

fn paced_down(
    rate: usize,
    connections: usize,
    time: Duration,
    payloads: &Payloads,
    report: &mut Report,
) -> Result<()> {
    let subject = Subject::with_link_down()?;
    let paced = paced::send(subject.graphite(), &payloads.plaintext, rate, connections, time)?;
    let group = format!("paced, {rate} lines/s from {connections}");
    report.add(&group, "rows/s, link down", subject.backlog_rows() / paced.elapsed.as_secs_f64());
    Ok(())
}
