//! Real brokers: RabbitMQ with its STOMP plugin and ActiveMQ, each as its own instance in a
//! temporary folder, on ports of its own, with no trace of the system's configuration.
//!
//! A start takes seconds, so tests that leave a broker alone share one of each kind
//! ([`Broker::shared`]); a test that stops or kills one starts its own ([`Broker::start`]).

mod activemq;
mod cluster;
mod rabbitmq;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::ports::Port;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::stomp::Stomp;
use crate::wait::{until, when};

pub use cluster::Cluster;

/// A user of every broker here. Without any login one is `guest`.
pub const LOGIN: &str = "packetboat";
/// The passcode of [`LOGIN`]. Its colon goes unescaped into CONNECT.
pub const PASSCODE: &str = "sea:mail";

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The brokers that the product is tested with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RabbitMQ 3.10 with `rabbitmq_stomp`.
    RabbitMq,
    /// ActiveMQ 5.17, the classic one, on KahaDB.
    ActiveMq,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::RabbitMq, Self::ActiveMq];

    /// Whether this machine has it.
    pub fn is_installed(self) -> bool {
        let program = match self {
            Self::RabbitMq => rabbitmq::SERVER,
            Self::ActiveMq => activemq::PROGRAM,
        };
        Path::new(program).exists()
    }

    /// The environment variable with the STOMP address of the shared broker.
    pub fn variable(self) -> &'static str {
        match self {
            Self::RabbitMq => "PACKETBOAT_RABBITMQ",
            Self::ActiveMq => "PACKETBOAT_ACTIVEMQ",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RabbitMq => "rabbitmq",
            Self::ActiveMq => "activemq",
        })
    }
}

/// A broker that answers STOMP.
#[derive(Debug)]
pub struct Broker {
    kind: Kind,
    address: SocketAddr,
    instance: Option<Instance>,
}

/// The processes go first when it is dropped, then their ports and their folder.
#[derive(Debug)]
struct Instance {
    processes: Vec<Process>,
    ports: Ports,
    scratch: Scratch,
}

#[derive(Debug)]
struct Ports {
    stomp: Port,
    /// AMQP of RabbitMQ, OpenWire of ActiveMQ.
    native: Port,
    /// RabbitMQ only.
    distribution: Port,
    /// RabbitMQ only. The nodes of a cluster have one.
    epmd: Arc<Port>,
}

impl Ports {
    fn free(epmd: Arc<Port>) -> Self {
        let [stomp, native, distribution] = std::array::from_fn(|_| Port::free());
        Self { stomp, native, distribution, epmd }
    }
}

impl Broker {
    /// The shared broker of this kind, which is not to be stopped: the one that the test run offers, or, in
    /// a test that is run alone, one of its own.
    pub fn shared(kind: Kind) -> Self {
        let Ok(address) = std::env::var(kind.variable()) else {
            return Self::start(kind);
        };
        let address = address.parse().expect("the variable of a shared broker holds HOST:PORT");
        Self { kind, address, instance: None }
    }

    /// Starts one, and waits until it takes a CONNECT.
    pub fn start(kind: Kind) -> Self {
        let mut broker = Self::launch(kind);
        broker.ready();
        broker
    }

