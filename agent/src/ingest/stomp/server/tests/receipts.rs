//! What is receipted is on disk, and what was sent whole is kept.

use super::*;

#[tokio::test]
async fn a_receipt_means_on_disk() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        for number in 1..=20 {
            client.say(&send(number, "a 1 2\nb 2 3\nbad\n")).await;
            assert_eq!(client.hears(&receipt(number)).await, "");
            assert_eq!(rig.report().await.accepted.lines, 2 * number);
            assert_eq!(rig.report().await.rejects, number);
        }
        rig.stop();
    })
    .await;
}

/// Reading goes on while commits are open, and receipts come in the order of the frames.
#[tokio::test]
async fn receipts_are_pipelined_in_order() {
    const FRAMES: usize = 20_000;
    with_server(settings(), async |rig: Rig| {
        let client = rig.connect().await;
        let (mut reader, mut writer) = client.stream.into_split();
        let saying = async {
            let frames: String = (0..FRAMES).map(|number| send(number, "a 1 2")).collect();
            writer.write_all(frames.as_bytes()).await.unwrap();
        };
        let hearing = async {
            let expected: String = (0..FRAMES).map(receipt).collect();
            let mut heard = vec![0; expected.len()];
            timeout(PATIENCE, reader.read_exact(&mut heard)).await.unwrap().unwrap();
            assert!(heard == expected.as_bytes(), "receipts are missing or out of order");
        };
        tokio::join!(saying, hearing);
        let accepted = rig.report().await.accepted;
        assert_eq!(accepted.lines, FRAMES as i64);
        assert!(accepted.batches < FRAMES as i64 / 10, "{} batches", accepted.batches);
        rig.stop();
    })
    .await;
}

/// Nothing is receipted before its commit, and a reply that need not wait does not.
#[tokio::test]
async fn no_receipt_leaves_before_its_commit() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        let (open_disk, disk_is_stuck) = sync_channel::<()>(1);
        let (begin, begun) = tokio::sync::oneshot::channel();
        let stuck = rig.desk.look(move |_| {
            begin.send(()).unwrap();
            disk_is_stuck.recv()
        });
        let test = async {
            begun.await.unwrap();
            client.say(&send(1, "a 1 2")).await;
            client.say("BEGIN\ntransaction:t\nreceipt:2\n\n\0").await;
            assert_eq!(client.hears(&receipt(2)).await, "");
            client.say("ABORT\ntransaction:t\nreceipt:3\n\n\0DISCONNECT\nreceipt:4\n\n\0").await;
            assert_eq!(client.hears(&receipt(3)).await, "");
            open_disk.send(()).unwrap();
            assert_eq!(client.hears_the_end().await, receipt(1) + &receipt(4));
        };
        tokio::join!(async { stuck.await.unwrap().unwrap() }, test);
        rig.stop();
    })
    .await;
}

/// Of two SENDs that wait for different commits each gets its RECEIPT after its own.
#[tokio::test]
async fn each_receipt_waits_for_its_own_commit() {
    let sealing = CancellationToken::new();
    with_server_that_seals(settings(), sealing.clone(), false, async |rig: Rig| {
        let mut client = rig.connect().await;
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (open_disk, disk_is_stuck) = sync_channel::<()>(1);
        let stuck = rig.desk.look(move |_| {
            begin.send(()).unwrap();
            disk_is_stuck.recv()
        });
        let test = async {
            begun.await.unwrap();
            // A transaction has a commit of its own; the other line waits in the open batch.
            client.say("BEGIN\ntransaction:t\n\n\0").await;
            client.say("SEND\ndestination:/queue/graphite\ntransaction:t\n\na 1 2\n\0").await;
            client.say("COMMIT\ntransaction:t\nreceipt:whole\n\n\0").await;
            client.say(&send("open", "b 1 2")).await;
            assert_eq!(client.is_answered("1").await, "");
            assert_eq!(client.is_answered("2").await, "");
            open_disk.send(()).unwrap();
            assert_eq!(client.hears(&receipt("whole")).await, "");
            assert_eq!(client.is_answered("3").await, "");
            sealing.cancel();
            assert_eq!(client.hears(&receipt("open")).await, "");
        };
        tokio::join!(async { stuck.await.unwrap().unwrap() }, test);
        rig.stop();
    })
    .await;
}

