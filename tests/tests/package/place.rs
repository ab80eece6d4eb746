//! The package and where it was put: into this system, or into a directory.
//!
//! It goes into this system only where that was asked for: as root, with `CI=true` or `PACKETBOAT_INSTALL=1`. Elsewhere it
//! is unpacked into a temporary directory, its scripts are not run, and the shipped topology gets free ports.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// Packs the binary that was built beside this test. It is not built here: that would replace it under the tests that
/// run it.
pub(crate) fn build(into: &Path) -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let profile = executable.ancestors().nth(2).context("the test is not in target/PROFILE/deps")?;
    ensure!(profile.join("packetboat").exists(), "no binary in {}: cargo build -p agent", profile.display());
    let profile = match profile.file_name().and_then(|name| name.to_str()) {
        Some(name) if name != "debug" => name,
        _ => "dev",
    };
    let package = into.join("packetboat.deb");
    let mut deb = Command::new(env!("CARGO"));
    deb.args(["deb", "--package", "agent", "--no-build", "--fast", "--profile", profile, "--output"]);
    deb.arg(&package).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    output(&mut deb).context("cargo-deb is needed: cargo install cargo-deb --locked")?;
    Ok(package)
}

/// Where the package was put.
pub(crate) enum Place {
    /// Into this system, by dpkg.
    Installed(Installed),
    /// Into a directory, by dpkg-deb.
    Unpacked(TempDir),
}

impl Place {
    /// Puts the package where it may go.
    pub(crate) fn new(package: &Path) -> Result<Self> {
        let says_yes = |name| std::env::var(name).is_ok_and(|value| value == "1" || value == "true");
        let asked = says_yes("CI") || says_yes("PACKETBOAT_INSTALL");
        if asked && output(Command::new("id").arg("-u"))? == "0" {
            return Installed::new(package).map(Self::Installed);
        }
        let dir = tempfile::tempdir()?;
        output(Command::new("dpkg-deb").arg("-x").arg(package).arg(dir.path()))?;
        relocate(dir.path())?;
        Ok(Self::Unpacked(dir))
    }

    /// Where the packaged `path` is to be found.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        match self {
            Self::Installed(_) => PathBuf::from(path),
            Self::Unpacked(dir) => dir.path().join(path.trim_start_matches('/')),
        }
    }

    /// The packaged file.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.path(path)).with_context(|| path.to_owned())
    }

    /// Whether the package's scripts have started the agent.
    pub(crate) fn started_by_systemd(&self) -> bool {
        matches!(self, Self::Installed(_)) && Path::new("/run/systemd/system").exists()
    }
}

/// Makes the unpacked units and topology speak of the directory, and of free ports.
fn relocate(root: &Path) -> Result<()> {
    let mut units: Vec<PathBuf> = fs::read_dir(root.join("usr/lib/systemd/system"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let topology = root.join("etc/packetboat/topology.yaml");
    units.push(topology.clone());
    for file in &units {
        let mut text = fs::read_to_string(file)?;
        for path in ["/usr/bin/packetboat", "/etc/packetboat", "/var/lib/packetboat"] {
            text = text.replace(path, &format!("{}{path}", root.display()));
        }
        fs::write(file, text)?;
    }

    let mut text = fs::read_to_string(&topology)?;
    // Held until all are found, so that no port is given twice.
    let mut held = Vec::new();
    for port in ["61613", "2003", "9613"] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let free = listener.local_addr()?.port();
        ensure!(
            text.contains(&format!(": 127.0.0.1:{port}")),
            "the shipped topology does not listen on {port}"
        );
        text = text.replacen(&format!(": 127.0.0.1:{port}"), &format!(": 127.0.0.1:{free}"), 1);
        held.push(listener);
    }
    Ok(fs::write(&topology, text)?)
}

/// The package in this system. Dropped, it is purged, so that a failure leaves nothing behind either.
pub(crate) struct Installed(());

impl Installed {
    fn new(package: &Path) -> Result<Self> {
        let before = traces();
        ensure!(before.is_empty(), "packetboat is in this system, and this test would purge it: {before:?}");
        let installed = Self(());
        output(Command::new("dpkg").arg("-i").arg(package))?;
        let enabled = Path::new("/etc/systemd/system/multi-user.target.wants/packetboat@edge.service");
        ensure!(enabled.is_symlink(), "packetboat@edge is not enabled");
        Ok(installed)
    }

    /// Purges it; nothing may be left.
    pub(crate) fn purge(self) -> Result<()> {
        output(Command::new("dpkg").args(["--purge", "packetboat"]))?;
        let left = traces();
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if !traces().is_empty() {
            drop(Command::new("dpkg").args(["--purge", "packetboat"]).output());
        }
    }
}

/// What shows that packetboat is, or was, in this system.
fn traces() -> Vec<String> {
    let paths = [
        "/usr/bin/packetboat",
        "/etc/packetboat",
        "/var/lib/packetboat",
        "/usr/lib/systemd/system/packetboat@.service",
        "/etc/systemd/system/multi-user.target.wants/packetboat@edge.service",
        "/var/lib/systemd/deb-systemd-helper-enabled/packetboat@.service.dsh-also",
        "/usr/share/doc/packetboat",
    ];
    let exists = |path: &&str| Path::new(path).symlink_metadata().is_ok();
    let mut traces: Vec<String> = paths.into_iter().filter(exists).map(str::to_owned).collect();
    for question in ["getent passwd packetboat", "getent group packetboat", "dpkg-query -W packetboat"] {
        traces.extend(output(Command::new("sh").args(["-c", question])));
    }
    traces
}

/// What the command prints; an error with all it said, if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let ran = command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = ran.with_context(|| format!("cannot run {command:?}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    Ok(stdout.trim().to_owned())
}
