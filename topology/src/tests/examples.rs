//! The topologies we ship: each one is read and compared with what its comments promise.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::examples;
use crate::Topology;
use crate::model::{
    Agent, Broker, Encoding, Endpoint, GraphiteConfirm, GraphiteUpstream, Link, Listen, Mesh, SpoolSettings,
    StompUpstream, Upstream, WhenFull,
};

fn example(name: &str) -> Mesh {
    Topology::load(&examples()[name]).unwrap_or_else(|faults| panic!("{faults}"))
}

fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint { host: host.to_owned(), port }
}

#[test]
fn every_example_is_tested_below() {
    let names: Vec<_> = examples().into_keys().collect();
    assert_eq!(names, ["direct.yaml", "dmz.yaml", "failover.yaml", "smallest.yaml", "world.yaml"]);
}

#[test]
fn the_smallest_example_is_full_of_defaults() {
    let loopback = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let eu = StompUpstream {
        endpoints: vec![endpoint("mq1.eu.example.net", 61613)],
        vhost: "/".to_owned(),
        login: None,
        passcode_file: None,
        send_headers: Vec::new(),
        subscribe_headers: Vec::new(),
    };
    let link = Link {
        name: "eu".to_owned(),
        upstream: Upstream::Stomp(eu.clone()),
        patterns: Vec::new(),
        queue: "/queue/graphite".to_owned(),
        encoding: Encoding::Plain,
        max_size_bytes: None,
        when_full: WhenFull::Refuse,
    };
    let edge = Agent {
        name: "edge".to_owned(),
        region: None,
        host: None,
        listen: Listen { stomp: loopback(61613), graphite: loopback(2003), http: loopback(9613) },
        spool: SpoolSettings {
            dir: "/var/lib/packetboat/edge".into(),
            max_size_bytes: None,
            when_full: WhenFull::Refuse,
            commit_interval: Duration::from_millis(20),
        },
        forward: vec![link],
    };
    let expected = Mesh {
        name: "acme".to_owned(),
        queue: "/queue/graphite".to_owned(),
        brokers: vec![Broker { name: "eu".to_owned(), stomp: eu }],
        agents: vec![edge],
        consumers: Vec::new(),
    };
    assert_eq!(example("smallest.yaml"), expected);
}

#[test]
fn the_failover_example_has_a_pair_of_brokers_and_a_consumer() {
    let mesh = example("failover.yaml");
    let Upstream::Stomp(eu) = &mesh.agent("us-east").unwrap().forward[0].upstream else { panic!() };
    assert_eq!(eu.endpoints, [endpoint("mq1.eu.example.net", 61613), endpoint("mq2.eu.example.net", 61613)]);
    assert_eq!(eu.login.as_deref(), Some("packetboat"));
    assert_eq!(eu.passcode_file.as_deref(), Some(Path::new("/etc/packetboat/eu.passcode")));
    assert_eq!(eu.send_headers, [("x-queue-type".to_owned(), "quorum".to_owned())]);
    let consumer = mesh.consumer("graphite-eu").unwrap();
    assert_eq!(consumer.broker, *eu);
    assert_eq!(consumer.queue, "/queue/graphite");
    assert_eq!(consumer.http, Some(SocketAddr::from(([127, 0, 0, 1], 9614))));
}

#[test]
fn the_direct_example_goes_straight_to_graphite() {
    let mesh = example("direct.yaml");
    let expected = GraphiteUpstream {
        endpoints: vec![endpoint("graphite.example.net", 2003)],
        connections: 2,
        confirm: GraphiteConfirm::HalfClose,
    };
    let link = &mesh.agent("edge").unwrap().forward[0];
    assert_eq!(link.upstream, Upstream::Graphite(expected));
    assert_eq!(link.name, "graphite");
}

#[test]
fn the_dmz_example_leads_through_the_agent_at_the_edge() {
    let mesh = example("dmz.yaml");
    let Upstream::Stomp(edge) = &mesh.agent("dmz-web").unwrap().forward[0].upstream else { panic!() };
    assert_eq!(edge.endpoints, [endpoint("packetboat-1.eu.example.net", 61613)]);
    let security = &mesh.agent("eu-edge").unwrap().forward[0];
    assert!(security.patterns[1].matches("db1.sshd.logins.failed"));
    assert_eq!((security.max_size_bytes, security.when_full), (Some(1 << 30), WhenFull::DropOldest));
}

#[test]
fn the_world_example_merges_what_its_anchors_say() {
    let mesh = example("world.yaml");
    let second = mesh.agent("us-east-2").unwrap();
    assert_eq!(second.host.as_deref(), Some("packetboat-2.us.example.net"));
    assert_eq!(second.spool.dir, Path::new("/var/lib/packetboat/us-east-2"));
    assert_eq!(second.forward, mesh.agent("us-east-1").unwrap().forward);
    let Upstream::Stomp(eu) = &second.forward[1].upstream else { panic!() };
    assert_eq!(eu.login.as_deref(), Some("packetboat-us"));
    assert_eq!(eu.endpoints[2], endpoint("2001:db8:e::61", 61613));
    assert_eq!(eu.endpoints[2].to_string(), "[2001:db8:e::61]:61613");
    assert_eq!(mesh.consumers.len(), 4);
}
