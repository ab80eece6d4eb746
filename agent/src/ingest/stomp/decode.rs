//! Bytes in, frames out: no I/O and no clock. A frame may be cut anywhere: what has been parsed of it
//! is kept, so that no byte is looked at twice, and what is parsed borrows from the caller's buffer.

use super::Limits;
use super::frame::{Command, Frame, HeaderSpan};
use super::refusal::quoted;
use super::version::Version;

/// How every TLS client begins: a record of the handshake, version 3.x. The second byte may come late.
const TLS_HANDSHAKE: &[u8] = b"\x16";

/// Bytes of a body before the session is open. A body says nothing there, but old clients may send a little.
const BODY_BYTES_BEFORE_OPEN: usize = 1024;

/// Finds the frames of one session in its bytes.
#[derive(Debug)]
pub(crate) struct Decoder {
    header_bytes_max: usize,
    header_count_max: usize,
    body_bytes_max: usize,
    is_open: bool,
    progress: Progress,
    /// Of the frame that progress is made in.
    headers: Vec<HeaderSpan>,
}

/// What is known of the frame that the bytes begin with. Offsets count from its first byte.
#[derive(Debug, Clone, Copy)]
enum Progress {
    /// Nothing, or the last frame has been handed out.
    None,
    /// The lines before `line` are parsed; there is no LF in `line..searched`.
    Head { command: Option<Command>, line: usize, searched: usize, content_length: Option<usize> },
    /// The head is parsed; without a content-length there is no NUL in `body..searched`.
    Body { command: Command, body: usize, searched: usize, content_length: Option<usize> },
}

/// What stands at the start of the bytes.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    /// A frame, and the bytes that it and the EOLs before it took.
    Frame(Frame<'a>, usize),
    /// No whole frame yet; these many bytes, EOLs between frames, are done with.
    Partial(usize),
}

/// Why bytes are not a frame. Nothing after them can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error(
        "{0:?} is not a STOMP command; this port speaks STOMP 1.0, 1.1 and 1.2: send CONNECT, or use the port of \
         your own protocol"
    )]
    Command(String),
    #[error(
        "this is a TLS handshake, and the port speaks STOMP without TLS: connect without it, or to the port of \
         listen.stomp+tls"
    )]
    Tls,
    #[error("the header line {0:?} has no colon, or no name before it: write name:value")]
    HeaderLine(String),
    #[error("there is a NUL in the headers: end them with an empty line before the body and its NUL")]
    NulInHeaders,
    #[error("the headers take more than {0} bytes: send fewer or shorter ones")]
    HeaderBytes(usize),
    #[error("there are more than {0} headers: send fewer")]
    HeaderCount(usize),
    #[error("the header line {0:?} has an escape that STOMP {1} does not define: write a backslash as \\\\")]
    Escape(String, Version),
    #[error("content-length {0:?} is not a number of bytes: send the length of the body, or leave it out")]
    ContentLength(String),
    #[error("the body is longer than {0} bytes: send it as several messages")]
    BodyBytes(usize),
    #[error(
        "there is a body of more than {BODY_BYTES_BEFORE_OPEN} bytes before the session is open: the first frame is \
         CONNECT, which has none; send metrics once CONNECTED has come"
    )]
    BodyBeforeOpen,
    #[error("there is no NUL after the {0} bytes that content-length announced: count bytes, not characters")]
    NoNul(usize),
}

