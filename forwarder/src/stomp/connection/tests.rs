use super::*;
use crate::stomp::peer::{CONNECTED, Peer, session, session_over};
use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio::time::{advance, timeout};

const BEATING: &str = "CONNECTED\nversion:1.2\nheart-beat:10000,10000\n\n\0\n";

/// How a session ended at which nothing but its end may come.
async fn end_of(connection: &mut Connection<DuplexStream>) -> StompEnd {
    connection.next().await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn we_beat_at_half_of_what_was_agreed() {
    let (mut connection, mut peer) = session(BEATING).await;
    let ours = async { timeout(Duration::from_secs(26), connection.next()).await.unwrap_err() };
    let theirs = async {
        // Our own beats keep the peer's counting going; its beats keep the session up.
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            peer.say("\n").await;
        }
    };
    tokio::join!(ours, theirs);
    drop(connection);
    assert!(peer.frame().await.is_none());
    assert_eq!(peer.beats, 5);
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_dead_only_after_three_intervals() {
    let (mut connection, mut peer) = session(BEATING).await;
    let start = Instant::now();
    let late = async {
        tokio::time::sleep(Duration::from_secs(29)).await;
        peer.say("\n").await;
    };
    let (end, ()) = tokio::join!(end_of(&mut connection), late);
    assert!(matches!(end, StompEnd::Silent(_)), "{end}");
    assert_eq!(start.elapsed().as_secs(), 59);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_frame_is_a_sign_of_life() {
    let (mut connection, mut peer) = session(BEATING).await;
    let slowly = async {
        for byte in "RECEIPT\nreceipt-id:7\n\n\0".bytes() {
            tokio::time::sleep(Duration::from_secs(25)).await;
            peer.say([byte]).await;
        }
    };
    let (incoming, ()) = tokio::join!(connection.next(), slowly);
    assert!(matches!(incoming, Ok(Incoming::Receipt(id)) if id == "7"));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_held_up_looks_before_it_calls_the_peer_dead() {
    let (mut connection, mut peer) = session(BEATING).await;
    peer.say("RECEIPT\nreceipt-id:7\n\n\0").await;
    advance(Duration::from_secs(1000)).await;
    assert!(matches!(connection.next().await, Ok(Incoming::Receipt(_))));
}

#[tokio::test(start_paused = true)]
async fn without_heart_beats_silence_is_no_end() {
    let (mut connection, peer) = session(CONNECTED).await;
    assert!(timeout(Duration::from_secs(100_000), connection.next()).await.is_err());
    drop(connection);
    assert_eq!(drained_beats(peer).await, 0);
}

async fn drained_beats(mut peer: Peer) -> usize {
    assert!(peer.frame().await.is_none());
    peer.beats
}

#[tokio::test(start_paused = true)]
async fn a_receiver_without_room_goes_on_beating_and_calls_nobody_silent() {
    let (mut connection, mut peer) = session(BEATING).await;
    peer.say("RECEIPT\nreceipt-id:7\n\n\0").await;
    assert!(timeout(Duration::from_secs(101), connection.hold()).await.is_err());
    // The peer's silence counts from here on only.
    assert!(matches!(connection.next().await, Ok(Incoming::Receipt(_))));
    drop(connection);
    assert_eq!(drained_beats(peer).await, 20);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_stalls_ends_as_silent() {
    let settings = StompSettings::default();
    let (mut connection, _peer) = session_over(1000, CONNECTED, &settings).await.unwrap();
    connection.send("/queue/q", std::iter::empty(), &vec![b'x'; 5000].into());
    assert_eq!(end_of(&mut connection).await, StompEnd::Silent(settings.stall_limit));
}

#[tokio::test]
async fn it_reads_while_it_writes() {
    let (mut connection, mut peer) = session_over(1000, CONNECTED, &StompSettings::default()).await.unwrap();
    connection.send("/queue/q", std::iter::empty(), &vec![b'x'; 500_000].into());
    // The peer reads only once all its receipts went out, and both pipes hold 1000 bytes.
    let talk = async {
        for id in 0..1000 {
            peer.say(format!("RECEIPT\nreceipt-id:{id}\n\n\0\n")).await;
        }
        peer.frame().await.unwrap().body.len()
    };
    let listen = async {
        let mut receipts = 0;
        while let Some(Incoming::Receipt(_)) = connection.drained(0).await.unwrap() {
            receipts += 1;
        }
        receipts
    };
    let (body_bytes, receipts) = tokio::join!(talk, listen);
    assert_eq!((body_bytes, receipts), (500_000, 1000));
}

#[tokio::test]
async fn an_error_is_the_end_in_the_peers_words() {
    let (mut connection, mut peer) = session(CONNECTED).await;
    peer.say("RECEIPT\nreceipt-id:1\n\n\0\nERROR\nmessage:stop\n\nnot here\0\n").await;
    assert!(matches!(connection.next().await, Ok(Incoming::Receipt(_))));
    assert_eq!(end_of(&mut connection).await, StompEnd::Error("stop: not here".to_owned()));
}

#[tokio::test]
async fn what_came_before_the_end_is_heard_first() {
    let (mut connection, mut peer) = session(CONNECTED).await;
    peer.say("RECEIPT\nreceipt-id:1\n\n\0\nRECEIPT\nrec").await;
    drop(peer);
    connection.send("/queue/q", std::iter::empty(), &Bytes::from_static(b"x"));
    assert!(matches!(connection.next().await, Ok(Incoming::Receipt(_))));
    assert!(matches!(end_of(&mut connection).await, StompEnd::Closed(_)));
}

/// Takes no bytes and has some to say: like a broker that closed its end after an ERROR.
#[tokio::test]
async fn last_words_are_heard_after_a_failed_write() {
    let stream = tokio_test_stream("ERROR\nmessage:queue is full\n\n\0");
    let mut connection = Connection::raw(stream, "mq1:61613", &StompSettings::default());
    connection.send("/queue/q", std::iter::empty(), &Bytes::from_static(b"x"));
    let end = connection.next().await.unwrap_err();
    assert_eq!(end, StompEnd::Error("queue is full".to_owned()));
}

#[tokio::test]
async fn an_end_after_a_failed_write_tells_why_the_write_failed() {
    let mut connection = Connection::raw(tokio_test_stream(""), "mq1:61613", &StompSettings::default());
    connection.send("/queue/q", std::iter::empty(), &Bytes::from_static(b"x"));
    let end = connection.next().await.unwrap_err();
    assert_eq!(end, StompEnd::Closed("the upstream closed it, and writing failed: broken pipe".to_owned()));
}

fn tokio_test_stream(words: &'static str) -> impl AsyncRead + AsyncWrite + Unpin {
    tokio::io::join(words.as_bytes(), Broken)
}

struct Broken;

impl AsyncWrite for Broken {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_without_last_words_ends_soon() {
    let stream = tokio::io::join(tokio::io::duplex(1).0, Broken);
    let mut connection = Connection::raw(stream, "mq1:61613", &StompSettings::default());
    connection.send("/queue/q", std::iter::empty(), &Bytes::from_static(b"x"));
    let end = timeout(Duration::from_secs(10), connection.next()).await.unwrap().unwrap_err();
    assert!(matches!(end, StompEnd::Closed(_)), "{end}");
}

#[tokio::test]
async fn close_waits_for_the_farewells_own_receipt() {
    let (connection, peer) = session(CONNECTED).await;
    let (closed, frames) = tokio::join!(connection.close(Duration::from_secs(5)), peer.confirm_all());
    assert_eq!(closed, Ok(()));
    assert_eq!(frames.iter().map(|frame| frame.command()).collect::<Vec<_>>(), ["DISCONNECT"]);
}

#[tokio::test(start_paused = true)]
async fn close_has_a_limit() {
    let (connection, _peer) = session(CONNECTED).await;
    let limit = Duration::from_secs(5);
    assert_eq!(connection.close(limit).await, Err(StompEnd::Silent(limit)));
}

#[tokio::test]
async fn small_messages_do_not_keep_a_whole_read_alive_each() {
    let (mut connection, mut peer) = session(CONNECTED).await;
    let mut bodies = Vec::new();
    for _ in 0..1000 {
        peer.say("MESSAGE\ndestination:/q\nmessage-id:1\nsubscription:0\n\na 1 1\0\n").await;
        let Ok(Incoming::Message(message)) = connection.next().await else { panic!() };
        bodies.push(message.body);
    }
    // Neighbours share their room: all but a few lie just behind the one before.
    let far = bodies.windows(2).filter(|pair| {
        let (one, next) = (pair[0].as_ptr() as usize, pair[1].as_ptr() as usize);
        next.wrapping_sub(one) > 1000
    });
    assert!(far.count() < 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_after_the_handshake_ends_and_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut connection, mut peer) = session(CONNECTED).await;
            peer.say(&bytes).await;
            drop(peer);
            while connection.next().await.is_ok() {}
        });
    }
}
