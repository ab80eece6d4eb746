//! NATS with JetStream, as Debian packages it: a stream on disk whose messages go once they are acknowledged.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use ::tests::process::Process;
use anyhow::{Result, anyhow, ensure};
use async_nats::jetstream::{consumer::pull, stream};
use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::rival::{Place, Program, Rival, WayIn, WayOut, installed};

pub(super) const STREAM: &str = "BENCH";
pub(super) const CONSUMER: &str = "sink";
const SUBJECT: &str = "graphite";
/// Of lines on the way without an answer.
const WINDOW_LINES: usize = 200_000;
const WINDOW_MESSAGES: usize = 20_000;

const NATS: Rival = Rival {
    name: "NATS JetStream",
    package: Some("nats-server"),
    program: || installed("nats-server"),
    durability: "",
    way_in: WayIn::Plaintext,
    way_out: WayOut::NatsConsumer { batch: 200 },
    lines: 4_000_000,
    paced_rate: 10_000,
    forgets: false,
    server: || Program::that_is_dialled("nats-server", command, prepare),
};

pub(super) const RIVALS: [Rival; 2] = [
    Rival {
        name: "NATS JetStream, 500 lines a message",
        durability: "Answers once a message is in the page cache: it survives kill -9, not a power cut (file store, work \
                     queue, one replica, synced every two minutes). It does not look at the lines.",
        way_in: WayIn::Nats { lines_per_message: 500 },
        ..NATS
    },
    Rival {
        name: "NATS JetStream, 1 line a message",
        durability: "As with 500 lines.",
        way_in: WayIn::Nats { lines_per_message: 1 },
        way_out: WayOut::NatsConsumer { batch: 2000 },
        lines: 500_000,
        ..NATS
    },
];

fn command(place: &Place) -> Command {
    let configuration = place.write("nats.conf", &configuration(place));
    let mut command = Process::command(installed("nats-server"));
    command.arg("-c").arg(configuration);
    command
}

fn configuration(place: &Place) -> String {
    format!(
        "listen: \"{}\"\nmax_pending: 256MB\n\
         jetstream {{ store_dir: \"{}\", max_memory_store: 1GB, max_file_store: 20GB }}\n",
        place.input.address(),
        place.data().display(),
    )
}

/// Makes the stream and its consumer, if they are not there.
fn prepare(place: &Place) -> Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let client = async_nats::connect(place.input.address().to_string()).await?;
        let stream = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: stream::RetentionPolicy::WorkQueue,
            storage: stream::StorageType::File,
            ..Default::default()
        };
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            max_ack_pending: 50_000,
            ack_wait: Duration::from_secs(60),
            ..Default::default()
        };
        let stream = async_nats::jetstream::new(client).get_or_create_stream(stream).await?;
        stream.get_or_create_consumer(CONSUMER, consumer).await?;
        Ok(())
    })
}

/// One that publishes to the stream and hears of each message that it is stored.
pub(super) struct Publisher {
    client: Client,
    inbox: Subject,
    runtime: Runtime,
}

impl Publisher {
    pub(super) fn connect(to: SocketAddr) -> Result<Self> {
        let runtime = runtime()?;
        let client = runtime.block_on(async_nats::connect(to.to_string()))?;
        let inbox = client.new_inbox().into();
        Ok(Self { client, inbox, runtime })
    }

    /// Publishes all, and waits until all are stored.
    pub(super) fn publish(&self, messages: &[Bytes], lines_per_message: usize) -> Result<()> {
        self.runtime.block_on(async {
            let mut answers = self.client.subscribe(self.inbox.clone()).await?;
            let window = Semaphore::new((WINDOW_LINES / lines_per_message).min(WINDOW_MESSAGES));
            let publish = async {
                for message in messages {
                    window.acquire().await?.forget();
                    self.client.publish_with_reply(SUBJECT, self.inbox.clone(), message.clone()).await?;
                }
                Ok(())
            };
            let hear = async {
                for _ in messages {
                    let answer = answers.next().await.ok_or_else(|| anyhow!("no more answers"))?;
                    ensure!(is_stored(&answer.payload), "{}", answer.payload.escape_ascii());
                    window.add_permits(1);
                }
                Ok(())
            };
            tokio::try_join!(publish, hear).map(drop)
        })
    }

    /// Publishes as `next` says: what it returns is published as soon as it returns, until it has no more.
    pub(super) fn publish_each(&self, mut next: impl FnMut() -> Option<Bytes>) -> Result<()> {
        while let Some(message) = next() {
            self.runtime.block_on(self.client.publish_with_reply(SUBJECT, self.inbox.clone(), message))?;
        }
        // What is not written would go with the connection.
        Ok(self.runtime.block_on(self.client.flush())?)
    }
}

/// `{"stream":"BENCH","seq":1}`, or an object with `error`.
fn is_stored(answer: &[u8]) -> bool {
    memchr::memmem::find(answer, b"\"seq\"").is_some()
}

/// A client works on while nobody waits for it, so that it has a thread of its own.
fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}
