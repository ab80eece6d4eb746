//! What is to be measured, and of which size.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::time::Duration;

use crate::lines::Payload;
use crate::rows::Row;

/// Each is sent over and over; the lines of a batch are compressed by themselves, so that it does not show.
const DISTINCT_LINES: usize = 500_000;

/// What the command line says.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// Runs; the table shows their median.
    #[arg(long, default_value = "5")]
    pub(crate) runs: NonZeroUsize,
    /// Only the rows whose name contains this; may be given again.
    #[arg(long, value_name = "FILTER")]
    only: Vec<String>,
    /// How much of everything: lines, connections, seconds.
    #[arg(long, default_value = "1", value_name = "FACTOR")]
    pub(crate) scale: f64,
    /// The largest backlogs, too: 200 M and 500 M lines, 5 GB of disk.
    #[arg(long)]
    pub(crate) large: bool,
    /// JSON lines in place of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Settings {
    /// Whether this row was asked for.
    pub(crate) fn wants(&self, row: &Row) -> bool {
        self.only.is_empty() || self.only.iter().any(|filter| row.name.contains(filter))
    }
}

/// The settings, and what is sent.
pub(crate) struct Bench {
    pub(crate) settings: Settings,
    plaintext: OnceLock<Payload>,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, plaintext: OnceLock::new() }
    }

    /// Lines as they are, made before the first of them is measured.
    pub(crate) fn plaintext(&self) -> &Payload {
        self.plaintext.get_or_init(|| Payload::plaintext(self.count(DISTINCT_LINES)))
    }

    /// So many of them as a message each, or as `lines_per_message`.
    pub(crate) fn stomp(&self, lines_per_message: usize) -> Payload {
        Payload::stomp(self.count(DISTINCT_LINES).max(lines_per_message), lines_per_message)
    }

    /// Of `full`, as much as is wanted.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count times a small factor"
    )]
    pub(crate) fn count(&self, full: usize) -> usize {
        ((full as f64 * self.settings.scale) as usize).max(1)
    }

    /// Of `full`, as much as is wanted.
    pub(crate) fn time(&self, full: Duration) -> Duration {
        full.mul_f64(self.settings.scale).max(Duration::from_millis(50))
    }
}
