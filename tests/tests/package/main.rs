//! The Debian package, as an operator meets it: its units judged by systemd, the agent's unit command run as its user with
//! the shipped topology until it is ready, upgraded, and purged without a trace.
//!
//! See `place` for where it is installed. The binary inside is the one that was built beside this test, whatever its profile:
//! the package is about everything else.

mod place;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Child;
use tokio::time::{interval, timeout};

use place::{Place, output};

const TOPOLOGY: &str = "/etc/packetboat/topology.yaml";
const UNITS: [&str; 2] =
    ["/usr/lib/systemd/system/packetboat@.service", "/usr/lib/systemd/system/packetboat-consumer@.service"];
/// Exposure of at most 3.0 out of 10, as systemd-analyze counts it.
const EXPOSURE_TENTHS_MAX: u32 = 30;
const READY_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_package_installs_runs_as_its_user_and_purges() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let package = place::build(scratch.path())?;
    let place = Place::new(&package)?;

    for unit in UNITS {
        judge(&place.path(unit))?;
    }
    check_topology(&place)?;
    run_until_ready(&place).await?;
    if let Place::Installed(installed) = place {
        upgrade_keeps_the_topology(&package, scratch.path())?;
        installed.purge()?;
    }
    Ok(())
}

/// The unit is valid, its command exists, and it is hardened.
fn judge(unit: &Path) -> Result<()> {
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output()?;
    let said = String::from_utf8_lossy(&verify.stderr);
    // systemd-analyze also speaks of what else is installed here.
    let fine = verify.status.success() && !said.contains("packetboat");
    ensure!(fine, "systemd-analyze verify {}: {said}", unit.display());

    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager"]);
    security.arg(format!("--threshold={EXPOSURE_TENTHS_MAX}")).arg(unit);
    output(&mut security).map(drop)
}

/// The shipped topology is right as it is, and with all its examples in use.
fn check_topology(place: &Place) -> Result<()> {
    let shipped = place.text(TOPOLOGY)?;
    let examples: String = shipped.lines().map(|line| uncommented(line) + "\n").collect();
    ensure!(examples.contains("\nconsumers:"), "the examples have no consumer");
    let dir = tempfile::tempdir()?;
    let with_examples = dir.path().join("examples.yaml");
    fs::write(&with_examples, examples)?;
    for file in [place.path(TOPOLOGY), with_examples] {
        let packetboat = place.path("/usr/bin/packetboat");
        output(Command::new(packetboat).args(["topology", "check"]).arg(file))?;
    }
    Ok(())
}

/// The line without its `#` where it is an example: no blank follows the `#`.
fn uncommented(line: &str) -> String {
    let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
    match rest.strip_prefix('#') {
        Some(example) if example.starts_with(|c| c != ' ') => format!("{indent}{example}"),
        _ => line.to_owned(),
    }
}

/// Runs the unit's command as the unit's user, if systemd has not started it yet: it gets ready, its link is down, and it
/// ends in order when it is told to.
async fn run_until_ready(place: &Place) -> Result<()> {
    let topology = place.text(TOPOLOGY)?;
    let line = topology.lines().find_map(|line| line.trim().strip_prefix("http: "));
    let http =
        line.and_then(|rest| rest.split_whitespace().next()).context("no http in the shipped topology")?;
    let mut agent = if place.started_by_systemd() { None } else { Some(start(place)?) };

    let verdict = ready_and_down(http, agent.as_mut()).await;
    // Ended in any case: a user with a process cannot be purged.
    let ended = match agent {
        Some(agent) => end(agent).await,
        None => Ok(()),
    };
    verdict.and(ended)
}

