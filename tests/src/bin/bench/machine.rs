//! Where and with what it was measured.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use ::tests::packetboat::binary;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::settings::Settings;

/// As it stands on the page. What cannot be told is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    /// File system and device of the spools.
    pub(crate) disk: String,
    pub(crate) commit: String,
    pub(crate) rustc: String,
    pub(crate) packetboat: String,
    pub(crate) rabbitmq: String,
    pub(crate) activemq: String,
    pub(crate) runs: usize,
    pub(crate) scale: f64,
    pub(crate) minutes: f64,
}

impl Machine {
    /// This one, now.
    pub(crate) fn seen(settings: &Settings) -> Self {
        let disk = std::env::temp_dir().display().to_string();
        let disk = said("df", &["--output=fstype,source", &disk]);
        Self {
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            cpu: after("/proc/cpuinfo", "model name"),
            cores: available_parallelism().map_or(0, Into::into),
            memory: memory(),
            kernel: said("uname", &["-sr"]),
            disk: disk.lines().nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" on "),
            commit: said("git", &["describe", "--always", "--dirty", "--tags"]),
            rustc: said("rustc", &["--version"]),
            packetboat: said(&binary().display().to_string(), &["--version"]),
            rabbitmq: package("rabbitmq-server"),
            activemq: package("activemq"),
            runs: settings.runs.get(),
            scale: settings.scale,
            minutes: 0.0,
        }
    }

    /// And how long all of it was measured.
    pub(crate) fn took(self, time: Duration) -> Self {
        Self { minutes: time.as_secs_f64() / 60.0, ..self }
    }

    pub(crate) fn json_line(&self) -> String {
        json!({ "machine": self }).to_string()
    }
}

/// The first line after `key` and its colon.
fn after(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

fn memory() -> String {
    let total = after("/proc/meminfo", "MemTotal");
    let kib = total.strip_suffix(" kB").and_then(|kib| kib.parse::<f64>().ok());
    kib.map_or_else(String::new, |kib| format!("{:.0} GiB", kib / 1024.0 / 1024.0))
}

fn package(name: &str) -> String {
    said("dpkg-query", &["-W", "-f=${Version}", name])
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().trim().to_owned()
}
