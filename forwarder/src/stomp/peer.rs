//! The far end of a connection in tests: reads frames and says what the script wants.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{Connection, HandshakeError, Login, Passcode, Spelling, StompSettings};

/// A frame as the peer read it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The lines of the head.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    pub(crate) fn command(&self) -> &str {
        &self.head[0]
    }

    /// As written on the wire, still escaped.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}:");
        self.head.iter().skip(1).find_map(|line| line.strip_prefix(&start))
    }
}

pub(crate) struct Peer {
    pub(crate) stream: DuplexStream,
    buffer: Vec<u8>,
    /// Heart-beats seen between frames.
    pub(crate) beats: usize,
}

impl Peer {
    pub(crate) fn new(stream: DuplexStream) -> Self {
        Self { stream, buffer: Vec::new(), beats: 0 }
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<Sent> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap() == 0 {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Sent> {
        let blank = self.buffer.iter().take_while(|&&byte| byte == b'\n').count();
        self.beats += blank;
        self.buffer.drain(..blank);
        let head_end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let head = String::from_utf8(self.buffer[..head_end].to_vec()).unwrap();
        let head: Vec<_> = head.lines().map(str::to_owned).collect();
        let body_at = head_end + 2;
        let length = head.iter().find_map(|line| line.strip_prefix("content-length:"));
        let body_end = match length {
            Some(length) => body_at + length.parse::<usize>().unwrap(),
            None => body_at + self.buffer[body_at..].iter().position(|&byte| byte == 0)?,
        };
        if *self.buffer.get(body_end)? != 0 {
            panic!("the frame does not end in NUL: {head:?}");
        }
        let body = self.buffer[body_at..body_end].to_vec();
        self.buffer.drain(..=body_end);
        Some(Sent { head, body })
    }

    /// Confirms everything that asks for a receipt until the stream ends; returns the frames.
    pub(crate) async fn confirm_all(mut self) -> Vec<Sent> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            if let Some(receipt) = frame.header("receipt") {
                let answer = format!("RECEIPT\nreceipt-id:{receipt}\n\n\0\n");
                self.say(answer).await;
            }
            frames.push(frame);
        }
        frames
    }
}

pub(crate) fn login() -> Login {
    Login {
        host: "/".to_owned(),
        login: Some("packetboat".to_owned()),
        passcode: Some(Passcode::new("se:cret\\1")),
        node: None,
    }
}

/// The answer to CONNECT of a broker that speaks 1.2 and has no heart-beats.
pub(crate) const CONNECTED: &str = "CONNECTED\nversion:1.2\n\n\0\n";

/// A session on which the peer answered CONNECT with `connected`; `pipe_bytes` fit on the way.
pub(crate) async fn session_over(
    pipe_bytes: usize,
    connected: &str,
    settings: &StompSettings,
) -> Result<(Connection<DuplexStream>, Peer), HandshakeError> {
    let (near, far) = duplex(pipe_bytes);
    let mut peer = Peer::new(far);
    let answer = async {
        assert_eq!(peer.frame().await.unwrap().command(), "CONNECT");
        peer.say(connected).await;
    };
    let login = login();
    let open = Connection::open(near, "mq1:61613", &login, Spelling::AsIs, settings);
    let (connection, ()) = tokio::join!(open, answer);
    Ok((connection?, peer))
}

pub(crate) async fn session(connected: &str) -> (Connection<DuplexStream>, Peer) {
    session_over(64 * 1024, connected, &StompSettings::default()).await.unwrap()
}
