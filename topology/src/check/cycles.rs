//! Cycles of `forward`, `collect` and what is sent to a Graphite, or a broker, that is an agent's own listener: what
//! goes round never arrives.

use std::collections::HashMap;

use super::agents::AgentDraft;
use super::book::Checked;
use super::consumers::ConsumerDraft;
use super::listeners::{Listener, Listeners};
use super::machines;
use super::value::Value;
use crate::model::{Endpoint, Queue};
use crate::names::plain;

/// How many agents of a cycle a message shows.
const SHOWN_MAX: usize = 20;

/// How far the search has come with an agent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    /// On the way from where the search began.
    OnPath,
    Done,
}

/// Writes down each cycle once, at the link that closes it. An agent that forwards to itself has its own
/// fault already. A broker is a node for each of its queues: what is sent to one is not collected from
/// another.
pub(crate) fn check(
    agents: &[&AgentDraft<'_>],
    consumers: &[&ConsumerDraft<'_>],
    brokers: &[(&str, &[Endpoint])],
    queues: &[Queue],
) {
    let edges = Edges::of(agents, consumers, brokers, queues);
    let mut marks = vec![Mark::New; edges.names.len()];
    for start in 0..edges.names.len() {
        search(start, &edges, &mut marks);
    }
}

/// The nodes, and from each one those that its metrics go to, each once, with the place that says so.
struct Edges<'d, 'c> {
    names: Vec<&'c str>,
    from: Vec<Vec<(usize, Place<'d, 'c>)>>,
}

/// Where the file says that metrics go from one node to another.
#[derive(Clone, Copy)]
enum Place<'d, 'c> {
    /// Between agents.
    Forward(&'d Value<'c>),
    /// Of an agent that collects, or to a broker.
    Other(&'d Value<'c>),
    /// To what is said to be a Graphite, or a broker, and is this listener of an agent.
    Listener(&'d Value<'c>, &'d Listener<'c>, Said),
}

/// What an address in the file is said to be.
#[derive(Clone, Copy)]
enum Said {
    Graphite,
    Broker,
}

impl Said {
    /// The listeners of an agent that may be meant.
    fn listeners<'d, 'c>(self, all: &'d Listeners<'c>) -> impl Iterator<Item = &'d Listener<'c>> {
        let meant = match self {
            Self::Graphite => [&all.graphite, &all.graphite_tls],
            Self::Broker => [&all.stomp, &all.stomp_tls],
        };
        meant.into_iter().filter_map(|listener| listener.as_ref().ok()?.as_ref())
    }

    fn mend(self) -> &'static str {
        match self {
            Self::Graphite => {
                "name the address of a Graphite, and give that listener another port if they share a machine"
            }
            Self::Broker => {
                "write the address of a broker into its `urls`, and give that listener another port if they share a machine"
            }
        }
    }
}

impl<'d, 'c> Edges<'d, 'c> {
    fn of(
        agents: &[&'d AgentDraft<'c>],
        consumers: &[&'d ConsumerDraft<'c>],
        brokers: &[(&str, &[Endpoint])],
        queues: &[Queue],
    ) -> Edges<'d, 'c> {
        let mut numbers: HashMap<(&'c str, String), usize> = HashMap::new();
        let mut edges = Edges { names: Vec::new(), from: Vec::new() };
        for (number, agent) in agents.iter().enumerate() {
            numbers.insert((agent.name, String::new()), number);
            edges.names.push(agent.name);
            edges.from.push(Vec::new());
        }
        for (number, agent) in agents.iter().enumerate() {
            for link in &agent.links {
                let carried = link.queues(queues).unwrap_or_default();
                for (to, carried) in link.nodes().flat_map(|to| carried.iter().map(move |it| (to, it))) {
                    if let Some(to) = edges.node(&mut numbers, brokers, to, &carried.destination) {
                        let is_agent = to < agents.len();
                        let place = if is_agent { Place::Forward } else { Place::Other };
                        edges.add(number, to, place(link.to()));
                    }
                }
                edges.add_listener(number, &agent.host, link.graphite(), link.to(), Said::Graphite, agents);
                for (_, urls) in brokers.iter().filter(|(name, _)| link.nodes().any(|to| to == *name)) {
                    edges.add_listener(number, &agent.host, urls, link.to(), Said::Broker, agents);
                }
            }
            for collect in &agent.collects {
                let Some(queue) = collect.queue(queues) else { continue };
                if let Some(from) = edges.node(&mut numbers, brokers, collect.from, queue) {
                    edges.add(from, number, Place::Other(&collect.from_at));
                }
            }
        }
        for consumer in consumers {
            let Some((from, queue)) = consumer.from().zip(consumer.queue(queues)) else { continue };
            if let Some(from) = edges.node(&mut numbers, brokers, from, queue) {
                let at = consumer.graphite_at();
                edges.add_listener(from, &consumer.host, consumer.endpoints(), at, Said::Graphite, agents);
            }
        }
        edges
    }

    /// From a node to each agent of which one of `endpoints`, seen from `host`, is a listener for what they are
    /// said to be.
    fn add_listener(
        &mut self,
        from: usize,
        host: &Checked<Option<String>>,
        endpoints: &[Endpoint],
        at: &'d Value<'c>,
        said: Said,
        agents: &[&'d AgentDraft<'c>],
    ) {
        let Ok(host) = host else { return };
        for (to, agent) in agents.iter().enumerate() {
            let (Ok(listeners), Ok(its_host)) = (&agent.listeners, &agent.host) else { continue };
            let is_there = |listener: &&Listener<'_>, endpoint: &Endpoint| {
                endpoint.port == listener.addr.port()
                    && machines::leads_to(&endpoint.host, host.as_deref(), listener.ip(), its_host.as_deref())
            };
            let met =
                said.listeners(listeners).find(|listener| endpoints.iter().any(|it| is_there(listener, it)));
            if let Some(listener) = met
                && self.from[from].iter().all(|(known, _)| *known != to)
            {
                self.from[from].push((to, Place::Listener(at, listener, said)));
            }
        }
    }

    /// The number of a node: of an agent, or of one queue of a broker.
    fn node(
        &mut self,
        numbers: &mut HashMap<(&'c str, String), usize>,
        brokers: &[(&str, &[Endpoint])],
        name: &'c str,
        queue: &str,
    ) -> Option<usize> {
        if let Some(&agent) = numbers.get(&(name, String::new())) {
            return Some(agent);
        }
        if !brokers.iter().any(|(broker, _)| *broker == name) {
            return None;
        }
        let number = *numbers.entry((name, queue.to_owned())).or_insert(self.names.len());
        if number == self.names.len() {
            self.names.push(name);
            self.from.push(Vec::new());
        }
        Some(number)
    }

    fn add(&mut self, from: usize, to: usize, at: Place<'d, 'c>) {
        if from != to && self.from[from].iter().all(|(known, _)| *known != to) {
            self.from[from].push((to, at));
        }
    }
}

/// Depth first, with a path of its own instead of recursion: a long chain of agents must not end the
/// stack.
fn search(start: usize, edges: &Edges<'_, '_>, marks: &mut [Mark]) {
    if marks[start] != Mark::New {
        return;
    }
    marks[start] = Mark::OnPath;
    let mut path = vec![(start, 0)];
    while let Some((at, next_edge)) = path.last_mut() {
        let Some(&(to, place)) = edges.from[*at].get(*next_edge) else {
            marks[*at] = Mark::Done;
            path.pop();
            continue;
        };
        *next_edge += 1;
        match marks[to] {
            Mark::New => {
                marks[to] = Mark::OnPath;
                path.push((to, 0));
            }
            Mark::OnPath => {
                let round: Vec<_> = path.iter().skip_while(|(node, _)| *node != to).collect();
                let taken: Vec<Place<'_, '_>> = round
                    .iter()
                    .filter_map(|(node, next)| Some(edges.from[*node].get(next.checked_sub(1)?)?.1))
                    .collect();
                cycle(place, &taken, round.iter().map(|(node, _)| edges.names[*node]).collect());
            }
            Mark::Done => {}
        }
    }
}

/// Reports a round at `place`, which closes it; one through a listener at that, whatever closes it: it is what is
/// most likely wrong.
fn cycle(place: Place<'_, '_>, taken: &[Place<'_, '_>], mut round: Vec<&str>) {
    let first = round.first().copied().unwrap_or_default();
    if round.len() > SHOWN_MAX {
        round.truncate(SHOWN_MAX);
        round.push("...");
    }
    round.push(first);
    let round: Vec<_> = round.into_iter().map(plain).collect();
    let round = round.join(" -> ");
    let to_listener = taken.iter().find_map(|place| match place {
        Place::Listener(at, listener, said) => Some((at, listener, said)),
        Place::Forward(_) | Place::Other(_) => None,
    });
    if let Some((at, listener, said)) = to_listener {
        let listener = listener.place();
        at.fault(format!("leads to {listener}, so that metrics would go in a circle: {round}"), said.mend());
        return;
    }
    let (Place::Forward(at) | Place::Other(at) | Place::Listener(at, ..)) = place;
    let mend = if taken.iter().all(|place| matches!(place, Place::Forward(_))) {
        "let one of these agents forward to a broker or a Graphite instead"
    } else {
        "let one of these agents forward to, or collect from, somewhere else"
    };
    at.fault(format!("metrics would go in a circle: {}", round), mend);
}

#[cfg(test)]
mod tests {
    use crate::Topology;
    use crate::tests::check;

    /// Agents on hosts of their own, one to a line from line 3, by their names and what they forward to.
    fn mesh(edges: &[(&str, &[&str])]) -> String {
        let mut text = "mesh: m\nagents:\n".to_owned();
        for (name, next) in edges {
            let links: Vec<_> = next.iter().map(|to| format!("{{ to: {to} }}")).collect();
            let forward = links.join(", ");
            let line = format!(
                "  {name}: {{ host: {name}, open: true, listen: {{ stomp: 0.0.0.0:1 }}, forward: [{forward}] }}\n"
            );
            text.push_str(&line);
        }
        text
    }

    const MEND: &str = "let one of these agents forward to a broker or a Graphite instead";

    #[test]
    fn a_cycle_is_shown() {
        check(
            &mesh(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]),
            &format!("line 5: agents.c.forward[0].to: metrics would go in a circle: b -> c -> b; {MEND}"),
        );
    }

    #[test]
    fn each_cycle_is_shown_once() {
        check(
            &mesh(&[("a", &["b", "c"]), ("b", &["a"]), ("c", &["d"]), ("d", &["a"])]),
            &format!(
                "line 4: agents.b.forward[0].to: metrics would go in a circle: a -> b -> a; {MEND}\n\
                 line 6: agents.d.forward[0].to: metrics would go in a circle: a -> c -> d -> a; {MEND}"
            ),
        );
    }

    /// `a` and `b` on hosts of their own, on lines 5 and 6, with the queues of the mesh and a broker `eu`.
    fn two(a: &str, b: &str) -> String {
        let on = |host| format!("host: {host}, open: true, listen: {{ stomp: 0.0.0.0:1 }}");
        format!(
            "mesh: m\nqueues: [/queue/b]\nbrokers: {{ eu: {{ urls: [stomp://mq] }} }}\nagents:\n  a: {{ {}, {a} }}\n  \
             b: {{ {}, {b} }}\n",
            on("a"),
            on("b")
        )
    }

    const GRAPHITE_MEND: &str =
        "name the address of a Graphite, and give that listener another port if they share a machine";

    const BROKER_MEND: &str = "write the address of a broker into its `urls`, and give that listener another port if \
        they share a machine";

    #[test]
    fn an_agents_own_listener_is_no_broker() {
        let own = |listen: &str, url: &str| {
            format!(
                "mesh: m\nbrokers: {{ eu: {{ urls: ['{url}'] }} }}\nagents:\n  a: {{ {listen} forward: {{ to: eu }} }}\n"
            )
        };
        check(
            &own("", "stomp://localhost"),
            &format!(
                "line 4: agents.a.forward.to: leads to agents.a (stomp, by default), so that \
                 metrics would go in a circle: a -> a; {BROKER_MEND}"
            ),
        );
        for (listen, url) in [
            ("listen: { stomp: '127.0.0.1:1' },", "stomp://localhost"),
            ("listen: { graphite: '127.0.0.1:61613' },", "stomp://localhost"),
            ("host: a, open: true, listen: { stomp: '0.0.0.0:61613' },", "stomp://mq"),
        ] {
            assert!(Topology::parse(&own(listen, url)).is_ok(), "{listen} {url}");
        }

        let each_other = "mesh: m\nbrokers: { to-b: { urls: ['stomp://b:1'] }, to-a: { urls: ['stomp://a:1'] } }\nagents:\n  \
             a: { host: a, open: true, listen: { stomp: 0.0.0.0:1 }, forward: { to: to-b } }\n  \
             b: { host: b, open: true, listen: { stomp: 0.0.0.0:1 }, forward: { to: to-a } }\n";
        check(
            each_other,
            &format!(
                "line 4: agents.a.forward.to: leads to agents.b.listen.stomp, so that metrics would go in a \
                 circle: a -> b -> a; {BROKER_MEND}"
            ),
        );
    }

    #[test]
    fn an_agents_own_listener_is_no_graphite() {
        let one = |host: &str, listen: &str, to: &str| {
            format!(
                "mesh: m\nagents:\n  a: {{ {host} open: true, listen: {{ graphite: '{listen}' }}, \
                 forward: {{ name: g, to: 'graphite://{to}' }} }}\n"
            )
        };
        for (host, listen, to) in [
            ("", "127.0.0.1:2003", "127.0.0.1"),
            ("", "127.0.0.1:2003", "localhost"),
            ("host: a,", "0.0.0.0:2003", "127.0.0.1:2003"),
            ("host: a,", "0.0.0.0:2003", "A.:2003"),
            ("", "10.0.0.1:2003", "10.0.0.1:2003"),
        ] {
            let fault = format!(
                "line 3: agents.a.forward.to: leads to agents.a.listen.graphite, so that metrics would go in a \
                 circle: a -> a; {GRAPHITE_MEND}"
            );
            check(&one(host, listen, to), &fault);
        }
        for (host, listen, to) in [
            ("", "127.0.0.1:2003", "127.0.0.1:2004"),
            ("", "127.0.0.1:2003", "g:2003"),
            ("host: a,", "127.0.0.1:2003", "a:2003"),
            ("", "10.0.0.1:2003", "127.0.0.1:2003"),
        ] {
            assert!(Topology::parse(&one(host, listen, to)).is_ok(), "{host} {listen} {to}");
        }
    }

    #[test]
    fn what_a_consumer_writes_goes_round_too() {
        let text = |consumer: &str| {
            format!(
                "mesh: m\nbrokers: {{ eu: {{ urls: [stomp://mq] }} }}\nagents: {{ a: {{ forward: {{ to: eu }} }} }}\n\
                 consumers: {{ c: {{ from: eu, {consumer} }} }}\n"
            )
        };
        check(
            &text("graphite: [g, '127.0.0.1:2003']"),
            &format!(
                "line 4: consumers.c.graphite: leads to agents.a (graphite, by default), so that metrics would go in a \
                 circle: a -> eu -> a; {GRAPHITE_MEND}"
            ),
        );
        for fine in [
            "graphite: ['127.0.0.1:2004']",
            "host: c, graphite: ['127.0.0.1:2003']",
            "queue: /queue/x, graphite: ['127.0.0.1:2003']",
        ] {
            assert!(Topology::parse(&text(fine)).is_ok(), "{fine}");
        }
    }

    const OTHER_MEND: &str = "let one of these agents forward to, or collect from, somewhere else";

    #[test]
    fn what_is_collected_goes_round_too() {
        check(
            &two("forward: { to: b }", "collect: [{ from: a, name: x }], forward: { to: a }"),
            &format!("line 6: agents.b.forward.to: metrics would go in a circle: a -> b -> a; {MEND}"),
        );
        check(
            &two("collect: b", "collect: a"),
            &format!("line 5: agents.a.collect: metrics would go in a circle: a -> b -> a; {OTHER_MEND}"),
        );
    }

    #[test]
    fn a_queue_of_a_broker_goes_round_by_itself() {
        check(
            &two("forward: { to: eu }", "collect: { from: eu, queue: /queue/b }, forward: { to: a }"),
            &format!(
                "line 6: agents.b.forward.to: metrics would go in a circle: a -> eu -> b -> a; {OTHER_MEND}"
            ),
        );
        let bridge = "forward: [{ to: eu, queue: /queue/graphite }, { to: b, queue: /queue/b, name: b }]";
        assert!(Topology::parse(&two(bridge, "collect: { from: eu, queue: /queue/b }")).is_ok());
    }

    #[test]
    fn two_ways_to_one_agent_are_no_cycle() {
        assert!(
            Topology::parse(&mesh(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])])).is_ok()
        );
    }

    #[test]
    fn a_long_chain_does_not_end_the_stack() {
        let names: Vec<_> = (0..5000).map(|n| format!("a{n}")).collect();
        let next: Vec<_> = (1..=5000).map(|n| [names[n % 5000].as_str()]).collect();
        let edges: Vec<_> = names.iter().zip(&next).map(|(name, next)| (name.as_str(), &next[..])).collect();
        assert!(Topology::parse(&mesh(&edges[..4999]).replace("{ to: a4999 }", "")).is_ok());
        let fault = Topology::parse(&mesh(&edges)).unwrap_err();
        assert!(fault.to_string().contains("a18 -> a19 -> ... -> a0; let one"), "{fault}");
    }
}
