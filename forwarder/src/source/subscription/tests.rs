use super::*;
use crate::batch::{BATCH_RAW_BYTES_MAX, Encoding, Epoch, Label, Part};
use crate::stomp::StompSettings;
use crate::stomp::peer::{CONNECTED, Peer, Sent, session_over};
use crate::wire;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use tokio::io::DuplexStream;
use tokio::time::{Instant, timeout};
use topology::model;

mod ending;
mod lending;

/// Takes lines that hold no `bad`, and remembers what it was given to put by.
#[derive(Default)]
struct Desk {
    put_by: Mutex<Vec<(String, String)>>,
    is_full: bool,
}

impl Desk {
    fn keep(&self, body: &[u8], reason: &str) -> Result<(), InspectError> {
        if self.is_full {
            return Err(InspectError("the disk is full".to_owned()));
        }
        let body = String::from_utf8_lossy(body).into_owned();
        self.put_by.lock().unwrap().push((body, reason.to_owned()));
        Ok(())
    }

    fn reasons(&self) -> Vec<String> {
        self.put_by.lock().unwrap().iter().map(|(_, reason)| reason.clone()).collect()
    }
}

impl Inspect for Desk {
    async fn inspect(&self, body: &[u8], _: &str) -> Result<Inspected, InspectError> {
        let text = String::from_utf8_lossy(body).into_owned();
        let (bad, good): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains("bad"));
        bad.iter().try_for_each(|line| self.keep(line.as_bytes(), "bad line"))?;
        let lines: String = good.iter().map(|line| format!("{line}\n")).collect();
        Ok(Inspected { lines: lines.into(), count: u32::try_from(good.len()).unwrap() })
    }

    async fn set_aside(&self, body: &[u8], reason: &str, _: &str) -> Result<(), InspectError> {
        self.keep(body, reason)
    }
}

fn settings() -> SubscriptionSettings {
    SubscriptionSettings {
        queue: "/queue/graphite".to_owned(),
        mesh: "acme".into(),
        prefetch: 8,
        prefetch_of_small: 8,
        subscribe_headers: vec![("x-queue-type".to_owned(), "quorum".to_owned())],
        hold_max: HOLD_MAX,
        clock: Clock::manual(Arc::new(AtomicI64::new(7000))),
    }
}

struct Stage {
    subscription: Subscription<Desk>,
    courier: Courier<DuplexStream, Desk>,
    peer: Peer,
    desk: Arc<Desk>,
}

/// A subscription whose SUBSCRIBE is still on its way.
async fn stage_with(desk: Desk, connected: &str, body_bytes_max: usize) -> Stage {
    staged(desk, connected, settings(), body_bytes_max).await
}

async fn stage_of(settings: SubscriptionSettings, body_bytes_max: usize) -> Stage {
    staged(Desk::default(), CONNECTED, settings, body_bytes_max).await
}

async fn staged(desk: Desk, connected: &str, settings: SubscriptionSettings, body_bytes_max: usize) -> Stage {
    let stomp = StompSettings { body_bytes_max, ..StompSettings::default() };
    let (connection, peer) = session_over(1024 * 1024, connected, &stomp).await.unwrap();
    let desk = Arc::new(desk);
    let (subscription, courier) = Subscription::open(connection, settings, desk.clone());
    Stage { subscription, courier, peer, desk }
}

async fn stage() -> Stage {
    stage_with(Desk::default(), CONNECTED, 1024 * 1024).await
}

fn message(id: u32, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "MESSAGE\ndestination:/queue/graphite\nsubscription:0\nmessage-id:m{id}\nack:a\\c{id}\n{headers}content-length:{length}\n\n"
    );
    [head.as_bytes(), body, b"\0\n"].concat()
}

fn lines_of(lease: &Lease) -> String {
    let mut lines = Vec::new();
    lease.batch().append_lines(&mut lines).unwrap();
    String::from_utf8(lines).unwrap()
}

async fn confirm(subscription: &mut Subscription<Desk>, lease: Lease) {
    let receipt = Receipt::of(&lease);
    subscription.confirm(lease, receipt).await.unwrap();
}

/// Runs `script` beside the courier, which must not end before it.
async fn beside<T>(courier: Courier<DuplexStream, Desk>, script: impl Future<Output = T>) -> T {
    tokio::select! {
        end = courier.run() => panic!("{end}"),
        done = script => done,
    }
}

/// Answers CONNECT as an agent of ours does.
async fn stage_at_a_node() -> Stage {
    let connected = "CONNECTED\nversion:1.2\nserver:packetboat/0.1.0\npacketboat-wire:1\n\n\0\n";
    stage_with(Desk::default(), connected, 1024).await
}

async fn nacked(peer: &mut Peer) -> (String, String) {
    let frame = peer.frame().await.unwrap();
    assert_eq!(frame.command(), "NACK", "{frame:?}");
    let header = |name| frame.header(name).unwrap().to_owned();
    (header("id"), header("packetboat-reason"))
}

async fn acked(peer: &mut Peer) -> String {
    let frame = peer.frame().await.unwrap();
    assert_eq!(frame.command(), "ACK", "{frame:?}");
    frame.header("id").unwrap().to_owned()
}
