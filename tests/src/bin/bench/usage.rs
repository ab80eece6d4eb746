//! What a process or a thread has used, as Linux tells in `/proc`.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// `USER_HZ`, in which `/proc` counts; Linux shows 100 on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Who has used no more than this for so long has nothing to do.
const REST: Duration = Duration::from_millis(150);
const REST_CPU_SECONDS: f64 = 0.011;
const REST_LIMIT: Duration = Duration::from_secs(10);

/// User and system time of all threads of process `id`, those that have ended too.
pub(crate) fn cpu_seconds(id: u32) -> Result<f64> {
    read_cpu_seconds(&format!("/proc/{id}/stat"))
}

/// As [`cpu_seconds`], once the process has nothing more to do: what it put off counts, too.
pub(crate) fn cpu_seconds_at_rest(id: u32) -> Result<f64> {
    let deadline = Instant::now() + REST_LIMIT;
    let mut before = cpu_seconds(id)?;
    loop {
        thread::sleep(REST);
        let now = cpu_seconds(id)?;
        if now - before <= REST_CPU_SECONDS || Instant::now() >= deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// As [`cpu_seconds`], to the nanosecond, of the threads that live.
pub(crate) fn fine_cpu_seconds(id: u32) -> Result<f64> {
    let folder = format!("/proc/{id}/task");
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(&folder).context(folder)? {
        let path = task?.path().join("schedstat");
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let first = text.split_whitespace().next().context("an empty schedstat")?;
        nanoseconds += first.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
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

/// The most memory that process `id` has held resident since [`forget_peak_rss`], or since its start.
pub(crate) fn peak_rss_mib(id: u32) -> Result<f64> {
    status_mib(id, "VmHWM:")
}

/// The memory that process `id` holds resident.
pub(crate) fn rss_mib(id: u32) -> Result<f64> {
    status_mib(id, "VmRSS:")
}

/// From now on the peak counts anew.
pub(crate) fn forget_peak_rss(id: u32) -> Result<()> {
    let path = format!("/proc/{id}/clear_refs");
    fs::write(&path, "5").context(path)
}

fn status_mib(id: u32, key: &str) -> Result<f64> {
    let path = format!("/proc/{id}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.with_context(|| format!("no {key} in {path}"))?;
    Ok(kib.trim().parse::<f64>()? / 1024.0)
}
