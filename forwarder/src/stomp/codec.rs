//! The adaptor around tokio-stomp, which is the message model and the codec of heads.
//!
//! What tokio-stomp 0.4.0 lacks is added here: headers of ours are spliced in after the command line,
//! bodies go past it (it copies them, and parses a frame from its start at each read), CONNECT is
//! written by hand because it is not escaped, an ACK of STOMP 1.0 and 1.1 because it has no `id`, and
//! received header values are unescaped.

use bytes::{BufMut, Bytes, BytesMut};
use tokio_stomp::client::ClientCodec;
use tokio_stomp::{AckMode, FromServer, ToServer};
use tokio_util::codec::{Decoder, Encoder};

use super::escape::{escape, unescape};
use super::head;
use super::inbox::{FrameError, RawFrame};
use super::outbox::Outbox;
use super::{AckToken, Headers, Message, Version};

/// As a rule tokio-stomp writes less.
const OWN_HEAD_BYTES: usize = 256;
/// An ERROR is often followed by a stack trace; this much of it is shown.
const WORDS_CHARS_MAX: usize = 300;

/// What an upstream says.
#[derive(Debug)]
pub(super) enum Frame {
    Connected(Connected),
    Message(Message),
    Receipt(String),
    Error(Refused),
}

/// An ERROR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// In the upstream's words, on one line.
    pub words: String,
    /// The `receipt` of the frame at fault, where the upstream tells and will refuse it each time: only
    /// agents of ours do.
    pub for_ever: Option<String>,
}

/// The answer to CONNECT.
#[derive(Debug, Clone)]
pub struct Connected {
    /// What was agreed on.
    pub version: Version,
    /// Such as `RabbitMQ/3.10.8`.
    pub server: Option<String>,
    /// The upstream's `heart-beat` header.
    pub(super) heart_beat: Option<String>,
    /// All other headers.
    pub headers: Headers,
}

impl Connected {
    /// Whether the upstream is a node of ours, of whatever version, and no broker.
    pub fn is_node(&self) -> bool {
        self.headers.get("packetboat-wire").is_some()
    }
}

/// Appends SEND with `headers` and a `content-length`.
pub(super) fn put_send<'a>(
    destination: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &Bytes,
    version: Version,
    out: &mut Outbox,
) {
    let send = ToServer::Send { destination: destination.to_owned(), transaction: None, body: None };
    put_head(send, out.end(), |out| {
        headers.for_each(|(name, value)| put_header(name, value, version, out));
        put_header("content-length", &body.len().to_string(), version, out);
    });
    out.put_body(body);
    out.end().put_u8(0);
}

/// Appends SUBSCRIBE with `ack:client-individual`.
pub(super) fn put_subscribe<'a>(
    destination: &str,
    id: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    version: Version,
    out: &mut BytesMut,
) {
    let ack = Some(AckMode::ClientIndividual);
    let subscribe = ToServer::Subscribe { destination: destination.to_owned(), id: id.to_owned(), ack };
    put_head(subscribe, out, |out| headers.for_each(|(name, value)| put_header(name, value, version, out)));
    out.put_u8(0);
}

/// Appends the ACK of one message.
pub(super) fn put_ack(token: &AckToken, version: Version, out: &mut BytesMut) {
    let ack = |id| ToServer::Ack { id, transaction: None };
    put_answer(token, b"ACK\n", ack, version, out, |_| {});
}

/// Appends the NACK of one message, for a node: with the reason why it can never be taken.
pub(super) fn put_nack(token: &AckToken, reason: &str, version: Version, out: &mut BytesMut) {
    let nack = |id| ToServer::Nack { id, transaction: None };
    let reason = one_line(reason);
    put_answer(token, b"NACK\n", nack, version, out, |out| {
        put_header("packetboat-reason", &reason, version, out);
    });
}

fn put_answer(
    token: &AckToken,
    command: &[u8],
    by_id: impl FnOnce(String) -> ToServer,
    version: Version,
    out: &mut BytesMut,
    more: impl FnOnce(&mut BytesMut),
) {
    match token {
        AckToken::Ack(id) => put_head(by_id(id.clone()), out, more),
        AckToken::MessageId { message_id, subscription } => {
            out.put_slice(command);
            put_header("message-id", message_id, version, out);
            put_header("subscription", subscription, version, out);
            more(out);
            out.put_u8(b'\n');
        }
    }
    out.put_u8(0);
}

