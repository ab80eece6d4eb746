//! The tokio-stomp client as it comes, with the command line of the scripts in `tests/interop`.
//!
//!     tokio_stomp producer HOST PORT < LINES
//!     tokio_stomp consumer HOST PORT QUEUE LOGIN PASSCODE GRAPHITE-HOST GRAPHITE-PORT

use std::io::stdin;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_stomp::client::{ClientTransport, connect, subscribe};
use tokio_stomp::{FromServer, ToServer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["producer", host, port] => produce(&format!("{host}:{port}")).await,
        ["consumer", host, port, queue, login, passcode, graphite_host, graphite_port] => {
            let (login, passcode) = (Some(login.to_owned()), Some(passcode.to_owned()));
            let session = connect(format!("{host}:{port}"), "/", login, passcode).await?;
            consume(session, queue, &format!("{graphite_host}:{graphite_port}")).await
        }
        _ => bail!("usage: see the head of this file"),
    }
}

/// Sends each line of standard input to `/queue/graphite`. It can ask for one receipt only: that of its
/// DISCONNECT.
async fn produce(to: &str) -> anyhow::Result<()> {
    let mut session = connect(to, "/", None, None).await?;
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
async fn consume(mut session: ClientTransport, queue: &str, graphite: &str) -> anyhow::Result<()> {
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
