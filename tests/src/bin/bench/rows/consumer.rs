//! A consumer drains a queue of a real broker into a Graphite that counts; beside it a bare STOMP client that only takes
//! and acknowledges the same messages.

use ::tests::broker::{Broker, Kind, fresh_queue};
use ::tests::packetboat::Packetboat;
use ::tests::ports::Port;
use ::tests::scratch::Scratch;
use anyhow::Result;

use super::PEAK_RSS;
use crate::bare_consumer::consume;
use crate::graphite::Graphite;
use crate::lines::Payload;
use crate::producer::{self, Sent};
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::usage::{cpu_seconds_at_rest, peak_rss_mib};

/// Lines in all, 500 to a message, and one to a message: as many as are drained in some seconds.
const LINES: [(Kind, usize, usize); 2] =
    [(Kind::RabbitMq, 4_000_000, 100_000), (Kind::ActiveMq, 2_000_000, 10_000)];
const DISTINCT_LINES: usize = 200_000;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    for (kind, lines, single_lines) in LINES {
        if !kind.is_installed() {
            eprint!("{kind} is not installed ... ");
            continue;
        }
        let broker = Broker::shared(kind);
        let lines = bench.count(lines).max(500);
        pair(&format!("consumer of {kind}, 500 lines a message"), &broker, (lines, 500), report)?;
        let lines = bench.count(single_lines);
        pair(&format!("consumer of {kind}, 1 line a message"), &broker, (lines, 1), report)?;
    }
    Ok(())
}

fn pair(group: &str, broker: &Broker, of_all: (usize, usize), report: &mut Report) -> Result<()> {
    let (queue, lines) = fill(broker, of_all)?;
    let theirs = consume(broker.address(), &queue, lines)?;
    let (queue, lines) = fill(broker, of_all)?;
    let (ours, peak_rss) = drain(broker, &queue, lines)?;
    let (ours_rate, theirs_rate) = (ours.per_second(), theirs.per_second());
    report.add_pair(group, "lines/s", ours_rate, theirs_rate, &[Mark::OfYardstick(0.9)]);
    report.add(group, "CPU s/M lines", ours.cpu_seconds_per_million());
    report.add_marked(group, "peak RSS MiB", peak_rss, PEAK_RSS);
    Ok(())
}

/// A queue, and how many lines it has.
fn fill(broker: &Broker, (lines, lines_per_message): (usize, usize)) -> Result<(String, u64)> {
    let queue = fresh_queue("bench");
    let payload = Payload::stomp_to(&queue, lines.min(DISTINCT_LINES), lines_per_message);
    let sent = producer::stomp(broker.address(), &payload, lines)?;
    Ok((queue, sent.lines))
}

/// What it carried from the first line on, and its peak memory.
fn drain(broker: &Broker, queue: &str, lines: u64) -> Result<(Sent, f64)> {
    let (scratch, http, graphite) = (Scratch::new("bench"), Port::free(), Graphite::start()?);
    let topology = format!(
        "mesh: bench\nqueue: {queue}\nbrokers:\n  eu: {{ urls: [\"stomp://{}\"], vhost: / }}\n\
         consumers:\n  graphite:\n    from: eu\n    graphite: [\"{}\"]\n    listen: {{ http: \"{}\" }}\n",
        broker.address(),
        graphite.address(),
        http.address(),
    );
    let topology = scratch.write("topology.yaml", &topology);
    let consumer = Packetboat::consumer("graphite", &topology, http.address(), &scratch);
    let elapsed = graphite.wait_for_lines(lines);
    let cpu_seconds = cpu_seconds_at_rest(consumer.id())?;
    Ok((Sent { lines, elapsed, cpu_seconds }, peak_rss_mib(consumer.id())?))
}
