use std::cell::Cell;
use std::pin::pin;

use super::courier::UNANSWERED_BYTES_MAX;
use super::*;

#[tokio::test]
async fn a_plain_message_is_lent_and_acknowledged_once_confirmed() {
    let Stage { mut subscription, courier, mut peer, desk } = stage().await;
    beside(courier, async {
        let subscribe = peer.frame().await.unwrap();
        for (name, value) in [
            ("destination", "/queue/graphite"),
            ("ack", "client-individual"),
            ("id", "0"),
            ("prefetch-count", "8"),
            ("activemq.prefetchSize", "8"),
            ("x-queue-type", "quorum"),
        ] {
            assert_eq!(subscribe.header(name), Some(value));
        }
        peer.say(message(1, "", b"a 1 1\nbad\nb 2 2")).await;
        let lease = subscription.lease().await.unwrap();
        assert_eq!(lines_of(&lease), "a 1 1\nb 2 2\n");
        let batch = lease.batch();
        assert_eq!((batch.lines(), &batch.label, &batch.accepted_ms), (2, &None, &(7000..=7000)));
        confirm(&mut subscription, lease).await;
        assert_eq!(acked(&mut peer).await, "a\\c1");
        assert_eq!(desk.reasons(), ["bad line"]);
    })
    .await;
}

#[tokio::test]
async fn a_message_without_a_good_line_is_acknowledged_and_never_lent() {
    let Stage { mut subscription, courier, mut peer, desk } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        peer.say(message(1, "", b"bad")).await;
        peer.say(message(2, "", b"")).await;
        peer.say(message(3, "", b"a 1 1")).await;
        let lease = subscription.lease().await.unwrap();
        assert_eq!(lines_of(&lease), "a 1 1\n");
        assert_eq!((acked(&mut peer).await, acked(&mut peer).await), ("a\\c1".into(), "a\\c2".into()));
        assert_eq!(desk.reasons(), ["bad line"]);
        drop(lease);
    })
    .await;
}

fn part(seq: u64, raw: &str, encoding: Encoding) -> Part {
    let body = match encoding {
        Encoding::Plain => raw.to_owned().into_bytes(),
        Encoding::Zstd => zstd::bulk::compress(raw.as_bytes(), 1).unwrap(),
    };
    Part { seq, lines: 2, raw_bytes: u32::try_from(raw.len()).unwrap(), body: body.into(), plain: None }
}

/// A batch of these two lines.
fn wire_message_of(id: u32, lines: &[&str; 2]) -> Vec<u8> {
    let raw = format!("{}\n{}\n", lines[0], lines[1]);
    wire_message_with(id, "acme", Encoding::Zstd, vec![part(5, &raw, Encoding::Zstd)], |_| {})
}

fn wire_message(id: u32, mesh: &str, encoding: Encoding, spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let part = |seq: u64| part(seq, &format!("a {seq} 1\nb {seq} 2\n"), encoding);
    wire_message_with(id, mesh, encoding, vec![part(5), part(6)], spoil)
}

fn wire_message_with(
    id: u32,
    mesh: &str,
    encoding: Encoding,
    parts: Vec<Part>,
    spoil: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let label = Label { origin: "us-east".into(), epoch: Epoch([7; 16]), hops: Vec::new() };
    let batch = Batch { label: Some(label), encoding, parts, accepted_ms: 1..=2 };
    let encoded = wire::encode(&batch, mesh, "us-east", model::Encoding::Zstd).unwrap();
    let headers: String = encoded
        .headers
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.replace(':', "\\c")))
        .collect();
    let mut body = encoded.body.to_vec();
    spoil(&mut body);
    message(id, &headers, &body)
}

#[tokio::test]
async fn wire_frames_keep_their_identity_and_their_form() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        for encoding in [Encoding::Zstd, Encoding::Plain] {
            peer.say(wire_message(1, "acme", encoding, |_| {})).await;
            let lease = subscription.lease().await.unwrap();
            assert_eq!(lines_of(&lease), "a 5 1\nb 5 2\na 6 1\nb 6 2\n");
            assert_eq!(lease.batch().encoding, encoding);
            assert_eq!(lease.batch().label.as_ref().unwrap().origin.as_ref(), "us-east");
            confirm(&mut subscription, lease).await;
            acked(&mut peer).await;
        }
    })
    .await;
}

