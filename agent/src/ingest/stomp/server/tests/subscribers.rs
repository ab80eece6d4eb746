//! Subscribers on real sockets, over a real spool.

use super::*;

pub(super) fn serving() -> Settings {
    Settings { serves: true, ..settings() }
}

pub(super) fn subscribe(id: &str, more: &str) -> String {
    format!("SUBSCRIBE\nid:{id}\ndestination:/queue/graphite\nreceipt:sub-{id}\n{more}\n\0")
}

/// The headers and the body of the next MESSAGE.
async fn message(client: &mut Client) -> (String, String) {
    client.hears("MESSAGE\n").await;
    let head = client.hears("\n\n").await;
    let body = client.hears("\0\n").await;
    (head, body)
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}:");
    head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {name} in {head}"))
}

impl Rig {
    /// A client with one subscription, whose SUBSCRIBE has been answered.
    async fn subscriber(&self, more: &str) -> Client {
        let mut client = self.connect().await;
        client.say(&subscribe("s", more)).await;
        client.hears(&receipt("sub-s")).await;
        client
    }

    /// Appends one batch that nothing is joined to.
    pub(super) async fn append(&self, name: &str) {
        let mut producer = self.connect().await;
        producer.say(&send("sent", &format!("{name} 1 1700000000"))).await;
        producer.hears(&receipt("sent")).await;
    }

    /// Waits until the books of the subscribers say so.
    async fn books_say(&self, expected: impl Fn(&crate::spool::LinkReport) -> bool) {
        let books = async {
            while !expected(&self.report().await.links[0]) {
                tokio::task::yield_now().await;
            }
        };
        let in_time = timeout(PATIENCE, books).await;
        assert!(in_time.is_ok(), "{:?}", self.report().await.links);
    }
}

async fn ack(client: &mut Client, head: &str) {
    client.say(&format!("ACK\nid:{}\nreceipt:acked\n\n\0", header(head, "ack"))).await;
    client.hears(&receipt("acked")).await;
}

/// STOMP 1.2, "MESSAGE": destination, message-id, subscription, and ack where one is awaited.
#[tokio::test]
async fn a_message_is_plain_lines_without_a_final_line_end() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("ack:client-individual\n").await;
        let mut producer = rig.connect().await;
        producer.say(&send(1, "a 1 1700000000\nb 2 1700000001\n")).await;
        let (head, body) = message(&mut client).await;
        assert_eq!(
            head,
            "subscription:s\nmessage-id:0-0\ndestination:/queue/graphite\nack:0-0\ncontent-type:text/plain\n\
             content-length:29"
        );
        assert_eq!(body, "a 1 1700000000\nb 2 1700000001");
        assert_eq!(rig.report().await.links[0].backlog.lines, 2, "sent is not acknowledged");
        ack(&mut client, &head).await;
        let books = rig.report().await.links.remove(0);
        assert_eq!((books.backlog.lines, books.delivered.lines), (0, 2), "its receipt means deleted");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn without_acks_written_is_delivered() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("").await;
        rig.append("a").await;
        let (head, body) = message(&mut client).await;
        assert!(!head.contains("ack:"), "{head}");
        assert_eq!(body, "a 1 1700000000");
        rig.books_say(|books| books.delivered.lines == 1 && books.backlog.lines == 0).await;
        rig.stop();
    })
    .await;
}

/// STOMP 1.2, "SUBSCRIBE ack Header": "the client mode [...] all messages".
#[tokio::test]
async fn a_cumulative_ack_ends_all_before_it() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("ack:client\n").await;
        let mut last = String::new();
        for name in ["a", "b", "c"] {
            rig.append(name).await;
            last = message(&mut client).await.0;
        }
        ack(&mut client, &last).await;
        assert_eq!(rig.report().await.links[0].delivered.lines, 3);
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn what_is_not_acknowledged_goes_to_others_when_the_session_is_lost() {
    with_server(serving(), async |rig: Rig| {
        let mut first = rig.subscriber("ack:client\n").await;
        rig.append("a").await;
        assert!(!message(&mut first).await.0.contains("redelivered"));
        let mut second = rig.subscriber("ack:client\n").await;
        drop(first);
        let (head, body) = message(&mut second).await;
        assert!(head.contains("\nredelivered:true"), "{head}");
        assert_eq!(body, "a 1 1700000000");

        second.say("UNSUBSCRIBE\nid:s\nreceipt:u\n\n\0").await;
        second.hears(&receipt("u")).await;
        let mut third = rig.subscriber("ack:client\n").await;
        let (head, _) = message(&mut third).await;
        ack(&mut third, &head).await;
        assert_eq!(rig.report().await.links[0].delivered.lines, 1);
        rig.stop();
    })
    .await;
}

