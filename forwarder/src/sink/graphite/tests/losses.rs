//! Connections that are refused, break, or carry what Graphite does not take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;

use super::super::receiver::{Gate, Peer, Receiver};
use super::super::{Pool, PoolLimits};
use super::{PATIENCE, Rig, first, limits, reads_all, soon, upstream};
use crate::batch::Encoding;
use crate::lease::{Lease, LeaseKey};
use crate::sink::{Event, Sink, SinkEnd};

#[tokio::test]
async fn one_that_talks_is_not_graphite() {
    let receiver = Receiver::start(|mut peer| {
        peer.say("SSH-2.0-OpenSSH_9.2\r\n");
        peer.read_to_fin();
    });
    let mut rig = Rig::to(&receiver, 1, limits()).await;
    rig.send_lines([1]).await;
    assert_eq!(rig.lost().await.key(), LeaseKey(1));
    assert!(rig.health.last_error().expect("an error").contains("not a Graphite"));
}

#[tokio::test]
async fn a_restart_loses_and_goes_on() {
    let before = Receiver::start(|mut peer| {
        peer.line();
        peer.reset();
    });
    let address = before.address();
    let mut rig = Rig::to(&before, 2, limits()).await;
    rig.send_lines(0..10).await;
    let lost = rig.lost().await;
    drop(before);
    let after = Receiver::start_at(address, reads_all());
    rig.send(lost).await;
    rig.persist(10).await;
    assert_eq!(rig.health.connections().clamp(1, 2), rig.health.connections());
    drop(after);
}

/// The pump waits for nothing but events while there is no room.
#[tokio::test]
async fn that_there_is_room_again_is_an_event() {
    let receiver = Receiver::start(first(|mut peer| {
        drop(peer.line());
        peer.reset();
    }));
    let mut rig = Rig::to(&receiver, 1, limits()).await;
    rig.send_lines([7]).await;
    let lost = rig.lost().await;
    assert!(!rig.pool.has_room(), "nothing stands");
    let event = rig.any_event().await;
    assert!(matches!(event, Ok(Event::Room)), "{event:?}");
    assert!(rig.pool.has_room());
    rig.send(lost).await;
    assert_eq!(rig.confirmed().await, 7);
}

#[tokio::test]
async fn without_a_connection_for_long_the_pool_ends_and_gives_all_back() {
    let receiver = Receiver::start(|peer| {
        peer.peek();
        peer.reset();
    });
    let endpoint = receiver.endpoint();
    let short = PoolLimits {
        down_after: Duration::from_millis(200),
        turnover_age: Duration::from_secs(3600),
        ..limits()
    };
    let mut rig = Rig::to(&receiver, 2, short).await;
    // Only the connections that stand are reset; there is nobody to dial any more.
    rig.until(|rig| rig.health.connections() == 2).await;
    drop(receiver);
    rig.send_lines(0..2).await;
    let lease = rig.source.lease(2, None, "m.2 2 1700000000\n");
    rig.send(lease).await;
    let mut lost = Vec::new();
    let end = loop {
        match rig.event().await {
            Ok(Event::Lost(lease)) => lost.push(lease),
            Ok(other) => panic!("{other:?}"),
            Err(end) => break end,
        }
    };
    let SinkEnd::Closed(reason) = end else {
        panic!("{end:?}");
    };
    assert!(reason.contains(&endpoint.to_string()) && reason.contains("refused"), "{reason}");
    assert!(!rig.pool.has_room());
    assert_eq!((rig.pool.in_flight.leases, rig.health.connections()), (0, 0));
    drop(lost);
    assert_eq!(rig.source.given_back(), [0, 1, 2]);
}

/// As of a proxy whose Graphite is gone.
#[tokio::test]
async fn connections_that_are_dropped_at_once_do_not_keep_the_pool() {
    let receiver = Receiver::start(Peer::reset);
    let short = PoolLimits { down_after: Duration::from_millis(300), ..limits() };
    let mut rig = Rig::to(&receiver, 2, short).await;
    let end = loop {
        match rig.event().await {
            Ok(Event::Lost(lease)) => rig.send(lease).await,
            Ok(other) => panic!("{other:?}"),
            Err(end) => break end,
        }
    };
    assert!(matches!(&end, SinkEnd::Closed(reason) if reason.contains("no connection")), "{end:?}");
}