async fn ready_and_down(http: &str, agent: Option<&mut Child>) -> Result<()> {
    timeout(READY_WITHIN, ready(http, agent)).await.context("not ready in time")??;
    let metrics = get(http, "/metrics")?;
    let down = metrics.lines().any(|line| line == r#"packetboat_link_up{to="eu"} 0"#);
    ensure!(down, "the link is not down before it is configured: {metrics}");
    Ok(())
}

/// SIGTERM ends it in order.
async fn end(mut agent: Child) -> Result<()> {
    let pid = agent.id().context("the agent has ended")?;
    output(Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]))?;
    let status = timeout(READY_WITHIN, agent.wait()).await.context("SIGTERM did not end it")??;
    ensure!(status.success(), "{status} after SIGTERM");
    Ok(())
}

/// Returns once `/readyz` says 200.
async fn ready(http: &str, mut agent: Option<&mut Child>) -> Result<()> {
    let mut ticks = interval(Duration::from_millis(50));
    while get(http, "/readyz").is_err() {
        ticks.tick().await;
        if let Some(agent) = &mut agent
            && let Some(status) = agent.try_wait()?
        {
            bail!("the unit's command ended before it was ready: {status}; what it said is above");
        }
    }
    Ok(())
}

/// Starts `ExecStart` of the agent's unit for `edge`; where it is installed, as the unit's user and in the state directory
/// that systemd would make.
fn start(place: &Place) -> Result<Child> {
    let unit = place.text(UNITS[0])?;
    let setting = |key: &str| {
        let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.map(|value| value.replace("%i", "edge")).with_context(|| format!("the unit has no {key}"))
    };
    let (user, group) = (setting("User")?, setting("Group")?);
    let state = place.path("/var/lib").join(setting("StateDirectory")?);
    let mut command = match place {
        Place::Installed(_) => {
            let mode = setting("StateDirectoryMode")?;
            output(Command::new("install").args(["-d", "-o", &user, "-g", &group, "-m", &mode]).arg(state))?;
            format!(
                "setpriv --reuid={user} --regid={group} --init-groups --no-new-privs --bounding-set=-all "
            )
        }
        Place::Unpacked(_) => {
            fs::create_dir_all(state)?;
            String::new()
        }
    };
    command += &setting("ExecStart")?;
    let mut words = command.split_whitespace();
    let mut start = tokio::process::Command::new(words.next().context("ExecStart is empty")?);
    Ok(start.args(words).stdin(Stdio::null()).kill_on_drop(true).spawn()?)
}

/// A newer package with another `topology.yaml` leaves the operator's in place.
fn upgrade_keeps_the_topology(package: &Path, scratch: &Path) -> Result<()> {
    let (tree, newer) = (scratch.join("tree"), scratch.join("newer.deb"));
    output(Command::new("dpkg-deb").arg("-R").arg(package).arg(&tree))?;
    edit(&tree.join("etc/packetboat/topology.yaml"), |text| text + "# shipped later\n")?;
    edit(&tree.join("DEBIAN/control"), |text| text.replacen("\nVersion: ", "\nVersion: 9+", 1))?;
    output(Command::new("dpkg-deb").args(["-Znone", "-b"]).arg(&tree).arg(&newer))?;

    edit(Path::new(TOPOLOGY), |text| text + "# the operator's\n")?;
    let before = fs::read_to_string(TOPOLOGY)?;
    // What apt does when nobody answers its question: the default, which is to keep.
    output(Command::new("dpkg").args(["--force-confdef", "-i"]).arg(&newer))?;
    let version = output(Command::new("dpkg-query").args(["-W", "-f=${Version}", "packetboat"]))?;
    ensure!(version.starts_with("9+"), "the newer package is not installed, but {version}");
    ensure!(fs::read_to_string(TOPOLOGY)? == before, "the upgrade changed the operator's topology");
    Ok(())
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(fs::write(file, change(text))?)
}

/// The body of an answer with status 200.
fn get(host: &str, path: &str) -> Result<String> {
    let call = ureq::get(format!("http://{host}{path}"));
    let limited = call.config().timeout_global(Some(Duration::from_secs(5))).build();
    Ok(limited.call()?.body_mut().read_to_string()?)
}
