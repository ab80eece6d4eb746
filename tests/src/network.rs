//! Hosts with a firewall between them: network namespaces of the kernel, each joined by a cable of its own to
//! a router that passes on only what is declared. A way through it can be made a black hole.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Says that this machine may not make namespaces, and that the tests that do are to be passed over.
const NO_NETWORKS: &str = "PACKETBOAT_NO_NETWORKS";
const NAMESPACES: &str = "/run/netns";

/// Whether networks can be tested here. Only whoever runs the tests may say that they cannot.
pub fn can_make_networks() -> bool {
    let said_not = std::env::var_os(NO_NETWORKS).is_some_and(|value| value == "1");
    if said_not {
        note(&format!("passed over: {NO_NETWORKS}=1 says that no network namespaces can be made here"));
    }
    !said_not
}

/// One machine, reached by others at its address only.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    /// Its place in the network, from 1.
    number: u8,
}

/// The hosts and the router between them. All of it goes when this is dropped.
#[derive(Debug)]
pub struct Network {
    router: Namespace,
}

impl Network {
    /// Hosts of these names, which reach nobody yet.
    ///
    /// # Panics
    /// If this machine does not permit it, with what would.
    pub fn of<const N: usize>(names: [&str; N]) -> (Self, [Host; N]) {
        let router = Namespace::new("router");
        router.run("sh", &["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
        router.nft(
            "table inet firewall {
                chain forward {
                    type filter hook forward priority filter; policy drop;
                    ct state established,related accept
                }
            }",
        );
        let mut number = 0;
        let hosts = names.map(|name| {
            number += 1;
            let host = Host { namespace: Namespace::new(name), number };
            host.join(&router);
            host
        });
        (Self { router }, hosts)
    }

    /// Lets `from` dial this port of `to`. What is dialled is answered.
    pub fn allow(&self, from: &Host, to: &Host, port: u16) {
        let (from, to) = (from.ip(), to.ip());
        self.router.nft(&format!(
            "add rule inet firewall forward ip saddr {from} ip daddr {to} tcp dport {port} accept"
        ));
    }

    /// From now on every packet between these two is dropped, and nobody is told, until [`Network::mend`].
    pub fn blackhole(&self, one: &Host, other: &Host) {
        let (one, other) = (one.ip(), other.ip());
        self.router.nft(&format!(
            "table inet hole {{
                chain forward {{
                    type filter hook forward priority filter - 10; policy accept;
                    ip saddr {one} ip daddr {other} drop
                    ip saddr {other} ip daddr {one} drop
                }}
            }}"
        ));
    }

    /// Ends the black hole.
    pub fn mend(&self) {
        self.router.nft("delete table inet hole");
    }
}

impl Host {
    /// Where others reach it.
    pub fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 2)
    }

    /// A port of it, as others reach it.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.ip(), port).into()
    }

    /// The command that runs what follows it on this host, for [`crate::packetboat::Packetboat::start`]. It
    /// becomes what it runs, so that signals reach that.
    pub fn wrapper(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.namespace.name]
    }

    /// Does `work` on this host: what it dials, binds and starts, its threads included, is there.
    ///
    /// # Panics
    /// If `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new(NAMESPACES).join(&self.namespace.name));
        let namespace = namespace.expect("a namespace that lives has its file");
        let enter = move || {
            let entered = move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            );
            entered.expect("root may enter a namespace");
            work()
        };
        let result = std::thread::scope(|scope| scope.spawn(enter).join());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Lays the cable to the router.
    fn join(&self, router: &Namespace) {
        let (own, name) = (&self.namespace, format!("host{}", self.number));
        let ip = ["link", "add", "eth0", "netns", &own.name, "type", "veth", "peer", "name", &name, "netns"];
        run_to_end("ip", &[&ip[..], &[&router.name]].concat());
        let [gateway, address] = [1, 2].map(|last| format!("10.77.{}.{last}", self.number));
        router.run("ip", &["address", "add", &format!("{gateway}/24"), "dev", &name]);
        router.run("ip", &["link", "set", &name, "up"]);
        own.run("ip", &["address", "add", &format!("{address}/24"), "dev", "eth0"]);
        own.run("ip", &["link", "set", "lo", "up"]);
        own.run("ip", &["link", "set", "eth0", "up"]);
        own.run("ip", &["route", "add", "default", "via", &gateway]);
    }
}

/// One network namespace with a name. It is gone, for new processes, when dropped.
#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(theme: &str) -> Self {
        // `tests/run` deletes what a killed test of its run has left, and knows it by this mark.
        let run = std::env::var("PACKETBOAT_TEST_RUN").unwrap_or_default();
        let name = format!("packetboat-{run}-{}-{theme}", std::process::id());
        run_to_end("ip", &["netns", "add", &name]);
        Self { name }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        run_to_end("ip", &[&["netns", "exec", &self.name, program], arguments].concat());
    }

    fn nft(&self, rules: &str) {
        self.run("nft", &[rules]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What stays is said by `tests/run`.
        Command::new("ip").args(["netns", "delete", &self.name]).status().ok();
    }
}

fn run_to_end(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {said}\nThis test makes network namespaces and a firewall, which needs root, iproute2 \
         and nftables; {NO_NETWORKS}=1 passes over such tests where that cannot be had"
    );
}

fn note(text: &str) {
    // Nobody is left to tell if stderr is gone.
    writeln!(std::io::stderr(), "{text}").ok();
}
