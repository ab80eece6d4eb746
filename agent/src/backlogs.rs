//! What waits where in an agent: one backlog for each queue of each link, and one for the subscribers of each
//! queue. Pure: it follows from the topology.

use topology::model::{Agent, Link, Mesh, Queue, WhenFull};

use crate::ingest::route::{Router, Takes, WayOut};
use crate::spool::{LinkConfig, QueueConfig, SpoolConfig};

/// One backlog. Its place in the list is its number in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Owns what waits, and is the `to` of its metrics.
    pub(crate) name: String,
    /// By its number in the topology.
    pub(crate) queue: usize,
    /// Who takes it away.
    pub(crate) carrier: Carrier,
    max_size_bytes: Option<u64>,
}

/// Who takes a backlog away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The link of that number, which sends it to `destination`.
    Link { link: usize, destination: String },
    /// Whoever subscribes.
    Subscribers,
}

/// All backlogs of an agent, and the way into them.
#[derive(Debug, Clone)]
pub(crate) struct Backlogs {
    pub(crate) all: Vec<Backlog>,
    pub(crate) router: Router,
}

impl Backlogs {
    /// Those of `agent`.
    pub(crate) fn of(mesh: &Mesh, agent: &Agent) -> Self {
        let mut all = Vec::new();
        let mut ways = vec![Vec::new(); mesh.queues.len()];
        for (queue, declared) in mesh.queues.iter().enumerate() {
            // Where a queue loses its oldest, each of its backlogs does.
            let drops_oldest = declared.when_full == WhenFull::DropOldest;
            let of_queue = declared.max_size_bytes.filter(|_| drops_oldest);
            for (number, link) in agent.forward.iter().enumerate() {
                let Some(carried) = link.queues.iter().find(|carried| carried.queue == declared.name) else {
                    continue;
                };
                ways[queue].push(WayOut { link: all.len(), takes: takes(link) });
                all.push(Backlog {
                    name: name(&link.name, queue, &declared.name),
                    queue,
                    carrier: Carrier::Link { link: number, destination: carried.destination.clone() },
                    max_size_bytes: least(link.max_size_bytes, of_queue),
                });
            }
            if agent.serve {
                ways[queue].push(WayOut { link: all.len(), takes: Takes::Everything });
                let name = format!("subscribers:{}", declared.name);
                all.push(Backlog { name, queue, carrier: Carrier::Subscribers, max_size_bytes: of_queue });
            }
        }
        Self { all, router: Router::new(&ways) }
    }

    /// The spool that holds them.
    pub(crate) fn spool(&self, mesh: &Mesh, agent: &Agent) -> SpoolConfig {
        let link = |backlog: &Backlog| LinkConfig {
            name: backlog.name.clone(),
            max_size_bytes: backlog.max_size_bytes,
        };
        SpoolConfig {
            dir: agent.spool.dir.clone(),
            node: agent.name.clone(),
            queues: mesh.queues.iter().map(queue).collect(),
            links: self.all.iter().map(link).collect(),
            link_sets: self.router.link_sets().to_vec(),
            gathered: mesh.gathered(&agent.name),
            max_size_bytes: agent.spool.max_size_bytes,
            when_full: agent.spool.when_full,
        }
    }
}

fn queue(queue: &Queue) -> QueueConfig {
    let refuses = queue.when_full == WhenFull::Refuse;
    QueueConfig { name: queue.name.clone(), refuse_at_bytes: queue.max_size_bytes.filter(|_| refuses) }
}

/// The default queue goes by the link's own name, so that it keeps its backlog when others are added.
fn name(link: &str, queue: usize, destination: &str) -> String {
    if queue == 0 { link.to_owned() } else { format!("{link}:{destination}") }
}

fn takes(link: &Link) -> Takes {
    if link.patterns.is_empty() { Takes::Rest } else { Takes::Matching(link.patterns.clone()) }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use topology::Topology;

    use super::*;

    fn check(text: &str, expected: &[&str]) -> Backlogs {
        let mesh = Topology::parse(text).unwrap();
        let backlogs = Backlogs::of(&mesh, mesh.agent("a").unwrap());
        let names: Vec<_> = backlogs.all.iter().map(|backlog| backlog.name.as_str()).collect();
        assert_eq!(names, expected);
        backlogs
    }

    #[test]
    fn without_a_link_the_subscribers_have_it() {
        let backlogs = check("mesh: m\nagents: { a: {} }", &["subscribers:/queue/graphite"]);
        assert_eq!(backlogs.all[0].carrier, Carrier::Subscribers);
    }

    #[test]
    fn each_queue_of_each_link_has_its_own() {
        let text = "mesh: m
queues: [/queue/graphite, /queue/billing]
brokers: { eu: { urls: [stomp://mq] } }
agents: { a: { forward: { to: eu }, serve: true } }";
        let backlogs = check(
            text,
            &["eu", "subscribers:/queue/graphite", "eu:/queue/billing", "subscribers:/queue/billing"],
        );
        let billing = Carrier::Link { link: 0, destination: "/queue/billing".to_owned() };
        assert_eq!((backlogs.all[2].queue, &backlogs.all[2].carrier), (1, &billing));
        let sets = backlogs.router.link_sets();
        assert_eq!((&*sets[0].links, sets[0].queue), (&[0, 1][..], 0));
        assert_eq!((&*sets[1].links, sets[1].queue), (&[2, 3][..], 1));
    }

    #[test]
    fn the_nearer_limit_counts() {
        let text = "mesh: m
queues: { /queue/graphite: { max_size: 100MiB, when_full: drop_oldest } }
brokers: { eu: { urls: [stomp://mq] }, us: { urls: [stomp://mq] } }
agents: { a: { forward: [{ to: eu, max_size: 50MiB }, { to: us }] } }";
        let backlogs = check(text, &["eu", "us"]);
        let limits: Vec<_> = backlogs.all.iter().map(|backlog| backlog.max_size_bytes).collect();
        assert_eq!(limits, [Some(50 << 20), Some(100 << 20)]);
    }
}