/// STOMP 1.2, "ERROR" and "Connection Lingering": what came before counts; the client can read the
/// ERROR though it still sends.
#[tokio::test]
async fn an_error_comes_after_the_receipts_and_before_the_end() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        let mut frames =
            send(1, "a 1 2") + &send(2, "b 1 2") + "SEND\nreceipt:3\ndestination:/queue/x\n\na 1 2\0\n";
        frames += &send(4, "never 1 2").repeat(1000);
        client.say(&frames).await;
        let before = client.hears("\nmessage:").await;
        assert_eq!(before, receipt(1) + &receipt(2) + "ERROR");
        assert!(client.hears("\nreceipt-id:3\n").await.contains("no destination"));
        assert!(client.hears("\0\n").await.contains("metrics are taken at /queue/graphite"));
        for _ in 0..50 {
            client.say(&send(5, "never 1 2")).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.hears_the_end().await, "");
        assert_eq!(rig.report().await.accepted.lines, 2);
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_send_without_a_good_line_is_refused_and_its_dead_letters_are_kept() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        client.say(&send(5, "a b c d\n")).await;
        let heard = client.hears_the_end().await;
        assert!(heard.contains("\nreceipt-id:5\n"), "{heard}");
        assert!(error_text(&heard).contains("\"a b c d\", is not name value timestamp"), "{heard}");
        assert_eq!(rig.report().await.rejects, 1, "they are on disk before the ERROR leaves");
        rig.stop();
    })
    .await;
}

/// STOMP 1.2, "DISCONNECT": its receipt says that everything before has been received.
#[tokio::test]
async fn disconnect_is_receipted_after_all_is_on_disk() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        let frames = "SEND\ndestination:/queue/graphite\n\na 1 2\0".repeat(3000);
        client.say(&(frames + "DISCONNECT\nreceipt:bye\n\n\0")).await;
        assert_eq!(client.hears_the_end().await, receipt("bye"));
        assert_eq!(rig.report().await.accepted.lines, 3000);
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_transaction_is_committed_whole_or_dropped() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        let in_transaction =
            |body| format!("SEND\ndestination:/queue/graphite\ntransaction:t\nreceipt:s\n\n{body}\0");
        client.say(&("BEGIN\ntransaction:t\n\n\0".to_owned() + &in_transaction("a 1 2\nb 1 2"))).await;
        assert_eq!(client.hears("\0\n").await, "RECEIPT\nreceipt-id:s\npacketboat-receipt:buffered\n\n");
        assert_eq!(rig.report().await.accepted.lines, 0);
        client.say("COMMIT\ntransaction:t\nreceipt:c\n\n\0").await;
        assert_eq!(client.hears(&receipt("c")).await, "");
        assert_eq!(rig.report().await.accepted.lines, 2);

        client.say(&("BEGIN\ntransaction:t\n\n\0".to_owned() + &in_transaction("a 1 2"))).await;
        client.say("ABORT\ntransaction:t\nreceipt:a\n\n\0").await;
        client.hears(&receipt("a")).await;
        client.say("BEGIN\ntransaction:t\n\n\0COMMIT\ntransaction:t\nreceipt:empty\n\n\0").await;
        assert_eq!(client.hears(&receipt("empty")).await, "");
        client.say(&("BEGIN\ntransaction:t\n\n\0".to_owned() + &in_transaction("a 1 2"))).await;
        client.say("DISCONNECT\nreceipt:d\n\n\0").await;
        client.hears(&receipt("d")).await;
        assert_eq!(rig.report().await.accepted.lines, 2);
        rig.stop();
    })
    .await;
}

/// The Ruby gem's producer: no accept-version, no receipt, no DISCONNECT, and it does not wait.
#[tokio::test]
async fn what_a_client_sent_whole_is_kept_though_it_is_gone() {
    with_server(settings(), async |rig: Rig| {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let send = "SEND\ncontent-length:5\ndestination:/queue/graphite\n\na 1 2\0\n";
        let frames =
            format!("CONNECT\ncontent-length:0\n\n\0\n{}{}", send.repeat(100), &send[..send.len() - 2]);
        stream.write_all(frames.as_bytes()).await.unwrap();
        drop(stream);
        rig.has_accepted(100).await;
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_client_that_half_closes_still_gets_its_receipts() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        client.say(&(send(1, "a 1 2") + &send(2, "a 1 2") + "SEND\nreceipt:3\n\ncut")).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.hears_the_end().await, receipt(1) + &receipt(2));
        assert_eq!(rig.report().await.accepted.lines, 2);
        rig.stop();
    })
    .await;
}

