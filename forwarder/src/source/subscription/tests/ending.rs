use super::*;

#[tokio::test(start_paused = true)]
async fn after_a_dropped_lease_nothing_more_is_lent_and_the_source_ends() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        for id in 1..=3 {
            peer.say(message(id, "", b"a 1 1")).await;
        }
        let (first, second) = (subscription.lease().await.unwrap(), subscription.lease().await.unwrap());
        assert_eq!(subscription.returned_leases(), 0);
        drop(first);
        assert_eq!(subscription.returned_leases(), 1);
        // The other lease may still be confirmed.
        assert!(timeout(Duration::from_secs(20), subscription.lease()).await.is_err());
        confirm(&mut subscription, second).await;
        assert_eq!(acked(&mut peer).await, "a\\c2");
        assert!(matches!(subscription.lease().await, Err(SourceEnd::Lost(_))));
    })
    .await;
}

#[tokio::test]
async fn a_drop_wakes_whoever_waits_for_a_lease() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        peer.say(message(1, "", b"a 1 1")).await;
        let lease = subscription.lease().await.unwrap();
        let (next, ()) = tokio::join!(subscription.lease(), async { drop(lease) });
        assert!(matches!(next, Err(SourceEnd::Lost(_))));
    })
    .await;
}

#[tokio::test]
async fn closing_sends_the_last_acks_before_the_farewell() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    let pump = async {
        for _ in 0..3 {
            let lease = subscription.lease().await.unwrap();
            confirm(&mut subscription, lease).await;
        }
        drop(subscription);
    };
    let broker = async {
        for id in 1..=4 {
            peer.say(message(id, "", b"a 1 1")).await;
        }
        peer.confirm_all().await
    };
    let (end, (), frames) = tokio::join!(courier.run(), pump, broker);
    assert_eq!(end, CourierEnd::Closed);
    let commands: Vec<_> = frames.iter().map(Sent::command).collect();
    assert_eq!(commands, ["SUBSCRIBE", "ACK", "ACK", "ACK", "DISCONNECT"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_held_too_long_goes_back() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    let start = Instant::now();
    let pump = async {
        let lease = subscription.lease().await.unwrap();
        let end = subscription.lease().await.unwrap_err().to_string();
        assert_eq!(end, "the source was lost: a message had no ACK for 1140s and is given back");
        let receipt = Receipt::of(&lease);
        assert!(matches!(subscription.confirm(lease, receipt).await, Err(SourceEnd::Lost(_))));
    };
    peer.say(message(1, "", b"a 1 1")).await;
    let (end, (), frames) = tokio::join!(courier.run(), pump, peer.confirm_all());
    assert_eq!(end, CourierEnd::Held(HOLD_MAX));
    assert_eq!(start.elapsed(), HOLD_MAX);
    assert_eq!(frames.iter().map(Sent::command).collect::<Vec<_>>(), ["SUBSCRIBE", "DISCONNECT"]);
}

const FOREIGN: [(&str, &str); 2] = [
    ("packetboat-wire:1\npacketboat-mesh:other\n", "it belongs to mesh `other`, and this is `acme`"),
    ("packetboat-wire:9\n", "wire version `9` is unknown here: update this node"),
];

/// Whoever has it is to keep it: neither an agent nor a broker hears that it was taken, or is bad.
#[tokio::test]
async fn a_batch_of_another_mesh_or_version_ends_the_session_and_stays_where_it_is() {
    let stages = [stage().await, stage().await, stage_at_a_node().await, stage_at_a_node().await];
    for (stage, (headers, why)) in stages.into_iter().zip(FOREIGN.into_iter().cycle()) {
        let Stage { mut subscription, courier, mut peer, desk } = stage;
        let pump = async {
            let end = subscription.lease().await.unwrap_err().to_string();
            let message = "message m1 of /queue/graphite at mq1:61613";
            assert_eq!(end, format!("the source was lost: {message} stays where it is: {why}"));
        };
        peer.say(message(1, headers, b"a 1 1")).await;
        let (end, (), frames) = tokio::join!(courier.run(), pump, peer.confirm_all());
        assert!(matches!(end, CourierEnd::Foreign { .. }), "{end}");
        assert_eq!(frames.iter().map(Sent::command).collect::<Vec<_>>(), ["SUBSCRIBE", "DISCONNECT"]);
        assert_eq!(desk.reasons(), [""; 0]);
    }
}

#[tokio::test]
async fn an_error_ends_the_source_in_the_brokers_words() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    peer.say("ERROR\nmessage:not_found\n\nno queue\0").await;
    let (end, lease) = tokio::join!(courier.run(), subscription.lease());
    assert_eq!(end, CourierEnd::Stomp(crate::stomp::StompEnd::Error("not_found: no queue".into())));
    assert_eq!(lease.unwrap_err().to_string(), "the source was lost: the upstream says: not_found: no queue");
    assert_eq!(peer.frame().await.unwrap().command(), "SUBSCRIBE");
    assert!(peer.frame().await.is_none(), "the connection is closed");
}

#[tokio::test]
async fn what_cannot_be_put_by_is_not_acknowledged() {
    let desk = Desk { is_full: true, ..Desk::default() };
    let Stage { mut subscription, courier, mut peer, .. } = stage_with(desk, CONNECTED, 1024).await;
    peer.say(message(1, "", b"bad")).await;
    let (end, lease) = tokio::join!(courier.run(), subscription.lease());
    assert_eq!(end, CourierEnd::Inspect(InspectError("the disk is full".to_owned())));
    assert!(lease.unwrap_err().to_string().contains("could not be set aside: the disk is full"));
    assert_eq!(peer.frame().await.unwrap().command(), "SUBSCRIBE");
    assert!(peer.frame().await.is_none());
}

#[tokio::test]
async fn without_a_courier_the_source_is_lost() {
    let Stage { mut subscription, courier, .. } = stage().await;
    drop(courier);
    let end = subscription.lease().await.unwrap_err();
    assert_eq!(end.to_string(), "the source was lost: nobody runs its courier");
}

#[tokio::test]
async fn a_receipt_confirms_no_other_lease() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    beside(courier, async {
        peer.say(message(1, "", b"a 1 1")).await;
        peer.say(message(2, "", b"a 2 1")).await;
        let (first, second) = (subscription.lease().await.unwrap(), subscription.lease().await.unwrap());
        let receipt = Receipt::of(&second);
        assert!(matches!(subscription.confirm(first, receipt).await, Err(SourceEnd::Lost(_))));
        assert_eq!(subscription.returned_leases(), 1);
    })
    .await;
}

/// The agent spawns both.
#[tokio::test]
async fn a_courier_and_a_pump_may_be_spawned() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let Stage { subscription, courier, mut peer, .. } = stage().await;
    let pump = is_send(async move {
        let mut subscription = subscription;
        subscription.lease().await
    });
    let (end, lease, ()) = tokio::join!(is_send(courier.run()), pump, async {
        peer.frame().await.unwrap();
        drop(peer);
    });
    assert!(matches!(end, CourierEnd::Stomp(crate::stomp::StompEnd::Closed(_))), "{end}");
    assert!(matches!(lease, Err(SourceEnd::Lost(_))));
}
