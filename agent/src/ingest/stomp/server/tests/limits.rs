//! What a client may not do, and what it is told.

use super::*;

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken_and_one_more_byte_is_not() {
    let limits = Limits { body_bytes: 300_000, ..Limits::default() };
    with_server(with_limits(limits), async |rig: Rig| {
        let mut client = rig.connect().await;
        let body = format!("{}\n", "a 1 2\n".repeat(300_000 / 6 - 1) + "a 1 2");
        assert_eq!(body.len(), 300_000);
        client.say(&send(1, &body)).await;
        client.hears(&receipt(1)).await;
        assert_eq!(rig.report().await.accepted.lines, 50_000);
        client.say(&send(2, &(body + "\n"))).await;
        assert!(error_text(&client.hears_the_end().await).contains("longer than 300000 bytes"));
        rig.stop();
    })
    .await;
}

/// Of two large frames that do not fit together one is refused, and the other is taken.
#[tokio::test]
async fn many_large_frames_share_a_bounded_memory() {
    let limits = Limits { body_bytes: 600_000, shared_bytes: 1_000_000, ..Limits::default() };
    with_server(with_limits(limits), async |rig: Rig| {
        let (mut one, mut other) = (rig.connect().await, rig.connect().await);
        let frame = send(1, &"a 1 2\n".repeat(100_000));
        let unfinished = &frame[..frame.len() - 10];
        tokio::join!(one.say(unfinished), other.say(unfinished));
        let (heard, taken) = tokio::select! {
            heard = one.hears_the_end() => (heard, &mut other),
            heard = other.hears_the_end() => (heard, &mut one),
        };
        assert!(error_text(&heard).contains("take all the memory meant for them"), "{heard}");
        taken.say(&frame[frame.len() - 10..]).await;
        assert_eq!(taken.hears(&receipt(1)).await, "");
        rig.stop();
    })
    .await;
}

