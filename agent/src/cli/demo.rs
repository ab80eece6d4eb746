//! `packetboat demo`: a whole mesh in one process, with a link to cut.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, value_parser};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{complain, log_to_stderr, runtime_beside_a_spool, until_told_to_stop};
use crate::demo::log_tail::LogTail;
use crate::demo::verdict::Verdict;
use crate::demo::{plain, screen};

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Cut and mend the link without being asked, and tell what happens line by line. So it does wherever
    /// standard output is no terminal
    #[arg(long)]
    plain: bool,
    /// How long that takes, in seconds; in a terminal it runs until you quit
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Metrics each second
    #[arg(long, value_name = "METRICS", default_value_t = 20_000, value_parser = value_parser!(u32).range(100..=500_000))]
    rate: u32,
}

/// Exit code 0: every metric that was accepted has arrived; 1: not so.
pub(super) fn run(arguments: &DemoArguments) -> ExitCode {
    let done = if arguments.plain || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        log_to_stderr("error");
        tell(arguments)
    } else {
        let log = LogTail::default();
        log_to_tail(&log);
        let done = show(arguments, &log);
        if !done.as_ref().is_ok_and(Verdict::is_good) {
            repeat(&log);
        }
        done
    };
    match done {
        Ok(verdict) => ExitCode::from(exit_code(&verdict)),
        Err(error) => complain(&format!("packetboat: demo: {error:#}"), 1),
    }
}

fn exit_code(verdict: &Verdict) -> u8 {
    if verdict.is_good() { 0 } else { 1 }
}

fn tell(arguments: &DemoArguments) -> anyhow::Result<Verdict> {
    let length = Duration::from_secs(arguments.seconds.into());
    until_told_to_stop(runtime_beside_a_spool(), |quit| async move {
        plain::run(arguments.rate, length, &quit, &mut io::stdout()).await
    })
}

fn show(arguments: &DemoArguments, log: &LogTail) -> anyhow::Result<Verdict> {
    until_told_to_stop(runtime_beside_a_spool(), |quit| async move {
        // A window that is closed would end the process with its spool left behind.
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            shown = screen::run(arguments.rate, &quit, log) => shown,
            _ = hangup.recv() => bail!("the terminal is gone"),
        }
    })
}

fn log_to_tail(log: &LogTail) {
    let log = log.clone();
    let (filter, puzzle) = super::log_filter("info");
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || log.clone());
    logging.with_target(false).with_ansi(false).without_time().init();
    puzzle.iter().for_each(super::warn_of_log_filter);
}

/// Tells on standard error what the screen showed, now that it is gone.
fn repeat(log: &LogTail) {
    // If the terminal is gone, too, there is nobody to be told.
    log.lines().iter().for_each(|line| drop(writeln!(io::stderr(), "{line}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_verdict() {
        let verdict = |missing| Verdict { accepted: 10, arrived: 10 - missing, missing, twice: 3 };
        assert_eq!([verdict(0), verdict(1), verdict(10)].map(|verdict| exit_code(&verdict)), [0, 1, 1]);
    }
}
