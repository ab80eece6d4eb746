//! Waiting for a condition, with a limit.

use std::fmt::Display;
use std::time::{Duration, Instant};

const BETWEEN_PROBES: Duration = Duration::from_millis(20);

/// Calls `probe` until it returns `Ok`, and returns what it found. An `Err` tells what was seen instead.
///
/// # Panics
/// After `limit`, with `what` was waited for and what was seen last.
pub fn until<T, E: Display>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => {
                panic!("waited {limit:?} in vain for {what}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(BETWEEN_PROBES),
        }
    }
}

/// `Ok` if `done`, else what was `seen`: makes a probe for [`until`] of a condition.
pub fn when<S>(done: bool, seen: S) -> Result<(), S> {
    if done { Ok(()) } else { Err(seen) }
}
