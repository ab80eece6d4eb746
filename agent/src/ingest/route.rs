//! Which backlogs a line goes to, by its queue and its name: lines are routed before they are batched, so
//! that a batch belongs to one queue and one set of links and always travels whole. Pure.

use topology::model::Pattern;

use crate::spool::LinkSet;

/// Routes lines to sets of links.
#[derive(Debug, Clone)]
pub struct Router {
    link_sets: Vec<LinkSet>,
    queues: Vec<QueueRoutes>,
}

/// How the lines of one queue are told apart.
#[derive(Debug, Clone, Default)]
struct QueueRoutes {
    /// The set for what no pattern takes.
    rest: usize,
    /// Tried in order: patterns, and the set they lead to.
    rules: Vec<(Vec<Pattern>, usize)>,
}

/// A way out of a queue, as the router needs it: an index into the spool's links, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    /// The number that its backlog has in the spool.
    pub link: usize,
    /// What it takes.
    pub takes: Takes,
}

/// Which metrics of a queue a way out takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Takes {
    /// All, whatever others take.
    Everything,
    /// What no pattern of another takes.
    Rest,
    /// What one of these matches, unless an earlier way out has taken it.
    Matching(Vec<Pattern>),
}

/// Consecutive lines that go to the same set of links.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The set, by its number.
    pub link_set: usize,
    /// Whole lines.
    pub lines: &'a [u8],
}

impl Router {
    /// A router for these queues, each with its ways out in the order of the file.
    pub fn new(queues: &[Vec<WayOut>]) -> Self {
        let mut router = Self { link_sets: Vec::new(), queues: Vec::new() };
        for (queue, ways) in queues.iter().enumerate() {
            let routes = router.routes(queue, ways);
            router.queues.push(routes);
        }
        router
    }

    /// One queue, whose lines all go one way.
    pub fn to_one_link() -> Self {
        Self::new(&[vec![WayOut { link: 0, takes: Takes::Rest }]])
    }

    fn routes(&mut self, queue: usize, ways: &[WayOut]) -> QueueRoutes {
        let those =
            |takes: fn(&Takes) -> bool| ways.iter().filter(move |way| takes(&way.takes)).map(|way| way.link);
        let always: Vec<usize> = those(|takes| *takes == Takes::Everything).collect();
        let mut set = |links: &mut dyn Iterator<Item = usize>| {
            let mut links: Vec<usize> = links.chain(always.iter().copied()).collect();
            links.sort_unstable();
            self.link_sets.push(LinkSet { queue, links });
            self.link_sets.len() - 1
        };
        let rest = set(&mut those(|takes| *takes == Takes::Rest));
        let rule = |way: &WayOut| match &way.takes {
            Takes::Matching(patterns) => Some((patterns.clone(), set(&mut std::iter::once(way.link)))),
            Takes::Everything | Takes::Rest => None,
        };
        QueueRoutes { rest, rules: ways.iter().filter_map(rule).collect() }
    }

    /// Every set that a line can be routed to.
    pub fn link_sets(&self) -> &[LinkSet] {
        &self.link_sets
    }

    /// Cuts `lines` of a queue into pieces, in order.
    pub fn pieces<'a>(&self, queue: usize, lines: &'a [u8]) -> Vec<Piece<'a>> {
        let routes = &self.queues[queue];
        if lines.is_empty() {
            return Vec::new();
        }
        if routes.rules.is_empty() {
            return vec![Piece { link_set: routes.rest, lines }];
        }
        let mut pieces: Vec<Piece<'a>> = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', lines).map(|lf| lf + 1) {
            let link_set = routes.link_set(&lines[start..end]);
            match pieces.last_mut() {
                Some(last) if last.link_set == link_set => {
                    let from = start - last.lines.len();
                    last.lines = &lines[from..end];
                }
                _ => pieces.push(Piece { link_set, lines: &lines[start..end] }),
            }
            start = end;
        }
        pieces
    }
}

impl QueueRoutes {
    fn link_set(&self, line: &[u8]) -> usize {
        let name = line.split(|&byte| byte == b' ').next().unwrap_or_default();
        let takes =
            |(patterns, _): &&(Vec<Pattern>, usize)| patterns.iter().any(|pattern| pattern.matches(name));
        self.rules.iter().find(takes).map_or(self.rest, |(_, link_set)| *link_set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(link: usize, pattern: &str) -> WayOut {
        WayOut { link, takes: Takes::Matching(vec![Pattern::parse(pattern).unwrap()]) }
    }

    fn way(link: usize, takes: Takes) -> WayOut {
        WayOut { link, takes }
    }

    /// The links and the lines of each piece.
    fn check(ways: &[Vec<WayOut>], queue: usize, lines: &str, expected: &[(&[usize], &str)]) {
        let router = Router::new(ways);
        let pieces = router.pieces(queue, lines.as_bytes());
        let found: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let set = &router.link_sets()[piece.link_set];
                assert_eq!(set.queue, queue);
                (&*set.links, std::str::from_utf8(piece.lines).unwrap())
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn without_patterns_every_link_takes_everything() {
        let ways = [vec![way(0, Takes::Rest), way(1, Takes::Rest)]];
        check(&ways, 0, "a 1 1\nb 1 1\n", &[(&[0, 1], "a 1 1\nb 1 1\n")]);
        check(&ways, 0, "", &[]);
    }

    #[test]
    fn the_first_pattern_that_matches_takes_a_line() {
        let ways = [vec![matching(0, "a.*"), way(1, Takes::Rest), matching(2, "**")]];
        check(
            &ways,
            0,
            "a.x 1 1\na.y 1 1\nb 1 1\na.z 1 1\n",
            &[(&[0], "a.x 1 1\na.y 1 1\n"), (&[2], "b 1 1\n"), (&[0], "a.z 1 1\n")],
        );
    }

    #[test]
    fn subscribers_take_what_others_take_too() {
        let ways = [vec![matching(0, "a.*"), way(1, Takes::Rest), way(2, Takes::Everything)]];
        check(&ways, 0, "a.x 1 1\nb 1 1\n", &[(&[0, 2], "a.x 1 1\n"), (&[1, 2], "b 1 1\n")]);
    }

    #[test]
    fn queues_have_sets_of_their_own() {
        let ways = [vec![way(0, Takes::Rest)], vec![way(1, Takes::Rest)]];
        check(&ways, 0, "a 1 1\n", &[(&[0], "a 1 1\n")]);
        check(&ways, 1, "a 1 1\n", &[(&[1], "a 1 1\n")]);
    }
}
