//! The rivals, side by side with the agent, each in the configurations that come closest to what the agent
//! does; `tests/bench rivals` installs and measures them.
//!
//! Each is measured in three lives, each of which begins with an empty folder:
//! - **live**: lines go in at full speed over one connection while the way out stands; the watch runs from the first
//!   write to the last line at the sink. Then the **latency** of a paced stream, from the write of each line to
//!   its arrival; it goes in ten lines at a time, or in messages of a hundred where many go into one.
//! - **way out down**: nobody listens at its far end, or nobody consumes from it. The watch of what it takes runs until
//!   it says that it has everything in the way that its protocol has for that: the last receipt, or the FIN
//!   that answers a half-close, which tells no more than that all was read. Then the way out is there, and it **drains**: the
//!   watch runs from the first line at the sink to the last.
//! - **start with a backlog**: the same again; then it is stopped in order, what is on disk is measured, and it is
//!   started with the way out there. The watch runs from its start to the first line at the sink.
//!
//! Every line has a number, so that what is **missing**, or came **twice**, is seen; only what came out counts. CPU seconds
//! are user and system time of all its processes until they have nothing more to do. Memory is the sum of the `VmHWM` of its
//! processes, the largest of the three lives. Bytes on disk are those by which its folder has grown.

mod activemq;
mod arrivals;
mod carbon_c_relay;
mod figures;
mod measure;
mod nats;
mod ours;
mod patience;
mod rabbitmq;
mod rival;
mod rsyslog;
mod sender;
mod sink;
mod syslog_ng;
mod tree;
mod vmagent;

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;

use figures::Figures;
use rival::Rival;
use sender::Payloads;

/// Measures the rivals, side by side with the agent.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Only those whose name contains this, in whichever case; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Runs; the tables show their median.
    #[arg(long, default_value = "1")]
    runs: NonZeroUsize,
    /// JSON lines in place of the tables.
    #[arg(long)]
    json: bool,
}

/// Measures all that are there, and shows the tables or the JSON lines.
pub(crate) fn measure_all(settings: &Settings) -> Result<()> {
    let chosen: Vec<Rival> = all().into_iter().filter(|rival| settings.chooses(rival)).collect();
    ensure!(!chosen.is_empty(), "no rival is called {}", settings.only.join(" or "));
    let (mut payloads, mut figures) = (Payloads::default(), Figures::default());
    for run in 1..=settings.runs.get() {
        for rival in &chosen {
            eprintln!("run {run} of {}: {}", settings.runs, rival.name);
            if let Err(error) = look_at(rival, &mut payloads, &mut figures) {
                eprintln!("  not measured: {error:#}");
                figures.fault(rival, format!("{error:#}"));
            }
        }
    }
    print!("{}", if settings.json { figures.json_lines() } else { figures.tables() });
    Ok(())
}

fn all() -> Vec<Rival> {
    let mut all = ours::RIVALS.to_vec();
    all.extend(rabbitmq::RIVALS);
    all.extend(nats::RIVALS);
    all.extend([vmagent::RIVAL, carbon_c_relay::RIVAL]);
    all.extend(rsyslog::RIVALS);
    all.push(syslog_ng::RIVAL);
    all.extend(activemq::RIVALS);
    all
}

impl Settings {
    fn chooses(&self, rival: &Rival) -> bool {
        let name = rival.name.to_lowercase();
        self.only.is_empty() || self.only.iter().any(|only| name.contains(&only.to_lowercase()))
    }
}

fn look_at(rival: &Rival, payloads: &mut Payloads, figures: &mut Figures) -> Result<()> {
    let version = rival.version();
    figures.introduce(rival, version.as_deref().unwrap_or("not installed").to_owned());
    version.context("it is skipped")?;
    // What panics is the harness that starts it: that ends the measurement of this one, not of the others.
    catch_unwind(AssertUnwindSafe(|| measure::measure(rival, payloads, figures)))
        .unwrap_or_else(|_| Err(anyhow!("the harness gave up, see above")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_tells_its_durability() {
        let all = all();
        for rival in &all {
            assert!(!rival.durability.is_empty(), "{}", rival.name);
            assert_eq!(all.iter().filter(|other| other.name == rival.name).count(), 1, "{}", rival.name);
            assert_eq!(rival.lines % rival.way_in.lines_per_message(), 0, "{}", rival.name);
        }
    }

    #[test]
    fn names_choose() {
        let settings = Settings { only: vec!["rabbit".to_owned()], runs: NonZeroUsize::MIN, json: false };
        let chosen = all().into_iter().filter(|rival| settings.chooses(rival)).count();
        assert_eq!(chosen, rabbitmq::RIVALS.len());
    }
}