    /// Starts one, and waits for nothing: so that several start at the same time.
    pub fn launch(kind: Kind) -> Self {
        let ports = Ports::free(Arc::new(Port::free()));
        let address = ports.stomp.address();
        let instance = Instance { processes: Vec::new(), ports, scratch: Scratch::new(&kind.to_string()) };
        let mut broker = Self { kind, address, instance: Some(instance) };
        broker.spawn();
        broker
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens for STOMP; the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The processes of a broker of one's own; they may have children.
    pub fn process_ids(&self) -> Vec<u32> {
        let processes = self.instance.iter().flat_map(|instance| &instance.processes);
        processes.map(Process::id).collect()
    }

    /// Where the files of a broker of one's own are.
    ///
    /// # Panics
    /// If it is a shared one.
    pub fn folder(&self) -> &Path {
        self.instance
            .as_ref()
            .expect("the files of a shared broker are none of a test's business")
            .scratch
            .path()
    }

    /// A session with it as [`LOGIN`].
    pub fn connect(&self) -> Stomp {
        login(self.address).expect("a broker that stands takes its user")
    }

    /// Its orderly end: what it has is on disk.
    pub fn stop(&mut self) {
        for process in &mut self.own().processes {
            process.terminate(STOP_LIMIT);
        }
    }

    /// Waits until its files say something of `queue`. RabbitMQ confirms messages once they are on disk, and writes
    /// down a little later that there is the queue: killed before, it has lost both.
    pub fn has_on_disk(&mut self, queue: &str) {
        let name = queue.trim_start_matches("/queue/").to_owned();
        let folder = match self.kind {
            Kind::RabbitMq => "mnesia",
            Kind::ActiveMq => "data",
        };
        let folder = self.own().scratch.path().join(folder);
        until(START_LIMIT, &format!("{name} in {}", folder.display()), || {
            when(says(&folder, name.as_bytes()).unwrap_or(false), "not yet")
        });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        for process in &mut self.own().processes {
            process.kill();
        }
    }

    /// Starts it again after [`Broker::stop`] or [`Broker::kill`], on the same ports and files, and waits
    /// until it takes a CONNECT.
    pub fn restart(&mut self) {
        self.spawn();
        self.ready();
    }

    /// Runs `rabbitmqctl ARGUMENTS` on it, and returns what it printed.
    ///
    /// # Panics
    /// If it fails, as it does on an ActiveMQ.
    pub fn control(&mut self, arguments: &[&str]) -> String {
        let instance = self.own();
        rabbitmq::control(instance.scratch.path(), &instance.ports, arguments)
    }

    fn spawn(&mut self) {
        let kind = self.kind;
        let instance = self.own();
        let (folder, ports) = (instance.scratch.path(), &instance.ports);
        instance.processes = match kind {
            Kind::RabbitMq => rabbitmq::launch(folder, ports),
            Kind::ActiveMq => activemq::launch(folder, ports),
        };
    }

    /// Waits until it takes a CONNECT of [`LOGIN`].
    pub fn ready(&mut self) {
        let (kind, address) = (self.kind, self.address);
        let instance = self.own();
        until(START_LIMIT, &format!("CONNECTED from {kind}"), || {
            if let Some((name, status)) = instance.first_ended() {
                panic!("{name} ended with {status} while it was waited for");
            }
            login(address).map(drop)
        });
    }

    /// # Panics
    /// If it is a shared one: other tests depend on it.
    fn own(&mut self) -> &mut Instance {
        self.instance.as_mut().expect("only a broker of the test's own may be stopped or started")
    }
}

impl Instance {
    fn first_ended(&mut self) -> Option<(String, std::process::ExitStatus)> {
        self.processes
            .iter_mut()
            .find_map(|process| process.ended().map(|status| (process.name().to_owned(), status)))
    }
}

/// Whether a file in `folder`, or below it, holds `text`.
fn says(folder: &Path, text: &[u8]) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // What is gone by now says nothing.
        let found = match path.is_dir() {
            true => says(&path, text).unwrap_or(false),
            false => std::fs::read(&path).is_ok_and(|bytes| memchr::memmem::find(&bytes, text).is_some()),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn login(address: SocketAddr) -> io::Result<Stomp> {
    Stomp::connect(address, &[("login", LOGIN), ("passcode", PASSCODE)])
}

/// A queue that no other test, and no earlier run on the same broker, uses.
pub fn fresh_queue(theme: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("/queue/{theme}.{}.{count}", std::process::id())
}

/// A file with [`PASSCODE`], as `passcode_file` of a topology wants it.
pub fn passcode_file(scratch: &Scratch) -> PathBuf {
    scratch.write("broker.passcode", &format!("{PASSCODE}\n"))
}

/// What a topology says under `brokers` of a broker called `name`, reached at `address` as [`LOGIN`].
pub fn topology_entry(name: &str, address: SocketAddr, passcode_file: &Path) -> String {
    failover_entry(name, &[address], passcode_file)
}

/// As [`topology_entry`], of several addresses in failover order.
pub fn failover_entry(name: &str, addresses: &[SocketAddr], passcode_file: &Path) -> String {
    let urls: Vec<String> = addresses.iter().map(|address| format!("\"stomp://{address}\"")).collect();
    format!(
        "  {name}:\n    urls: [{}]\n    vhost: /\n    login: {LOGIN}\n    passcode_file: {}\n",
        urls.join(", "),
        passcode_file.display()
    )
}
