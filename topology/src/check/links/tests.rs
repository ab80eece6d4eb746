//! What a link may say.

use crate::Topology;
use crate::model::{GraphiteConfirm, Upstream, WhenFull};
use crate::tests::{agent, check, check_agent};

#[test]
fn a_forward_is_a_link_or_a_list_of_links() {
    assert_eq!(agent("forward: []").forward.len(), 0);
    assert_eq!(agent("forward: { to: eu }").forward, agent("forward: [{ to: eu }]").forward);
    check_agent(
        "forward: [eu]",
        "line 4: agents.a.forward[0]: is the text `eu`, and a map is wanted; write a map with keys like `to`, `name`, \
             `match`, `queue`, `login`, `passcode_file`, `tls`, `prefer_first`, `encoding`, `max_size`, `when_full`, `connections`, `confirm`",
    );
    let mend = "name a broker, an agent or graphite://HOST:PORT";
    check_agent("forward: {}", &format!("line 4: agents.a.forward.to: is missing; {mend}"));
    check_agent(
        "forward: { to: http://x }",
        &format!("line 4: agents.a.forward.to: http:// is not spoken here; {mend}"),
    );
}

#[test]
fn a_broker_goes_by_its_name() {
    check_agent(
        "forward: { name: x, to: stomp://mq }",
        "line 4: agents.a.forward.to: a STOMP broker is not named by its URL; declare it under `brokers`, with its \
             `urls`, and write its name here",
    );
}

#[test]
fn a_link_to_a_url_has_a_name() {
    check_agent(
        "forward: { to: graphite://g }",
        "line 4: agents.a.forward.name: is missing; name each link to a URL: its backlog and its metrics go by that \
             name",
    );
}

#[test]
fn link_names_are_used_once_in_an_agent() {
    check_agent(
        "forward: [{ to: eu }, { name: eu, to: graphite://g }]",
        "line 4: agents.a.forward[1].name: `eu` is the name of agents.a.forward[0] on line 4 too; give each link a \
             `name` of its own",
    );
    check_agent(
        "forward: { to: eu, name: 'a:b' }",
        "line 4: agents.a.forward.name: `a:b` is no name; use up to 64 letters, digits, `-` and `_`, beginning with a \
             letter or digit",
    );
}

#[test]
fn options_fit_what_they_are_said_to() {
    let fault =
        |key, far_end| format!("line 4: agents.a.forward.{key}: says nothing to {far_end}; remove the key");
    check_agent(
        "forward: { to: eu, connections: 2, confirm: kernel }",
        &[fault("connections", "a STOMP upstream"), fault("confirm", "a STOMP upstream")].join("\n"),
    );
    check_agent(
        "forward: { name: g, to: graphite://g, queue: /q, login: x, tls: {}, prefer_first: true, encoding: plain }",
        &["queue", "login", "tls", "prefer_first", "encoding"].map(|key| fault(key, "a Graphite")).join("\n"),
    );
}

#[test]
fn a_graphite_link_has_a_pool() {
    let link = agent("forward: { name: g, to: 'graphite://g:7', connections: 5, confirm: kernel }")
        .forward
        .remove(0);
    let Upstream::Graphite(graphite) = link.upstream else { panic!() };
    assert_eq!(graphite.endpoints[0].to_string(), "g:7");
    assert_eq!((graphite.connections, graphite.confirm), (5, GraphiteConfirm::Kernel));
}

#[test]
fn every_metric_has_somewhere_to_go() {
    check_agent(
        "forward: [{ to: eu, match: cpu.* }, { to: eu, name: b, match: [disk.*, net.*] }]",
        "line 4: agents.a.forward: each link has a `match`, and metrics that match none would have nowhere to go; add \
             a link without `match`, or one with `match: \"**\"`",
    );
    agent("forward: [{ to: eu, match: cpu.* }, { to: eu, name: b, match: '**' }]");
    agent("forward: [{ to: eu, match: cpu.* }, { to: eu, name: b }]");
}

/// `a` on line 5 with two queues, a broker `eu` and an agent `b`.
fn with_queues(a: &str) -> String {
    format!(
        "mesh: m\nqueues: [/queue/b]\nbrokers: {{ eu: {{ urls: [stomp://mq] }} }}\nagents:\n  \
             a: {{ host: a, {a} }}\n  b: {{ host: b, open: true, listen: {{ stomp: 0.0.0.0:1 }} }}\n"
    )
}

fn check_queues(link: &str, expected: &[(&str, &str)]) {
    let mesh = Topology::parse(&with_queues(&format!("serve: true, forward: {link}"))).unwrap();
    let queues = &mesh.agents[0].forward[0].queues;
    let queues: Vec<_> = queues.iter().map(|it| (&*it.queue, &*it.destination)).collect();
    assert_eq!(queues, expected, "{link}");
}

