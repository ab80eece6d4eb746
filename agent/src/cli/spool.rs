//! `packetboat spool`: looks into a spool, running or not.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use forwarder::Clock;

use crate::cli::Failure;
use crate::spool::{DeadLetter, Held, Inspection};

#[derive(Debug, Subcommand)]
pub(super) enum SpoolCommand {
    /// Show what waits, was delivered, dropped and set aside, by link
    Status(SpoolArguments),
    /// Count every row and check every batch again; exit code 1 if anything is wrong
    Verify(SpoolArguments),
    /// Write the lines that are kept to standard output, oldest first: fit for Graphite's plaintext port
    Export {
        #[command(flatten)]
        spool: SpoolArguments,
        /// The number of its batch (ORIGIN:EPOCH:SEQ) and the queue before each line, with tabs between
        #[arg(long)]
        numbers: bool,
    },
    /// Show the lines that were refused: when, from whom, why
    Rejects {
        #[command(flatten)]
        spool: SpoolArguments,
        /// Only those of this long ago and later, such as 15m or 2h
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        since: Option<Duration>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct SpoolArguments {
    /// The directory of the spool, as `spool.dir` in the topology
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(command: &SpoolCommand) -> Result<(), Failure> {
    match command {
        SpoolCommand::Status(spool) => status(&Inspection::open(&spool.dir)?),
        SpoolCommand::Verify(spool) => verify(&Inspection::open(&spool.dir)?),
        SpoolCommand::Export { spool, numbers } => export(&Inspection::open(&spool.dir)?, *numbers),
        SpoolCommand::Rejects { spool, since, json } => {
            rejects(&Inspection::open(&spool.dir)?, since.unwrap_or(Duration::MAX), *json)
        }
    }
}

fn status(spool: &Inspection) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<24} {:>12} {:>10} {:>14} {:>12} {:>10} {:>10}",
        "link", "backlog", "batches", "bytes", "delivered", "aside", "dropped"
    )?;
    for link in spool.links()? {
        let dropped: i64 = link.dropped().iter().map(|(_, amount)| amount.lines).sum();
        writeln!(
            out,
            "{:<24} {:>12} {:>10} {:>14} {:>12} {:>10} {:>10}",
            link.name,
            link.backlog.lines,
            link.backlog.batches,
            link.backlog.bytes,
            link.delivered.lines,
            link.aside.lines,
            dropped
        )?;
    }
    Ok(())
}

fn verify(spool: &Inspection) -> Result<(), Failure> {
    let faults = spool.verify()?;
    let mut out = io::stdout().lock();
    if !faults.is_empty() {
        // Whether or not they are read to the end.
        drop(faults.iter().try_for_each(|fault| writeln!(out, "{fault}")));
        return Err(anyhow::anyhow!("{} faults in the spool", faults.len()).into());
    }
    writeln!(out, "all is well: the books agree with the rows, and every batch with its checksum")?;
    Ok(())
}

fn export(spool: &Inspection, numbers: bool) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut unreadable = 0_u64;
    let shown = spool.batches(|Held { number, queue, lines, .. }| match lines {
        Ok(lines) if numbers => {
            let mut each = lines.split_inclusive(|&byte| byte == b'\n');
            each.try_for_each(|line| write!(out, "{number}\t{queue}\t").and_then(|()| out.write_all(line)))
        }
        Ok(lines) => out.write_all(&lines),
        Err(error) => {
            unreadable += 1;
            // If nobody can be told, the exit code tells.
            drop(writeln!(io::stderr(), "batch {number} cannot be read: {error}"));
            Ok(())
        }
    });
    match unreadable {
        0 => {
            shown?;
            Ok(out.flush()?)
        }
        count => {
            Err(anyhow::anyhow!("{count} batches cannot be read; `packetboat spool verify` tells more")
                .into())
        }
    }
}

fn rejects(spool: &Inspection, since: Duration, json: bool) -> Result<(), Failure> {
    let since_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let since_ms = Clock::system().now_ms().saturating_sub(since_ms);
    let mut out = io::BufWriter::new(io::stdout().lock());
    spool.dead_letters(since_ms, |letter| {
        if json {
            serde_json::to_writer(&mut out, &letter)?;
            writeln!(out)
        } else {
            show(&mut out, &letter)
        }
    })?;
    out.flush()?;
    Ok(())
}

/// Time, way in, sender, reason and line, with tabs between: for eyes and for `cut`.
fn show(out: &mut impl Write, letter: &DeadLetter) -> io::Result<()> {
    let at = Duration::from_millis(letter.at_ms.unsigned_abs());
    let at = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + at);
    let DeadLetter { input, sender, reason, line, .. } = letter;
    writeln!(out, "{at}\t{input}\t{sender}\t{reason}\t{}", line.escape_debug())
}
