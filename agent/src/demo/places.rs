//! Where everything of the demo listens, on free ports of loopback, and the topology that says so.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use topology::{Mesh, Topology};

/// The agent's name in the topology.
pub(super) const AGENT: &str = "us-east";
/// The consumer's.
pub(super) const CONSUMER: &str = "graphite-eu";

/// The sockets: those of the stand-ins are open, those of the nodes are held.
pub(super) struct Places {
    pub(super) broker: TcpListener,
    pub(super) graphite: TcpListener,
    pub(super) link: TcpListener,
    pub(super) nodes: NodePorts,
}

/// Ports that the nodes open by themselves, as the topology tells them.
pub(super) struct NodePorts {
    pub(super) agent_stomp: HeldPort,
    pub(super) agent_graphite: HeldPort,
    pub(super) agent_http: HeldPort,
    pub(super) consumer_http: HeldPort,
}

impl Places {
    pub(super) async fn find() -> io::Result<Self> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Ok(Self {
            broker: TcpListener::bind(any).await?,
            graphite: TcpListener::bind(any).await?,
            link: TcpListener::bind(any).await?,
            nodes: NodePorts {
                agent_stomp: HeldPort::take()?,
                agent_graphite: HeldPort::take()?,
                agent_http: HeldPort::take()?,
                consumer_http: HeldPort::take()?,
            },
        })
    }

    /// The mesh of the demo, with its spool in `dir`: read and checked as any topology file is.
    pub(super) fn mesh(&self, dir: &Path) -> Result<Mesh> {
        // A JSON text is a YAML text, whatever the path holds.
        let spool = serde_json::to_string(&dir.join(AGENT))?;
        let NodePorts { agent_stomp, agent_graphite, agent_http, consumer_http } = &self.nodes;
        let topology = format!(
            r#"
mesh: demo
brokers:
  eu: {{ urls: ["stomp://{broker}"] }}
  eu-from-us: {{ urls: ["stomp://{link}"] }}    # the same broker, over the link
agents:
  {AGENT}:
    region: us
    listen: {{ stomp: "{stomp}", graphite: "{plaintext}", http: "{agent_http}" }}
    spool: {{ dir: {spool}, max_size: 1GiB }}
    forward: {{ name: eu, to: eu-from-us, encoding: zstd }}
consumers:
  {CONSUMER}:
    from: eu
    graphite: ["{graphite}"]
    connections: 2
    listen: {{ http: "{consumer_http}" }}
"#,
            broker = self.broker.local_addr()?,
            link = self.link.local_addr()?,
            stomp = agent_stomp.address(),
            plaintext = agent_graphite.address(),
            agent_http = agent_http.address(),
            graphite = self.graphite.local_addr()?,
            consumer_http = consumer_http.address(),
        );
        Topology::parse(&topology).context("the demo's topology")
    }
}

/// A port that nobody else is given while this lives.
///
/// It is bound and does not listen. The kernel gives a bound port to nobody who asks for any, while a
/// listener that asks for this one, with `SO_REUSEADDR` as tokio sets it, gets it.
#[derive(Debug)]
pub(super) struct HeldPort {
    address: SocketAddr,
    _socket: Socket,
}

impl HeldPort {
    fn take() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { address, _socket: socket })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn a_held_port_goes_to_who_asks_for_it_and_to_nobody_else() {
        let held: Vec<HeldPort> = (0..200).map(|_| HeldPort::take().unwrap()).collect();
        let ports: HashSet<u16> = held.iter().map(|held| held.address().port()).collect();
        assert_eq!(ports.len(), held.len());
        let address = held[0].address();
        let listener = TcpListener::bind(address).await.unwrap();
        let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        assert!(!ports.contains(&any.local_addr().unwrap().port()));
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn the_topology_is_a_good_one_wherever_the_spool_is() {
        let places = Places::find().await.unwrap();
        let mesh = places.mesh(Path::new("/tmp/with: \"quotes\" {and} # more")).unwrap();
        let agent = mesh.agent(AGENT).unwrap();
        assert_eq!(agent.listen.stomp, Some(places.nodes.agent_stomp.address()));
        assert_eq!(agent.spool.dir, Path::new("/tmp/with: \"quotes\" {and} # more/us-east"));
        assert_eq!(mesh.consumer(CONSUMER).unwrap().http, Some(places.nodes.consumer_http.address()));
    }
}
