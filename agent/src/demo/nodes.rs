//! What the nodes of the demo say of themselves: their `/status.json`, as any tool of an operator reads it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the demo shows of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeSeen {
    /// Metrics that it took in, ever.
    pub(crate) accepted: u64,
    /// Metrics that wait for the next hop's word.
    pub(crate) backlog: u64,
    /// Age of the oldest of them.
    pub(crate) oldest: Duration,
    /// Pages of the spool that hold something.
    pub(crate) spool_bytes: u64,
    /// How the link that it dials stands: `up`, `down` or `refused`; empty if it dials nobody.
    pub(crate) link: String,
}

#[derive(Debug, Deserialize)]
struct Status {
    now_ms: i64,
    links: Vec<LinkStatus>,
    spool: Spool,
}

#[derive(Debug, Deserialize)]
struct LinkStatus {
    state: String,
}

#[derive(Debug, Deserialize)]
struct Spool {
    accepted: Amount,
    used_bytes: u64,
    links: Vec<Books>,
}

#[derive(Debug, Deserialize)]
struct Books {
    backlog: Amount,
    oldest_ms: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Amount {
    lines: u64,
}

impl From<Status> for NodeSeen {
    fn from(Status { now_ms, links, spool }: Status) -> Self {
        let oldest_ms = spool.links.iter().filter_map(|books| books.oldest_ms).min().unwrap_or(now_ms);
        Self {
            accepted: spool.accepted.lines,
            backlog: spool.links.iter().map(|books| books.backlog.lines).sum(),
            oldest: Duration::from_millis(u64::try_from(now_ms - oldest_ms).unwrap_or(0)),
            spool_bytes: spool.used_bytes,
            link: links.into_iter().next().map(|link| link.state).unwrap_or_default(),
        }
    }
}

/// Asks a node that dials one other at most.
pub(super) async fn look(http: SocketAddr) -> Result<NodeSeen> {
    let answer = get(http, "/status.json").await.with_context(|| format!("no answer from {http}"))?;
    let head_ends = memchr::memmem::find(&answer, b"\r\n\r\n").context("an HTTP answer without an end")?;
    let body = &answer[head_ends + 4..];
    let status = serde_json::from_slice::<Status>(body);
    Ok(status.with_context(|| format!("{http} says {}", String::from_utf8_lossy(body)))?.into())
}

/// At HTTP/1.0 the answer is not cut into pieces, and ends with the connection.
async fn get(http: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlogs_are_summed_and_who_dials_nobody_has_no_link() {
        let books = r#"[{"backlog":{"lines":3},"oldest_ms":900},{"backlog":{"lines":4},"oldest_ms":400},{"backlog":{"lines":0},"oldest_ms":null}]"#;
        let check = |links: &str, books: &str, expected: (u64, u64, &str)| {
            let spool = format!(r#"{{"accepted":{{"lines":9}},"used_bytes":8,"links":{books}}}"#);
            let status = format!(r#"{{"now_ms":1000,"links":{links},"spool":{spool}}}"#);
            let (backlog, oldest_ms, link) = expected;
            let (oldest, link) = (Duration::from_millis(oldest_ms), link.to_owned());
            let expected = NodeSeen { accepted: 9, backlog, oldest, spool_bytes: 8, link };
            assert_eq!(NodeSeen::from(serde_json::from_str::<Status>(&status).unwrap()), expected);
        };
        check(r#"[{"state":"down"}]"#, books, (7, 600, "down"));
        check("[]", books, (7, 600, ""));
        check("[]", "[]", (0, 0, ""));
    }
}
