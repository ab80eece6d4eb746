//! Memory to read and check in, lent to the few connections that have something to say at the moment,
//! so that ten thousand standing ones cost next to nothing and a thousand busy ones are bounded.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::ingest::line::Checked;

/// How many there are. More would only wait for the same cores and the same disk.
const SCRATCHES: usize = 16;
/// Bytes that one read takes at most.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// What one read is read into and checked into.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The beginning of a line from before, and what was read after it.
    pub(super) read: Vec<u8>,
    /// What the lines in it were found to be.
    pub(super) checked: Checked,
}

/// All of them; shared by the sessions of a listener.
#[derive(Debug)]
pub(super) struct Scratches {
    free: Mutex<Vec<Scratch>>,
    permits: Semaphore,
}

/// One of them, empty, until it is dropped.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    scratch: Scratch,
    owner: &'a Scratches,
    _permit: SemaphorePermit<'a>,
}

impl Scratches {
    pub(super) fn new() -> Self {
        Self { free: Mutex::default(), permits: Semaphore::new(SCRATCHES) }
    }

    /// Waits for a free one. Cancel-safe.
    pub(super) async fn lend(&self) -> Lent<'_> {
        #[expect(clippy::expect_used, reason = "nobody closes the semaphore")]
        let permit = self.permits.acquire().await.expect("the semaphore is open");
        let scratch = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Lent { scratch, owner: self, _permit: permit }
    }
}

impl Deref for Lent<'_> {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.scratch
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.scratch
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.read.clear();
        scratch.checked.clear();
        self.owner.free.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}