/// Nothing of what the sessions of those who were let in share.
#[tokio::test]
async fn before_login_there_are_no_large_frames() {
    with_server(settings(), async |rig: Rig| {
        let mut client =
            Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
        client.say("CONNECT\naccept-version:1.2\ncontent-length:1000000\n\n").await;
        let heard = client.hears_the_end().await;
        assert!(error_text(&heard).contains("the first frame is CONNECT, which has none"), "{heard}");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn the_time_to_connect_is_limited() {
    let limits = Limits { connect_time: Duration::from_millis(50), ..Limits::default() };
    with_server(with_limits(limits), async |rig: Rig| {
        let mut client =
            Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
        client.say("\n\nCONN").await;
        assert!(error_text(&client.hears_the_end().await).contains("no CONNECT within 0.05 s"));
        rig.stop();
    })
    .await;
}

/// A client that lets a frame drip is cut, though each byte comes soon; one that is idle is not.
#[tokio::test]
async fn the_time_of_a_frame_is_limited() {
    let limits = Limits { frame_time: Duration::from_millis(60), ..Limits::default() };
    with_server(with_limits(limits), async |rig: Rig| {
        let mut idle = rig.connect().await;
        let mut slow = rig.connect().await;
        slow.say("SEND\n").await;
        while slow.stream.write_all(b"a:b\n").await.is_ok() {
            if let Ok(read) = timeout(Duration::from_millis(10), slow.read()).await {
                assert!(read);
                break;
            }
        }
        assert!(error_text(&slow.hears_the_end().await).contains("a frame took more than 0.06 s"));
        idle.say(&send(1, "a 1 2")).await;
        idle.hears(&receipt(1)).await;
        rig.stop();
    })
    .await;
}

/// STOMP 1.2, "Heart-beating".
#[tokio::test]
async fn beats_go_out_and_missing_ones_are_noticed() {
    let beats = Settings {
        beats_offered: Duration::from_millis(20),
        beats_wished: Duration::from_secs(2),
        ..settings()
    };
    with_server(beats, async |rig: Rig| {
        let mut client =
            Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
        client.say("CONNECT\naccept-version:1.2\nheart-beat:10,10\n\n\0").await;
        client.hears("\n\n\0\n").await;
        for _ in 0..10 {
            client.say("\n").await;
            client.hears("\n").await;
        }
        let heard = client.hears_the_end().await;
        assert!(error_text(&heard).contains("nothing came for 5 s, not even a heart-beat"), "{heard}");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn one_connection_too_many_is_told() {
    let limits = Limits { connections: 2, ..Limits::default() };
    with_server(with_limits(limits), async |rig: Rig| {
        let (mut first, _second) = (rig.connect().await, rig.connect().await);
        let mut third =
            Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
        third.say(CONNECT).await;
        assert!(error_text(&third.hears_the_end().await).contains("2 connections are open"));
        first.say("DISCONNECT\n\n\0").await;
        first.hears_the_end().await;
        drop(first);
        // Its place is free once the server has seen it go.
        let again = async {
            loop {
                let mut client =
                    Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
                client.say(CONNECT).await;
                client.read().await;
                if client.heard.starts_with("CONNECTED") {
                    break;
                }
            }
        };
        timeout(PATIENCE, again).await.expect("the place is never free");
        rig.stop();
    })
    .await;
}

/// Beyond those that are being told they are reset.
#[tokio::test]
async fn a_client_that_dials_on_and_on_keeps_nobody_out() {
    let clients = Clients::new(topology::model::Limits { connections_per_client: 1, ..Default::default() });
    let guests = Guests { users: Users::everybody(), clients };
    with_guests(settings(), guests, async |rig: Rig| {
        let _first = rig.connect().await;
        let mut more = Vec::new();
        for _ in 0..2 * TURNED_AWAY_MAX {
            // It may be reset before it knows that it stands.
            more.extend(TcpStream::connect(rig.address).await);
        }
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        let mut other = Client { stream: socket.connect(rig.address).await.unwrap(), heard: String::new() };
        other.say(CONNECT).await;
        other.hears("CONNECTED\n").await;
        let mut told = 0;
        for stream in &mut more {
            let mut heard = Vec::new();
            let reading =
                timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it is left standing");
            told += usize::from(reading.is_ok_and(|read| read > 0));
        }
        assert!(told > 0 && told < 2 * TURNED_AWAY_MAX, "{told}");
        rig.stop();
    })
    .await;
}

/// At the spool's limit a producer is not read from its SEND on, and not cut: its clocks stand still, our beats
/// go on.
#[tokio::test]
async fn a_full_spool_holds_producers_back() {
    let beats = Settings {
        beats_offered: Duration::from_millis(10),
        beats_wished: Duration::from_millis(10),
        ..settings()
    };
    with_server(beats, async |rig: Rig| {
        rig.fill().await;
        let mut client =
            Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
        client.say("CONNECT\naccept-version:1.2\nheart-beat:10,10\n\n\0").await;
        let sent = send(1, "a 1 2");
        client.say(&sent[..sent.len() - 5]).await;
        client.hears("\n\n\0\n").await;
        for _ in 0..20 {
            assert_eq!(client.hears("\n").await, "", "a client that does not beat is not cut");
        }
        client.say(&sent[sent.len() - 5..]).await;
        for _ in 0..20 {
            assert_eq!(client.hears("\n").await, "", "beats, and neither RECEIPT nor ERROR");
        }
        rig.drain().await;
        client.hears(&receipt(1)).await;
        rig.stop();
    })
    .await;
}

/// Nobody knows whether it is still there, and its place is for those who are.
#[tokio::test]
async fn a_full_spool_waits_for_room_with_nobody_who_has_left() {
    with_server(settings(), async |rig: Rig| {
        rig.fill().await;
        let mut client = rig.connect().await;
        client.say(&send(1, "a 1 2").repeat(1000)).await;
        client.stream.shutdown().await.unwrap();
        assert!(error_text(&client.hears_the_end().await).contains("the spool is full"));
        let mut idle = rig.connect().await;
        idle.stream.shutdown().await.unwrap();
        assert_eq!(idle.hears_the_end().await, "");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_full_spool_refuses_what_is_in_a_transaction() {
    with_server(settings(), async |rig: Rig| {
        let mut client = rig.connect().await;
        client.say("BEGIN\ntransaction:t\nreceipt:1\n\n\0").await;
        client.hears(&receipt(1)).await;
        rig.fill().await;
        client.say("SEND\ndestination:/queue/graphite\ntransaction:t\nreceipt:2\n\na 1 2\n\0").await;
        let heard = client.hears_the_end().await;
        assert!(heard.contains("\nreceipt-id:2\n"), "{heard}");
        assert!(error_text(&heard).contains("the spool is full"), "{heard}");
        rig.stop();
    })
    .await;
}

/// A client that asks for receipts and never reads them is cut, and holds no more memory than it may.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let limits =
        Limits { write_time: Duration::from_millis(100), outstanding_bytes: 10_000, ..Limits::default() };
    with_server(with_limits(limits), async |rig: Rig| {
        let mut client = rig.connect().await;
        let frames = send("x".repeat(1000), "a 1 2").repeat(1000);
        let writing = async { while client.stream.write_all(frames.as_bytes()).await.is_ok() {} };
        timeout(PATIENCE, writing).await.expect("it is never cut");
        rig.stop();
    })
    .await;
}

/// What waits for its commit, or to be read by the client, is bounded: beyond that nothing is read.
#[tokio::test]
async fn a_session_with_many_receipts_outstanding_is_not_read() {
    let limits = Limits { outstanding_bytes: 10_000, ..Limits::default() };
    with_server(settings(), async |rig: Rig| {
        let common = Common {
            settings: Arc::new(with_limits(limits)),
            budget: Budget::new(0),
            intake: rig.intake.clone(),
            users: Users::everybody(),
            subscribers: Arc::new([]),
            clock: Clock::system(),
            stop: CancellationToken::new(),
        };
        let visitor = Visitor { address: [127, 0, 0, 1].into(), names: Vec::new(), visit: None };
        let frames = CONNECT.to_owned() + &send("x".repeat(1000), "a 1 2").repeat(1000);
        let mut inflow = Inflow::new(frames.as_bytes(), common, visitor, 1, oneshot::channel().0);
        let (orders, _nobody_writes) = mpsc::channel(1000);
        let ended = timeout(Duration::from_millis(200), inflow.run(orders)).await;
        assert!(ended.is_err(), "{ended:?}");
        assert!(inflow.into_reader().0.len() > 800_000);
        rig.stop();
    })
    .await;
}
