//! Slow is not down: a Graphite that hangs is waited for, and does not stop another.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::connection::Connection;
use super::super::endpoints::AVOIDED_FOR;
use super::super::receiver::{Gate, Receiver};
use super::super::{Load, PoolLimits};
use super::{PATIENCE, Rig, first, limits, reads_all, upstream};
use crate::lease::LeaseKey;
use crate::sink::{Event, Sink, SinkEnd};

/// Reads nothing before `gate` is opened.
fn hanging(gate: &Gate) -> Receiver {
    let gate = gate.clone();
    Receiver::start(move |mut peer| {
        gate.wait();
        peer.read_to_fin();
    })
}

#[tokio::test]
async fn one_that_never_answers_the_half_close_is_waited_for_and_then_the_pool_is_silent() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(move |mut peer| {
        peer.read_to_fin();
        wait.wait();
    });
    let patience = PoolLimits { confirm_within: Duration::from_millis(400), ..limits() };
    let mut rig = Rig::to(&receiver, 1, patience).await;
    rig.send_lines([1, 2]).await;
    let end = rig.event().await.expect_err("silence");
    assert_eq!(end, SinkEnd::Silent(patience.confirm_within));
    assert_eq!(rig.source.given_back(), [1, 2]);
    assert_eq!(rig.event().await.expect_err("still ended"), end);
    assert_eq!(rig.pool.send(rig.source.line(3)).await, Err(end));
    assert_eq!(rig.source.given_back(), [1, 2, 3]);
    gate.open();
}

#[tokio::test]
async fn one_connection_that_never_answers_is_given_up_while_others_are_confirmed() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(first(move |mut peer| {
        peer.read_to_fin();
        wait.wait();
    }));
    let patience = PoolLimits { confirm_within: Duration::from_secs(5), ..limits() };
    let mut rig = Rig::to(&receiver, 1, patience).await;
    rig.send_lines([0]).await;
    rig.until(|rig| !rig.pool.closing.is_empty()).await;
    let mut key = 1;
    let lost = loop {
        rig.send_lines([key]).await;
        match rig.event().await.expect("a standing pool") {
            Event::Confirmed(lease, _) => {
                lease.end();
            }
            Event::Lost(lease) => break lease.key(),
            other => panic!("{other:?}"),
        }
        key += 1;
    };
    assert_eq!(lost, LeaseKey(0));
    assert!(key > 1, "others were confirmed meanwhile");
    gate.open();
}

#[tokio::test]
async fn slow_is_not_down() {
    let gate = Gate::default();
    let receiver = hanging(&gate);
    let mut rig = Rig::to(&receiver, 2, limits()).await;
    let text = "m.slow 1 1700000000\n".repeat(3000);
    let mut sent = 0;
    while rig.pool.has_room() {
        let lease = rig.source.lease(sent, Some("us-east"), text.as_str());
        rig.send(lease).await;
        sent += 1;
    }
    let stuck = tokio::time::timeout(Duration::from_millis(300), rig.pool.event()).await;
    assert!(stuck.is_err(), "{stuck:?}");
    assert!(receiver.accepted() <= 2 + 2 * 2, "{} connections", receiver.accepted());
    gate.open();
    let mut keys = rig.all_confirmed(usize::try_from(sent).expect("count")).await;
    keys.sort_unstable();
    assert_eq!(keys, (0..sent).collect::<Vec<_>>());
    assert_eq!(receiver.lines().len() as u64, sent * 3000);
}

#[tokio::test]
async fn a_hung_graphite_does_not_stop_another() {
    let gate = Gate::default();
    let hung = hanging(&gate);
    let alive = Receiver::start(reads_all());
    let mut rig = Rig::open(&upstream(&[hung.endpoint(), alive.endpoint()], 2), limits()).await;
    let text = "m.hung 1 1700000000\n".repeat(3000);
    let mut sent = 0;
    for _ in 0..1000 {
        while rig.pool.has_room() {
            let origin = format!("origin-{}", sent % 7);
            let lease = rig.source.lease(sent, Some(&origin), text.as_str());
            rig.send(lease).await;
            sent += 1;
        }
        // Some are lost where the one that lives was so slow that the lanes left it for the other: nobody is
        // there then to witness that it did not shut down.
        rig.persist(1).await;
    }
    assert!(hung.lines().is_empty());
    gate.open();
    // So it is for all that the hung one got, for the lanes have left it, too.
    rig.persist(rig.pool.in_flight.leases).await;
}

#[tokio::test]
async fn one_that_the_lanes_have_left_is_not_avoided_for_its_answer() {
    let gate = Gate::default();
    let slow = hanging(&gate);
    let other = Receiver::start(reads_all());
    let mut rig = Rig::open(&upstream(&[slow.endpoint(), other.endpoint()], 1), limits()).await;
    let endpoint = |rig: &Rig| rig.pool.lanes[0].connection().map(Connection::endpoint);
    let slow_id = endpoint(&rig).expect("a connection");
    rig.send_lines([1]).await;
    rig.pool.endpoints.failed(slow_id, Instant::now());
    rig.until(|rig| endpoint(rig).is_some_and(|id| id != slow_id)).await;
    rig.pool.endpoints.worked(slow_id);

    gate.open();
    assert_eq!(rig.lost().await.key(), LeaseKey(1));
    assert_eq!(rig.pool.endpoints.avoided_until().next(), None);
}

