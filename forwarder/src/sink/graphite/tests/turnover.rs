//! When a connection is turned over, and when not.

use std::time::Duration;

use tokio::time::timeout;

use super::super::drive::DRY_LEASES_MIN;
use super::super::receiver::Receiver;
use super::super::{Load, PoolLimits};
use super::{Rig, limits, reads_all};
use crate::sink::{Sink, SinkEnd};

#[tokio::test]
async fn without_a_successor_there_is_no_half_close_and_so_no_receipt() {
    let receiver = Receiver::start(reads_all());
    let short = PoolLimits { down_after: Duration::from_millis(300), ..limits() };
    let mut rig = Rig::to(&receiver, 1, short).await;
    receiver.stop();
    rig.send_lines([1]).await;
    let end = rig.event().await.expect_err("nothing to dial");
    assert!(matches!(end, SinkEnd::Closed(_)), "{end}");
    assert_eq!(rig.source.given_back(), [1]);
}

#[tokio::test]
async fn a_part_of_the_window_turns_a_connection_over() {
    let receiver = Receiver::start(reads_all());
    let window = Load { leases: 16, bytes: 16 * 1024 * 1024 };
    let ageless = PoolLimits { turnover_age: Duration::from_secs(3600), ..PoolLimits::with_window(window) };
    let mut rig = Rig::to(&receiver, 1, ageless).await;
    rig.send_lines(0..4).await;
    assert_eq!(rig.all_confirmed(4).await, [0, 1, 2, 3]);
    rig.send_lines(4..8).await;
    assert_eq!(rig.all_confirmed(4).await, [4, 5, 6, 7]);
    assert_eq!(receiver.lines().iter().map(|(nth, _)| *nth).max(), Some(1));
}

/// A broker may push less than was asked for, and nothing more before an ACK.
#[tokio::test]
async fn a_source_that_runs_dry_turns_connections_over_if_many_wait() {
    let receiver = Receiver::start(reads_all());
    let ageless = PoolLimits { turnover_age: Duration::from_secs(3600), ..limits() };
    let mut rig = Rig::to(&receiver, 2, ageless).await;
    let few = DRY_LEASES_MIN as u64 - 1;
    rig.send_lines(0..few).await;
    assert!(
        timeout(10 * ageless.dry_after, rig.event()).await.is_err(),
        "a trickle would cost a connection each time"
    );
    rig.send_lines([few]).await;
    rig.all_confirmed(DRY_LEASES_MIN).await;
}

#[tokio::test]
async fn bytes_turn_a_connection_over() {
    let receiver = Receiver::start(reads_all());
    let ageless = PoolLimits { turnover_age: Duration::from_secs(3600), turnover_bytes: 100, ..limits() };
    let mut rig = Rig::to(&receiver, 1, ageless).await;
    let lease = rig.source.lease(1, None, "m.1 1 1700000000\n".repeat(6));
    rig.send(lease).await;
    assert_eq!(rig.confirmed().await, 1);
}

/// Told to stop, nobody waits for the age of a connection.
#[tokio::test]
async fn in_a_hurry_all_connections_are_turned_over_at_once() {
    let receiver = Receiver::start(reads_all());
    let hour = Duration::from_secs(3600);
    let ageless = PoolLimits { turnover_age: hour, dry_after: hour, ..limits() };
    let mut rig = Rig::to(&receiver, 3, ageless).await;
    rig.until(|rig| rig.health.connections() == 3).await;
    for key in 0..300 {
        let origin = format!("origin-{}", key % 7);
        let lease = rig.source.lease(key, Some(&origin), format!("m.{key} {key} 1700000000\n").repeat(300));
        rig.send(lease).await;
    }
    rig.pool.hurry();
    let mut confirmed = rig.all_confirmed(300).await;
    confirmed.sort_unstable();
    assert_eq!(confirmed, (0..300).collect::<Vec<_>>());
    let accepted = receiver.stop();
    assert!(accepted <= 4 * 3, "a connection is not turned over for each lease: {accepted}");
}

#[tokio::test]
async fn an_idle_connection_stays() {
    let receiver = Receiver::start(reads_all());
    let mut rig = Rig::to(&receiver, 2, limits()).await;
    for key in 0..5 {
        rig.send_lines([key]).await;
        assert_eq!(rig.confirmed().await, key);
    }
    assert_eq!(receiver.stop(), 2 + 5, "one origin, so one lane is idle");
}
