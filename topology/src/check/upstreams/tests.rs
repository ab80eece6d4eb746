//! Where the links of a file lead.

use crate::Topology;
use std::path::Path;

use crate::model::{Encoding, Mesh, StompUpstream, Upstream};
use crate::tests::{check, check_agent};

/// `a` on line 3 forwards to `b` on line 4.
fn two(a: &str, b: &str) -> String {
    format!(
        "mesh: m\nagents:\n  a: {{ listen: {{ graphite: 127.0.0.1:1 }}, {a} forward: {{ to: b }} }}\n  b: {{ open: true, {b} }}\n"
    )
}

#[test]
fn an_agent_does_not_forward_to_itself() {
    check_agent(
        "forward: { to: a }",
        "line 4: agents.a.forward.to: `a` would forward to itself; name the broker or agent that comes next",
    );
}

#[test]
fn an_agent_takes_the_queue_of_the_mesh_only() {
    let text = |queue| {
        format!(
            "mesh: m\nagents:\n  a: {{ host: x, forward: {{ to: b, queue: {queue} }} }}\n  \
                     b: {{ host: y, open: true, listen: {{ stomp: 0.0.0.0:7 }} }}\n"
        )
    };
    check(
        &text("/queue/other"),
        "line 3: agents.a.forward.queue: agent `b` takes `/queue/graphite` and no other destination; remove the key",
    );
    assert!(Topology::parse(&text("/queue/graphite")).is_ok());
}

