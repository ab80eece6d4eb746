use super::*;
use crate::batch::{Batch, Encoding, Epoch, Label, Part};
use crate::lease::{LeaseKey, Returns};
use crate::stomp::StompSettings;
use crate::stomp::peer::{CONNECTED, Peer, Sent, session, session_over};
use std::sync::Mutex;
use tokio::io::DuplexStream;

type Tested = StompSink<DuplexStream>;

#[derive(Default)]
struct Back(Mutex<Vec<u64>>);

impl Returns for Back {
    fn give_back(&self, key: LeaseKey) {
        self.0.lock().unwrap().push(key.0);
    }
}

fn lease_of(key: u64, body: Vec<u8>, back: &Arc<Back>) -> Lease {
    let raw_bytes = u32::try_from(body.len()).unwrap();
    let part = Part { seq: key, lines: 1, raw_bytes, body: body.into(), plain: None };
    let label = Label { origin: "us-east".into(), epoch: Epoch([7; 16]), hops: vec!["us-east".into()] };
    let batch =
        Batch { label: Some(label), encoding: Encoding::Plain, parts: vec![part], accepted_ms: 1..=2 };
    Lease::new(LeaseKey(key), batch, back.clone())
}

fn lease(key: u64, back: &Arc<Back>) -> Lease {
    lease_of(key, format!("a {key} 1\n").into_bytes(), back)
}

fn settings() -> StompSinkSettings {
    StompSinkSettings {
        queue: "/queue/graphite".to_owned(),
        mesh: "acme".into(),
        node: "us-east".into(),
        encoding: model::Encoding::Plain,
        is_agent: false,
        send_headers: vec![("x-queue-type".to_owned(), "quorum".to_owned())],
        window_count: 4,
        window_bytes: 100_000,
        receipt_deadline: RECEIPT_DEADLINE,
    }
}

async fn sink() -> (Tested, Peer, Arc<Back>) {
    let (connection, peer) = session(CONNECTED).await;
    (StompSink::new(connection, settings()), peer, Arc::default())
}

async fn receipt(peer: &mut Peer, frame: &Sent) {
    let answer = format!("RECEIPT\nreceipt-id:{}\n\n\0\n", frame.header("receipt").unwrap());
    peer.say(answer).await;
}

async fn confirmed(sink: &mut Tested) -> u64 {
    match sink.event().await {
        Ok(Event::Confirmed(lease, receipt)) => {
            assert_eq!(lease.key(), receipt.key());
            lease.end().0
        }
        other => panic!("{other:?}"),
    }
}

/// Sends the leases of `keys` and lets the peer read them.
async fn sent(sink: &mut Tested, peer: &mut Peer, keys: std::ops::Range<u64>, back: &Arc<Back>) -> Vec<Sent> {
    for key in keys.clone() {
        sink.send(lease(key, back)).await.unwrap();
    }
    let mut frames = Vec::new();
    tokio::select! {
        event = sink.event() => panic!("{event:?}"),
        () = async { for _ in keys { frames.push(peer.frame().await.unwrap()) } } => {}
    }
    frames
}

#[tokio::test]
async fn a_batch_is_a_persistent_send_with_a_receipt() {
    let (mut sink, mut peer, back) = sink().await;
    let frame = &sent(&mut sink, &mut peer, 9..10, &back).await[0];
    assert_eq!(frame.command(), "SEND");
    for (name, value) in [
        ("destination", "/queue/graphite"),
        ("persistent", "true"),
        ("content-type", "text/plain"),
        ("content-length", "5"),
        ("receipt", "1"),
        ("packetboat-wire", "1"),
        ("packetboat-seq", "9-9"),
        ("x-queue-type", "quorum"),
    ] {
        assert_eq!(frame.header(name), Some(value));
    }
    assert_eq!(frame.body, b"a 9 1");
}

#[tokio::test]
async fn each_receipt_confirms_its_own_batch_in_any_order() {
    let (mut sink, mut peer, back) = sink().await;
    let frames = sent(&mut sink, &mut peer, 0..3, &back).await;
    for place in [2, 0, 1] {
        receipt(&mut peer, &frames[place]).await;
        assert_eq!(confirmed(&mut sink).await, place as u64);
    }
    assert_eq!(sink.in_flight(), 0);
}