/// It rests for longer each time, so that this takes a while, but is no busy loop.
#[tokio::test]
async fn what_is_refused_over_and_over_is_set_aside() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("ack:client-individual\n").await;
        rig.append("poison").await;
        for delivery in 0..crate::spool::DELIVERIES_MAX {
            let (head, _) = message(&mut client).await;
            assert_eq!(head.contains("redelivered:true"), delivery > 0);
            client.say(&format!("NACK\nid:{}\n\n\0", header(&head, "ack"))).await;
        }
        rig.books_say(|books| books.aside.lines == 1 && books.backlog.lines == 0).await;
        rig.append("good").await;
        assert_eq!(message(&mut client).await.1, "good 1 1700000000", "the road goes on");
        rig.stop();
    })
    .await;
}

/// One that holds all it may get is passed over; it keeps nobody waiting.
#[tokio::test]
async fn a_subscriber_that_never_acks_holds_its_prefetch_and_nothing_more() {
    with_server(serving(), async |rig: Rig| {
        let mut greedy = rig.subscriber("ack:client\nprefetch-count:2\n").await;
        for name in ["a", "b"] {
            rig.append(name).await;
            message(&mut greedy).await;
        }
        let mut other = rig.subscriber("ack:client-individual\nprefetch-count:1\n").await;
        for name in ["c", "d", "e"] {
            rig.append(name).await;
            let (head, body) = message(&mut other).await;
            assert_eq!(body, format!("{name} 1 1700000000"));
            ack(&mut other, &head).await;
        }
        assert_eq!(greedy.is_answered("t").await, "", "nothing came");
        rig.stop();
    })
    .await;
}

/// A host that lost its power takes batches for as long as its kernel's peer believes it does.
#[tokio::test]
async fn a_subscriber_that_sends_no_beats_is_missed_though_batches_go_to_it() {
    let beats = Settings { beats_wished: Duration::from_millis(100), ..serving() };
    with_server(beats, async |rig: Rig| {
        let mut client =
            Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
        client.say("CONNECT\naccept-version:1.2\nheart-beat:100,0\n\n\0").await;
        client.say(&subscribe("s", "")).await;
        let appending = async {
            loop {
                rig.append("m").await;
            }
        };
        let heard = tokio::select! {
            heard = client.hears_the_end() => heard,
            never = appending => never,
        };
        assert!(heard.contains("MESSAGE\n"), "{heard}");
        assert!(error_text(&heard).contains("nothing came for 0.25 s, not even a heart-beat"), "{heard}");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn subscribers_take_turns() {
    with_server(serving(), async |rig: Rig| {
        let mut clients = [
            rig.subscriber("ack:client-individual\nprefetch-count:1\n").await,
            rig.subscriber("ack:client-individual\nprefetch-count:1\n").await,
        ];
        for _ in 0..10 {
            rig.append("a").await;
            rig.append("b").await;
            for client in &mut clients {
                let (head, _) = message(client).await;
                ack(client, &head).await;
            }
        }
        rig.stop();
    })
    .await;
}

/// STOMP 1.2, "BEGIN": "any messages sent or acknowledged during a transaction will be processed atomically".
#[tokio::test]
async fn a_transaction_holds_sends_and_acks_together() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("ack:client-individual\nprefetch-count:1\n").await;
        rig.append("a").await;
        let (head, _) = message(&mut client).await;
        let in_it = |receipt: &str| {
            let id = header(&head, "ack");
            format!(
                "BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/graphite\ntransaction:t\n\nb 1 1700000000\0\
                 ACK\nid:{id}\ntransaction:t\nreceipt:{receipt}\n\n\0"
            )
        };
        client.say(&format!("{}ABORT\ntransaction:t\nreceipt:aborted\n\n\0", in_it("1"))).await;
        assert!(client.hears(&receipt("aborted")).await.contains("packetboat-receipt:buffered"));
        let report = rig.report().await;
        assert_eq!((report.accepted.lines, report.links[0].delivered.lines), (1, 0), "nothing of it happened");

        client.say(&format!("{}COMMIT\ntransaction:t\nreceipt:done\n\n\0", in_it("2"))).await;
        client.hears(&receipt("done")).await;
        let report = rig.report().await;
        assert_eq!((report.accepted.lines, report.links[0].delivered.lines), (2, 1));
        assert_eq!(message(&mut client).await.1, "b 1 1700000000");
        rig.stop();
    })
    .await;
}