/// Appends DISCONNECT.
pub(super) fn put_disconnect(receipt: &str, out: &mut BytesMut) {
    put_head(ToServer::Disconnect { receipt: Some(receipt.to_owned()) }, out, |_| {});
    out.put_u8(0);
}

/// Appends CONNECT; its values are not escaped in any version of the specification.
pub(super) fn put_connect(headers: &[(&str, &str)], out: &mut BytesMut) {
    out.put_slice(b"CONNECT\n");
    for (name, value) in headers {
        out.put_slice(name.as_bytes());
        out.put_u8(b':');
        out.put_slice(value.as_bytes());
        out.put_u8(b'\n');
    }
    out.put_slice(b"\n\0");
}

/// Appends what tokio-stomp writes for `content`, without the NUL and with more headers spliced in after
/// the command line.
fn put_head(content: ToServer, out: &mut BytesMut, splice: impl FnOnce(&mut BytesMut)) {
    let mut frame = BytesMut::with_capacity(OWN_HEAD_BYTES);
    let written = ClientCodec.encode(content.into(), &mut frame);
    debug_assert!(written.is_ok(), "tokio-stomp's encoder has no way to fail");
    let command_end = memchr::memchr(b'\n', &frame).map_or(0, |line_end| line_end + 1);
    let rest = frame.split_off(command_end);
    out.put_slice(&frame);
    splice(out);
    out.put_slice(rest.strip_suffix(b"\0").unwrap_or(&rest));
}

fn put_header(name: &str, value: &str, version: Version, out: &mut BytesMut) {
    escape(name, version, out);
    out.put_u8(b':');
    escape(value, version, out);
    out.put_u8(b'\n');
}

/// Reads a raw frame. Header values come out as their sender meant them.
pub(super) fn read(frame: RawFrame, version: Version) -> Result<Frame, FrameError> {
    let mut head = head::mended(&frame.head);
    let message = match ClientCodec.decode(&mut head) {
        Ok(Some(message)) => message,
        Ok(None) => return Err(FrameError::Codec("a head is incomplete".to_owned())),
        Err(error) => return Err(FrameError::Codec(error.to_string())),
    };
    let plain = |text: String| unescape(text.into_bytes(), version);
    let extra_headers = message.extra_headers;
    let headers = |version| Headers::from_raw(extra_headers, version);
    Ok(match message.content {
        // CONNECTED is not escaped, which is what 1.0 is like.
        FromServer::Connected { version, server, heartbeat, .. } => Frame::Connected(Connected {
            version: Version::parse(&version)
                .ok_or_else(|| FrameError::Codec(format!("the upstream chose version `{version}`")))?,
            server,
            heart_beat: heartbeat,
            headers: headers(Version::V1_0),
        }),
        FromServer::Message { destination, message_id, subscription, .. } => {
            let headers = headers(version);
            let message_id = plain(message_id);
            let ack = match (version, headers.get("ack")) {
                (Version::V1_2, Some(id)) => AckToken::Ack(id.to_owned()),
                (Version::V1_2, None) => AckToken::Ack(message_id.clone()),
                _ => {
                    AckToken::MessageId { message_id: message_id.clone(), subscription: plain(subscription) }
                }
            };
            let destination = plain(destination);
            let (body, cut_bytes) = (frame.body, frame.cut_bytes);
            Frame::Message(Message { id: message_id, destination, headers, ack, body, cut_bytes })
        }
        FromServer::Receipt { receipt_id } => Frame::Receipt(plain(receipt_id)),
        FromServer::Error { message, .. } => {
            let headers = headers(version);
            let for_ever =
                headers.get("packetboat-refused").and(headers.get("receipt-id")).map(str::to_owned);
            Frame::Error(Refused { words: words(message.map(plain), &frame.body), for_ever })
        }
    })
}

/// One line out of an ERROR's message and the first line of its body.
fn words(message: Option<String>, body: &Bytes) -> String {
    let body = String::from_utf8_lossy(body);
    let detail = body.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let all = match message {
        Some(message) if detail.contains(&message) => detail.to_owned(),
        Some(message) if detail.is_empty() => message,
        Some(message) => format!("{message}: {detail}"),
        None => detail.to_owned(),
    };
    match one_line(&all) {
        line if line.is_empty() => "ERROR without a message".to_owned(),
        line => line,
    }
}

/// At most [`WORDS_CHARS_MAX`] of it.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(WORDS_CHARS_MAX) {
        Some((cut, _)) => format!("{}...", &line[..cut]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
