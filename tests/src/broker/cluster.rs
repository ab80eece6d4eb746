//! A cluster of RabbitMQ on loopback: each node has its own files and ports, and all have one epmd and one
//! cookie.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ports::Port;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::{until, when};

use super::{Ports, START_LIMIT, login, rabbitmq};

const COOKIE: &str = "packetboat";

/// Its nodes, each of which may be killed and started again.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    _epmd: Process,
    scratch: Scratch,
}

/// The process goes first when it is dropped, then its ports.
#[derive(Debug)]
struct Node {
    process: Process,
    ports: Ports,
    folder: PathBuf,
}

impl Cluster {
    /// Starts one of this many nodes, and waits until they have found each other and take a CONNECT.
    pub fn start(size: usize) -> Self {
        let scratch = Scratch::new("rabbitmq-cluster");
        let epmd = Arc::new(Port::free());
        let ports: Vec<Ports> = (0..size).map(|_| Ports::free(Arc::clone(&epmd))).collect();
        let epmd = rabbitmq::launch_epmd(scratch.path(), &ports[0]);
        let mut formation =
            "cluster_formation.peer_discovery_backend = rabbit_peer_discovery_classic_config\n".to_owned();
        for (number, ports) in ports.iter().enumerate() {
            let name = rabbitmq::node_name(ports);
            formation += &format!("cluster_formation.classic_config.nodes.{} = {name}\n", number + 1);
        }
        let mut cluster = Self { nodes: Vec::new(), _epmd: epmd, scratch };
        for (number, ports) in ports.into_iter().enumerate() {
            let folder = cluster.scratch.path().join(format!("node{number}"));
            std::fs::create_dir(&folder).expect("a folder can be made in the temporary folder");
            write_cookie(folder.join(".erlang.cookie"));
            rabbitmq::configure(&folder, &ports, &formation);
            let process = rabbitmq::launch_node(&folder, &ports);
            cluster.nodes.push(Node { process, ports, folder });
            if number == 0 {
                // The others join the first one: nobody founds a second cluster.
                cluster.ready(0);
            }
        }
        (1..size).for_each(|number| cluster.ready(number));
        cluster.wait_until_it_has_formed();
        cluster
    }

    /// Where the nodes listen for STOMP.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.ports.stomp.address()).collect()
    }

    /// kill -9 of one node.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].process.kill();
    }

    /// Starts it again on the same ports and files, and waits until it takes a CONNECT.
    pub fn restart(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.process = rabbitmq::launch_node(&node.folder, &node.ports);
        self.ready(number);
    }

    /// Runs `rabbitmqctl ARGUMENTS` on one node, and returns what it printed.
    pub fn control(&self, number: usize, arguments: &[&str]) -> String {
        let node = &self.nodes[number];
        rabbitmq::control(&node.folder, &node.ports, arguments)
    }

    fn ready(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        until(START_LIMIT, &format!("CONNECTED from node {number}"), || {
            if let Some(status) = node.process.ended() {
                panic!("node {number} ended with {status} while it was waited for");
            }
            login(node.ports.stomp.address()).map(drop)
        });
    }

    fn wait_until_it_has_formed(&self) {
        until(START_LIMIT, "one cluster", || {
            let status = self.control(0, &["cluster_status", "--formatter", "json"]);
            let status: serde_json::Value =
                serde_json::from_str(&status).map_err(|error| error.to_string())?;
            let running = status["running_nodes"].as_array().map_or(0, Vec::len);
            when(running == self.nodes.len(), format!("{running} nodes"))
        });
    }
}

fn write_cookie(file: PathBuf) {
    std::fs::write(&file, COOKIE).expect("the node's folder can be written");
    let only_ours = std::fs::Permissions::from_mode(0o400);
    std::fs::set_permissions(file, only_ours).expect("what was just written can be changed");
}
