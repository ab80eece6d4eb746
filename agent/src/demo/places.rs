//! Where everything of the demo listens, on free ports of loopback, and the topology that says so.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use topology::model::{Endpoint, Upstream};
use topology::{Mesh, Topology};

/// The agent that forwards over the link.
pub(super) const US: &str = "us-east";
/// The agent that dials nobody, and is collected from.
pub(super) const DMZ: &str = "dmz-web";
/// The agent where everything comes together.
pub(super) const EU: &str = "eu";
/// The consumer that drains it.
pub(super) const CONSUMER: &str = "graphite-eu";

/// The sockets: those of the link and of Graphite are open, those of the nodes are held.
pub(super) struct Places {
    pub(super) graphite: TcpListener,
    pub(super) link: TcpListener,
    pub(super) nodes: NodePorts,
}

/// Ports that the nodes open by themselves, as the topology tells them.
pub(super) struct NodePorts {
    pub(super) us: AgentPorts,
    pub(super) dmz: AgentPorts,
    pub(super) eu: AgentPorts,
    pub(super) consumer_http: HeldPort,
}

/// Those of one agent.
pub(super) struct AgentPorts {
    pub(super) stomp: HeldPort,
    pub(super) graphite: HeldPort,
    pub(super) http: HeldPort,
}

impl Places {
    pub(super) async fn find() -> io::Result<Self> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Ok(Self {
            graphite: TcpListener::bind(any).await?,
            link: TcpListener::bind(any).await?,
            nodes: NodePorts {
                us: AgentPorts::take()?,
                dmz: AgentPorts::take()?,
                eu: AgentPorts::take()?,
                consumer_http: HeldPort::take()?,
            },
        })
    }

    /// The mesh of the demo, with its spools in `dir`: read and checked as any topology file is.
    pub(super) fn mesh(&self, dir: &Path) -> Result<Mesh> {
        let NodePorts { us, dmz, eu, consumer_http } = &self.nodes;
        let topology = format!(
            r#"
mesh: demo
agents:
  {US}:
    region: us
    {us}
    forward: {{ to: {EU} }}
  {DMZ}:                            # dials nobody: {EU} comes to collect
    region: dmz
    {dmz}
  {EU}:                             # no forward: its subscribers have what it keeps
    region: eu
    {eu}
    collect: [{DMZ}]
consumers:
  {CONSUMER}:
    from: {EU}
    graphite: ["{graphite}"]
    connections: 2
    listen: {{ http: "{consumer_http}" }}
"#,
            us = us.keys(&dir.join(US))?,
            dmz = dmz.keys(&dir.join(DMZ))?,
            eu = eu.keys(&dir.join(EU))?,
            graphite = self.graphite.local_addr()?,
            consumer_http = consumer_http.address(),
        );
        let mut mesh = Topology::parse(&topology).context("the demo's topology")?;
        self.lead_over_the_link(&mut mesh)?;
        Ok(mesh)
    }

    /// The ocean is in no topology: what is dialled from the US comes out at the near end of the link.
    fn lead_over_the_link(&self, mesh: &mut Mesh) -> Result<()> {
        let near = self.link.local_addr()?;
        for link in mesh.agents.iter_mut().flat_map(|agent| &mut agent.forward) {
            if let Upstream::Stomp(upstream) = &mut link.upstream {
                upstream.endpoints = vec![Endpoint { host: near.ip().to_string(), port: near.port() }];
            }
        }
        Ok(())
    }
}

impl AgentPorts {
    fn take() -> io::Result<Self> {
        Ok(Self { stomp: HeldPort::take()?, graphite: HeldPort::take()?, http: HeldPort::take()? })
    }

    /// What the topology says of them, and of the spool in `dir`.
    fn keys(&self, dir: &Path) -> Result<String> {
        let [stomp, graphite, http] = [&self.stomp, &self.graphite, &self.http].map(HeldPort::address);
        // A JSON text is a YAML text, whatever the path holds.
        let dir = serde_json::to_string(dir)?;
        Ok(format!(
            r#"listen: {{ stomp: "{stomp}", graphite: "{graphite}", http: "{http}" }}
    spool: {{ dir: {dir}, max_size: 1GiB }}"#
        ))
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
        let agent = mesh.agent(DMZ).unwrap();
        assert_eq!(agent.listen.stomp, Some(places.nodes.dmz.stomp.address()));
        assert_eq!(agent.spool.dir, Path::new("/tmp/with: \"quotes\" {and} # more/dmz-web"));
        assert_eq!(mesh.consumer(CONSUMER).unwrap().http, Some(places.nodes.consumer_http.address()));
    }

    #[tokio::test]
    async fn only_the_us_is_led_over_the_link() {
        let places = Places::find().await.unwrap();
        let mesh = places.mesh(Path::new("/tmp/demo")).unwrap();
        let Upstream::Stomp(over) = &mesh.agent(US).unwrap().forward[0].upstream else { panic!() };
        assert_eq!(over.endpoints[0].to_string(), places.link.local_addr().unwrap().to_string());
        let collects = &mesh.agent(EU).unwrap().collect[0].upstream.endpoints[0];
        assert_eq!(collects.to_string(), places.nodes.dmz.stomp.address().to_string());
        let drains = &mesh.consumer(CONSUMER).unwrap().broker.endpoints[0];
        assert_eq!(drains.to_string(), places.nodes.eu.stomp.address().to_string());
    }
}
