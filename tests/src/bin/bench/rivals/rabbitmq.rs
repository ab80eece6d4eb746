//! RabbitMQ, as Debian packages it, by its STOMP plugin. Its queue is lazy: with a backlog, as here, anything
//! else would hold the lines in memory as well.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use ::tests::broker::{Broker, Kind};
use anyhow::Result;

use super::rival::{Rival, Server, WayIn, WayOut, installed};

const RABBITMQ: Rival = Rival {
    name: "RabbitMQ",
    package: Some("rabbitmq-server"),
    program: || installed("rabbitmq-server"),
    durability: "",
    way_in: WayIn::Stomp { lines_per_message: 500 },
    way_out: WayOut::StompConsumer { prefetch: 200 },
    lines: 4_000_000,
    paced_rate: 10_000,
    forgets: false,
    server: || Box::new(Node(None)),
};

pub(super) const RIVALS: [Rival; 2] = [
    Rival {
        name: "RabbitMQ, 500 lines a message",
        durability: "A receipt means synced, in groups: a confirm of a durable, lazy classic queue for a persistent message.",
        ..RABBITMQ
    },
    Rival {
        name: "RabbitMQ, 1 line a message",
        durability: "As with 500 lines.",
        way_in: WayIn::Stomp { lines_per_message: 1 },
        way_out: WayOut::StompConsumer { prefetch: 2000 },
        lines: 60_000,
        paced_rate: 5_000,
        ..RABBITMQ
    },
];

/// There is a broker once it was started.
struct Node(Option<Broker>);

impl Server for Node {
    fn start(&mut self) -> Result<()> {
        match &mut self.0 {
            Some(broker) => broker.restart(),
            None => {
                let broker = self.0.insert(Broker::start(Kind::RabbitMq));
                broker.control(&["set_policy", "lazy", ".*", r#"{"queue-mode":"lazy"}"#]);
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(broker) = &mut self.0 {
            broker.stop();
        }
        Ok(())
    }

    fn process_ids(&self) -> Vec<u32> {
        self.0.as_ref().map(Broker::process_ids).unwrap_or_default()
    }

    fn folder(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), Broker::folder)
    }

    fn way_in(&self) -> SocketAddr {
        self.0.as_ref().map_or((Ipv4Addr::UNSPECIFIED, 0).into(), Broker::address)
    }

    fn way_out(&self) -> SocketAddr {
        self.way_in()
    }
}
