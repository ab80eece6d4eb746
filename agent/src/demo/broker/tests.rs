//! The broker as our own client sees it, over real sockets.

use std::time::Duration;

use forwarder::stomp::{self, Connection, Incoming, Message, StompSettings};
use tokio::time::timeout;
use topology::model::{Endpoint, StompUpstream};

use super::*;

const QUEUE: &str = "/queue/graphite";
/// Beyond this a test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` beside a broker.
async fn with_broker(test: impl AsyncFnOnce(&Broker, &StompUpstream)) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = StompUpstream {
        endpoints: vec![Endpoint { host: address.ip().to_string(), port: address.port() }],
        vhost: "/".to_owned(),
        login: None,
        passcode_file: None,
        send_headers: Vec::new(),
        subscribe_headers: Vec::new(),
    };
    let (broker, stop) = (Broker::new(QUEUE), CancellationToken::new());
    let testing = async {
        test(&broker, &upstream).await;
        stop.cancel();
    };
    let both = async { tokio::join!(broker.clone().serve(listener, stop.clone()), testing) };
    timeout(PATIENCE, both).await.expect("the test hangs").0.unwrap();
}

async fn connect(upstream: &StompUpstream) -> Connection<TcpStream> {
    stomp::connect(upstream, &StompSettings::default()).await.unwrap()
}

async fn message(consumer: &mut Connection<TcpStream>) -> Message {
    match consumer.next().await.unwrap() {
        Incoming::Message(message) => message,
        Incoming::Receipt(id) => panic!("a receipt {id}"),
    }
}

#[tokio::test]
async fn messages_survive_a_consumer_that_is_lost() {
    with_broker(async |broker, upstream| {
        let mut producer = connect(upstream).await;
        for body in ["a", "b"] {
            producer.send(QUEUE, [("receipt", body)].into_iter(), body.as_bytes());
            assert!(matches!(producer.next().await, Ok(Incoming::Receipt(id)) if id == body));
        }
        let mut first = connect(upstream).await;
        first.subscribe(QUEUE, "0", std::iter::empty());
        let lost = message(&mut first).await;
        assert_eq!(&lost.body[..], b"a");
        drop(first);
        let mut second = connect(upstream).await;
        second.subscribe(QUEUE, "0", std::iter::empty());
        for body in [b"a", b"b"] {
            let message = message(&mut second).await;
            assert_eq!(&message.body[..], body);
            second.ack(&message.ack);
        }
        second.close(PATIENCE).await.unwrap();
        assert_eq!(broker.load(), Load::default());
    })
    .await;
}

#[tokio::test]
async fn a_producer_waits_for_room_and_its_session_stays() {
    with_broker(async |broker, upstream| {
        let body = "x".repeat(512 * 1024);
        let mut producer = connect(upstream).await;
        for number in 0..40 {
            producer.send(QUEUE, [("receipt", number.to_string().as_str())].into_iter(), body.as_bytes());
        }
        let mut receipts = 0;
        while receipts < 32 {
            assert!(matches!(producer.next().await, Ok(Incoming::Receipt(_))));
            receipts += 1;
        }
        // 16 MiB are there, and so is the session; nothing more is read.
        assert!(timeout(Duration::from_millis(200), producer.next()).await.is_err());
        assert_eq!(broker.load(), Load { waiting: 32, lent: 0 });
        let mut consumer = connect(upstream).await;
        consumer.subscribe(QUEUE, "0", [("prefetch-count", "1")].into_iter());
        let draining = async {
            for _ in 0..40 {
                let message = message(&mut consumer).await;
                consumer.ack(&message.ack);
            }
        };
        let sending = async {
            while receipts < 40 {
                assert!(matches!(producer.next().await, Ok(Incoming::Receipt(_))));
                receipts += 1;
            }
        };
        tokio::join!(draining, sending);
    })
    .await;
}

#[tokio::test]
async fn garbage_is_answered_by_error_and_a_close() {
    with_broker(async |_, upstream| {
        let address = (upstream.endpoints[0].host.as_str(), upstream.endpoints[0].port);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("ERROR\nmessage:\"GET"), "{said}");
    })
    .await;
}
