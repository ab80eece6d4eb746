//! What a rival uses: all of its processes, with those that they started.

use std::fs;

use anyhow::{Result, ensure};

use crate::usage;

/// CPU seconds of `roots` and all that live below them.
pub(crate) fn cpu_seconds(roots: &[u32]) -> Result<f64> {
    sum(roots, usage::cpu_seconds)
}

/// The most memory that each of them has held resident, together.
pub(crate) fn peak_rss_mib(roots: &[u32]) -> Result<f64> {
    sum(roots, usage::peak_rss_mib)
}

fn sum(roots: &[u32], of_process: fn(u32) -> Result<f64>) -> Result<f64> {
    // A process that has ended meanwhile was none of the roots: those are ours to end.
    let found: Vec<f64> = tree(roots).into_iter().filter_map(|id| of_process(id).ok()).collect();
    ensure!(found.len() >= roots.len(), "a rival has ended while it was measured");
    Ok(found.into_iter().sum())
}

fn tree(roots: &[u32]) -> Vec<u32> {
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(&id) = found.get(next) {
        found.extend(children(id));
        next += 1;
    }
    found
}

/// Each thread has its own children (proc(5)).
fn children(id: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn children_of_children_count() {
        let mut shell = Command::new("sh");
        let mut shell = shell.args(["-c", "cat; true"]).stdin(Stdio::piped()).spawn().unwrap();
        ::tests::wait::until(std::time::Duration::from_secs(10), "the child of the shell", || {
            ::tests::wait::when(tree(&[std::process::id()]).len() >= 3, "not yet")
        });
        assert!(peak_rss_mib(&[shell.id()]).unwrap() > 0.0);
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
