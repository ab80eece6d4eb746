//! What counts as Graphite's receipt, and what does not.

use std::time::Duration;

use super::super::PoolLimits;
use super::super::receiver::{Gate, Receiver};
use super::{Rig, first, limits, reads_all};
use crate::lease::LeaseKey;
use crate::sink::{Event, Sink};

/// However late a FIN comes, it is not in answer to a half-close.
fn ageless() -> PoolLimits {
    PoolLimits { turnover_age: Duration::from_secs(3600), ..limits() }
}

#[tokio::test]
async fn the_fin_that_answers_confirms_all_leases_in_order() {
    let receiver = Receiver::start(reads_all());
    let mut rig = Rig::to(&receiver, 1, limits()).await;
    rig.send_lines(0..3).await;
    assert_eq!(rig.pool.in_flight.leases, 3);
    assert_eq!(rig.all_confirmed(3).await, [0, 1, 2]);
    assert_eq!(rig.pool.in_flight.leases, 0);
    let lines = [0, 1, 2].map(|key| (0, format!("m.{key} {key} 1700000000")));
    assert_eq!(receiver.lines(), lines);
    assert_eq!(rig.health.connections(), 1, "the successor stands");
    assert!(rig.source.given_back().is_empty());
}

#[tokio::test]
async fn an_early_fin_loses_them_even_if_all_was_read() {
    let receiver = Receiver::start(first(|mut peer| drop(peer.line())));
    let mut rig = Rig::to(&receiver, 1, ageless()).await;
    rig.send_lines([1]).await;
    let lease = rig.lost().await;
    assert!(rig.health.last_error().expect("an error").contains("before our half-close"));
    rig.pool.hurry();
    rig.send(lease).await;
    assert_eq!(rig.confirmed().await, 1);
    assert_eq!(receiver.lines().len(), 2);
}

#[tokio::test]
async fn an_early_fin_of_one_who_still_reads_loses_them() {
    let receiver = Receiver::start(first(|mut peer| {
        drop(peer.line());
        peer.half_close();
        peer.read_to_fin();
    }));
    let mut rig = Rig::to(&receiver, 1, ageless()).await;
    rig.send_lines([1]).await;
    let lease = rig.lost().await;
    rig.pool.hurry();
    rig.send(lease).await;
    assert_eq!(rig.confirmed().await, 1);
}

#[tokio::test]
async fn a_process_that_dies_with_unread_bytes_loses_them() {
    let receiver = Receiver::start(first(|peer| peer.peek()));
    let mut rig = Rig::to(&receiver, 1, limits()).await;
    rig.send_lines([1, 2]).await;
    assert_eq!(rig.lost().await.key(), LeaseKey(1));
    let error = rig.health.last_error().expect("an error");
    assert!(error.contains(&receiver.address().to_string()), "{error}");
    assert!(error.contains("reset"), "{error}");
}

#[tokio::test]
async fn a_process_that_dies_after_the_half_close_with_unread_bytes_loses_them() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(first(move |peer| {
        peer.peek();
        wait.wait();
    }));
    let mut rig = Rig::to(&receiver, 1, limits()).await;
    rig.send_lines([1]).await;
    rig.until(|rig| !rig.pool.closing.is_empty()).await;
    gate.open();
    assert_eq!(rig.lost().await.key(), LeaseKey(1));
    assert!(receiver.lines().is_empty());
}

#[tokio::test]
async fn the_fin_of_a_graphite_that_shuts_down_over_unread_bytes_loses_them() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(move |mut peer| {
        if peer.nth < 2 {
            wait.wait();
            peer.shut_down();
        } else {
            peer.read_to_fin();
        }
    });
    let patient = PoolLimits { witness_after: Duration::from_secs(1), ..limits() };
    let mut rig = Rig::to(&receiver, 1, patient).await;
    rig.send_lines([1]).await;
    rig.until(|rig| rig.pool.closing.iter().any(|(_, c)| c.is_half_closed())).await;
    rig.until(|_| receiver.accepted() == 2).await;
    gate.open();
    let lease = rig.lost().await;
    assert!(receiver.lines().is_empty());
    rig.send(lease).await;
    assert_eq!(rig.confirmed().await, 1);
    assert_eq!(receiver.lines().len(), 1);
}

/// Whatever a Graphite does, what is confirmed was read by its process.
#[tokio::test]
async fn nothing_is_confirmed_that_was_not_read() {
    let receiver = Receiver::start(|mut peer| {
        // A fixed mix of fates; one in three connections behaves.
        let lines = peer.nth * 7 % 5;
        match peer.nth % 6 {
            0 | 3 => peer.read_to_fin(),
            1 => peer.reset(),
            2 => (0..lines).for_each(|_| drop(peer.line())),
            4 => {
                (0..lines).for_each(|_| drop(peer.line()));
                peer.reset();
            }
            // Unlike carbon at its end, it closes unread bytes with a reset.
            _ => peer.peek(),
        }
    });
    let mut rig = Rig::to(&receiver, 3, limits()).await;
    let mut confirmed = 0;
    for key in 0..200 {
        let origin = format!("origin-{}", key % 5);
        let lease = rig.source.lease(key, Some(&origin), format!("m.{key} 1 1700000000\n"));
        rig.send(lease).await;
    }
    while confirmed < 200 {
        match rig.event().await.expect("a standing pool") {
            Event::Confirmed(lease, _) => {
                let text = format!("m.{} 1 1700000000", lease.end().0);
                assert!(receiver.lines().iter().any(|(_, line)| *line == text), "{text}");
                confirmed += 1;
            }
            Event::Lost(lease) => rig.send(lease).await,
            // With so many resets an innocent may be taken for a culprit; it is not confirmed.
            Event::Refused(lease, _) => {
                lease.end();
                confirmed += 1;
            }
            Event::Room => unreachable!("passed over by the rig"),
        }
    }
    assert_eq!(rig.pool.in_flight.leases, 0);
}
