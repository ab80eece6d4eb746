//! `packetboat emit`: the producer. One metric from the command line, or lines from standard input,
//! over STOMP with receipts: what it says was taken is on the agent's disk.

mod producer;
mod stream;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use forwarder::Clock;
use tokio::time::timeout;
use topology::model::{Endpoint, StompUpstream};

use crate::cli::complain;
use crate::cli::emit::producer::{Producer, ProducerError};
use crate::cli::emit::stream::{StreamError, stream};
use crate::ingest::line::{self, Checked, Reason};

/// The port of STOMP where none is named.
const STOMP_PORT: u16 = 61613;

/// Arguments of `packetboat emit`.
#[derive(Debug, Args)]
pub(super) struct EmitArguments {
    /// The metric's name; the host name goes in front of it. Or `-`: lines `name value [timestamp]`
    /// are read from standard input and sent as they are
    name: String,
    /// The metric's value, a decimal number
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// The agent or broker that takes the metric
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:61613", value_parser = endpoint)]
    to: Endpoint,
    /// The queue to send to
    #[arg(long, value_name = "QUEUE", default_value = "/queue/graphite")]
    destination: String,
    /// Goes in front of every name, with a dot, instead of the host name
    #[arg(long, value_name = "NAME", value_parser = name_part)]
    prefix: Option<String>,
    /// Leaves the name as it is
    #[arg(long, conflicts_with = "prefix")]
    no_host: bool,
    /// The user to log in as
    #[arg(long, value_name = "USER", requires = "passcode_file")]
    login: Option<String>,
    /// The file whose first line is the user's passcode
    #[arg(long, value_name = "FILE", requires = "login")]
    passcode_file: Option<PathBuf>,
    /// How long all of it may take; with `-`, how long to wait for the connection and for the next receipt
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Why not everything was taken.
#[derive(Debug, thiserror::Error)]
enum EmitError {
    #[error("{0}")]
    Usage(&'static str),
    #[error("the value `{0}` is not a decimal number")]
    Value(String),
    #[error("the name `{0}` is empty, too long, or has blanks or control characters")]
    Name(String),
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error("no receipt from {to} within {limit:?}; the metric may have been taken all the same")]
    Timeout { to: Endpoint, limit: Duration },
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Sends what `args` say. Exit code 0: all is taken; 1: not all, with one line on standard error; 2:
/// wrong use.
pub(super) fn run(args: &EmitArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("packetboat: cannot start: {error}"), 1),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let done = runtime.block_on(emit(args, &host, &Clock::system(), io::stdin()));
    // A name lookup may still be under way; nobody waits for it.
    runtime.shutdown_background();
    match done {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(taken)) => {
            // Whoever does not listen any more need not be told.
            drop(writeln!(io::stdout(), "{taken}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = if matches!(error, EmitError::Usage(_)) { 2 } else { 1 };
            complain(&format!("packetboat: {error}"), code)
        }
    }
}

/// Returns what is to be told of a success.
async fn emit(
    args: &EmitArguments,
    host: &str,
    clock: &Clock,
    input: impl io::Read + Send + 'static,
) -> Result<Option<String>, EmitError> {
    match (args.name.as_str(), args.value.as_deref()) {
        ("-", None) => {
            let taken = stream(args, clock, input).await?;
            Ok(Some(taken.to_string()))
        }
        ("-", Some(_)) => {
            Err(EmitError::Usage("with `-` the values come from standard input; give no value"))
        }
        (_, None) => Err(EmitError::Usage("a value is missing; see `packetboat emit --help`")),
        ("", _) => Err(EmitError::Name(String::new())),
        (name, Some(value)) => {
            let line = metric_line(&args.full_name(name, host), value, clock.now_seconds())?;
            let sent = timeout(args.timeout, send_one(args, &line)).await;
            sent.map_err(|_| EmitError::Timeout { to: args.to.clone(), limit: args.timeout })??;
            Ok(None)
        }
    }
}

async fn send_one(args: &EmitArguments, line: &[u8]) -> Result<(), ProducerError> {
    let mut producer = Producer::connect(args).await?;
    producer.send(line, 1);
    producer.all_taken().await?;
    producer.leave().await;
    Ok(())
}

/// The checked line of one metric at `now_seconds`.
fn metric_line(name: &str, value: &str, now_seconds: i64) -> Result<Vec<u8>, EmitError> {
    // Blanks in either would make other fields of them.
    let is_field = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    if !is_field(value) {
        return Err(EmitError::Value(value.to_owned()));
    }
    if !is_field(name) {
        return Err(EmitError::Name(name.to_owned()));
    }
    let mut checked = Checked::default();
    line::check(format!("{name} {value} {now_seconds}").as_bytes(), now_seconds, &mut checked);
    match checked.refused.first().map(|refused| refused.reason) {
        None => Ok(checked.lines),
        Some(Reason::Value) => Err(EmitError::Value(value.to_owned())),
        Some(_) => Err(EmitError::Name(name.to_owned())),
    }
}

impl EmitArguments {
    /// `name` behind the host name, whose dots would otherwise open folders in Graphite's tree.
    fn full_name(&self, name: &str, host: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}.{name}"),
            None if self.no_host => name.to_owned(),
            None => format!("{}.{name}", host.replace('.', "_")),
        }
    }

    fn upstream(&self) -> StompUpstream {
        StompUpstream {
            endpoints: vec![self.to.clone()],
            vhost: "/".to_owned(),
            login: self.login.clone(),
            passcode_file: self.passcode_file.clone(),
            send_headers: Vec::new(),
            subscribe_headers: Vec::new(),
            is_agent: true,
            prefer_first: false,
            tls: None,
        }
    }
}

/// Parses `HOST`, `HOST:PORT`, `[IPV6]` and `[IPV6]:PORT`.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match port {
        Some("") if !text.ends_with(':') => Some(STOMP_PORT),
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None => None,
    };
    match port {
        Some(port) if !host.is_empty() => Ok(Endpoint { host: host.to_owned(), port }),
        _ => Err("expected HOST:PORT, such as packetboat-1.us.example.net:61613 or [::1]:61613".to_owned()),
    }
}

fn name_part(text: &str) -> Result<String, String> {
    match metric_line(text, "0", 0) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected a name without blanks and control characters".to_owned()),
    }
}

#[cfg(test)]
mod tests;