#[tokio::test]
async fn a_receipt_for_nothing_confirms_nothing() {
    let (mut sink, mut peer, back) = sink().await;
    let frames = sent(&mut sink, &mut peer, 0..2, &back).await;
    receipt(&mut peer, &frames[0]).await;
    assert_eq!(confirmed(&mut sink).await, 0);
    receipt(&mut peer, &frames[0]).await;
    peer.say("RECEIPT\nreceipt-id:99\n\n\0RECEIPT\nreceipt-id:x\n\n\0RECEIPT\nreceipt-id:-1\n\n\0").await;
    drop(peer);
    assert!(matches!(sink.event().await, Err(SinkEnd::Closed(_))));
    drop(sink);
    assert_eq!(*back.0.lock().unwrap(), [1]);
}

#[tokio::test]
async fn the_window_is_bounded_by_count_and_by_bytes() {
    let (mut sink, mut peer, back) = sink().await;
    let frames = sent(&mut sink, &mut peer, 0..4, &back).await;
    assert!(!sink.has_room());
    for frame in &frames {
        receipt(&mut peer, frame).await;
        confirmed(&mut sink).await;
        assert!(sink.has_room());
    }
    let large = || [vec![b'a'; 60_000], b"\n".to_vec()].concat();
    sink.send(lease_of(7, large(), &back)).await.unwrap();
    assert!(sink.has_room());
    let (sent, frame) = tokio::join!(sink.send(lease_of(8, large(), &back)), peer.frame());
    sent.unwrap();
    assert_eq!(frame.unwrap().body.len(), 60_000);
    assert!(!sink.has_room());
}

