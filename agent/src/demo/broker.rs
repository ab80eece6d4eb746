//! The demo's stand-in for the EU broker: a STOMP broker with one queue, in memory.
//!
//! It stands in until agents serve SUBSCRIBE themselves, and so that the demo needs nothing installed. It
//! does what a link and a consumer of ours ask of a broker: SEND with RECEIPT, SUBSCRIBE with
//! `client-individual` and a prefetch, ACK and NACK, and what was not acknowledged goes back when a
//! session ends. It has no disk, no transactions, no topics and no logins, and says so.
//!
//! `queue` holds the messages, `session` knows what a frame means, both without I/O; here are the sockets.

mod queue;
mod session;

use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub(crate) use self::queue::Load;
use self::queue::Queue;
use self::session::Session;
use crate::ingest::stomp::Limits;
use crate::ingest::stomp::decode::{Decoded, Decoder};

/// Bytes that a session reads at a time.
const READ_BYTES: usize = 64 * 1024;
/// While more than this waits to be written, a session is neither read nor given messages.
const OUT_BYTES: usize = 64 * 1024;

/// The handle of the broker. Clones are the same broker.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    destination: Arc<str>,
    /// Its sessions watch it: for messages, and for room.
    queue: Arc<watch::Sender<Queue>>,
}

impl Broker {
    /// A broker with one queue, `destination`.
    pub(super) fn new(destination: &str) -> Self {
        Self { destination: destination.into(), queue: Arc::new(watch::Sender::new(Queue::default())) }
    }

    /// What it holds.
    pub(super) fn load(&self) -> Load {
        self.queue.borrow().load()
    }

    /// Serves every connection to `listener` until `stop`.
    pub(super) async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<()> {
        let mut sessions = JoinSet::new();
        for number in 1_u64.. {
            let stream = loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    accepted = listener.accept() => break accepted?.0,
                    // How a session ended is for its client to say.
                    Some(_ended) = sessions.join_next() => {}
                }
            };
            let session = Session::new(Arc::clone(&self.destination), Arc::clone(&self.queue), number);
            sessions.spawn(async move { converse(stream, session).await });
        }
        Ok(())
    }
}

/// One session, to its end. What it has not acknowledged goes back when `session` is dropped.
async fn converse(mut stream: TcpStream, mut session: Session) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let mut changes = session.watch();
    let mut decoder = Decoder::new(&Limits::default());
    let mut unread = Vec::new();
    let mut written_at = Instant::now();
    loop {
        changes.mark_unchanged();
        digest(&mut session, &mut decoder, &mut unread);
        session.deliver(OUT_BYTES);
        if session.is_closing() && session.out.is_empty() {
            return writer.shutdown().await;
        }
        let is_read = !session.is_closing() && !session.is_paused() && session.out.len() < OUT_BYTES;
        unread.reserve(if is_read { READ_BYTES } else { 0 });
        tokio::select! {
            biased;
            written = writer.write(&session.out), if !session.out.is_empty() => {
                session.out.drain(..written?);
                written_at = Instant::now();
            }
            read = reader.read_buf(&mut unread), if is_read => {
                if read? == 0 {
                    return Ok(());
                }
            }
            // The session keeps the sender, so that there is no other answer.
            _changed = changes.changed() => {}
            () = beat(written_at, &session), if session.out.is_empty() => session.out.push(b'\n'),
        }
    }
}

/// Takes the frames out of what was read, as long as the session takes them.
fn digest(session: &mut Session, decoder: &mut Decoder, unread: &mut Vec<u8>) {
    let mut used = 0;
    while !session.is_closing() && !session.is_paused() {
        match decoder.decode(session.version(), &unread[used..]) {
            Ok(Decoded::Frame(frame, bytes)) => {
                used += bytes;
                session.frame(&frame);
            }
            Ok(Decoded::Partial(bytes)) => {
                used += bytes;
                break;
            }
            Err(error) => session.refuse(&error.to_string(), None),
        }
    }
    unread.drain(..used);
}

/// Waits until a heart-beat is due: at half the interval, since being late is worse than being early.
async fn beat(written_at: Instant, session: &Session) {
    match session.beat() {
        Some(interval) => sleep_until(written_at + interval / 2).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
