//! The stream of one plaintext connection: TCP, or TLS over it. Both are read when there is something to
//! read, so that a silent connection holds no buffer; and each has its own word for "I have it all".

use std::io::{self, Read};
use std::time::Duration;

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tls::TlsStream;

/// How long a client may take to take the end of its TLS session.
const FAREWELL_TIME: Duration = Duration::from_secs(10);

/// What a session needs of its stream.
pub(super) trait Wire: Send {
    /// Waits until there is something to read. Cancel-safe.
    fn readable(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until the connection is broken, whatever is still to be read. A client that has only said that no
    /// more will come is still there. Cancel-safe.
    fn broken(&self) -> impl Future<Output = io::Error> + Send;

    /// Reads what is there into the room that `into` has, of which there is some. Tells whether the client has said that no more
    /// will come.
    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<bool>;

    /// The socket beneath.
    fn socket(&self) -> SockRef<'_>;

    /// Tells the client that everything has been taken, as far as the FIN, which follows, does not.
    fn farewell(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Waits for the error of a socket.
async fn broken(socket: &TcpStream) -> io::Error {
    if let Err(error) = socket.ready(Interest::ERROR).await {
        return error;
    }
    match socket.take_error() {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => io::ErrorKind::ConnectionReset.into(),
    }
}

impl Wire for TcpStream {
    fn broken(&self) -> impl Future<Output = io::Error> + Send {
        broken(self)
    }

    async fn readable(&mut self) -> io::Result<()> {
        Self::readable(self).await
    }

    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        // Unlike `try_read_buf` this knows of a short read that nothing is left, and spares the next one.
        match self.read_buf(into).now_or_never() {
            Some(read) => Ok(read? == 0),
            None => Ok(false),
        }
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }

    async fn farewell(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A TLS session, and what broke it after something had been read.
pub(super) struct TlsWire {
    stream: TlsStream,
    broken: Option<io::Error>,
}

impl TlsWire {
    pub(super) fn new(stream: TlsStream) -> Self {
        Self { stream, broken: None }
    }

    /// What had been decrypted when the connection broke.
    fn take_what_came_before(&mut self, into: &mut Vec<u8>) {
        let room = into.capacity() - into.len();
        let reader = self.stream.get_mut().1.reader();
        // It ends with an error, for more would have come.
        drop(reader.take(room as u64).read_to_end(into));
    }
}

impl Wire for TlsWire {
    fn broken(&self) -> impl Future<Output = io::Error> + Send {
        broken(self.stream.get_ref().0.as_ref())
    }

    async fn readable(&mut self) -> io::Result<()> {
        if self.broken.is_none() {
            // An error is found again by the read, or kept for it.
            self.broken = self.stream.fill_buf().await.err();
        }
        Ok(())
    }

    /// The end is the client's `close_notify`. A connection that closes without it may have been cut off
    /// by anybody, in the middle of a number: it is broken.
    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let before = into.len();
        if self.broken.is_some() {
            self.take_what_came_before(into);
        } else {
            match self.stream.read_buf(into).now_or_never() {
                Some(Ok(bytes)) => return Ok(bytes == 0),
                Some(Err(error)) => self.broken = Some(error),
                None => return Ok(false),
            }
        }
        match self.broken.take_if(|_| into.len() == before) {
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(io::Error::new(
                error.kind(),
                "it was closed without ending TLS, so it may have been cut off",
            )),
            Some(error) => Err(error),
            None => Ok(false),
        }
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self.stream.get_ref().0.as_ref())
    }

    /// `close_notify`, then the FIN: without the first, the second is no receipt.
    async fn farewell(&mut self) -> io::Result<()> {
        match timeout(FAREWELL_TIME, self.stream.shutdown()).await {
            Ok(done) => done,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not take the end of TLS")),
        }
    }
}
