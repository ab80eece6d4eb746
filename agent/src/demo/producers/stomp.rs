//! Over STOMP: each slot is a SEND with a receipt, and many are on their way.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use forwarder::Transport;
use forwarder::stomp::{self, Connection, Incoming, StompSettings};
use tokio_util::sync::CancellationToken;
use topology::model::{Endpoint, StompUpstream};

use super::Producers;
use crate::demo::ledger::Ledger;
use crate::demo::load::Load;

/// SENDs that may be without a receipt.
const WINDOW: usize = 64;
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A session, and what it has sent without a receipt.
struct Producer<'a> {
    connection: Connection<Transport>,
    queue: &'a str,
    accepted: &'a Ledger,
    in_flight: HashMap<u64, Vec<u8>>,
    sent: u64,
}

pub(super) async fn produce(producers: &Producers, mut load: Load, stop: &CancellationToken) -> Result<()> {
    let mut producer = Producer {
        connection: stomp::connect(&upstream(producers), None, &StompSettings::default()).await?,
        queue: &producers.queue,
        accepted: &producers.accepted,
        in_flight: HashMap::new(),
        sent: 0,
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            lines = load.next(), if producer.in_flight.len() < WINDOW => producer.send(lines),
            incoming = producer.connection.next() => producer.hear(incoming?),
        }
    }
    while !producer.in_flight.is_empty() {
        let incoming = producer.connection.next().await?;
        producer.hear(incoming);
    }
    Ok(producer.connection.close(FAREWELL).await?)
}

impl Producer<'_> {
    fn send(&mut self, lines: Vec<u8>) {
        let Some(body) = lines.strip_suffix(b"\n") else { return };
        self.sent += 1;
        let receipt = self.sent.to_string();
        let headers = [("receipt", receipt.as_str()), ("persistent", "true"), ("content-type", "text/plain")];
        self.connection.send(self.queue, headers.into_iter(), &Bytes::copy_from_slice(body));
        self.in_flight.insert(self.sent, lines);
    }

    fn hear(&mut self, incoming: Incoming) {
        if let Incoming::Receipt(id) = incoming
            && let Some(lines) = id.parse().ok().and_then(|id: u64| self.in_flight.remove(&id))
        {
            self.accepted.enter(&lines);
        }
    }
}

fn upstream(producers: &Producers) -> StompUpstream {
    let (host, port) = (producers.stomp.ip().to_string(), producers.stomp.port());
    StompUpstream {
        endpoints: vec![Endpoint { host, port }],
        vhost: "/".to_owned(),
        login: None,
        passcode_file: None,
        send_headers: Vec::new(),
        subscribe_headers: Vec::new(),
        is_agent: true,
        prefer_first: false,
        tls: None,
    }
}