/// STOMP 1.2, "UNSUBSCRIBE": it ends one subscription. The others of the session, and of the queue, stand.
#[tokio::test]
async fn unsubscribe_leaves_the_other_subscriptions() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("").await;
        client.say(&subscribe("t", "")).await;
        client.hears(&receipt("sub-t")).await;
        client.say("UNSUBSCRIBE\nid:s\nreceipt:u\n\n\0").await;
        client.hears(&receipt("u")).await;
        for name in ["a", "b"] {
            rig.append(name).await;
            let (head, body) = message(&mut client).await;
            assert_eq!((header(&head, "subscription"), body), ("t", format!("{name} 1 1700000000")));
        }
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn nodes_get_batches_as_they_are_stored() {
    with_server(Settings { serves: true, ..nodes::trusting() }, async |rig: Rig| {
        let mut client = rig.node().await;
        client.say(&subscribe("s", "ack:client-individual\npacketboat-wire:1\n")).await;
        client.hears(&receipt("sub-s")).await;
        rig.append("a").await;
        client.hears("MESSAGE\n").await;
        let head = client.hears("\n\n").await;
        assert_eq!(header(&head, "packetboat-origin"), "us-east");
        assert_eq!(header(&head, "packetboat-mesh"), "acme");
        assert_eq!(header(&head, "packetboat-hops"), "us-east");
        assert_eq!(header(&head, "packetboat-seq"), "1-1");
        assert_eq!(header(&head, "content-encoding"), "zstd");
        // A node says why it can never take a batch; it is set aside at once.
        let id = header(&head, "ack").to_owned();
        let reason = format!("loop: it has passed `eu` before {}", "and so on ".repeat(200));
        client.say(&format!("NACK\nid:{id}\npacketboat-reason:{}\n\n\0", reason.replace(':', "\\c"))).await;
        rig.books_say(|books| books.aside.lines == 1 && books.backlog.lines == 0).await;
        rig.stop();
    })
    .await;
}

/// Headers of nodes count only from nodes (I22).
#[tokio::test]
async fn whoever_is_no_node_gets_lines_and_is_counted() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("ack:client-individual\npacketboat-wire:1\n").await;
        rig.append("a").await;
        refuse_until_set_aside(&rig, &mut client, |head, body| {
            assert!(!head.contains("packetboat-"), "{head}");
            assert_eq!(body, "a 1 1700000000");
            "packetboat-reason:because\n"
        })
        .await;
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_node_that_refuses_without_a_reason_is_counted_too() {
    with_server(Settings { serves: true, ..nodes::trusting() }, async |rig: Rig| {
        let mut client = rig.node().await;
        client.say(&subscribe("s", "ack:client-individual\npacketboat-wire:1\n")).await;
        rig.append("a").await;
        refuse_until_set_aside(&rig, &mut client, |_, _| "").await;
        rig.stop();
    })
    .await;
}

async fn refuse_until_set_aside(
    rig: &Rig,
    client: &mut Client,
    headers: impl Fn(&str, &str) -> &'static str,
) {
    for delivery in 0..crate::spool::DELIVERIES_MAX {
        let (head, body) = message(client).await;
        assert_eq!(head.contains("redelivered:true"), delivery > 0);
        assert_eq!(rig.report().await.links[0].aside.lines, 0, "not before it was tried often enough");
        client.say(&format!("NACK\nid:{}\n{}\n\0", header(&head, "ack"), headers(&head, &body))).await;
    }
    rig.books_say(|books| books.aside.lines == 1 && books.backlog.lines == 0).await;
}

