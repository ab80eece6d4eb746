//! The topologies we ship: each one is read and compared with what its comments promise.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::examples;
use crate::Topology;
use crate::model::{
    Agent, Broker, Encoding, Endpoint, GraphiteConfirm, GraphiteUpstream, Limits, Link, LinkQueue, Listen,
    Mesh, PasscodeHash, Queue, SpoolSettings, StompUpstream, Upstream, WhenFull,
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
    let expected = [
        "direct.yaml",
        "dmz.yaml",
        "failover-agents.yaml",
        "failover.yaml",
        "mesh.yaml",
        "smallest.yaml",
        "world.yaml",
    ];
    assert_eq!(names, expected);
}

/// The shipped file as it is, and with all its examples in use: no blank follows the `#` of an example.
#[test]
fn the_shipped_topology_is_right_with_all_its_examples() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/topology.yaml");
    let shipped = std::fs::read_to_string(&path).unwrap();
    let example = |line: &str| {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        match rest.strip_prefix('#') {
            Some(example) if example.starts_with(|char| char != ' ') => format!("{indent}{example}\n"),
            _ => format!("{line}\n"),
        }
    };
    let nodes = |text: &str| {
        let mesh = Topology::parse(text).unwrap_or_else(|faults| panic!("{faults}"));
        (mesh.queues.len(), mesh.brokers.len(), mesh.agents.len(), mesh.consumers.len())
    };
    assert_eq!(nodes(&shipped), (1, 1, 1, 0));
    assert_eq!(nodes(&shipped.lines().map(example).collect::<String>()), (2, 2, 5, 2));
}

#[test]
fn the_mesh_example_has_agents_only_and_a_lock_on_every_door() {
    let mesh = example("mesh.yaml");
    assert_eq!(
        mesh.queues.iter().map(|queue| &*queue.name).collect::<Vec<_>>(),
        ["/queue/graphite", "/queue/billing"]
    );
    assert_eq!((mesh.brokers.len(), mesh.queues[1].max_size_bytes), (0, Some(1 << 30)));

    let us = mesh.agent("us-east").unwrap();
    let Upstream::Stomp(hub) = &us.forward[0].upstream else { panic!() };
    assert_eq!(hub.endpoints, [endpoint("packetboat-1.eu.example.net", 61614)]);
    let tls = hub.tls.as_ref().unwrap();
    assert_eq!(tls.ca.as_deref(), Some(Path::new("/etc/packetboat/ca.pem")));
    assert_eq!(tls.identity.as_ref().unwrap().cert, Path::new("/etc/packetboat/us-east.pem"));
    assert_eq!((us.forward[0].queues.len(), us.forward[0].encoding), (2, Encoding::Zstd));
    assert_eq!(us.users[0].prefixes, ["us.shop.", "us.web."]);
    assert!(matches!(&us.users[0].passcode, Some(PasscodeHash::Text(hash)) if hash.ends_with("qetpuY")));

    let dmz = mesh.agent("dmz-web").unwrap();
    assert!(dmz.forward.is_empty() && dmz.serve && !us.serve);
    assert_eq!(dmz.users[1].node.as_deref(), Some("eu-hub"));
    let hub = mesh.agent("eu-hub").unwrap();
    let collected: Vec<_> = hub.collect.iter().map(|it| (&*it.name, &*it.from, &*it.queue)).collect();
    assert_eq!(
        collected,
        [("dmz-web", "dmz-web", "/queue/graphite"), ("dmz-billing", "dmz-web", "/queue/billing")]
    );
    let peers: Vec<_> = mesh.peers("eu-hub").into_iter().map(|peer| (peer.name, peer.origins)).collect();
    let peer = |name: &str, origins: &[&str]| {
        (name.to_owned(), origins.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(
        peers,
        [peer("graphite-billing", &[]), peer("graphite-eu", &[]), peer("us-east", &["us-east"])]
    );
    assert_eq!(mesh.origins("eu-hub"), ["dmz-web", "eu-hub", "us-east"]);

    let graphite = mesh.consumer("graphite-eu").unwrap();
    assert!(graphite.broker.is_agent && graphite.http.is_none());
    assert_eq!((graphite.https.map(|addr| addr.port()), graphite.tls.is_some()), (Some(9614), true));
    let billing = mesh.consumer("graphite-billing").unwrap();
    assert_eq!((&*billing.queue, billing.broker.login.as_deref()), ("/queue/billing", Some("accounting")));
}

#[test]
fn the_failover_agents_example_has_pairs() {
    let mesh = example("failover-agents.yaml");
    for name in ["us-1", "us-2"] {
        let link = &mesh.agent(name).unwrap().forward[0];
        let Upstream::Stomp(eu) = &link.upstream else { panic!() };
        assert_eq!(
            eu.endpoints,
            [endpoint("packetboat-1.eu.example.net", 61614), endpoint("packetboat-2.eu.example.net", 61614)]
        );
        assert_eq!((&*link.name, eu.prefer_first, eu.is_agent), ("eu", true, true));
    }
    for name in ["eu-1", "eu-2"] {
        let Upstream::Stomp(eu) = &mesh.agent(name).unwrap().forward[0].upstream else { panic!() };
        assert_eq!((eu.endpoints.len(), eu.prefer_first), (2, true));
        assert!(eu.tls.as_ref().is_some_and(|tls| tls.identity.is_none()));
        let peers: Vec<_> = mesh.peers(name).into_iter().map(|peer| peer.name).collect();
        assert_eq!(peers, ["us-1", "us-2"]);
    }
    assert_eq!(mesh.consumers[1].broker, mesh.brokers[0].stomp);
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
        tls: None,
        prefer_first: false,
        is_agent: false,
    };
    let link = Link {
        name: "eu".to_owned(),
        to: vec!["eu".to_owned()],
        upstream: Upstream::Stomp(eu.clone()),
        patterns: Vec::new(),
        queues: vec![LinkQueue {
            queue: "/queue/graphite".to_owned(),
            destination: "/queue/graphite".to_owned(),
        }],
        encoding: Encoding::Plain,
        max_size_bytes: None,
        when_full: WhenFull::Refuse,
    };
    let edge = Agent {
        name: "edge".to_owned(),
        region: None,
        host: None,
        listen: Listen {
            stomp: loopback(61613),
            graphite: loopback(2003),
            http: loopback(9613),
            ..Listen::default()
        },
        tls: None,
        users: Vec::new(),
        limits: Limits::default(),
        collect: Vec::new(),
        serve: false,
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
        queues: vec![Queue {
            name: "/queue/graphite".to_owned(),
            max_size_bytes: None,
            when_full: WhenFull::Refuse,
        }],
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
