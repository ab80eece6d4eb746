//! A small blocking STOMP 1.2 client to look at brokers and agents with, and the other side of one. It
//! shares nothing with the product's, so that a misreading of the specification cannot hide in both.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const READ_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// One frame as it came. Header values are as they were on the wire: escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// `MESSAGE`, `RECEIPT`, ...
    pub command: String,
    /// In the order in which they came.
    pub headers: Vec<(String, String)>,
    /// Without the NUL.
    pub body: Vec<u8>,
}

impl Frame {
    /// The first header of this name, escaped as it came.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One session. No heart-beats, so nothing need be done to keep it.
#[derive(Debug)]
pub struct Stomp {
    stream: BufReader<TcpStream>,
}

impl Stomp {
    /// Connects, and waits for CONNECTED. `headers` go into CONNECT as they are, before the usual ones: of
    /// repeated headers the first counts.
    pub fn connect(address: SocketAddr, headers: &[(&str, &str)]) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT_LIMIT))?;
        let mut session = Self { stream: BufReader::new(stream) };
        let fixed = [("accept-version", "1.2"), ("host", "/"), ("heart-beat", "0,0")];
        session.write("CONNECT", &[headers, &fixed].concat(), b"")?;
        let answer = session.read()?;
        session.stream.get_ref().set_read_timeout(Some(READ_LIMIT))?;
        match answer.command.as_str() {
            "CONNECTED" => Ok(session),
            _ => Err(io::Error::other(format!("CONNECT was answered by {answer:?}"))),
        }
    }

    /// Takes the other side of a connection: reads CONNECT, which is to be answered.
    pub fn accept(stream: TcpStream) -> io::Result<(Self, Frame)> {
        stream.set_nodelay(true)?;
        let mut session = Self { stream: BufReader::new(stream) };
        let frame = session.read()?;
        match frame.command.as_str() {
            "CONNECT" | "STOMP" => Ok((session, frame)),
            _ => Err(io::Error::other(format!("a CONNECT was due, but there came {frame:?}"))),
        }
    }

    /// Confirms `frame`, if it asks for that.
    pub fn confirm(&mut self, frame: &Frame) -> io::Result<()> {
        match frame.header("receipt") {
            Some(id) => self.write("RECEIPT", &[("receipt-id", id)], b""),
            None => Ok(()),
        }
    }

    /// Writes one frame. `content-length` is added where there is a body.
    pub fn write(&mut self, command: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut frame = format!("{command}\n");
        for (name, value) in headers {
            writeln!(frame, "{name}:{value}").expect("a String takes all");
        }
        if !body.is_empty() {
            writeln!(frame, "content-length:{}", body.len()).expect("a String takes all");
        }
        frame.push('\n');
        let mut bytes = frame.into_bytes();
        bytes.extend_from_slice(body);
        bytes.push(0);
        self.stream.get_mut().write_all(&bytes)
    }

    /// Reads the next frame; heart-beats are passed over.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end of the connection, `WouldBlock` when nothing came in a minute.
    pub fn read(&mut self) -> io::Result<Frame> {
        let command = loop {
            let line = self.read_line()?;
            if !line.is_empty() {
                break line;
            }
        };
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut frame = Frame { command, headers, body: Vec::new() };
        frame.body = self.read_body(frame.header("content-length").and_then(|length| length.parse().ok()))?;
        Ok(frame)
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(io::Error::other)
    }

    fn read_body(&mut self, length: Option<usize>) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        match length {
            Some(length) => {
                body.resize(length + 1, 0);
                self.stream.read_exact(&mut body)?;
            }
            None => drop(self.stream.read_until(0, &mut body)?),
        }
        match body.pop() {
            Some(0) => Ok(body),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads the next frame and takes it only if it is a RECEIPT: its `receipt-id`.
    pub fn read_receipt(&mut self) -> io::Result<String> {
        let frame = self.read()?;
        match (frame.command.as_str(), frame.header("receipt-id")) {
            ("RECEIPT", Some(id)) => Ok(id.to_owned()),
            _ => Err(io::Error::other(format!("a RECEIPT was due, but there came {frame:?}"))),
        }
    }

    /// A persistent SEND with a receipt, which is waited for.
    pub fn send(&mut self, destination: &str, body: &[u8]) -> io::Result<()> {
        let headers = [("destination", destination), ("persistent", "true"), ("receipt", "sent")];
        self.write("SEND", &headers, body)?;
        self.read_receipt().map(drop)
    }

    /// Subscribes with `client-individual` and this prefetch.
    pub fn subscribe(&mut self, destination: &str, prefetch: u32) -> io::Result<()> {
        let prefetch = prefetch.to_string();
        let headers = [
            ("id", "0"),
            ("destination", destination),
            ("ack", "client-individual"),
            ("prefetch-count", &prefetch),
            ("activemq.prefetchSize", &prefetch),
        ];
        self.write("SUBSCRIBE", &headers, b"")
    }

    /// Waits for the next MESSAGE.
    pub fn message(&mut self) -> io::Result<Frame> {
        let frame = self.read()?;
        match frame.command.as_str() {
            "MESSAGE" => Ok(frame),
            _ => Err(io::Error::other(format!("a MESSAGE was due, but there came {frame:?}"))),
        }
    }

    /// Acknowledges one message. That the broker has heard it is certain after [`Stomp::disconnect`].
    pub fn ack(&mut self, message: &Frame) -> io::Result<()> {
        let id = message.header("ack").ok_or(io::ErrorKind::InvalidData)?;
        // The value was never unescaped, so it is not to be escaped.
        self.write("ACK", &[("id", id)], b"")
    }

    /// The socket, for tests that break it.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Says DISCONNECT, and waits for its receipt; messages that come before it are passed over.
    pub fn disconnect(mut self) -> io::Result<()> {
        self.write("DISCONNECT", &[("receipt", "bye")], b"")?;
        while self.read()?.header("receipt-id") != Some("bye") {}
        Ok(())
    }
}
