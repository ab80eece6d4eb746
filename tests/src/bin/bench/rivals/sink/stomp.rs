//! Both ends that STOMP has for what comes out: the consumer of a broker, and a broker that an agent
//! forwards to, which answers each receipt at once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use memchr::{memchr, memmem};

use super::Shared;
use crate::lines::QUEUE;

const READ_BYTES: usize = 1024 * 1024;
/// After this much silence what is not yet acknowledged is.
const ACK_DELAY: Duration = Duration::from_millis(20);

/// Frames of one connection, which are taken as they become whole.
struct Frames {
    connection: TcpStream,
    buffer: Vec<u8>,
    block: Vec<u8>,
}

/// One frame, as it is on the wire.
struct Frame<'a> {
    /// The command and the headers, each with its LF.
    head: &'a [u8],
    body: &'a [u8],
}

impl Frames {
    fn of(connection: TcpStream) -> Self {
        Self { connection, buffer: Vec::new(), block: vec![0; READ_BYTES] }
    }

    /// Reads what is there and hands out each frame. `false` at the end of the connection.
    fn read(&mut self, mut take: impl FnMut(&Frame<'_>) -> Result<()>) -> Result<bool> {
        let read = self.connection.read(&mut self.block)?;
        self.buffer.extend_from_slice(&self.block[..read]);
        let mut used = 0;
        while let Some((frame, bytes)) = first_frame(&self.buffer[used..])? {
            take(&frame)?;
            used += bytes;
        }
        self.buffer.drain(..used);
        Ok(read > 0)
    }
}

/// The frame that `bytes` begin with, once it is whole, and how many bytes it takes.
fn first_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let blank = bytes.iter().take_while(|&&byte| matches!(byte, b'\n' | b'\r')).count();
    let frame = &bytes[blank..];
    let Some(head_end) = memmem::find(frame, b"\n\n") else { return Ok(None) };
    let (head, rest) = (&frame[..=head_end], &frame[head_end + 2..]);
    let length = match header(head, "content-length") {
        Some(length) => length.parse().context("a content-length is no number")?,
        None => match memchr(0, rest) {
            Some(length) => length,
            None => return Ok(None),
        },
    };
    let Some(&end) = rest.get(length) else { return Ok(None) };
    ensure!(end == 0, "a frame does not end in NUL");
    Ok(Some((Frame { head, body: &rest[..length] }, blank + head_end + 2 + length + 1)))
}

/// The value of a header that needs no unescaping.
fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = head.split(|&byte| byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
    std::str::from_utf8(value).ok()
}

/// Answers as a broker.
pub(super) fn serve(connection: TcpStream, shared: &Shared) -> Result<()> {
    let mut answering = connection.try_clone()?;
    let mut frames = Frames::of(connection);
    let mut answers = Vec::new();
    loop {
        let goes_on = frames.read(|frame| {
            if frame.head.starts_with(b"SEND\n") {
                shared.arrivals().take(frame.body);
            } else if frame.head.starts_with(b"CONNECT\n") || frame.head.starts_with(b"STOMP\n") {
                answers.extend_from_slice(b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0");
            }
            if let Some(id) = header(frame.head, "receipt") {
                write!(answers, "RECEIPT\nreceipt-id:{id}\n\n\0")?;
            }
            Ok(())
        })?;
        answering.write_all(&answers)?;
        answers.clear();
        if !goes_on {
            return Ok(());
        }
    }
}

/// Consumes until the broker or the sink ends it.
pub(super) fn consume(address: SocketAddr, prefetch: usize, shared: &Shared) -> Result<()> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ACK_DELAY))?;
    let mut acking = connection.try_clone()?;
    connection.write_all(b"CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\n\n\0")?;
    let mut frames = Frames::of(connection);
    // An ACK is for all messages up to this.
    let (mut unacknowledged, mut last) = (0, String::new());
    loop {
        let read = frames.read(|frame| {
            if frame.head.starts_with(b"CONNECTED\n") {
                let subscribe = format!(
                    "SUBSCRIBE\nid:0\ndestination:{QUEUE}\nack:client\nprefetch-count:{prefetch}\n\
                     activemq.prefetchSize:{prefetch}\nreceipt:subscribed\n\n\0"
                );
                acking.write_all(subscribe.as_bytes())?;
            } else if frame.head.starts_with(b"RECEIPT\n") {
                shared.keep(&acking)?;
            } else if frame.head.starts_with(b"MESSAGE\n") {
                shared.arrivals().take(frame.body);
                last = header(frame.head, "ack").context("a MESSAGE without ack")?.to_owned();
                unacknowledged += 1;
                if unacknowledged >= prefetch / 4 {
                    unacknowledged = 0;
                    acknowledge(&mut acking, &last)?;
                }
            } else {
                bail!("the broker says {}", frame.head.escape_ascii());
            }
            Ok(())
        });
        match read {
            Ok(true) => {}
            Ok(false) => bail!("the broker ended it"),
            Err(error) if is_silence(&error) && shared.closed.is_cancelled() => return Ok(()),
            Err(error) if is_silence(&error) => {
                if unacknowledged > 0 {
                    unacknowledged = 0;
                    acknowledge(&mut acking, &last)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_silence(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn acknowledge(connection: &mut TcpStream, id: &str) -> Result<()> {
    Ok(connection.write_all(format!("ACK\nid:{id}\n\n\0").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_once_it_is_whole() {
        for frame in [
            &b"\nMESSAGE\nack:7\ncontent-length:3\n\na\0b\0"[..],
            b"MESSAGE\nack:7\n\nab\0",
            b"CONNECTED\nversion:1.2\n\n\0",
        ] {
            for cut in 0..frame.len() {
                assert!(first_frame(&frame[..cut]).unwrap().is_none(), "{} at {cut}", frame.escape_ascii());
            }
            let bytes = [frame, b"more"].concat();
            let (_, used) = first_frame(&bytes).unwrap().unwrap();
            assert_eq!(used, frame.len());
        }
        let (frame, _) = first_frame(b"MESSAGE\nack:7\ncontent-length:3\n\na\0b\0").unwrap().unwrap();
        assert_eq!((frame.body, header(frame.head, "ack")), (&b"a\0b"[..], Some("7")));
        assert!(first_frame(b"MESSAGE\ncontent-length:1\n\nabc\0").is_err());
    }
}
