//! A whole road: one agent, a link, a broker, two consumers, and carbon, before which every line is counted.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::{Broker, Kind, fresh_queue, passcode_file, topology_entry};
use crate::carbon::Carbon;
use crate::flight::Flight;
use crate::ledger::Ledger;
use crate::packetboat::Packetboat;
use crate::ports::Port;
use crate::proxy::Proxy;
use crate::scratch::Scratch;
use crate::wait::{until, when};

/// What two consumers share, and one may die.
const CONSUMERS: usize = 2;
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// All parts of it, to be broken one at a time. The first ones go first when it is dropped.
#[derive(Debug)]
pub struct Road {
    /// Takes STOMP and plaintext; forwards over `link`.
    pub agent: Packetboat,
    /// Drain the broker past the link.
    pub consumers: Vec<Packetboat>,
    /// Between the agent and the broker.
    pub link: Proxy,
    /// What was on its way over `link`.
    pub flight: Arc<Flight>,
    /// The way of each consumer into carbon.
    pub ways: Vec<Proxy>,
    /// What went into carbon, and what carbon has confirmed.
    pub ledger: Arc<Ledger>,
    /// The end.
    pub carbon: Carbon,
    /// Takes what the agent forwards, and gives it to the consumers.
    pub broker: Broker,
    /// Where it all goes through.
    pub queue: String,
    agent_ports: AgentPorts,
    _consumer_ports: Vec<Port>,
    _scratch: Scratch,
}

#[derive(Debug)]
struct AgentPorts {
    stomp: Port,
    graphite: Port,
    http: Port,
}

impl Road {
    /// Sets up one over the shared broker of this kind, and waits until the agent is ready. `link` is added to
    /// the agent's `forward` in the topology, such as `encoding: zstd`.
    pub fn over(kind: Kind, link_settings: &str) -> Self {
        let scratch = Scratch::new(&format!("road-{kind}"));
        let broker = Broker::shared(kind);
        let carbon = Carbon::start();
        let ledger = Arc::new(Ledger::default());
        let way = |_| Proxy::counting(carbon.address(), Arc::clone(&ledger));
        let ways: Vec<Proxy> = (0..CONSUMERS).map(way).collect();
        let flight = Arc::new(Flight::default());
        let link = Proxy::watching(broker.address(), Arc::clone(&flight));
        let queue = fresh_queue("road");
        let agent_ports = AgentPorts { stomp: Port::free(), graphite: Port::free(), http: Port::free() };
        let consumer_ports: Vec<Port> = (0..CONSUMERS).map(|_| Port::free()).collect();

        let mut text = format!("mesh: test\nqueue: {queue}\n");
        text += &brokers(&scratch, &link, &broker);
        text += &agents(&scratch, &agent_ports, link_settings);
        text += &consumers(&ways, &consumer_ports);
        let topology = scratch.write("topology.yaml", &text);

        let agent = Packetboat::agent("edge", &topology, agent_ports.http.address(), &scratch);
        let start = |(number, port): (usize, &Port)| {
            Packetboat::consumer(&consumer_name(number), &topology, port.address(), &scratch)
        };
        let consumers = consumer_ports.iter().enumerate().map(start).collect();
        Self {
            agent,
            consumers,
            link,
            flight,
            ways,
            ledger,
            carbon,
            broker,
            queue,
            agent_ports,
            _consumer_ports: consumer_ports,
            _scratch: scratch,
        }
    }

    /// Where the agent takes STOMP.
    pub fn stomp(&self) -> std::net::SocketAddr {
        self.agent_ports.stomp.address()
    }

    /// Where the agent takes plaintext.
    pub fn graphite(&self) -> std::net::SocketAddr {
        self.agent_ports.graphite.address()
    }

    /// Metrics that the agent has accepted and its broker has not confirmed.
    pub fn backlog(&self) -> f64 {
        let series = "packetboat_backlog_metrics{to=\"eu\"}";
        self.agent.metrics().get(series).expect("the backlog of a declared link is always shown")
    }

    /// Metrics that each consumer has delivered since its start.
    pub fn delivered(&self) -> Vec<f64> {
        let of = |consumer: &Packetboat| consumer.metrics().sum("packetboat_delivered_metrics_total");
        self.consumers.iter().map(|consumer| of(consumer).unwrap_or(0.0)).collect()
    }

    /// Waits until the agent's backlog is empty.
    pub fn drained(&self) {
        until(DRAIN_LIMIT, "an empty backlog", || {
            let backlog = self.backlog();
            when(backlog == 0.0, backlog)
        });
    }
}

/// Two names for one broker: the agent reaches it over the link, the consumers directly.
fn brokers(scratch: &Scratch, link: &Proxy, broker: &Broker) -> String {
    let passcode_file = passcode_file(scratch);
    let over_the_link = topology_entry("eu", link.address(), &passcode_file);
    let directly = topology_entry("eu-inside", broker.address(), &passcode_file);
    format!("brokers:\n{over_the_link}{directly}")
}

fn agents(scratch: &Scratch, ports: &AgentPorts, link_settings: &str) -> String {
    format!(
        "agents:\n  edge:\n    listen: {{ stomp: \"{}\", graphite: \"{}\", http: \"{}\" }}\n    \
         spool: {{ dir: {} }}\n    forward: {{ to: eu{}{link_settings} }}\n",
        ports.stomp.address(),
        ports.graphite.address(),
        ports.http.address(),
        scratch.path().join("spool").display(),
        if link_settings.is_empty() { "" } else { ", " },
    )
}

fn consumers(ways: &[Proxy], ports: &[Port]) -> String {
    let consumer = |(number, (way, port)): (usize, (&Proxy, &Port))| {
        format!(
            "  {}:\n    from: eu-inside\n    graphite: [\"{}\"]\n    connections: 2\n    listen: {{ http: \"{}\" }}\n",
            consumer_name(number),
            way.address(),
            port.address(),
        )
    };
    let all: String = ways.iter().zip(ports).enumerate().map(consumer).collect();
    format!("consumers:\n{all}")
}

fn consumer_name(number: usize) -> String {
    format!("graphite-{number}")
}
