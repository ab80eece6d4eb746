//! STOMP clients that others have written, each as a producer, as a consumer and as a subscriber of an agent:
//! the scripts in `tests/interop`, which know nothing of Packetboat.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::broker::{LOGIN, PASSCODE};
use tests::edge::{Edge, Tls};
use tests::process::Process;
use tests::scratch::Scratch;

/// A client, by the name of what it is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// ruby-stomp, the classic one: STOMP 1.0.
    Ruby,
    /// stomp.py: STOMP 1.1 with heart-beats.
    Python,
    /// Net::Stomp: STOMP 1.0, acknowledges.
    Perl,
    /// PECL stomp: STOMP 1.0, asks for receipts, acknowledges.
    Php,
    /// The tokio-stomp crate: STOMP 1.2.
    Rust,
    /// stompit of Node's: STOMP 1.2 with heart-beats, acknowledges.
    Node,
}

/// How a [`Client::subscribe`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It acknowledges what it gets.
    Take,
    /// It goes without that.
    Leave,
    /// It refuses what is new, and acknowledges what comes again.
    Refuse,
    /// It lives by its heart-beats for so many seconds; then it sends lines, and acknowledges them.
    Beats(u32),
}

impl Client {
    /// Fit for names of queues and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ruby => "ruby",
            Self::Python => "python",
            Self::Perl => "perl",
            Self::Php => "php",
            Self::Rust => "rust",
            Self::Node => "node",
        }
    }

    /// Sends `lines` to `edge`, a message each, and has come to its end in order.
    pub(crate) fn produce(self, edge: &Edge, lines: &str) {
        let output = self.try_to_produce(edge, edge.tls(), lines);
        assert!(output.status.success(), "{output:?}");
    }

    /// As [`Client::produce`], with something else to go by over TLS, whatever comes of it.
    pub(crate) fn try_to_produce(self, edge: &Edge, tls: Option<&Tls>, lines: &str) -> Output {
        let lines = File::open(edge.scratch().write("lines", lines)).unwrap();
        let mut producer = self.command("producer");
        goes_by(&mut producer, tls);
        producer.args(place(edge.stomp())).stdin(lines);
        producer.output().unwrap()
    }

    /// Starts to consume `queue` of `upstream`, called `name`, into the socket of `graphite`.
    pub(crate) fn consume(
        self,
        (name, upstream): (&str, SocketAddr),
        queue: &str,
        graphite: SocketAddr,
        scratch: &Scratch,
    ) -> Process {
        let mut consumer = self.command("consumer");
        consumer.args(place(upstream)).args([queue, LOGIN, PASSCODE]).args(place(graphite));
        let log = scratch.path().join(format!("consumer-{name}.log"));
        Process::spawn(&format!("{} consumer on {name}", self.name()), &mut consumer, &log)
    }

    /// Subscribes to the queue of `edge`, in this version and with these acknowledgements, until `count` lines
    /// came. Tells what it got, in its order: whether the message was redelivered, and the line. `input` is
    /// what it sends where it sends.
    pub(crate) fn subscribe(
        self,
        edge: &Edge,
        [version, ack]: [&str; 2],
        what: What,
        count: usize,
        input: &str,
    ) -> Vec<(bool, String)> {
        let input = File::open(edge.scratch().write("input", input)).unwrap();
        let mut subscriber = self.command("subscriber");
        goes_by(&mut subscriber, edge.tls());
        subscriber.args(place(edge.stomp())).args([version, ack]);
        match what {
            What::Take => subscriber.args(["take", &count.to_string()]),
            What::Leave => subscriber.args(["leave", &count.to_string()]),
            What::Refuse => subscriber.args(["refuse", &count.to_string()]),
            What::Beats(seconds) => subscriber.args(["beats", &count.to_string(), &seconds.to_string()]),
        };
        let output = subscriber.stdin(input).output().unwrap();
        assert!(output.status.success(), "{self:?} {version} {ack} {what:?}: {output:?}");
        let got = String::from_utf8(output.stdout).unwrap();
        got.lines()
            .map(|line| match line.split_once(' ') {
                Some(("new", line)) => (false, line.to_owned()),
                Some(("again", line)) => (true, line.to_owned()),
                _ => panic!("neither new nor again: {line:?}"),
            })
            .collect()
    }

    fn command(self, role: &str) -> Command {
        let (interpreter, script) = match self {
            Self::Ruby => ("/usr/bin/ruby".into(), format!("{role}.rb")),
            Self::Python => (python(), format!("{role}.py")),
            Self::Perl => ("/usr/bin/perl".into(), format!("{role}.pl")),
            Self::Php => ("/usr/bin/php".into(), format!("{role}.php")),
            Self::Node => ("/usr/bin/node".into(), format!("{role}.js")),
            Self::Rust => {
                let mut command = Process::command(env!("CARGO_BIN_EXE_tokio_stomp"));
                command.arg(role);
                return command;
            }
        };
        let mut command = Process::command(interpreter);
        command.arg(self::script(&script));
        if self == Self::Node {
            command.env("NODE_PATH", node_modules());
        }
        command
    }
}

/// The environment of a client over TLS: `tests/interop/place.rb` explains it.
fn goes_by(client: &mut Command, tls: Option<&Tls>) {
    let Some(Tls { ca, own }) = tls else { return };
    client.env("STOMP_CA", ca);
    if let Some(own) = own {
        client.env("STOMP_CERT", &own.cert).env("STOMP_KEY", &own.key);
    }
}

/// The interpreter that has stomp.py: that of the environment which `tests/run` makes.
pub(crate) fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let python = std::env::var_os("PACKETBOAT_PYTHON").map_or(own, PathBuf::from);
    assert!(python.is_file(), "{} is not there: tests/run makes it", python.display());
    python
}

/// The folder that has stompit: `tests/run` makes it.
fn node_modules() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/node/node_modules");
    let modules = std::env::var_os("PACKETBOAT_NODE_MODULES").map_or(own, PathBuf::from);
    assert!(modules.join("stompit").is_dir(), "no stompit in {}: tests/run puts it there", modules.display());
    modules
}

/// A file in `tests/interop`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name)
}

/// Host and port as two arguments.
pub(crate) fn place(address: SocketAddr) -> [String; 2] {
    [address.ip().to_string(), address.port().to_string()]
}