#[test]
fn a_link_carries_every_queue_or_the_one_it_names() {
    let (default, b) = ("/queue/graphite", "/queue/b");
    check_queues("{ to: eu }", &[(default, default), (b, b)]);
    check_queues("{ to: b }", &[(default, default), (b, b)]);
    check_queues("{ to: graphite://g, name: g }", &[(default, default), (b, b)]);
    check_queues("{ to: eu, queue: /queue/b }", &[(b, b)]);
    check_queues("{ to: eu, queue: /queue/graphite }", &[(default, default)]);
    let link = agent("forward: { to: eu, queue: /queue/other }").forward.remove(0);
    assert_eq!((&*link.queues[0].queue, &*link.queues[0].destination), (default, "/queue/other"));
}

#[test]
fn every_queue_has_somewhere_to_go() {
    check(
        &with_queues("forward: { to: eu, queue: /queue/b }"),
        "line 5: agents.a.forward: no link carries the queue `/queue/graphite`; add a link without `queue`, or one with \
             this queue, or `serve: true`",
    );
    let rest = "has a `match`, and metrics that match none would have nowhere to go; add a link without `match`, or one \
                    with `match: \"**\"`";
    for (missing, left) in [("/queue/graphite", "/queue/b"), ("/queue/b", "/queue/graphite")] {
        let links = format!("[{{ to: eu, match: cpu.* }}, {{ to: eu, name: c, queue: {left} }}]");
        check(
            &with_queues(&format!("forward: {links}")),
            &format!("line 5: agents.a.forward: each link that carries `{missing}` {rest}"),
        );
        assert!(Topology::parse(&with_queues(&format!("serve: true, forward: {links}"))).is_ok());
    }
}

#[test]
fn of_several_queues_a_link_names_one_that_there_is() {
    let fault = |at: &str| {
        format!(
            "line 5: agents.a.forward{at}.queue: `/queue/x` is no queue of the mesh; name one of `/queue/graphite`, \
                 `/queue/b`, or add it to `queues`"
        )
    };
    check(&with_queues("forward: [{ to: eu }, { to: eu, name: c, queue: /queue/x }]"), &fault("[1]"));
    check(&with_queues("forward: { to: b, queue: /queue/x }, serve: true"), &fault(""));
}

#[test]
fn a_pattern_can_match() {
    check_agent(
        "forward: [{ to: eu }, { to: eu, name: b, match: ['cpu.[0-9]', ok, ''] }]",
        "line 4: agents.a.forward[1].match[0]: `cpu.[0-9]` uses more than `*` and `**`, which are all there is; write one pattern for \
             each case\n\
             line 4: agents.a.forward[1].match[2]: is empty; write a text, or remove the key",
    );
    check_agent(
        "forward: [{ to: eu }, { to: eu, name: b, match: [] }]",
        "line 4: agents.a.forward[1].match: is an empty list; write patterns such as [cpu.*, disk.**]",
    );
}

#[test]
fn a_link_may_have_a_limit_of_its_own() {
    let limit = |settings: &str| {
        let link = agent(settings).forward.remove(0);
        (link.max_size_bytes, link.when_full)
    };
    assert_eq!(limit("forward: { to: eu }"), (None, WhenFull::Refuse));
    assert_eq!(limit("spool: { when_full: drop_oldest }, forward: { to: eu }"), (None, WhenFull::DropOldest));
    assert_eq!(limit("forward: { to: eu, max_size: 1GiB }"), (Some(1 << 30), WhenFull::DropOldest));
    assert_eq!(
        limit("forward: { to: eu, max_size: 1GiB, when_full: drop_oldest }"),
        (Some(1 << 30), WhenFull::DropOldest)
    );
}

#[test]
fn a_link_at_its_limit_stops_no_other() {
    check_agent(
        "forward: { to: eu, max_size: 1GiB, when_full: refuse }",
        "line 4: agents.a.forward.when_full: would let one link stop the others: at its own limit a link loses its own \
             oldest; write `drop_oldest`, or set `when_full: refuse` under `spool`",
    );
}

#[test]
fn a_limit_says_something() {
    check_agent(
        "forward: { to: eu, when_full: drop_oldest }",
        "line 4: agents.a.forward.when_full: says nothing without a `max_size`; add the link's own `max_size`, or set it \
             under `spool`",
    );
    for too_much in [
        "spool: { max_size: 1GiB }, forward: { to: eu, max_size: 2GiB }",
        "forward: { to: eu, max_size: 5GiB }",
    ] {
        check_agent(
            too_much,
            "line 4: agents.a.forward.max_size: is more than the whole spool may hold, so it would never count; lower it, or \
             raise the spool's `max_size`",
        );
    }
}
