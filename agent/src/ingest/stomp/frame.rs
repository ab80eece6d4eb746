//! A frame from a client, borrowed from the bytes it came in.

use std::borrow::Cow;

use super::version::Version;

/// What a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Connect,
    Stomp,
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Begin,
    Commit,
    Abort,
    Disconnect,
}

impl Command {
    const ALL: [Self; 11] = [
        Self::Send,
        Self::Connect,
        Self::Stomp,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Ack,
        Self::Nack,
        Self::Begin,
        Self::Commit,
        Self::Abort,
        Self::Disconnect,
    ];
    /// Bytes of the longest, UNSUBSCRIBE.
    pub(super) const BYTES_MAX: usize = 11;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Stomp => "STOMP",
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Disconnect => "DISCONNECT",
        }
    }

    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.as_str().as_bytes() == line)
    }

    /// Whether it opens a session. Its headers are not escaped (STOMP 1.2, "Value Encoding").
    pub(super) fn opens(self) -> bool {
        matches!(self, Self::Connect | Self::Stomp)
    }
}

/// Where a header's name and value stand, counted from the start of the frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderSpan {
    pub(super) name: (usize, usize),
    pub(super) value: (usize, usize),
}

/// A whole frame. Its escapes have been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) command: Command,
    /// From the first byte of the command.
    pub(super) bytes: &'a [u8],
    pub(super) headers: &'a [HeaderSpan],
    pub(crate) body: &'a [u8],
    /// What escapes its headers: 1.0, which has none, where the command opens a session.
    pub(super) version: Version,
}

impl<'a> Frame<'a> {
    /// The value of a header; of a repeated one the first (STOMP 1.2, "Repeated Header Entries").
    pub(crate) fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let named = |header: &&HeaderSpan| &self.bytes[header.name.0..header.name.1] == name.as_bytes();
        let header = self.headers.iter().find(named)?;
        self.version.unescape(&self.bytes[header.value.0..header.value.1]).ok()
    }

    /// All headers in their order, repeated ones too.
    pub(crate) fn all_headers(&self) -> impl Iterator<Item = (Cow<'a, [u8]>, Cow<'a, [u8]>)> {
        let plain = |(start, end): (usize, usize)| self.version.unescape(&self.bytes[start..end]).ok();
        self.headers.iter().filter_map(move |header| Some((plain(header.name)?, plain(header.value)?)))
    }
}
