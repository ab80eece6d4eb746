//! `confirm: kernel`.

use std::time::Duration;

use topology::model::GraphiteConfirm;

use super::super::PoolLimits;
use super::super::receiver::{Gate, Receiver};
use super::{Rig, first, limits, upstream};
use crate::sink::{Event, Sink};

#[tokio::test]
async fn the_kernels_word_needs_no_half_close() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(move |_peer| wait.wait());
    let mut kernel = upstream(&[receiver.endpoint()], 1);
    kernel.confirm = GraphiteConfirm::Kernel;
    let mut rig = Rig::open(&kernel, limits()).await;
    for key in 0..5 {
        rig.send_lines([key]).await;
        assert_eq!(rig.confirmed().await, key);
    }
    gate.open();
    assert_eq!(receiver.stop(), 1);
}

#[tokio::test]
async fn the_kernels_word_is_for_what_it_has() {
    let gate = Gate::default();
    let wait = gate.clone();
    let receiver = Receiver::start(move |mut peer| {
        wait.wait();
        peer.read_to_fin();
    });
    let mut kernel = upstream(&[receiver.endpoint()], 1);
    kernel.confirm = GraphiteConfirm::Kernel;
    // There is no turnover, so nothing waits for one.
    let mut rig = Rig::open(&kernel, PoolLimits { turnover_bytes: 1, ..limits() }).await;
    let text = "m.kernel 1 1700000000\n".repeat(2900);
    let mut sent = 0;
    while rig.pool.has_room() {
        let lease = rig.source.lease(sent, None, text.as_str());
        rig.send(lease).await;
        sent += 1;
    }
    let mut confirmed = 0;
    while let Ok(event) = tokio::time::timeout(Duration::from_millis(500), rig.pool.event()).await {
        assert!(matches!(event, Ok(Event::Confirmed(..))), "{event:?}");
        confirmed += 1;
    }
    assert!(confirmed < sent, "the peer's kernel has no room for all {sent}");
    assert!(rig.pool.lanes[0].load().leases > 1, "each goes as soon as the socket has room");
    gate.open();
    rig.all_confirmed(usize::try_from(sent - confirmed).expect("count")).await;
}

#[tokio::test]
async fn the_kernels_silence_is_a_loss_when_the_peer_dies() {
    let receiver = Receiver::start(first(|peer| {
        peer.peek();
        peer.reset();
    }));
    let mut kernel = upstream(&[receiver.endpoint()], 1);
    kernel.confirm = GraphiteConfirm::Kernel;
    let mut rig = Rig::open(&kernel, limits()).await;
    let text = "m.big 1 1700000000\n".repeat(3400);
    for key in 0..200 {
        let lease = rig.source.lease(key, None, text.as_str());
        rig.send(lease).await;
    }
    assert!(rig.persist(200).await > 0);
}