#[tokio::test]
async fn a_full_spool_still_hears_its_subscribers() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("ack:client-individual\n").await;
        rig.append("a").await;
        let (head, _) = message(&mut client).await;
        rig.fill().await;
        ack(&mut client, &head).await;
        client.say(&send("no", "b 1 1700000000")).await;
        let heard = client.hears_the_end().await;
        assert!(error_text(&heard).contains("the spool is full"), "{heard}");
        rig.stop();
    })
    .await;
}

/// Only a subscriber can make room, and it may come late.
#[tokio::test]
async fn a_full_spool_hears_a_new_subscriber() {
    with_server(serving(), async |rig: Rig| {
        rig.fill().await;
        let mut producer = rig.connect().await;
        producer.say(&send(1, "late 1 1700000000")).await;
        let mut client = rig.subscriber("ack:client\n").await;
        loop {
            let (head, body) = message(&mut client).await;
            client.say(&format!("ACK\nid:{}\n\n\0", header(&head, "ack"))).await;
            if body.contains("late ") {
                break;
            }
        }
        producer.hears(&receipt(1)).await;
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn what_was_brought_goes_back_while_a_former_subscriber_waits_for_room() {
    with_server(serving(), async |rig: Rig| {
        rig.fill().await;
        let mut formers = Vec::new();
        for _ in 0..20 {
            let mut former = rig.connect().await;
            let frames = subscribe("s", "") + "UNSUBSCRIBE\nid:s\nreceipt:u\n\n\0" + &send(1, "a 1 2");
            former.say(&frames).await;
            former.hears(&receipt("u")).await;
            formers.push(former);
        }
        let mut client = rig.subscriber("").await;
        while rig.report().await.links[0].backlog.lines > 0 {
            message(&mut client).await;
        }
        rig.stop();
    })
    .await;
}

/// It would hold its leases for ever if it waited.
#[tokio::test]
async fn a_subscriber_whose_sends_fill_the_spool_is_told() {
    with_server(serving(), async |rig: Rig| {
        let mut client = rig.subscriber("ack:client\nprefetch-count:1\n").await;
        let (mut reader, mut writer) = client.stream.split();
        let sending = async {
            let mut random = 1_u64;
            for number in 0.. {
                let mut frames = String::new();
                for part in 0..3 {
                    let mut lines = String::new();
                    for _ in 0..300 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        lines += &format!("noise.m{random:x} {random} 1600000000\n");
                    }
                    let name = format!("transaction:{number}-{part}\n\n");
                    frames += &format!(
                        "BEGIN\n{name}\0SEND\ndestination:/queue/graphite\n{name}{lines}\0COMMIT\n{name}\0"
                    );
                }
                if writer.write_all(frames.as_bytes()).await.is_err() {
                    break;
                }
            }
        };
        let mut heard = Vec::new();
        let hearing = async { while reader.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {} };
        let until_told = async {
            tokio::select! {
                () = hearing => {}
                () = async { sending.await; std::future::pending().await } => {}
            }
        };
        timeout(PATIENCE, until_told).await.expect("it is neither read nor told");
        let heard = String::from_utf8_lossy(&heard);
        assert!(error_text(&heard).contains("the spool is full"), "{}", heard.len());
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn who_does_not_serve_says_so() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        client.say(&subscribe("s", "")).await;
        let heard = client.hears_the_end().await;
        assert!(error_text(&heard).contains("say `serve: true`"), "{heard}");
        assert!(heard.contains("receipt-id:sub-s\n"), "{heard}");

        let mut client = rig.connect().await;
        client.say("SUBSCRIBE\nid:1\ndestination:/topic/graphite\n\n\0").await;
        let heard = client.hears_the_end().await;
        assert!(error_text(&heard).contains("is a topic, and there are queues only"), "{heard}");
        rig.stop();
    })
    .await;
}
