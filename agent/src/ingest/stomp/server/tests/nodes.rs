//! Batches of other nodes: taken once, under the number that their origin gave them.

use bytes::Bytes;
use forwarder::{Batch, Encoding, Epoch, Label, Part, wire};
use topology::model;

use super::*;

pub(super) fn batch(origin: &str, seq: u64, hops: &[&str], lines: &str) -> Batch {
    let label = Label {
        origin: origin.into(),
        epoch: Epoch([7; 16]),
        hops: hops.iter().map(|&hop| hop.into()).collect(),
    };
    let part = Part {
        seq,
        lines: u32::try_from(lines.lines().count()).unwrap(),
        raw_bytes: u32::try_from(lines.len()).unwrap(),
        body: Bytes::from(lines.to_owned()),
        plain: None,
    };
    Batch { label: Some(label), encoding: Encoding::Plain, parts: vec![part], accepted_ms: 5..=6 }
}

/// As the node `dmz` sends it.
pub(super) fn sent(batch: &Batch, receipt: &str) -> String {
    let encoded = wire::encode(batch, "acme", "dmz", model::Encoding::Plain).unwrap();
    let mut frame = format!("SEND\ndestination:/queue/graphite\nreceipt:{receipt}\n");
    for (name, value) in &encoded.headers {
        // Sequence numbers of parts hold colons.
        frame += &format!("{name}:{}\n", value.replace(':', "\\c"));
    }
    frame + "\n" + std::str::from_utf8(&encoded.body).unwrap() + "\0"
}

impl Rig {
    /// A session of the node `dmz`.
    pub(super) async fn node(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut client = Client { stream, heard: String::new() };
        client.say("CONNECT\naccept-version:1.2\nhost:h\npacketboat-wire:1\npacketboat-node:dmz\n\n\0").await;
        client.hears("\n\n\0\n").await;
        client
    }
}

pub(super) fn trusting() -> Settings {
    let peers =
        vec![model::Peer { name: "dmz".to_owned(), origins: vec!["dmz".to_owned(), "web".to_owned()] }];
    Settings { peers: crate::users::Peers::new(&peers), ..settings() }
}

#[tokio::test]
async fn a_batch_is_taken_once_however_often_it_comes() {
    with_server(trusting(), async |rig: Rig| {
        let mut node = rig.node().await;
        let batch = batch("web", 9, &["web"], "a 1 1700000000\nb 2 1700000001\n");
        for receipts in ["1", "2"] {
            node.say(&sent(&batch, receipts)).await;
            node.hears(&receipt(receipts)).await;
        }
        let mut again = rig.node().await;
        again.say(&sent(&batch, "3")).await;
        again.hears(&receipt("3")).await;
        let report = rig.report().await;
        assert_eq!((report.accepted.batches, report.accepted.lines), (1, 2));

        let lent = rig.desk.look(|spool| spool.lend(0, 1 << 20).unwrap()).await.unwrap();
        let label = lent[0].batch.label.clone().unwrap();
        assert_eq!((&*label.origin, label.epoch, lent[0].batch.parts[0].seq), ("web", Epoch([7; 16]), 9));
        assert_eq!(label.hops.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["web", "dmz"]);
        assert_eq!(lent[0].batch.accepted_ms, 5..=6, "when it was accepted first");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_number_that_is_passed_over_is_missing_until_it_comes() {
    with_server(trusting(), async |rig: Rig| {
        let mut node = rig.node().await;
        for (seq, missing) in [(9, 0), (12, 2), (10, 1), (11, 0)] {
            for origin in ["web", "dmz"] {
                node.say(&sent(&batch(origin, seq, &[origin], "a 1 1700000000\n"), "1")).await;
                node.hears(&receipt("1")).await;
            }
            // `dmz` has other ways, too.
            assert_eq!(rig.report().await.missing, [("web".to_owned(), missing)].into());
        }
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn what_has_been_here_before_is_refused_for_ever() {
    with_server(trusting(), async |rig: Rig| {
        let mut node = rig.node().await;
        node.say(&sent(&batch("web", 1, &["web", "us-east", "dmz"], "a 1 1\n"), "1")).await;
        let heard = node.hears_the_end().await;
        assert!(error_text(&heard).contains("loop: it has passed `us-east` before"), "{heard}");
        assert!(heard.contains("\npacketboat-refused:batch\n"), "{heard}");
        assert!(heard.contains("\nreceipt-id:1\n"), "{heard}");
        assert_eq!(rig.report().await.accepted.lines, 0);
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn an_origin_that_is_not_behind_the_link_is_refused() {
    with_server(trusting(), async |rig: Rig| {
        let mut node = rig.node().await;
        node.say(&sent(&batch("bank", 1, &["bank"], "a 1 1\n"), "1")).await;
        let heard = node.hears_the_end().await;
        assert!(error_text(&heard).contains("origin `bank` is not one that the topology places"), "{heard}");
        rig.stop();
    })
    .await;
}

/// The taker becomes the origin.
#[tokio::test]
async fn forged_headers_of_a_producer_say_nothing() {
    with_server(trusting(), async |rig: Rig| {
        let mut producer = rig.connect().await;
        let forged = batch("web", 1, &["web"], "a 1 1700000000\n");
        for receipts in ["1", "2"] {
            producer.say(&sent(&forged, receipts)).await;
            producer.hears(&receipt(receipts)).await;
        }
        let lent = rig.desk.look(|spool| spool.lend(0, 1 << 20).unwrap()).await.unwrap();
        assert!(lent.iter().all(|lent| &*lent.batch.label.as_ref().unwrap().origin == "us-east"));
        assert_eq!(rig.report().await.accepted.lines, 2, "lines like any others");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_damaged_batch_is_refused() {
    with_server(trusting(), async |rig: Rig| {
        for (from, to, says) in [
            ("a 1 1", "a 2 1", "CRC32C"),
            ("packetboat-count:1", "packetboat-count:2", "whole lines"),
            ("packetboat-wire:1", "packetboat-wire:2", "wire version `2` is unknown here"),
            ("packetboat-mesh:acme", "packetboat-mesh:evil", "it belongs to mesh `evil`"),
        ] {
            let mut node = rig.node().await;
            node.say(&sent(&batch("web", 1, &["web"], "a 1 1\n"), "1").replace(from, to)).await;
            let heard = node.hears_the_end().await;
            assert!(error_text(&heard).contains(says), "{heard}");
            let is_for_ever = !matches!(from, "packetboat-wire:1" | "packetboat-mesh:acme");
            assert_eq!(heard.contains("packetboat-refused"), is_for_ever, "{heard}");
        }
        assert_eq!(rig.report().await.accepted.lines, 0);
        rig.stop();
    })
    .await;
}
