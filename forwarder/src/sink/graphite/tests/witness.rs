//! Who bears witness that a Graphite was not about to end, and whom the end of a connection accuses.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::PoolLimits;
use super::super::connection::Connection;
use super::super::receiver::{Gate, Receiver};
use super::{Rig, first, limits, reads_all};
use crate::lease::LeaseKey;

/// As behind a name that has several addresses, or another one since.
#[tokio::test]
async fn another_graphite_of_the_same_name_is_no_witness() {
    let (one, other) = (Receiver::start(reads_all()), Receiver::start(reads_all()));
    let long = PoolLimits { turnover_age: Duration::from_secs(3600), ..limits() };
    let mut rig = Rig::to(&one, 1, long).await;
    rig.send_lines([1]).await;
    rig.until(|rig| rig.pool.lanes[0].load().leases == 1).await;

    let endpoint = rig.pool.lanes[0].connection().expect("a connection").endpoint();
    let stream = TcpStream::connect(other.address()).await.expect("the other one");
    let now = Instant::now();
    let successor = Connection::new(stream, endpoint, now);
    let predecessor = rig.pool.lanes[0].replace(successor, now).expect("a connection");
    rig.pool.closing.push((0, predecessor.close()));
    assert_eq!(rig.lost().await.key(), LeaseKey(1));
}

#[tokio::test]
async fn who_closes_an_idle_connection_is_not_avoided() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(first(move |_peer| wait.wait()));
    let short = PoolLimits { down_after: Duration::from_millis(100), ..limits() };
    let mut rig = Rig::to(&receiver, 1, short).await;
    let opened = Instant::now();
    rig.until(|_| opened.elapsed() > 2 * short.lasts()).await;
    gate.open();
    rig.until(|rig| receiver.accepted() > 1 && rig.pool.lanes[0].stands()).await;
    assert_eq!(rig.pool.endpoints.avoided_until().next(), None);
}