impl Decoder {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            header_bytes_max: limits.header_bytes,
            header_count_max: limits.header_count,
            body_bytes_max: limits.body_bytes,
            is_open: false,
            progress: Progress::None,
            headers: Vec::new(),
        }
    }

    /// The client has been let in, and may send bodies. Before that it may be anybody, and is to take no memory.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// Whether a frame has begun and is not whole.
    pub(super) fn is_mid_frame(&self) -> bool {
        !matches!(self.progress, Progress::None)
    }

    /// Looks at `input`, which begins where the bytes of the last call that are not done with began.
    pub(crate) fn decode<'a>(
        &'a mut self,
        version: Version,
        input: &'a [u8],
    ) -> Result<Decoded<'a>, DecodeError> {
        let mut skipped = 0;
        if !self.is_mid_frame() {
            skipped = eols(input);
            self.headers.clear();
        }
        let bytes = &input[skipped..];
        // A CR alone may be half of an EOL.
        if bytes.is_empty() || (!self.is_mid_frame() && bytes == b"\r") {
            return Ok(Decoded::Partial(skipped));
        }
        let Some((command, body, end)) = self.advance(version, bytes)? else {
            return Ok(Decoded::Partial(skipped));
        };
        self.progress = Progress::None;
        let frame = Frame {
            command,
            bytes,
            headers: &self.headers,
            body: &bytes[body..end],
            version: escapes(command, version),
        };
        Ok(Decoded::Frame(frame, skipped + end + 1))
    }

    /// What is known of the frame that is not whole, or could not be decoded, without a body. `input` is that
    /// of the last call.
    pub(super) fn head<'a>(&'a self, version: Version, input: &'a [u8]) -> Option<Frame<'a>> {
        let command = match self.progress {
            Progress::None => return None,
            Progress::Head { command, .. } => command?,
            Progress::Body { command, .. } => command,
        };
        let bytes = &input[eols(input)..];
        let version = escapes(command, version);
        Some(Frame { command, bytes, headers: &self.headers, body: &[], version })
    }

    /// Goes on in the frame. Tells its command, and where its body begins and ends.
    fn advance(
        &mut self,
        version: Version,
        bytes: &[u8],
    ) -> Result<Option<(Command, usize, usize)>, DecodeError> {
        let (mut command, mut line, mut searched, mut content_length) = match self.progress {
            Progress::None => (None, 0, 0, None),
            Progress::Head { command, line, searched, content_length } => {
                (command, line, searched, content_length)
            }
            Progress::Body { command, body, searched, content_length } => {
                return self.find_end(command, body, searched, content_length, bytes);
            }
        };
        loop {
            let Some(next) = self.find_line_end(bytes, line, searched, command)? else {
                self.progress = Progress::Head { command, line, searched: bytes.len(), content_length };
                return Ok(None);
            };
            let text = without_cr(&bytes[line..next]);
            self.progress = Progress::Head { command, line, searched: next, content_length };
            match command {
                None => {
                    command = Some(Command::parse(text).ok_or_else(|| DecodeError::Command(quoted(text)))?)
                }
                Some(command) if text.is_empty() => {
                    return self.find_end(command, next + 1, next + 1, content_length, bytes);
                }
                Some(command) => {
                    let header = self.header(bytes, line, text.len(), escapes(command, version))?;
                    if content_length.is_none() && &bytes[header.name.0..header.name.1] == b"content-length" {
                        content_length = Some(self.content_length(&bytes[header.value.0..header.value.1])?);
                    }
                    self.headers.push(header);
                }
            }
            line = next + 1;
            searched = line;
        }
    }

    /// Where the LF is that ends the line at `line`.
    fn find_line_end(
        &self,
        bytes: &[u8],
        line: usize,
        searched: usize,
        command: Option<Command>,
    ) -> Result<Option<usize>, DecodeError> {
        let found = memchr::memchr2(b'\n', 0, &bytes[searched..]).map(|at| searched + at);
        let seen = found.unwrap_or(bytes.len());
        if command.is_none() {
            // Told at once: a client of another protocol would wait for an answer for ever.
            let word = without_cr(&bytes[line..seen]);
            if word.len() > Command::BYTES_MAX + 1 || word.iter().any(|octet| !octet.is_ascii_uppercase()) {
                let is_tls = word.starts_with(TLS_HANDSHAKE);
                return Err(if is_tls { DecodeError::Tls } else { DecodeError::Command(quoted(word)) });
            }
        }
        if seen > self.header_bytes_max {
            return Err(DecodeError::HeaderBytes(self.header_bytes_max));
        }
        match found {
            Some(at) if bytes[at] == 0 => Err(DecodeError::NulInHeaders),
            found => Ok(found),
        }
    }

    fn header(
        &self,
        bytes: &[u8],
        start: usize,
        length: usize,
        version: Version,
    ) -> Result<HeaderSpan, DecodeError> {
        let text = &bytes[start..start + length];
        if self.headers.len() == self.header_count_max {
            return Err(DecodeError::HeaderCount(self.header_count_max));
        }
        let colon = memchr::memchr(b':', text).ok_or_else(|| DecodeError::HeaderLine(quoted(text)))?;
        if version != Version::V1_0
            && memchr::memchr(b'\\', text).is_some()
            && (version.unescape(&text[..colon]).is_err() || version.unescape(&text[colon + 1..]).is_err())
        {
            return Err(DecodeError::Escape(quoted(text), version));
        }
        let mut span =
            HeaderSpan { name: (start, start + colon), value: (start + colon + 1, start + length) };
        if version == Version::V1_0 {
            // STOMP 1.0 does not forbid the blanks with which its oldest clients pad.
            span = HeaderSpan { name: trimmed(bytes, span.name), value: trimmed(bytes, span.value) };
        }
        if span.name.0 == span.name.1 {
            return Err(DecodeError::HeaderLine(quoted(text)));
        }
        Ok(span)
    }

    fn content_length(&self, value: &[u8]) -> Result<usize, DecodeError> {
        let digits = value.trim_ascii();
        let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length = match number.map(str::parse::<usize>) {
            Some(Ok(length)) => length,
            // More digits than a usize holds.
            Some(Err(_)) if !digits.is_empty() => usize::MAX,
            _ => return Err(DecodeError::ContentLength(quoted(value))),
        };
        self.check_body_bytes(length)?;
        Ok(length)
    }

    /// Where the frame's NUL is, which ends its body.
    fn find_end(
        &mut self,
        command: Command,
        body: usize,
        searched: usize,
        content_length: Option<usize>,
        bytes: &[u8],
    ) -> Result<Option<(Command, usize, usize)>, DecodeError> {
        self.progress = Progress::Body { command, body, searched: bytes.len(), content_length };
        let end = match content_length {
            Some(length) => match bytes.get(body + length) {
                Some(0) => Some(body + length),
                Some(_) => return Err(DecodeError::NoNul(length)),
                None => None,
            },
            None => memchr::memchr(0, &bytes[searched..]).map(|at| searched + at),
        };
        self.check_body_bytes(end.unwrap_or(bytes.len()) - body)?;
        Ok(end.map(|end| (command, body, end)))
    }

    fn check_body_bytes(&self, bytes: usize) -> Result<(), DecodeError> {
        if !self.is_open && bytes > BODY_BYTES_BEFORE_OPEN {
            return Err(DecodeError::BodyBeforeOpen);
        }
        if bytes > self.body_bytes_max {
            return Err(DecodeError::BodyBytes(self.body_bytes_max));
        }
        Ok(())
    }
}

/// What escapes the headers of a frame (STOMP 1.2, "Value Encoding": CONNECT's are not escaped).
fn escapes(command: Command, version: Version) -> Version {
    if command.opens() { Version::V1_0 } else { version }
}

/// Bytes of the EOLs that `input` begins with: the end of the frame before, and heart-beats. A CR whose
/// LF has not come is none yet.
fn eols(input: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += match &input[at..] {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return at,
        };
    }
}

/// A line may end in CRLF. 1.2 says so; at 1.0 and 1.1 a person with telnet does it.
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn trimmed(bytes: &[u8], (start, end): (usize, usize)) -> (usize, usize) {
    let text = &bytes[start..end];
    let start = start + (text.len() - text.trim_ascii_start().len());
    (start, start + text.trim_ascii().len())
}

#[cfg(test)]
mod tests;