#[tokio::test]
async fn what_is_heard_while_sending_counts_as_in_flight_until_told() {
    let (connection, mut peer) = session_over(1000, CONNECTED, &StompSettings::default()).await.unwrap();
    let (mut sink, back) = (StompSink::new(connection, settings()), Arc::default());
    let frames = sent(&mut sink, &mut peer, 0..1, &back).await;
    let large = [vec![b'a'; 200_000], b"\n".to_vec()].concat();
    let read_on = async {
        receipt(&mut peer, &frames[0]).await;
        tokio::io::copy(&mut peer.stream, &mut tokio::io::sink()).await
    };
    tokio::select! {
        sent = sink.send(lease_of(1, large, &back)) => sent.unwrap(),
        end = read_on => panic!("{end:?}"),
    }
    assert_eq!(sink.in_flight(), 2);
    assert_eq!(confirmed(&mut sink).await, 0);
    assert_eq!(sink.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_runs_from_the_last_receipt() {
    let (mut sink, mut peer, back) = sink().await;
    // With nothing in flight there is nothing to be silent about.
    assert!(tokio::time::timeout(Duration::from_secs(500), sink.event()).await.is_err());
    let start = Instant::now();
    let frames = sent(&mut sink, &mut peer, 0..2, &back).await;
    let late = async {
        tokio::time::sleep(Duration::from_secs(50)).await;
        receipt(&mut peer, &frames[0]).await;
    };
    tokio::join!(late, confirmed(&mut sink));
    assert_eq!(sink.event().await.unwrap_err(), SinkEnd::Silent(RECEIPT_DEADLINE));
    assert_eq!(start.elapsed().as_secs(), 110);
    drop(sink);
    assert_eq!(*back.0.lock().unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_ends_as_silent() {
    let (connection, _peer) = session_over(1000, CONNECTED, &StompSettings::default()).await.unwrap();
    let (mut sink, back) = (StompSink::new(connection, settings()), Arc::default());
    let large = [vec![b'a'; 200_000], b"\n".to_vec()].concat();
    sink.send(lease_of(1, large, &back)).await.unwrap();
    assert!(!sink.has_room());
    assert!(matches!(sink.event().await, Err(SinkEnd::Silent(_))));
    assert!(matches!(sink.send(lease(2, &back)).await, Err(SinkEnd::Silent(_))));
    drop(sink);
    assert_eq!(*back.0.lock().unwrap(), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_heart_beat_ends_as_silent() {
    let (connection, peer) = session("CONNECTED\nversion:1.2\nheart-beat:1000,1000\n\n\0").await;
    let mut sink = StompSink::new(connection, settings());
    assert_eq!(sink.event().await.unwrap_err(), SinkEnd::Silent(Duration::from_secs(30)));
    drop((sink, peer));
}

#[tokio::test]
async fn what_was_receipted_before_the_end_is_confirmed_first() {
    let (mut sink, mut peer, back) = sink().await;
    let frames = sent(&mut sink, &mut peer, 0..2, &back).await;
    receipt(&mut peer, &frames[1]).await;
    peer.say("ERROR\nmessage:queue is full\n\n\0").await;
    assert_eq!(confirmed(&mut sink).await, 1);
    // The broker leaves the connection open; the sink has ended all the same.
    for _ in 0..2 {
        assert_eq!(sink.event().await.unwrap_err(), SinkEnd::Error("queue is full".to_owned()));
    }
    assert!(!sink.has_room());
    drop(sink);
    assert_eq!(*back.0.lock().unwrap(), [0]);
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_refused_alone() {
    let (mut sink, mut peer, back) = sink().await;
    let mut broken = lease(3, &back).batch().clone();
    broken.encoding = Encoding::Zstd;
    sink.send(Lease::new(LeaseKey(3), broken, back.clone())).await.unwrap();
    let Ok(Event::Refused(refused, reason)) = sink.event().await else { panic!() };
    assert_eq!(refused.end(), LeaseKey(3));
    assert!(reason.contains("does not decode"), "{reason}");
    let frames = sent(&mut sink, &mut peer, 4..5, &back).await;
    receipt(&mut peer, &frames[0]).await;
    assert_eq!(confirmed(&mut sink).await, 4);
}

#[tokio::test]
async fn what_has_nothing_in_flight_says_goodbye() {
    let (mut sink, mut peer, back) = sink().await;
    let frames = sent(&mut sink, &mut peer, 0..1, &back).await;
    receipt(&mut peer, &frames[0]).await;
    confirmed(&mut sink).await;
    let ((), frames) = tokio::join!(sink.close(), peer.confirm_all());
    assert_eq!(frames.iter().map(Sent::command).collect::<Vec<_>>(), ["DISCONNECT"]);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_is_not_waited_for_for_long() {
    let (sink, mut peer, _) = sink().await;
    let start = Instant::now();
    sink.close().await;
    assert_eq!(start.elapsed(), FAREWELL_MAX);
    assert_eq!(peer.frame().await.unwrap().command(), "DISCONNECT");
}

#[tokio::test]
async fn receipts_that_are_outstanding_forbid_a_goodbye() {
    let (mut sink, mut peer, back) = sink().await;
    sent(&mut sink, &mut peer, 0..2, &back).await;
    sink.close().await;
    let mut given_back = back.0.lock().unwrap().clone();
    given_back.sort_unstable();
    assert_eq!(given_back, [0, 1]);
    assert!(peer.frame().await.is_none());
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let (mut sink, mut peer, back) = sink().await;
    let frames = sent(&mut sink, &mut peer, 0..3, &back).await;
    let mut keys = Vec::new();
    let talk = async {
        for frame in &frames {
            for byte in format!("RECEIPT\nreceipt-id:{}\n\n\0\n", frame.header("receipt").unwrap()).bytes() {
                peer.say([byte]).await;
                tokio::task::yield_now().await;
            }
        }
    };
    let listen = async {
        while keys.len() < 3 {
            tokio::select! {
                biased;
                event = sink.event() => match event {
                    Ok(Event::Confirmed(lease, _)) => keys.push(lease.end().0),
                    other => panic!("{other:?}"),
                },
                () = tokio::task::yield_now() => {}
            }
        }
    };
    tokio::join!(talk, listen);
    assert_eq!(keys, [0, 1, 2]);
}