/// The whole session, byte by byte.
#[tokio::test]
async fn frames_may_be_cut_anywhere() {
    with_server(settings(), async |rig: Rig| {
        let mut client = Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
        client.stream.set_nodelay(true).unwrap();
        let session = format!(
            "\n\r\nSTOMP\r\naccept-version:1.2\r\n\r\n\0\n\n{}SEND\r\nreceipt:2\r\ndestination:/queue/graphite\r\n\
             content-length:7\r\n\r\na 1 2\r\n\0DISCONNECT\nreceipt:3\n\n\0",
            send(1, "a 1 2")
        );
        for byte in session.bytes() {
            client.stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.hears("\n\n\0\n").await;
        assert_eq!(client.hears_the_end().await, receipt(1) + &receipt(2) + &receipt(3));
        assert_eq!(rig.report().await.accepted.lines, 2);
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_failed_commit_is_an_error_for_its_frame() {
    let sealing = CancellationToken::new();
    with_server_that_seals(settings(), sealing.clone(), false, async |rig: Rig| {
        let mut client = rig.connect().await;
        client.say(&(send("first", "a 1 2") + &send("second", "a 1 2"))).await;
        // Once these are answered, the lines are in the open batch.
        client.is_answered("1").await;
        client.is_answered("2").await;
        let die = |_: &mut Spool| -> () { panic!("the spool's thread is to end, for this test") };
        rig.desk.look(die).await.unwrap_err();
        while rig.desk.tick().await.is_ok() {
            tokio::task::yield_now().await;
        }
        sealing.cancel();
        let heard = client.hears_the_end().await;
        assert!(heard.starts_with("ERROR\n"), "{heard}");
        assert!(heard.contains("\nreceipt-id:first\n"), "{heard}");
        assert!(error_text(&heard).contains("the metrics could not be stored (the spool failed"), "{heard}");
        rig.stop();
    })
    .await;
}

/// What was received is committed and receipted before the ERROR that says goodbye.
#[tokio::test]
async fn stopping_finishes_what_was_received() {
    with_server(settings(), async |rig: Rig| {
        let mut idle = rig.connect().await;
        let mut busy = rig.connect().await;
        busy.say(&(0..1000).map(|number| send(number, "a 1 2")).collect::<String>()).await;
        // All of it is in the server's socket by now; how much of it has been read is chance.
        rig.stop.cancel();
        let heard = busy.hears_the_end().await;
        assert_eq!(heard.matches("RECEIPT\n").count(), 1000);
        assert!(error_text(&heard).contains("the agent is stopping"), "{heard}");
        assert!(error_text(&idle.hears_the_end().await).contains("the agent is stopping"));
        assert_eq!(rig.report().await.accepted.lines, 1000);
        assert!(TcpStream::connect(rig.address).await.is_err(), "no new connections");
    })
    .await;
}

/// Here nothing is sealed but by the transaction.
#[tokio::test]
async fn a_transaction_does_not_overtake_what_was_sent_before_it() {
    with_server_that_seals(settings(), CancellationToken::new(), false, async |rig: Rig| {
        let mut client = rig.connect().await;
        let transaction = "BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/graphite\ntransaction:t\n\na 2 2\0\n\
                           COMMIT\ntransaction:t\nreceipt:2\n\n\0";
        client.say(&(send(1, "a 1 2") + transaction)).await;
        assert_eq!(client.hears(&receipt(2)).await, receipt(1));
        let lines = rig.desk.look(|spool| {
            let mut lines = Vec::new();
            for lent in spool.lend(0, usize::MAX).unwrap() {
                lent.batch.append_lines(&mut lines).unwrap();
            }
            String::from_utf8(lines).unwrap()
        });
        assert_eq!(lines.await.unwrap(), "a 1 2\na 2 2\n");
        rig.stop();
    })
    .await;
}