/// A consumer would subscribe, and keep its prefetch from others, each time that one is accepted.
#[tokio::test]
async fn after_that_a_connection_has_to_last_before_the_pool_stands_again() {
    let is_back = Arc::new(AtomicBool::new(false));
    let script = is_back.clone();
    let receiver = Receiver::start(move |mut peer: Peer| {
        if script.load(Ordering::SeqCst) {
            peer.read_to_fin();
        } else {
            peer.reset();
        }
    });
    let short = PoolLimits { down_after: Duration::from_millis(300), ..limits() };
    let mut rig = Rig::to(&receiver, 1, short).await;
    let end = rig.event().await.expect_err("nothing that lasts");
    assert!(matches!(&end, SinkEnd::Closed(_)), "{end:?}");

    let upstream = upstream(&[receiver.endpoint()], 1);
    // A connection lasts once it has stood for a tenth of this.
    let patient = PoolLimits { down_after: Duration::from_secs(20), ..short };
    let open = || Pool::open(&upstream, patient, soon(), rig.health.clone());
    let dialled = receiver.accepted();
    let many = async {
        while receiver.accepted() <= dialled + 10 {
            yield_now().await;
        }
    };
    tokio::select! {
        _ = open() => panic!("none has lasted"),
        many = timeout(PATIENCE, many) => many.expect("many dials"),
    }
    is_back.store(true, Ordering::SeqCst);
    rig.pool = timeout(PATIENCE, open()).await.expect("one that lasts");
    rig.send_lines([1]).await;
    assert_eq!(rig.confirmed().await, 1);
    assert!(!rig.health.is_doubted());
}

#[tokio::test]
async fn dropping_the_pool_gives_all_back() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(move |_peer| wait.wait());
    let mut rig = Rig::to(&receiver, 1, limits()).await;
    let text = "m.held 1 1700000000\n".repeat(3000);
    for key in 0..200 {
        let lease = rig.source.lease(key, None, text.as_str());
        rig.send(lease).await;
    }
    assert!(rig.pool.lanes.iter().any(|lane| lane.waiting() > 0));
    drop(rig.pool);
    assert_eq!(rig.source.given_back(), (0..200).collect::<Vec<_>>());
    assert_eq!(rig.health.connections(), 0);
    gate.open();
}

#[tokio::test]
async fn what_does_not_decode_is_refused_alone() {
    let receiver = Receiver::start(reads_all());
    let mut rig = Rig::to(&receiver, 1, limits()).await;
    rig.send_lines([1]).await;
    let mut broken = rig.source.lease(2, None, "not zstd at all\n").batch().clone();
    rig.source.0.lock().expect("source").clear();
    broken.encoding = Encoding::Zstd;
    let broken = Lease::new(LeaseKey(2), broken, rig.source.clone());
    rig.send(broken).await;
    rig.send_lines([3]).await;
    match rig.event().await.expect("a standing pool") {
        Event::Refused(lease, reason) => {
            assert_eq!(lease.end(), LeaseKey(2));
            assert!(reason.contains("zstd"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.all_confirmed(2).await, [1, 3]);
    assert_eq!(receiver.lines().len(), 2);
}

#[tokio::test]
async fn the_batch_that_kills_connections_is_set_aside_and_the_others_pass() {
    let receiver = Receiver::start(|mut peer| {
        while let Some(line) = peer.line() {
            if line.contains("poison") {
                return peer.reset();
            }
        }
    });
    let mut rig = Rig::to(&receiver, 2, limits()).await;
    rig.send_lines(0..20).await;
    let poison = rig.source.lease(99, Some("us-east"), "poison 1 nan\n");
    rig.send(poison).await;
    rig.send_lines(20..40).await;
    let (mut confirmed, mut next) = (0, 100);
    let refused = loop {
        match rig.event().await.expect("a standing pool") {
            Event::Confirmed(lease, _) => {
                confirmed += 1;
                lease.end();
                rig.send_lines([next]).await;
                next += 1;
            }
            Event::Lost(lease) => rig.send(lease).await,
            Event::Refused(lease, reason) => {
                assert!(reason.contains("reset"), "{reason}");
                break lease.end();
            }
            Event::Room => unreachable!("passed over by the rig"),
        }
    };
    assert_eq!(refused, LeaseKey(99));
    rig.persist(40 + usize::try_from(next - 100).expect("count") - confirmed).await;
}
