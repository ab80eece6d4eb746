//! The steps of the road one by one, without sockets and other threads; `tests/instructions` runs it. Each workload
//! is written once and measured in two ways:
//!
//! ```text
//! micro --bench [FILTER]   wall time, by divan; `--help` tells its options
//! micro names              the workloads, each with its number of lines
//! micro once NAME          does one of them once: for callgrind, which counts what `measured` needs
//! ```
//!
//! What is done is the same each time: fixed inputs, one thread, and everything that is kept from batch to batch
//! (compressors, prepared statements, free pages) has been used before.
//!
//! - **check**: 1000 lines by the line rule, as they are stored or in other forms.
//! - **stomp-decode**: frames out of bytes; **stomp-session**: the same, with what each SEND means, its lines checked
//!   and its RECEIPT written. 1000 lines, 500 or 1 to a SEND.
//! - **intake**: 900 checked lines into an open batch; one that is not full, so that none is sealed.
//! - **seal**: a batch of 1000 lines.
//! - **commit**, **lease**, **confirm**: one transaction of 32 such batches; reading them; one of the next hop's word
//!   on them. The log is not copied into the database in any of them. Wall time has the fsync in it, instructions
//!   have not.
//! - **encode-plain**, **encode-zstd**: those 32 as a link sends them, decompressed or as they are stored.
//! - **lease-fresh**, **encode-plain-fresh**: the same for a link that keeps up, of what is still at hand.

#![expect(clippy::print_stdout, reason = "the names are for the command that runs it")]
#![expect(clippy::expect_used, reason = "an instrument that does not work ends at once and with its reason")]

mod lines;
mod store;
mod workloads;

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;

use crate::workloads::{ALL, Work, Workload};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["names"] => ALL.iter().for_each(|workload| println!("{workload} {}", workload.lines)),
        ["once", name] => {
            let workload = ALL.iter().find(|workload| workload.name == name).expect("one of `micro names`");
            measured(&mut workload.prepared());
        }
        _ => divan::main(),
    }
}

/// What callgrind knows the work by.
#[inline(never)]
fn measured(work: &mut Work) -> usize {
    // It must not become a jump out of this function.
    black_box(work())
}

// One to a sample: each prepares a spool of its own, and is long enough for the clock.
#[divan::bench(args = ALL, sample_size = 1)]
fn lines(bencher: Bencher<'_, '_>, workload: &Workload) {
    let lines = ItemsCount::new(workload.lines);
    bencher.counter(lines).with_inputs(|| workload.prepared()).bench_local_refs(measured);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_does_all_its_lines() {
        for workload in ALL {
            assert_eq!(measured(&mut workload.prepared()), workload.lines, "{workload}");
        }
    }

    #[test]
    fn the_instructions_of_each_are_recorded() {
        let recorded = include_str!("../../../instructions.txt").lines();
        let recorded = recorded.filter(|line| !line.starts_with('#'));
        let recorded: Vec<&str> = recorded.filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(recorded, ALL.map(|workload| workload.name));
    }
}
