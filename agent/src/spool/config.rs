//! What a spool is opened with: its folder, its names and its limits.

use std::path::PathBuf;

use topology::model::WhenFull;

/// Names that a spool is opened with: they come from a checked topology.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// The directory that holds it.
    pub dir: PathBuf,
    /// The node that owns it: the origin of what it takes in.
    pub node: String,
    /// The queues that metrics are sent to.
    pub queues: Vec<QueueConfig>,
    /// The links, with their own limits.
    pub links: Vec<LinkConfig>,
    /// Each set of links a batch can be for.
    pub link_sets: Vec<LinkSet>,
    /// The origins of which each batch comes here, so that one that does not is missing.
    pub gathered: Vec<String>,
    /// Limit on pages in use plus WAL; `None`: 4 GiB, at most half of what is free.
    pub max_size_bytes: Option<u64>,
    /// What happens at the limit.
    pub when_full: WhenFull,
}

/// A queue as the spool knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Its name.
    pub name: String,
    /// Once one of its links has this many stored bytes waiting, nothing more is taken for it.
    pub refuse_at_bytes: Option<u64>,
}

/// Where a batch can go: it is of one queue and for all of these links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkSet {
    /// Index into [`SpoolConfig::queues`].
    pub queue: usize,
    /// Indices into [`SpoolConfig::links`].
    pub links: Vec<usize>,
}

/// A link as the spool knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Its name: the owner of a backlog.
    pub name: String,
    /// Beyond this many stored bytes the link loses its own oldest.
    pub max_size_bytes: Option<u64>,
}

#[cfg(test)]
impl SpoolConfig {
    /// A spool in `dir` for tests: one link, called `eu`, and 64 MiB.
    pub(crate) fn for_test(dir: &std::path::Path) -> Self {
        Self {
            dir: dir.to_owned(),
            node: "us-east".to_owned(),
            queues: vec![QueueConfig { name: "/queue/graphite".to_owned(), refuse_at_bytes: None }],
            links: vec![LinkConfig { name: "eu".to_owned(), max_size_bytes: None }],
            link_sets: vec![LinkSet { queue: 0, links: vec![0] }],
            gathered: vec!["web".to_owned()],
            max_size_bytes: Some(64 << 20),
            when_full: WhenFull::Refuse,
        }
    }
}
