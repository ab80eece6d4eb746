//! A real Graphite: carbon-cache of Debian's `graphite-carbon`, on files and ports of its own.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::ports::Port;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::until;
use crate::whisper::Whisper;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// The package is made for Debian's own interpreter, whatever `python3` is on the path.
const PYTHON: &str = "/usr/bin/python3";
const CARBON_CACHE: &str = "/usr/bin/carbon-cache";

/// A carbon-cache that takes lines. Retention `1s:1d`, creates and updates unlimited, no tags.
#[derive(Debug)]
pub struct Carbon {
    process: Option<Process>,
    lines: Port,
    queries: Port,
    scratch: Scratch,
}

impl Carbon {
    /// Starts one, and waits until it listens.
    pub fn start() -> Self {
        let scratch = Scratch::new("carbon");
        let mut carbon = Self { process: None, lines: Port::free(), queries: Port::free(), scratch };
        carbon.configure();
        carbon.restart();
        carbon
    }

    /// Its line receiver; the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.lines.address()
    }

    /// What it has written.
    pub fn whisper(&self) -> Whisper {
        Whisper::at(self.scratch.path().join("whisper"))
    }

    /// Its orderly end (SIGTERM). What was in its cache in its last second may be lost all the same: its
    /// writer does not look once more when it wakes up.
    pub fn stop(&mut self) {
        self.process().terminate(STOP_LIMIT);
    }

    /// kill -9: its cache is lost.
    pub fn kill(&mut self) {
        self.process().kill();
    }

    /// Starts it again on the same port and files, and waits until it listens.
    pub fn restart(&mut self) {
        // What is left by kill -9 may name a process that is alive again under another name.
        std::fs::remove_file(self.pid_file()).ok();
        let mut command = Process::command(PYTHON);
        command.arg(CARBON_CACHE).arg("--config").arg(self.scratch.path().join("carbon.conf"));
        command.arg("--pidfile").arg(self.pid_file()).args(["--nodaemon", "start"]);
        let log = self.scratch.path().join("carbon.log");
        let process = self.process.insert(Process::spawn("carbon-cache", &mut command, &log));
        let address = self.lines.address();
        until(START_LIMIT, "carbon-cache to listen", || {
            if let Some(status) = process.ended() {
                panic!("carbon-cache ended with {status} while it was waited for");
            }
            TcpStream::connect(address)
        });
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("started by `start`")
    }

    fn pid_file(&self) -> PathBuf {
        self.scratch.path().join("carbon.pid")
    }

    fn configure(&self) {
        let text = format!(
            "[cache]\n\
             STORAGE_DIR = {folder}\n\
             LOCAL_DATA_DIR = {folder}/whisper/\n\
             CONF_DIR = {folder}\n\
             LOG_DIR = {folder}\n\
             PID_DIR = {folder}\n\
             USER =\n\
             ENABLE_LOGROTATION = False\n\
             MAX_CACHE_SIZE = inf\n\
             MAX_UPDATES_PER_SECOND = inf\n\
             MAX_CREATES_PER_MINUTE = inf\n\
             WHISPER_SPARSE_CREATE = True\n\
             LINE_RECEIVER_INTERFACE = 127.0.0.1\n\
             LINE_RECEIVER_PORT = {lines}\n\
             PICKLE_RECEIVER_PORT = 0\n\
             ENABLE_UDP_LISTENER = False\n\
             CACHE_QUERY_INTERFACE = 127.0.0.1\n\
             CACHE_QUERY_PORT = {queries}\n\
             ENABLE_TAGS = False\n\
             CARBON_METRIC_INTERVAL = 0\n\
             LOG_UPDATES = False\n\
             LOG_CREATES = False\n\
             LOG_CACHE_HITS = False\n",
            folder = self.scratch.path().display(),
            lines = self.lines.number(),
            queries = self.queries.number(),
        );
        self.scratch.write("carbon.conf", &text);
        self.scratch.write("storage-schemas.conf", "[all]\npattern = .*\nretentions = 1s:1d\n");
    }
}