#[tokio::test]
async fn one_that_has_been_asked_as_often_as_it_may_be_stops_no_other() {
    let gate = Gate::default();
    let hung = hanging(&gate);
    let alive = Receiver::start(reads_all());
    // Nothing is due by time but what is seen to here.
    let patient = PoolLimits { down_after: Duration::from_secs(3600), ..limits() };
    let mut rig = Rig::open(&upstream(&[hung.endpoint(), alive.endpoint()], 2), patient).await;
    let endpoint = |rig: &Rig, lane: usize| rig.pool.lanes[lane].connection().map(Connection::endpoint);
    rig.until(|rig| (0..2).all(|lane| endpoint(rig, lane).is_some())).await;
    let [hung_id, alive_id] = [0, 1].map(|lane| endpoint(&rig, lane).expect("a connection"));
    assert_ne!(hung_id, alive_id);

    // The other one fails meanwhile, so all is tried with the one that hangs.
    let asked = |rig: &Rig| rig.pool.closing.iter().filter(|(_, peer)| peer.endpoint() == hung_id).count();
    // What that one has got comes back meanwhile: nobody is there to witness its FIN.
    let comes_back = |Rig { pool, .. }: &Rig| {
        let is_closing = pool.closing.iter().any(|(_, peer)| peer.endpoint() == alive_id);
        is_closing || !pool.answered.is_empty() || !pool.events.is_empty()
    };
    let mut sent = 0;
    while comes_back(&rig) || asked(&rig) < 4 || (0..2).any(|lane| endpoint(&rig, lane) != Some(hung_id)) {
        rig.pool.endpoints.failed(alive_id, Instant::now());
        if sent < 500 {
            let lease =
                rig.source.lease(sent, Some(&format!("origin-{}", sent % 7)), "m.hung 1 1700000000\n");
            rig.send(lease).await;
            sent += 1;
        }
        match timeout(Duration::from_millis(1), rig.pool.event()).await {
            Err(_) | Ok(Ok(Event::Room)) => {}
            Ok(Ok(Event::Confirmed(lease, _))) => drop(lease.end()),
            Ok(Ok(Event::Lost(lease))) => rig.send(lease).await,
            Ok(other) => panic!("{other:?}"),
        }
    }

    // The failure is forgiven after a while, also if nothing else happens then.
    rig.send_lines([999]).await;
    rig.pool.endpoints.failed(alive_id, Instant::now() + Duration::from_millis(200) - AVOIDED_FOR);
    let by_itself = poll_fn(|cx| {
        let event = rig.pool.poll_event(cx);
        let is_back = (0..2).any(|lane| endpoint(&rig, lane) == Some(alive_id));
        if is_back || matches!(event, Poll::Ready(Ok(Event::Confirmed(..)))) {
            return Poll::Ready(());
        }
        assert!(matches!(event, Poll::Pending | Poll::Ready(Ok(Event::Room))), "{event:?}");
        Poll::Pending
    });
    timeout(PATIENCE, by_itself).await.expect("it is dialled again");
    // What has been written to the one that hangs waits there; what comes later does not.
    for key in 1000.. {
        rig.send_lines([key]).await;
        match timeout(Duration::from_millis(5), rig.pool.event()).await {
            Err(_) | Ok(Ok(Event::Room)) => assert!(key < 3000, "nothing is confirmed"),
            Ok(Ok(Event::Confirmed(lease, _))) => {
                lease.end();
                break;
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
    assert!(hung.lines().is_empty());
    gate.open();
}

#[tokio::test]
async fn a_stalled_lane_gives_its_waiting_leases_to_another() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(first(move |mut peer| {
        wait.wait();
        peer.read_to_fin();
    }));
    let ageless = PoolLimits {
        turnover_age: Duration::from_secs(3600),
        turnover_bytes: u64::MAX,
        dry_after: Duration::from_secs(3600),
        ..PoolLimits::with_window(Load { leases: 2000, bytes: 256 * 1024 * 1024 })
    };
    let mut rig = Rig::to(&receiver, 2, ageless).await;
    rig.until(|rig| rig.health.connections() == 2).await;
    // More than one socket takes, less than the open part of the window.
    let text = "m.stalled 1 1700000000\n".repeat(2800);
    for key in 0..400 {
        let origin = format!("origin-{}", key % 8);
        let lease = rig.source.lease(key, Some(&origin), text.as_str());
        rig.send(lease).await;
    }
    let waiting = |rig: &Rig| rig.pool.lanes.iter().map(super::super::lane::Lane::waiting).sum::<usize>();
    assert!(waiting(&rig) > 0, "the test needs a lane that cannot write");
    rig.until(|rig| waiting(rig) == 0).await;
    assert!(rig.pool.lanes.iter().any(|lane| lane.connection().is_some_and(|c| c.is_writing())));
    gate.open();
}
