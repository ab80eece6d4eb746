//! What the nodes of the demo say of themselves: their `/status.json`, as any tool of an operator reads it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the demo shows of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgentSeen {
    /// Metrics that it took in, ever.
    pub(crate) accepted: u64,
    /// Metrics that wait for the next hop's word.
    pub(crate) backlog: u64,
    /// Age of the oldest of them.
    pub(crate) oldest: Duration,
    /// Pages of the spool that hold something.
    pub(crate) spool_bytes: u64,
    /// How its link stands: `up`, `down` or `refused`.
    pub(crate) link: String,
}

/// What the demo shows of a consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConsumerSeen {
    /// Metrics that Graphite has confirmed.
    pub(crate) confirmed: u64,
    /// How its link stands.
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
    confirmed_lines: u64,
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

/// Asks an agent with one link.
pub(super) async fn agent(http: SocketAddr) -> Result<AgentSeen> {
    let Status { now_ms, links, spool } = status(http).await?;
    let (link, books) = links.into_iter().zip(spool.links).next().context("the agent shows no link")?;
    let oldest_ms = books.oldest_ms.map_or(0, |oldest_ms| now_ms - oldest_ms);
    Ok(AgentSeen {
        accepted: spool.accepted.lines,
        backlog: books.backlog.lines,
        oldest: Duration::from_millis(u64::try_from(oldest_ms).unwrap_or(0)),
        spool_bytes: spool.used_bytes,
        link: link.state,
    })
}

/// Asks a consumer.
pub(super) async fn consumer(http: SocketAddr) -> Result<ConsumerSeen> {
    let link = status(http).await?.links.into_iter().next().context("the consumer shows no link")?;
    Ok(ConsumerSeen { confirmed: link.confirmed_lines, link: link.state })
}

async fn status(http: SocketAddr) -> Result<Status> {
    let answer = get(http, "/status.json").await.with_context(|| format!("no answer from {http}"))?;
    let head_ends = memchr::memmem::find(&answer, b"\r\n\r\n").context("an HTTP answer without an end")?;
    let body = &answer[head_ends + 4..];
    serde_json::from_slice(body).with_context(|| format!("{http} says {}", String::from_utf8_lossy(body)))
}

/// At HTTP/1.0 the answer is not cut into pieces, and ends with the connection.
async fn get(http: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
