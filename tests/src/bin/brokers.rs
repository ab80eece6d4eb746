//! Starts the brokers that all tests of one run share. nextest calls it once before the tests that want
//! them (`.config/nextest.toml`); it returns when they stand and leaves their addresses in the file
//! that `NEXTEST_ENV` names. They end when the test run ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::parent_id;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tests::broker::{Broker, Kind};

const KEEP: &str = "keep-for";
const READY: &str = "ready";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => start_keeper(),
        [KEEP, process] => keep_for(process.parse()?),
        _ => bail!("usage: brokers, as a setup script of nextest"),
    }
}

/// Leaves a process behind that has the brokers, and waits until they stand.
fn start_keeper() -> anyhow::Result<()> {
    let variables =
        std::env::var_os("NEXTEST_ENV").context("NEXTEST_ENV is not set: nextest is to call this")?;
    let mut variables = File::options().append(true).open(variables)?;
    let log = std::env::temp_dir().join(format!("packetboat-brokers-{}.log", std::process::id()));
    let mut keeper = Command::new(std::env::current_exe()?)
        .args([KEEP, &parent_id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .spawn()?;
    let output = keeper.stdout.take().context("its output is a pipe")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == READY {
            std::fs::remove_file(log)?;
            return Ok(());
        }
        writeln!(variables, "{line}")?;
    }
    let status = keeper.wait()?;
    let log = std::fs::read_to_string(log)?;
    bail!("the brokers did not start ({status}):\n{log}")
}

/// Has the brokers while `process` lives.
fn keep_for(process: i32) -> anyhow::Result<()> {
    let process = Pid::from_raw(process).context("0 is no process")?;
    let test_run = pidfd_open(process, PidfdFlags::empty())?;
    let mut brokers = Kind::ALL.map(Broker::launch);
    let mut output = std::io::stdout();
    for broker in &mut brokers {
        broker.ready();
        writeln!(output, "{}={}", broker.kind().variable(), broker.address())?;
    }
    writeln!(output, "{READY}")?;
    poll(&mut [PollFd::new(&test_run, PollFlags::IN)], None)?;
    Ok(())
}
