//! STOMP clients that others have written, each as a producer and as a consumer: the scripts in
//! `tests/interop`, which know nothing of Packetboat.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::broker::{Broker, LOGIN, PASSCODE};
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
        }
    }

    /// Sends `lines`, a message each, and has come to its end in order.
    pub(crate) fn produce(self, to: SocketAddr, lines: &str, scratch: &Scratch) {
        let lines = File::open(scratch.write("lines", lines)).unwrap();
        let mut producer = self.command("producer");
        producer.args(place(to)).stdin(lines);
        let output = producer.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts to consume `queue` of `broker` into the socket of `graphite`.
    pub(crate) fn consume(
        self,
        broker: &Broker,
        queue: &str,
        graphite: SocketAddr,
        scratch: &Scratch,
    ) -> Process {
        let mut consumer = self.command("consumer");
        consumer.args(place(broker.address())).args([queue, LOGIN, PASSCODE]).args(place(graphite));
        let log = scratch.path().join(format!("consumer-{}.log", broker.kind()));
        Process::spawn(&format!("{} consumer on {}", self.name(), broker.kind()), &mut consumer, &log)
    }

    fn command(self, role: &str) -> Command {
        let (interpreter, script) = match self {
            Self::Ruby => ("/usr/bin/ruby".into(), format!("{role}.rb")),
            Self::Python => (python(), format!("{role}.py")),
            Self::Perl => ("/usr/bin/perl".into(), format!("{role}.pl")),
            Self::Php => ("/usr/bin/php".into(), format!("{role}.php")),
            Self::Rust => {
                let mut command = Process::command(env!("CARGO_BIN_EXE_tokio_stomp"));
                command.arg(role);
                return command;
            }
        };
        let mut command = Process::command(interpreter);
        command.arg(self::script(&script));
        command
    }
}

/// The interpreter that has stomp.py: that of the environment which `tests/run` makes.
pub(crate) fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let python = std::env::var_os("PACKETBOAT_PYTHON").map_or(own, PathBuf::from);
    assert!(python.is_file(), "{} is not there: tests/run makes it", python.display());
    python
}

/// A file in `tests/interop`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name)
}

/// Host and port as two arguments.
pub(crate) fn place(address: SocketAddr) -> [String; 2] {
    [address.ip().to_string(), address.port().to_string()]
}
