//! The product under test: the `packetboat` binary as a process, seen from outside.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::until;

const READY_LIMIT: Duration = Duration::from_secs(30);
const HTTP_LIMIT: Duration = Duration::from_secs(30);

/// The binary: `PACKETBOAT_BINARY`, or the one that was built beside this test.
///
/// # Panics
/// If it was not built.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("PACKETBOAT_BINARY").map_or_else(built_beside_this_test, PathBuf::from);
    assert!(path.is_file(), "{} is not there: `cargo build -p agent` makes it", path.display());
    path
}

fn built_beside_this_test() -> PathBuf {
    let this = std::env::current_exe().expect("a process knows its executable");
    let is_profile = |folder: &&Path| folder.file_name() != Some(OsStr::new("deps"));
    let profile = this.ancestors().skip(1).find(is_profile).expect("a test is built into target/");
    profile.join("packetboat")
}

/// Runs one command, such as `packetboat topology check FILE`, to its end.
pub fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the binary can be run")
}

/// An agent or a consumer.
#[derive(Debug)]
pub struct Packetboat {
    process: Process,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    http: SocketAddr,
    log: PathBuf,
}

impl Packetboat {
    /// Starts `packetboat agent NAME -t TOPOLOGY`, whose `listen.http` is `http`, and waits until it is ready.
    pub fn agent(name: &str, topology: &Path, http: SocketAddr, scratch: &Scratch) -> Self {
        let mut agent = Self::start(&["agent", name], topology, http, scratch, &[]);
        agent.ready();
        agent
    }

    /// Starts `packetboat consumer NAME -t TOPOLOGY`, as [`Packetboat::agent`] does. It does not wait until it
    /// has subscribed: its broker may be away.
    pub fn consumer(name: &str, topology: &Path, http: SocketAddr, scratch: &Scratch) -> Self {
        let dead_letters = scratch.path().join(format!("dead-letters-{name}")).display().to_string();
        let arguments = ["consumer", name, "--dead-letters", &dead_letters];
        let mut consumer = Self::start(&arguments, topology, http, scratch, &[]);
        consumer.answers();
        consumer
    }

    /// Starts `packetboat ARGUMENTS -t TOPOLOGY` and waits for nothing. With a `wrapper`, such as
    /// `["strace", "-f"]`, that is run, and the binary by it; signals go to the wrapper then, and the binary
    /// is killed when the wrapper ends.
    pub fn start(
        arguments: &[&str],
        topology: &Path,
        http: SocketAddr,
        scratch: &Scratch,
        wrapper: &[&str],
    ) -> Self {
        let mut arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let log = scratch.path().join(format!("{}.log", arguments[..2].join("-")));
        arguments.extend(["-t".to_owned(), topology.display().to_string()]);
        let wrapper: Vec<String> = wrapper.iter().map(|&word| word.to_owned()).collect();
        let process = spawn(&wrapper, &arguments, &log);
        Self { process, arguments, wrapper, http, log }
    }

    /// Starts it again with the same arguments, after it has ended. Waits for nothing.
    pub fn restart(&mut self) {
        self.process = spawn(&self.wrapper, &self.arguments, &self.log);
    }

    /// Waits until `/readyz` says that it is accepting.
    pub fn ready(&mut self) {
        self.wait_for_ok("/readyz");
    }

    /// Waits until `/healthz` says that it is alive.
    pub fn answers(&mut self) {
        self.wait_for_ok("/healthz");
    }

    fn wait_for_ok(&mut self, path: &str) {
        until(READY_LIMIT, &format!("200 from {path}"), || {
            if let Some(status) = self.process.ended() {
                panic!("packetboat ended with {status} while it was waited for");
            }
            match self.get(path) {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for its end at most `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.process.terminate(limit)
    }

    /// Waits for its end at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit)
    }

    /// Any other signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Its process id (that of the wrapper, where there is one).
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged in all its lives.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Status and body of a GET.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn get(&self, path: &str) -> Result<(u16, String), ureq::Error> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(HTTP_LIMIT))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut response = agent.get(format!("http://{}{path}", self.http)).call()?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    /// `/status.json`.
    pub fn status(&self) -> serde_json::Value {
        let (status, body) = self.get("/status.json").expect("a live node answers");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("the status is JSON")
    }

    /// Lines that wait for `link` or are on their way over it, as `/status.json` says.
    pub fn backlog(&self, link: &str) -> i64 {
        self.books(link)["backlog"]["lines"].as_i64().expect("a backlog is a number")
    }

    /// The books of `link` in `/status.json`.
    pub fn books(&self, link: &str) -> serde_json::Value {
        let status = self.status();
        let links = status["spool"]["links"].as_array().expect("an agent has links");
        let books = links.iter().find(|books| books["name"] == link);
        books.unwrap_or_else(|| panic!("no link {link} in {status}")).clone()
    }

    /// Whether it lives.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// `/metrics`.
    pub fn metrics(&self) -> Metrics {
        let (status, body) = self.get("/metrics").expect("a live node answers");
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }
}

fn spawn(wrapper: &[String], arguments: &[String], log: &Path) -> Process {
    let name = arguments[..2].join(" ");
    // A wrapper that dies would leave the binary alone, so that is a child that dies with its parent, too.
    let own = Process::command(binary());
    let mut command = match wrapper.split_first() {
        None => own,
        Some((wrapper, words)) => {
            let mut command = Process::command(wrapper);
            command.args(words).arg(own.get_program()).args(own.get_args());
            command
        }
    };
    Process::spawn(&name, command.args(arguments), log)
}

/// One scrape of `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads Prometheus' text format.
    ///
    /// # Panics
    /// If it is not that.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(samples.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    /// A series as it is written, such as `packetboat_link_up{to="eu"}`.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The sum over all series of this name; `None` if there is none.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let of_name = |series: &&String| series.split('{').next() == Some(name);
        let values: Vec<f64> =
            self.0.iter().filter(|(series, _)| of_name(series)).map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}
