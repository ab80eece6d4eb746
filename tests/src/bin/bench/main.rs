//! What the agent takes in and gives out, and what that costs; `tests/bench` runs it.
//!
//! The data walk one way: a row of [`rows`] measures, a [`report::Report`] holds the figures of all runs against their
//! marks and writes them as a table or as JSON lines, and [`page`] makes `BENCHMARKS.md` and its pictures out of
//! such lines.
//!
//! The yardstick is [`simplest_spool`], a process beside the agent that gets the same lines from the same
//! producer just before it; ratios are between the two of a pair. CPU seconds are user and system time of the
//! process, until it has nothing more to do. Peak memory is its `VmHWM`.

#![expect(
    clippy::disallowed_methods,
    reason = "an instrument measures real time with the real clock, and waits in it"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table and the progress of a command")]

mod bare_consumer;
mod bare_reader;
mod graphite;
mod lines;
mod machine;
mod paced;
mod page;
mod producer;
mod report;
mod rivals;
mod rows;
mod settings;
mod simplest_spool;
mod spool;
mod subject;
mod upstream;
mod usage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};
use clap::{Parser, Subcommand};

use crate::machine::Machine;
use crate::report::Report;
use crate::rows::Row;
use crate::settings::{Bench, Settings};

/// Measures the agent on loopback.
#[derive(Debug, Parser)]
#[command(name = "tests/bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes BENCHMARKS.md and its pictures out of what was measured.
    Page(page::Settings),
    Rivals(rivals::Settings),
    /// Runs the yardstick.
    #[command(hide = true)]
    SimplestSpool(simplest_spool::Place),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.command {
        None => measure(arguments.settings),
        Some(Command::Page(settings)) => page::write(settings),
        Some(Command::Rivals(settings)) => rivals::measure_all(settings),
        Some(Command::SimplestSpool(place)) => simplest_spool::run(place),
    }
}

fn measure(settings: Settings) -> Result<()> {
    let (start, machine) = (Instant::now(), Machine::seen(&settings));
    let bench = Bench::new(settings);
    let rows: Vec<&Row> = rows::ALL.iter().filter(|row| bench.settings.wants(row)).collect();
    ensure!(!rows.is_empty(), "no row's name contains that; there are: {}", rows::names().join(", "));
    let (mut report, mut faults) = (Report::default(), 0);
    for run in 1..=bench.settings.runs.get() {
        for row in rows.iter().filter(|row| run <= row.runs_max) {
            eprint!("run {run} of {}: {} ... ", bench.settings.runs, row.name);
            let start = Instant::now();
            match measure_row(row, &bench, &mut report) {
                Ok(()) => eprintln!("{:.1} s", start.elapsed().as_secs_f64()),
                Err(error) => {
                    eprintln!("{error:#}");
                    faults += 1;
                }
            }
        }
    }
    if bench.settings.json {
        println!("{}\n{}", machine.took(start.elapsed()).json_line(), report.json_lines());
    } else {
        println!("{}", report.table());
    }
    if faults > 0 {
        bail!("{faults} measurements failed");
    }
    Ok(())
}

/// A row that cannot go on spoils no other.
fn measure_row(row: &Row, bench: &Bench, report: &mut Report) -> Result<()> {
    let measured = catch_unwind(AssertUnwindSafe(|| (row.measure)(bench, report)));
    measured.unwrap_or_else(|_| Err(anyhow!("it panicked")))
}