/// `a` on line 4 dials; `eu` and `us` are brokers over TLS and in the clear, `b`, `c` and `d` agents.
fn dialled(a: &str) -> String {
    let tls = "tls: { cert: /b.pem, key: /b.key }";
    format!(
        "mesh: m
brokers: {{ eu: {{ urls: [stomp+tls://mq], tls: {{ ca: /eu.pem }} }}, us: {{ urls: [stomp://mq] }} }}
agents:
  a: {{ host: a, listen: {{ stomp: 127.0.0.1:1 }}, {a} }}
  b: {{ host: b, open: true, listen: {{ stomp+tls: 0.0.0.0:8 }}, {tls} }}
  c: {{ host: c, open: true, listen: {{ stomp+tls: 0.0.0.0:8 }}, {tls} }}
  d: {{ host: d, open: true, listen: {{ stomp: 0.0.0.0:7 }} }}
  e: {{ host: e, open: true, listen: {{ stomp: 0.0.0.0:7 }} }}
"
    )
}

fn mesh(a: &str) -> Mesh {
    Topology::parse(&dialled(a)).unwrap_or_else(|faults| panic!("{faults}"))
}

fn upstream(a: &str) -> StompUpstream {
    let link = mesh(a).agents.remove(0).forward.remove(0);
    let Upstream::Stomp(upstream) = link.upstream else { panic!() };
    upstream
}

fn check_endpoints(to: &str, expected: &[&str]) {
    let endpoints = upstream(&format!("forward: {{ to: {to} }}")).endpoints;
    assert_eq!(endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

#[test]
fn a_link_may_have_agents_in_failover_order() {
    check_endpoints("[d, e]", &["d:7", "e:7"]);
    check_endpoints("[c, b]", &["c:8", "b:8"]);
    check_endpoints("[d]", &["d:7"]);
    let link = mesh("forward: { to: [d, e], prefer_first: true }").agents.remove(0).forward.remove(0);
    assert_eq!((&*link.name, &*link.to), ("d", &["d".to_owned(), "e".to_owned()][..]));
    assert!(upstream("forward: { to: [d, e], prefer_first: true }").prefer_first);
    assert!(!upstream("forward: { to: [d, e] }").prefer_first);
}

#[test]
fn a_failover_list_is_of_agents() {
    let check_to = |to: &str, expected: &str| {
        check(
            &dialled(&format!("forward: {{ to: {to}, name: x }}")),
            &format!("line 4: agents.a.forward.to{expected}"),
        );
    };
    let broker =
        "is a broker in a failover list; a broker has its own list: name it alone, with all its `urls`";
    check_to("[us, d]", &format!("[0]: `us` {broker}"));
    check_to("[d, us]", &format!("[1]: `us` {broker}"));
    check_to("[d, graphite://g]", "[1]: is a URL in a failover list; write one link for each Graphite");
    check_to("[d, d]", "[1]: `d` is named twice; keep one of the two");
    check_to("[]", ": is an empty list; name agents in failover order, such as [eu-a, eu-b]");
    check_to("[d, a]", "[1]: `a` would forward to itself; name the broker or agent that comes next");
    check_to(
        "[d, f]",
        "[1]: no broker or agent is called `f`; declare it under `brokers` or `agents`, or name one that is there, such as `eu`, `us`, `b`, `c`, `d`",
    );
    check_to(
        "[b, d]",
        "[1]: `b` and `d` are not both reached over TLS; give both a `stomp+tls` listener, or neither",
    );
}

/// The CA and the certificate that are used.
fn check_tls(a: &str, expected: (Option<&str>, Option<&str>)) {
    let tls = upstream(a).tls.unwrap();
    let cert = tls.identity.map(|identity| identity.cert);
    assert_eq!(
        (tls.ca.as_deref(), cert.as_deref()),
        (expected.0.map(Path::new), expected.1.map(Path::new)),
        "{a}"
    );
}

#[test]
fn what_is_said_nearest_counts_over_tls() {
    check_tls("forward: { to: b }", (None, None));
    let own = "tls: { ca: /a.ca, cert: /a.pem, key: /a.key }";
    check_tls(&format!("{own}, forward: {{ to: b }}"), (Some("/a.ca"), Some("/a.pem")));
    check_tls(&format!("{own}, forward: {{ to: b, tls: {{ ca: /l }} }}"), (Some("/l"), Some("/a.pem")));
    check_tls(
        &format!("{own}, forward: {{ to: b, tls: {{ cert: /l, key: /k }} }}"),
        (Some("/a.ca"), Some("/l")),
    );
    // A broker is shown no certificate that was not meant for it.
    check_tls(&format!("{own}, forward: {{ to: eu }}"), (Some("/eu.pem"), None));
    check_tls("forward: { to: eu, tls: { cert: /l, key: /k } }", (Some("/eu.pem"), Some("/l")));
    check_tls("forward: { to: eu, tls: { ca: /l } }", (Some("/l"), None));
    let consumer = "consumers: { x: { from: eu, graphite: [g], tls: { cert: /x, key: /k } } }";
    let broker =
        Topology::parse(&format!("{}{consumer}", dialled("region: x"))).unwrap().consumers.remove(0).broker;
    let tls = broker.tls.unwrap();
    assert_eq!(
        (tls.ca.as_deref(), &*tls.identity.unwrap().cert),
        (Some(Path::new("/eu.pem")), Path::new("/x"))
    );
}

#[test]
fn tls_is_said_to_who_speaks_it() {
    let agent = "says nothing to `d`, which is not reached over TLS; add `stomp+tls: 0.0.0.0:61614` to the `listen` of `d`, \
                     or remove the key";
    let broker = "says nothing to `us`, which is not reached over TLS; write stomp+tls:// in its `urls`, or remove the key";
    for (settings, expected) in [
        ("forward: { to: d, tls: { ca: /x } }", format!("forward.tls: {agent}")),
        ("forward: { to: [d, e], tls: { ca: /x } }", format!("forward.tls: {agent}")),
        ("collect: { from: d, tls: { ca: /x } }", format!("collect.tls: {agent}")),
        ("collect: { from: us, tls: { ca: /x } }", format!("collect.tls: {broker}")),
    ] {
        check(&dialled(settings), &format!("line 4: agents.a.{expected}"));
    }
    let consumer = |rest| {
        format!(
            "{}consumers: {{ x: {{ from: us, graphite: [g], tls: {{ cert: /x, key: /k }}, {rest} }} }}",
            dialled("region: x")
        )
    };
    check(&consumer("queue: /q"), &format!("line 9: consumers.x.tls: {broker}"));
    assert!(Topology::parse(&consumer("listen: { https: 127.0.0.1:1 }")).is_ok());
}

#[test]
fn agents_are_sent_what_is_stored() {
    let encoding =
        |link: &str| mesh(&format!("forward: {{ {link} }}")).agents.remove(0).forward.remove(0).encoding;
    assert_eq!(encoding("to: d"), Encoding::Zstd);
    assert_eq!(encoding("to: d, encoding: zstd"), Encoding::Zstd);
    assert_eq!(encoding("to: d, encoding: plain"), Encoding::Plain);
    assert_eq!(encoding("to: us"), Encoding::Plain);
    assert_eq!(encoding("to: graphite://g, name: g"), Encoding::Plain);
}

#[test]
fn a_consumer_drains_what_an_agent_has() {
    let text = |queue: &str| {
        format!("{}consumers: {{ x: {{ from: d, graphite: [g], {queue} }} }}", dialled("region: x"))
    };
    let consumer = Topology::parse(&text("confirm: kernel")).unwrap().consumers.remove(0);
    assert_eq!((&*consumer.from, consumer.broker.is_agent, &*consumer.queue), ("d", true, "/queue/graphite"));
    check(
        &text("queue: /queue/other"),
        "line 9: consumers.x.queue: agent `d` takes `/queue/graphite` and no other destination; remove the key",
    );
    let secret = "mesh: m\nconsumers: { x: { from: 'stomp://me:geheim@mq', graphite: [g] } }";
    check(
        secret,
        "line 2: consumers.x.from: a login inside an address ends up in logs and process lists; remove it, and use \
             `login` and `passcode_file`",
    );
}

/// One fault of a node is not told again by everybody who leads there.
#[test]
fn a_faulty_node_is_told_once() {
    let rest = "`x` is no IP address and port; write it like 0.0.0.0:61613, or \"[::]:61613\" in quotes";
    check(&two("", "listen: { stomp: x }"), &format!("line 4: agents.b.listen.stomp: {rest}"));
    check(
        "mesh: m\nbrokers: { eu: 7 }\nagents: { a: { forward: { to: eu } } }",
        "line 2: brokers.eu: is the number 7, and a map is wanted; write a map with keys like `urls`, `vhost`, \
             `login`, `passcode_file`, `tls`, `prefer_first`, `headers`",
    );
    check(
        "mesh: m\nagents: { a: { forward: { to: b } }, b: [] }",
        "line 2: agents.b: is a list, and a map is wanted; write a map with keys like `region`, `host`, `open`, \
             `listen`, `tls`, `users`, `limits`, `spool`, `forward`, `collect`, `serve`",
    );
}
