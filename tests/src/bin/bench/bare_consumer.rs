//! A STOMP client that only takes what a queue has, and acknowledges it: what a broker gives at most.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use memchr::{memchr, memchr_iter, memmem};

use crate::producer::{Sent, connect, open_session};

/// Messages on the way without an ACK; one ACK in a quarter of them is for all before it.
const PREFETCH: usize = 256;
const READ_BYTES: usize = 1024 * 1024;

/// Takes messages until `lines` lines have come. The time is from the first to the last.
pub(crate) fn consume(broker: SocketAddr, queue: &str, lines: u64) -> Result<Sent> {
    let mut connection = connect(broker)?;
    open_session(&mut connection)?;
    write!(
        connection,
        "SUBSCRIBE\nid:0\ndestination:{queue}\nack:client\nprefetch-count:{PREFETCH}\n\
         activemq.prefetchSize:{PREFETCH}\n\n\0"
    )?;
    let (mut buffer, mut filled) = (vec![0; 4 * READ_BYTES], 0);
    let (mut messages, mut came, mut first) = (0, 0, None);
    while came < lines {
        ensure!(filled < buffer.len(), "a message is too large");
        let read = connection.read(&mut buffer[filled..]).context("no message")?;
        ensure!(read > 0, "the broker closed the session");
        filled += read;
        let mut used = 0;
        let mut acks = Vec::new();
        while let Some(Frame { head, body, length }) = frame(&buffer[used..filled])? {
            ensure!(
                head.starts_with(b"MESSAGE\n"),
                "a MESSAGE was due, but there came {}",
                head.escape_ascii()
            );
            messages += 1;
            let has_open_end = body.last().is_some_and(|&byte| byte != b'\n');
            came += memchr_iter(b'\n', body).count() as u64 + u64::from(has_open_end);
            if messages % (PREFETCH / 4) == 0 || came >= lines {
                let id = header(head, b"\nack:").context("a MESSAGE without an ack")?;
                acks.extend_from_slice(b"ACK\nid:");
                acks.extend_from_slice(id);
                acks.extend_from_slice(b"\n\n\0");
            }
            used += length;
        }
        if used > 0 {
            first.get_or_insert_with(Instant::now);
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
        connection.write_all(&acks)?;
    }
    let elapsed = first.map_or_else(Default::default, |first| first.elapsed());
    leave(&mut connection, &mut buffer[..READ_BYTES])?;
    Ok(Sent { lines: came, elapsed, cpu_seconds: 0.0 })
}

/// Takes all `lines` lines of a queue, which nobody wants.
pub(crate) fn empty(broker: SocketAddr, queue: &str, lines: u64) -> Result<()> {
    consume(broker, queue, lines).map(drop)
}

/// The receipt of DISCONNECT says that the last ACK was heard.
fn leave(connection: &mut std::net::TcpStream, buffer: &mut [u8]) -> Result<()> {
    connection.write_all(b"DISCONNECT\nreceipt:bye\n\n\0")?;
    let mut said = Vec::new();
    while memmem::find(&said, b"receipt-id:bye").is_none() {
        let read = connection.read(buffer).context("no receipt for DISCONNECT")?;
        if read == 0 {
            bail!("the broker closed the session before its receipt");
        }
        said.extend_from_slice(&buffer[..read]);
    }
    // It may have closed by itself.
    connection.shutdown(Shutdown::Both).ok();
    Ok(())
}

struct Frame<'a> {
    head: &'a [u8],
    body: &'a [u8],
    /// From the blank lines before it to its NUL.
    length: usize,
}

/// The frame that `bytes` begin with, once that is whole.
fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>> {
    let blank = bytes.iter().take_while(|&&byte| byte == b'\n' || byte == b'\r').count();
    let Some(head_end) = memmem::find(&bytes[blank..], b"\n\n") else { return Ok(None) };
    let head = &bytes[blank..blank + head_end + 1];
    let body = &bytes[blank + head_end + 2..];
    let length = match header(head, b"\ncontent-length:") {
        Some(length) => Some(std::str::from_utf8(length)?.parse::<usize>()?),
        None => memchr(0, body),
    };
    let whole = length.filter(|&length| body.len() > length);
    let taken = blank + head_end + 2;
    Ok(whole.map(|length| Frame { head, body: &body[..length], length: taken + length + 1 }))
}

/// As it was escaped.
fn header<'a>(head: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let value = &head[memmem::find(head, key)? + key.len()..];
    value.split(|&byte| byte == b'\n').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_once_it_is_whole() {
        let bytes = b"\nMESSAGE\nack:7\\c1\ncontent-length:3\n\na\0b\0next";
        for cut in 0..bytes.len() - 4 {
            assert!(frame(&bytes[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let Frame { head, body, length } = frame(bytes).unwrap().unwrap();
        assert_eq!((header(head, b"\nack:"), body), (Some(&b"7\\c1"[..]), &b"a\0b"[..]));
        assert_eq!(&bytes[length..], b"next");
    }
}