/// Anybody at a broker may write the headers of a node.
#[tokio::test]
async fn lines_under_a_nodes_headers_are_held_against_the_line_rule() {
    let Stage { mut subscription, courier, mut peer, desk } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        for (id, second, good) in [(1, "bad 1 1", "a 1 1\n"), (2, "b 1 1\r", "a 1 1\nb 1 1\n")] {
            peer.say(wire_message_of(id, &["a 1 1", second])).await;
            let lease = subscription.lease().await.unwrap();
            assert_eq!((lines_of(&lease).as_str(), &lease.batch().label), (good, &None));
            confirm(&mut subscription, lease).await;
            assert_eq!(acked(&mut peer).await, format!("a\\c{id}"));
        }
        peer.say(wire_message_of(3, &["bad", "also bad"])).await;
        let ack = tokio::select! {
            lease = subscription.lease() => panic!("{lease:?}"),
            ack = acked(&mut peer) => ack,
        };
        assert_eq!(ack, "a\\c3");
        assert_eq!(desk.reasons(), ["bad line"; 3]);
    })
    .await;
}

#[tokio::test]
async fn a_wire_frame_that_fails_its_checks_is_set_aside_and_acknowledged() {
    let Stage { mut subscription, courier, mut peer, desk } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        peer.say(wire_message(1, "acme", Encoding::Zstd, |body| body[20] ^= 1)).await;
        peer.say(message(2, "packetboat-wire:1\n", b"a 1 1")).await;
        for id in 1..=2 {
            let ack = tokio::select! {
                lease = subscription.lease() => panic!("{lease:?}"),
                ack = acked(&mut peer) => ack,
            };
            assert_eq!(ack, format!("a\\c{id}"));
        }
        let reasons = desk.reasons();
        assert!(reasons[0].contains("CRC32C"), "{reasons:?}");
        assert!(reasons[1].contains("packetboat-mesh is missing"), "{reasons:?}");
    })
    .await;
}

#[tokio::test]
async fn what_a_node_sends_and_can_never_be_taken_is_left_to_it_with_the_reason() {
    let Stage { mut subscription, courier, mut peer, desk } = stage_at_a_node().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        peer.say(wire_message(1, "acme", Encoding::Zstd, |body| body[20] ^= 1)).await;
        peer.say(message(2, "packetboat-wire:1\npacketboat-mesh:acme\n", &[b'a'; 1025])).await;
        peer.say(wire_message(3, "acme", Encoding::Zstd, |_| {})).await;
        let lease = subscription.lease().await.unwrap();
        subscription.set_aside(lease, "loop: it has passed `us` before").await.unwrap();
        for (id, reason) in [
            ("a\\c1", "the body's CRC32C is"),
            ("a\\c2", "the body is 1 bytes too large"),
            ("a\\c3", "loop\\c it has passed `us` before"),
        ] {
            let (nacked, said) = nacked(&mut peer).await;
            assert_eq!(nacked, id);
            assert!(said.contains(reason), "{said}");
        }
        // Lines have no number under which the node could set them aside.
        peer.say(message(4, "", b"a 1 1\nbad")).await;
        let lease = subscription.lease().await.unwrap();
        subscription.set_aside(lease, "refused").await.unwrap();
        assert_eq!(acked(&mut peer).await, "a\\c4");
        assert_eq!(desk.reasons(), ["bad line", "refused"]);
    })
    .await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_set_aside_and_acknowledged() {
    let Stage { mut subscription, courier, mut peer, desk } =
        stage_with(Desk::default(), CONNECTED, 10).await;
    beside(courier, async {
        peer.frame().await.unwrap();
        peer.say(message(1, "", b"0123456789abc")).await;
        peer.say(message(2, "", b"a 1 1")).await;
        let lease = subscription.lease().await.unwrap();
        assert_eq!(lines_of(&lease), "a 1 1\n");
        assert_eq!(acked(&mut peer).await, "a\\c1");
        let put_by = desk.put_by.lock().unwrap().clone();
        assert_eq!(put_by, [("0123456789".to_owned(), "the body is 3 bytes too large".to_owned())]);
    })
    .await;
}

#[tokio::test]
async fn a_large_message_is_lent_in_batches_and_acknowledged_with_the_last() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        let body: String = (0..10_000).map(|number| format!("metric.{number} 1 1\n")).collect();
        peer.say(message(1, "", body.as_bytes())).await;
        let mut leases = Vec::new();
        let mut lines = String::new();
        while lines.len() < body.len() {
            let lease = subscription.lease().await.unwrap();
            assert!(lease.batch().raw_bytes() <= BATCH_RAW_BYTES_MAX);
            lines.push_str(&lines_of(&lease));
            leases.push(lease);
        }
        assert_eq!(lines, body);
        assert_eq!(leases.len(), body.len().div_ceil(BATCH_RAW_BYTES_MAX));
        peer.say(message(2, "", b"a 1 1")).await;
        leases.push(subscription.lease().await.unwrap());
        // Out of order, and the first message is done last.
        while let Some(lease) = leases.pop() {
            confirm(&mut subscription, lease).await;
        }
        assert_eq!((acked(&mut peer).await, acked(&mut peer).await), ("a\\c2".into(), "a\\c1".into()));
    })
    .await;
}

