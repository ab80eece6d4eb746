//! The line rule for messages, wherever a subscription brings them.

use bytes::Bytes;
use forwarder::Clock;
use forwarder::source::subscription::{Inspect, InspectError, Inspected};

use crate::ingest::intake::{Intake, Ticket};
use crate::ingest::line::{self, Checked};
use crate::ingest::{Input, Sender};
use crate::spool::CommitError;

/// Checks lines, and keeps as dead letters what fails.
#[derive(Clone)]
pub(crate) struct Inspector {
    intake: Intake,
    queue: usize,
    input: Input,
    clock: Clock,
}

impl Inspector {
    /// One whose dead letters go through `intake`; what it checks came in by `input`.
    pub(crate) fn new(intake: Intake, queue: usize, input: Input, clock: Clock) -> Self {
        Self { intake, queue, input, clock }
    }

    fn from(&self, sender: &str) -> Sender {
        Sender { input: self.input, peer: sender.into() }
    }
}

impl Inspect for Inspector {
    async fn inspect(&self, body: &[u8], sender: &str) -> Result<Inspected, InspectError> {
        // As a rule they are kept as they came, with a last LF; a consumer holds thousands of them.
        let mut checked = Checked { lines: Vec::with_capacity(body.len() + 1), ..Checked::default() };
        line::check(body, self.clock.now_seconds(), &mut checked);
        let (mut lines, count) = (std::mem::take(&mut checked.lines), std::mem::take(&mut checked.count));
        lines.shrink_to_fit();
        if !checked.is_empty() {
            durable(&self.intake.accept(&self.from(sender), self.queue, &mut checked).await).await?;
        }
        Ok(Inspected { lines: Bytes::from(lines), count })
    }

    async fn set_aside(&self, body: &[u8], reason: &str, sender: &str) -> Result<(), InspectError> {
        durable(&self.intake.set_aside(&self.from(sender), reason, body).await).await
    }
}

async fn durable(ticket: &Ticket) -> Result<(), InspectError> {
    ticket.committed().await.map_err(|error: CommitError| InspectError(error.to_string()))
}
