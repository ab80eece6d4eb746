//! Waiting for a rival. It may keep one waiting in vain, which is a fault of its own and not of the harness.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::tree;

const BETWEEN_PROBES: Duration = Duration::from_millis(5);
/// Who uses less than this in a window has nothing to do.
const QUIET_CPU_SECONDS: f64 = 0.025;
const WINDOW: Duration = Duration::from_millis(400);
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// Calls `probe` until it has found something.
pub(crate) fn wait_for<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe()? {
            Some(found) => return Ok(found),
            None if start.elapsed() > limit => bail!("waited {limit:?} in vain for {what}"),
            None => thread::sleep(BETWEEN_PROBES),
        }
    }
}

/// Waits until the processes have done what they put off, or for long enough; returns what CPU time they have
/// used by then.
pub(crate) fn settle(process_ids: &[u32]) -> Result<f64> {
    let start = Instant::now();
    let (mut used, mut quiet_windows) = (tree::cpu_seconds(process_ids)?, 0);
    while quiet_windows < 2 && start.elapsed() < SETTLE_LIMIT {
        thread::sleep(WINDOW);
        let now = tree::cpu_seconds(process_ids)?;
        quiet_windows = if now - used < QUIET_CPU_SECONDS { quiet_windows + 1 } else { 0 };
        used = now;
    }
    Ok(used)
}
