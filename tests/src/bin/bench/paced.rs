//! A producer that keeps to a rate, over one connection or over many, each in its turn, as a fleet of
//! hosts sends.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::lines::Payload;
use crate::producer::{Sent, connect};

/// What is due is sent this often.
const TICK: Duration = Duration::from_millis(1);

/// Sends `rate` lines a second for `time` over `connections`, then half-closes all of them and waits for
/// every FIN. The time it tells is that of the sending.
pub(crate) fn send(
    to: SocketAddr,
    payload: &Payload,
    rate: usize,
    connections: usize,
    time: Duration,
) -> Result<Sent> {
    let mut streams = (0..connections).map(|_| connect(to)).collect::<Result<Vec<_>>>()?;
    let mut writes = writes(payload, lines_of_a_write(rate, connections));
    let mut turn = (0..connections).cycle();
    let total = lines_in(time, rate).max(1);
    let start = Instant::now();
    let mut sent = 0;
    while sent < total {
        let due = lines_in(start.elapsed(), rate).min(total);
        while sent < due {
            let (Some((bytes, lines)), Some(number)) = (writes.next(), turn.next()) else { break };
            streams[number].write_all(&bytes)?;
            sent += lines;
        }
        thread::sleep(TICK);
    }
    let elapsed = start.elapsed();
    for stream in &streams {
        stream.shutdown(Shutdown::Write)?;
    }
    for stream in &mut streams {
        let answer = stream.read(&mut [0; 64]).context("no FIN answered the half-close")?;
        ensure!(answer == 0, "a plaintext receiver answered by bytes");
    }
    Ok(Sent { lines: sent as u64, elapsed, cpu_seconds: 0.0 })
}

/// One host alone writes what is due at each tick; one of many writes ten times a second at most.
fn lines_of_a_write(rate: usize, connections: usize) -> usize {
    let writes_per_second = if connections == 1 { 1000 } else { 10 * connections };
    (rate / writes_per_second).max(1)
}

/// What each write takes, for ever: bytes and lines.
fn writes(payload: &Payload, lines: usize) -> impl Iterator<Item = (Vec<u8>, usize)> {
    let mut all = payload.lines();
    std::iter::from_fn(move || Some((all.by_ref().take(lines).flatten().copied().collect(), lines)))
}

fn lines_in(time: Duration, rate: usize) -> usize {
    usize::try_from(time.as_micros() * rate as u128 / 1_000_000).unwrap_or(usize::MAX)
}
