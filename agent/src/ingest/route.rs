//! Which links a line goes to, by its name: lines are routed before they are batched, so that a batch
//! belongs to one set of links and always travels whole. Pure.

use topology::model::{Link, Pattern};

/// Routes lines to sets of links.
#[derive(Debug, Clone)]
pub struct Router {
    /// Indices into the agent's links. The first set is for what no pattern takes.
    link_sets: Vec<Vec<usize>>,
    /// Tried in order: patterns, and the set they lead to.
    rules: Vec<(Vec<Pattern>, usize)>,
}

/// Consecutive lines that go to the same set of links.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) link_set: usize,
    pub(super) lines: &'a [u8],
}

impl Router {
    /// Links with patterns are tried in the order of the file, the first that matches takes the line;
    /// the rest goes to every link without patterns.
    pub fn new(links: &[Link]) -> Self {
        let rest =
            links.iter().enumerate().filter(|(_, link)| link.patterns.is_empty()).map(|(i, _)| i).collect();
        let mut router = Self { link_sets: vec![rest], rules: Vec::new() };
        for (index, link) in links.iter().enumerate().filter(|(_, link)| !link.patterns.is_empty()) {
            router.rules.push((link.patterns.clone(), router.link_sets.len()));
            router.link_sets.push(vec![index]);
        }
        router
    }

    /// For an agent without links: everything goes to the link of the queue's subscribers.
    pub fn to_one_link() -> Self {
        Self { link_sets: vec![vec![0]], rules: Vec::new() }
    }

    /// Every set a line can be routed to, as indices into the agent's links.
    pub fn link_sets(&self) -> &[Vec<usize>] {
        &self.link_sets
    }

    /// Cuts `lines` into pieces, in order.
    pub(super) fn pieces<'a>(&self, lines: &'a [u8]) -> Vec<Piece<'a>> {
        if lines.is_empty() {
            return Vec::new();
        }
        if self.rules.is_empty() {
            return vec![Piece { link_set: 0, lines }];
        }
        let mut pieces: Vec<Piece<'a>> = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', lines).map(|lf| lf + 1) {
            let link_set = self.link_set(&lines[start..end]);
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

    fn link_set(&self, line: &[u8]) -> usize {
        let name = line.split(|&byte| byte == b' ').next().unwrap_or_default();
        // The line rule lets only UTF-8 names pass.
        let name = std::str::from_utf8(name).unwrap_or_default();
        let takes =
            |(patterns, _): &&(Vec<Pattern>, usize)| patterns.iter().any(|pattern| pattern.matches(name));
        self.rules.iter().find(takes).map_or(0, |(_, link_set)| *link_set)
    }
}
