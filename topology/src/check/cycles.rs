//! Cycles of `forward`: what goes round never arrives.

use std::collections::HashMap;

use super::agents::AgentDraft;
use super::links::{LinkDraft, Target};
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
/// fault already.
pub(crate) fn check(agents: &[&AgentDraft<'_>]) {
    let numbers: HashMap<&str, usize> = agents.iter().enumerate().map(|(n, agent)| (agent.name, n)).collect();
    let edges: Vec<_> = (0..agents.len()).map(|n| edges(n, agents, &numbers)).collect();
    let mut marks = vec![Mark::New; agents.len()];
    for start in 0..agents.len() {
        search(start, agents, &edges, &mut marks);
    }
}

/// The agents that one forwards to, each once, with the link.
fn edges<'d, 'c>(
    from: usize,
    agents: &[&'d AgentDraft<'c>],
    numbers: &HashMap<&str, usize>,
) -> Vec<(usize, &'d LinkDraft<'c>)> {
    let mut edges: Vec<(usize, &LinkDraft<'c>)> = Vec::new();
    for link in &agents[from].links {
        if let Ok(Target::Node(name)) = &link.target
            && let Some(&to) = numbers.get(name)
            && to != from
            && edges.iter().all(|(known, _)| *known != to)
        {
            edges.push((to, link));
        }
    }
    edges
}

/// Depth first, with a path of its own instead of recursion: a long chain of agents must not end the
/// stack.
fn search(
    start: usize,
    agents: &[&AgentDraft<'_>],
    edges: &[Vec<(usize, &LinkDraft<'_>)>],
    marks: &mut [Mark],
) {
    if marks[start] != Mark::New {
        return;
    }
    marks[start] = Mark::OnPath;
    let mut path = vec![(start, 0)];
    while let Some((at, next_edge)) = path.last_mut() {
        let Some(&(to, link)) = edges[*at].get(*next_edge) else {
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
                let round = path.iter().map(|(agent, _)| *agent).skip_while(|agent| *agent != to);
                cycle(link, round.map(|agent| agents[agent].name).collect());
            }
            Mark::Done => {}
        }
    }
}

fn cycle(link: &LinkDraft<'_>, mut round: Vec<&str>) {
    let first = round.first().copied().unwrap_or_default();
    if round.len() > SHOWN_MAX {
        round.truncate(SHOWN_MAX);
        round.push("...");
    }
    round.push(first);
    let round: Vec<_> = round.into_iter().map(plain).collect();
    link.to().fault(
        format!("metrics would go in a circle: {}", round.join(" -> ")),
        "let one of these agents forward to a broker or a Graphite instead",
    );
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
