//! What a process or a thread has used, as Linux tells in `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// `USER_HZ`, in which `/proc` counts; Linux shows 100 on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of all threads of process `id`, those that have ended too.
pub(crate) fn cpu_seconds(id: u32) -> Result<f64> {
    read_cpu_seconds(&format!("/proc/{id}/stat"))
}

/// User and system time of this thread.
pub(crate) fn cpu_seconds_of_this_thread() -> Result<f64> {
    read_cpu_seconds("/proc/thread-self/stat")
}

/// `utime` and `stime` are fields 14 and 15 (proc(5)); the second one, the name, may hold blanks.
fn read_cpu_seconds(path: &str) -> Result<f64> {
    let stat = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<Result<f64, _>>().with_context(|| path.to_owned())?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// The most memory that process `id` has held resident.
pub(crate) fn peak_rss_mib(id: u32) -> Result<f64> {
    let path = format!("/proc/{id}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmHWM in the status")?;
    Ok(kib.trim().parse::<f64>()? / 1024.0)
}
