//! The tokio-stomp client as it comes, with the command line of the scripts in `tests/interop`.
//!
//!     tokio_stomp producer HOST PORT < LINES
//!     tokio_stomp consumer HOST PORT QUEUE LOGIN PASSCODE GRAPHITE-HOST GRAPHITE-PORT
//!     tokio_stomp subscriber HOST PORT 1.2 ACK WHAT COUNT

#![expect(clippy::print_stdout, reason = "a subscriber prints what it gets")]

use std::io::stdin;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_stomp::client::{ClientTransport, connect, subscribe};
use tokio_stomp::{AckMode, FromServer, Message, ToServer};

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
        ["subscriber", host, port, "1.2", ack, what, count] => {
            let session = connect(format!("{host}:{port}"), "/", None, None).await?;
            take(session, ack, what, count.parse()?).await
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

/// As `tests/interop/subscriber.rb`, where the arguments are explained; it has no heart-beats.
async fn take(mut session: ClientTransport, ack: &str, what: &str, count: usize) -> anyhow::Result<()> {
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
