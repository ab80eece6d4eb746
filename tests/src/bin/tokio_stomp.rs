//! The tokio-stomp client as it comes, with the command line of the scripts in `tests/interop`.
//!
//!     tokio_stomp producer HOST PORT < LINES
//!     tokio_stomp consumer HOST PORT QUEUE LOGIN PASSCODE GRAPHITE-HOST GRAPHITE-PORT
//!     tokio_stomp subscriber HOST PORT 1.2 ACK WHAT COUNT
//!
//! Over TLS it is its codec only, as its `connect` knows nothing but TCP; `tests/interop/place.rb` explains the
//! environment.

#![expect(clippy::print_stdout, reason = "a subscriber prints what it gets")]

use std::io::stdin;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use forwarder::tls::{TlsFiles, TlsStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stomp::client::{ClientCodec, connect, subscribe};
use tokio_stomp::{AckMode, FromServer, Message, ToServer};
use tokio_util::codec::{Decoder as _, Framed};
use topology::model::{TlsClient, TlsIdentity};

const USAGE: &str = "usage: see the head of this file";

type Session<T> = Framed<T, ClientCodec>;

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let &[_, host, port, ..] = &arguments[..] else { bail!(USAGE) };
    let place = format!("{host}:{port}");
    match (&arguments[..], std::env::var_os("STOMP_CA")) {
        (&[_, _, _, _, login, passcode, _, _], None) => {
            let (login, passcode) = (Some(login.to_owned()), Some(passcode.to_owned()));
            run(connect(place, "/", login, passcode).await?, &arguments).await
        }
        (_, None) => run(connect(place, "/", None, None).await?, &arguments).await,
        (_, Some(ca)) => run(connect_over_tls(&place, host, ca.into()).await?, &arguments).await,
    }
}

async fn run<T: Io>(session: Session<T>, arguments: &[&str]) -> anyhow::Result<()> {
    match *arguments {
        ["producer", _, _] => produce(session).await,
        ["consumer", _, _, queue, _, _, graphite_host, graphite_port] => {
            consume(session, queue, &format!("{graphite_host}:{graphite_port}")).await
        }
        ["subscriber", _, _, "1.2", ack, what, count] => take(session, ack, what, count.parse()?).await,
        _ => bail!(USAGE),
    }
}

async fn connect_over_tls(place: &str, host: &str, ca: PathBuf) -> anyhow::Result<Session<TlsStream>> {
    let file = |name| std::env::var_os(name).map(PathBuf::from);
    let identity = file("STOMP_CERT").zip(file("STOMP_KEY")).map(|(cert, key)| TlsIdentity { cert, key });
    let files = TlsFiles::read(&TlsClient { ca: Some(ca), identity }).await?;
    let mut session = ClientCodec.framed(files.begin(TcpStream::connect(place).await?, host).await?);
    let connect = ToServer::Connect {
        accept_version: "1.2".to_owned(),
        host: "/".to_owned(),
        login: None,
        passcode: None,
        heartbeat: None,
    };
    session.send(connect.into()).await?;
    match session.next().await.context("no answer to CONNECT")??.content {
        FromServer::Connected { .. } => Ok(session),
        other => bail!("CONNECT was answered by {other:?}"),
    }
}

/// Sends each line of standard input to `/queue/graphite`. It can ask for one receipt only: that of its
/// DISCONNECT.
async fn produce<T: Io>(mut session: Session<T>) -> anyhow::Result<()> {
    for line in stdin().lines() {
        let body = Some(line?.into_bytes());
        let send = ToServer::Send { destination: "/queue/graphite".to_owned(), transaction: None, body };
        session.send(send.into()).await?;
    }
    session.send(ToServer::Disconnect { receipt: Some("bye".to_owned()) }.into()).await?;
    match session.next().await.context("no answer to DISCONNECT")??.content {
        FromServer::Receipt { receipt_id } if receipt_id == "bye" => Ok(()),
        other => bail!("DISCONNECT was answered by {other:?}"),
    }
}

/// Writes each message's body into Graphite's socket.
async fn consume<T: Io>(mut session: Session<T>, queue: &str, graphite: &str) -> anyhow::Result<()> {
    session.send(subscribe(queue, "graphite")).await?;
    let mut graphite = TcpStream::connect(graphite).await?;
    while let Some(message) = session.next().await.transpose()? {
        match message.content {
            FromServer::Message { body, .. } => {
                graphite.write_all(&body.unwrap_or_default()).await?;
                graphite.write_all(b"\n").await?;
            }
            other => bail!("a MESSAGE was due, but there came {other:?}"),
        }
    }
    Ok(())
}

/// As `tests/interop/subscriber.rb`, where the arguments are explained; it has no heart-beats.
async fn take<T: Io>(mut session: Session<T>, ack: &str, what: &str, count: usize) -> anyhow::Result<()> {
    let mode = match ack {
        "auto" => AckMode::Auto,
        "client" => AckMode::Client,
        "client-individual" => AckMode::ClientIndividual,
        _ => bail!("no such ack mode: {ack}"),
    };
    let (destination, id) = ("/queue/graphite".to_owned(), "graphite".to_owned());
    session.send(ToServer::Subscribe { destination, id, ack: Some(mode) }.into()).await?;
    let (mut messages, mut lines) = (0, 0);
    while lines < count {
        let message = session.next().await.context("the connection has ended")??;
        let again = header(&message, "redelivered") == Some("true");
        let (id, transaction) = (header(&message, "ack").unwrap_or_default().to_owned(), None);
        let FromServer::Message { body, .. } = message.content else { bail!("not a MESSAGE: {message:?}") };
        let body = String::from_utf8(body.unwrap_or_default())?;
        for line in body.lines() {
            println!("{} {line}", if again { "again" } else { "new" });
        }
        if what == "refuse" && !again {
            session.send(ToServer::Nack { id, transaction }.into()).await?;
            continue;
        }
        messages += 1;
        lines += body.lines().count();
        if what == "leave" || ack == "auto" {
            continue;
        }
        if ack != "client" || messages % 5 == 0 || lines >= count {
            session.send(ToServer::Ack { id, transaction }.into()).await?;
        }
    }
    if what != "leave" {
        session.send(ToServer::Disconnect { receipt: None }.into()).await?;
    }
    Ok(())
}

fn header<'a>(message: &'a Message<FromServer>, name: &str) -> Option<&'a str> {
    let (_, value) = message.extra_headers.iter().find(|(known, _)| known == name.as_bytes())?;
    std::str::from_utf8(value).ok()
}
