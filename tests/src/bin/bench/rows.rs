//! The rows of the table: each a theme with its figures.

mod agents;
mod backlog;
mod brokers;
mod connections;
mod consumer;
mod disk;
mod idle;
mod latency;
mod live;
mod outage;
mod producers;
mod stomp;
mod wan;

use std::time::Duration;

use anyhow::Result;

use crate::report::{Mark, Report};
use crate::settings::Bench;

/// The mark of every peak.
const PEAK_RSS: Mark = Mark::AtMost(32.0);
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// One theme.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Measured no more often than this: what varies little and takes long.
    pub(crate) runs_max: usize,
    pub(crate) measure: fn(&Bench, &mut Report) -> Result<()>,
}

impl Row {
    const fn new(name: &'static str, measure: fn(&Bench, &mut Report) -> Result<()>) -> Self {
        Self { name, runs_max: usize::MAX, measure }
    }

    const fn at_most(self, runs_max: usize) -> Self {
        Self { runs_max, ..self }
    }
}

/// All of them, in the order in which they are measured.
pub(crate) const ALL: [Row; 14] = [
    Row::new("plaintext in, drain", outage::measure),
    Row::new("STOMP in, 500 lines", |bench, report| stomp::measure(500, bench, report)),
    Row::new("STOMP in, 1 line", |bench, report| stomp::measure(1, bench, report)),
    Row::new("live", live::measure),
    Row::new("latency", latency::measure),
    Row::new("disk", disk::measure),
    Row::new("backlog, start, growth", backlog::measure).at_most(3),
    Row::new("idle", idle::measure),
    Row::new("connections", connections::measure),
    Row::new("producers", producers::measure),
    Row::new("agent to agent", agents::measure),
    Row::new("brokers", brokers::measure),
    Row::new("consumer", consumer::measure).at_most(3),
    Row::new("WAN", wan::measure).at_most(1),
];

/// What each is called.
pub(crate) fn names() -> Vec<&'static str> {
    ALL.iter().map(|row| row.name).collect()
}