#[tokio::test]
async fn what_the_pump_sets_aside_is_kept_and_acknowledged() {
    let Stage { mut subscription, courier, mut peer, desk } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        peer.say(message(1, "", b"a 1 1")).await;
        let lease = subscription.lease().await.unwrap();
        subscription.set_aside(lease, "refused three times").await.unwrap();
        assert_eq!(acked(&mut peer).await, "a\\c1");
        let put_by = desk.put_by.lock().unwrap().clone();
        assert_eq!(put_by, [("a 1 1\n".to_owned(), "refused three times".to_owned())]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn heart_beats_go_on_while_leases_are_out() {
    let connected = "CONNECTED\nversion:1.2\nheart-beat:10000,10000\n\n\0\n";
    let Stage { mut subscription, courier, mut peer, .. } =
        stage_with(Desk::default(), connected, 1024).await;
    beside(courier, async {
        peer.frame().await.unwrap();
        peer.say(message(1, "", b"a 1 1")).await;
        let lease = subscription.lease().await.unwrap();
        // Nobody polls the subscription, for far longer than a broker would stand.
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            peer.say("\n").await;
        }
        confirm(&mut subscription, lease).await;
        acked(&mut peer).await;
        assert!(peer.beats >= 90, "{}", peer.beats);
    })
    .await;
}

/// Whoever pumps is slow, or hangs: the prefetch is of messages, and a message may be large.
#[tokio::test(start_paused = true)]
async fn bodies_without_an_answer_are_bounded_in_bytes() {
    const MESSAGES: u32 = 14;
    let body = format!("{} 1 1\n", "a".repeat(4091)).repeat(1024);
    let Stage { mut subscription, courier, mut peer, .. } =
        stage_with(Desk::default(), CONNECTED, body.len()).await;
    beside(courier, async {
        peer.frame().await.unwrap();
        let said = Cell::new(0);
        let mut flood = pin!(async {
            for id in 0..MESSAGES {
                peer.say(message(id, "", body.as_bytes())).await;
                said.set(said.get() + 1);
            }
        });
        assert!(timeout(Duration::from_secs(60), &mut flood).await.is_err());
        assert_eq!(said.get(), UNANSWERED_BYTES_MAX / body.len());
        let pump = async {
            let mut lines = u64::from(MESSAGES) * 1024;
            while lines > 0 {
                let lease = subscription.lease().await.unwrap();
                lines -= lease.batch().lines();
                confirm(&mut subscription, lease).await;
            }
        };
        tokio::join!(flood, pump);
    })
    .await;
}

/// Four messages of `line_bytes`, which is half of the prefetch; then a fifth. What the session says before it has
/// answered the first of them.
async fn said_over_a_filling_prefetch(line_bytes: usize) -> (String, Option<String>) {
    let settings = SubscriptionSettings { prefetch_of_small: 1000, ..settings() };
    let Stage { mut subscription, courier, mut peer, .. } = stage_of(settings, 4 * 1024 * 1024).await;
    let body = format!("{} 1 1\n", "a".repeat(line_bytes - 5));
    beside(courier, async {
        peer.frame().await.unwrap();
        for id in 0..5 {
            peer.say(message(id, "", body.as_bytes())).await;
        }
        let mut leases = Vec::new();
        for _ in 0..5 {
            leases.push(subscription.lease().await.unwrap());
        }
        confirm(&mut subscription, leases.remove(0)).await;
        let said = peer.frame().await.unwrap();
        (said.command().to_owned(), said.header("prefetch-count").map(str::to_owned))
    })
    .await
}

#[tokio::test]
async fn more_is_asked_for_once_where_messages_are_small() {
    assert_eq!(said_over_a_filling_prefetch(10).await, ("SUBSCRIBE".into(), Some("992".into())));
    let hundred = UNANSWERED_BYTES_MAX / 100;
    assert_eq!(said_over_a_filling_prefetch(hundred).await, ("SUBSCRIBE".into(), Some("92".into())));
}

#[tokio::test]
async fn no_more_is_asked_for_where_the_prefetch_fills_what_may_be_unanswered() {
    assert_eq!(said_over_a_filling_prefetch(UNANSWERED_BYTES_MAX / 10).await, ("ACK".into(), None));
}

#[tokio::test]
async fn an_upstream_that_does_not_keep_to_the_prefetch_is_held_back() {
    let Stage { mut subscription, courier, mut peer, .. } = stage().await;
    beside(courier, async {
        peer.frame().await.unwrap();
        let flood = async {
            for id in 0..2000 {
                peer.say(message(id, "", b"a 1 1")).await;
            }
        };
        let pump = async {
            for _ in 0..2000 {
                let lease = subscription.lease().await.unwrap();
                confirm(&mut subscription, lease).await;
            }
        };
        tokio::join!(flood, pump);
        for id in 0..2000 {
            assert_eq!(acked(&mut peer).await, format!("a\\c{id}"));
        }
    })
    .await;
}
