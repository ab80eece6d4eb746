//! In Graphite's plaintext: a connection for about a second, then a half-close. The FIN that answers it
//! is the receipt for all of its lines.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Producers;
use crate::demo::load::Load;

/// How long a connection is used,
const TURNOVER: Duration = Duration::from_secs(1);
/// and for how many bytes: they are kept until the FIN.
const TURNOVER_BYTES: usize = 8 * 1024 * 1024;

pub(super) async fn produce(producers: &Producers, mut load: Load, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() {
        let mut stream = TcpStream::connect(producers.plaintext).await?;
        let sent = send(&mut stream, &mut load, stop).await?;
        stream.shutdown().await?;
        if stream.read(&mut [0]).await? > 0 {
            bail!("a plaintext listener answered with bytes");
        }
        producers.accepted.enter(&sent);
    }
    Ok(())
}

/// Sends until the connection is to be turned over, or `stop`; returns what was sent.
async fn send(stream: &mut TcpStream, load: &mut Load, stop: &CancellationToken) -> Result<Vec<u8>> {
    let mut sent = Vec::new();
    let turnover = sleep(TURNOVER);
    tokio::pin!(turnover);
    while sent.len() < TURNOVER_BYTES {
        let lines = tokio::select! {
            () = stop.cancelled() => break,
            () = &mut turnover => break,
            lines = load.next() => lines,
        };
        stream.write_all(&lines).await?;
        sent.extend_from_slice(&lines);
    }
    Ok(sent)
}
