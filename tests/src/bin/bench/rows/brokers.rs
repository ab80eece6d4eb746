//! A backlog drains into a real broker; beside it a bare STOMP client that writes the same bodies, far ahead of its
//! receipts. What the broker has then is thrown away.

use ::tests::broker::{Broker, Kind, fresh_queue};
use ::tests::ports::Port;
use anyhow::Result;

use crate::bare_consumer::empty;
use crate::lines::Payload;
use crate::producer::{self, Sent};
use crate::report::{Mark, Report};
use crate::settings::Bench;
use crate::spool::Spool as _;
use crate::subject::Subject;
use crate::usage::cpu_seconds_at_rest;

/// What a SEND of a backlog has: a batch is sealed there, and two are more than a SEND may hold.
const LINES_PER_MESSAGE: usize = 1000;

pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    for (kind, lines) in [(Kind::RabbitMq, 4_000_000), (Kind::ActiveMq, 1_000_000)] {
        if !kind.is_installed() {
            eprint!("{kind} is not installed ... ");
            continue;
        }
        let broker = Broker::shared(kind);
        let lines = bench.count(lines).max(LINES_PER_MESSAGE);
        let theirs = bare(&broker, lines)?;
        let (ours, cpu) = drain(&broker, bench, lines)?;
        let group = format!("drain to {kind}");
        let (ours_rate, theirs_rate) = (ours.per_second(), theirs.per_second());
        report.add_pair(&group, "lines/s", ours_rate, theirs_rate, &[Mark::OfYardstick(0.9)]);
        report.add(&group, "CPU s/M lines", cpu);
    }
    Ok(())
}

fn bare(broker: &Broker, lines: usize) -> Result<Sent> {
    let queue = fresh_queue("bench");
    let payload = Payload::stomp_to(&queue, lines.min(500_000), LINES_PER_MESSAGE);
    let sent = producer::stomp(broker.address(), &payload, lines)?;
    empty(broker.address(), &queue, sent.lines)?;
    Ok(sent)
}

/// The link is down while the backlog grows: nobody listens where it dials. Tells its CPU seconds a million lines, too.
fn drain(broker: &Broker, bench: &Bench, lines: usize) -> Result<(Sent, f64)> {
    let (queue, way) = (fresh_queue("bench"), Port::free());
    let mut subject = Subject::before_broker(way.address(), &queue);
    let sent = producer::plaintext(subject.graphite(), bench.plaintext(), lines)?;
    subject.stop()?;
    subject.lead(way.address(), broker.address())?;
    subject.restart();
    subject.ready();
    let drained = subject.watch_drain(sent.lines)?;
    let cpu_seconds = cpu_seconds_at_rest(subject.process())?;
    drop(subject);
    empty(broker.address(), &queue, sent.lines)?;
    Ok((drained, cpu_seconds * 1e6 / sent.lines_f64()))
}
