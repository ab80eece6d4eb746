//! The same server behind TLS.

use tokio::io::AsyncRead;

use super::*;
use crate::tls::testing::Leaf;
use crate::tls::tests::Rig as Tls;
use crate::tls::{Certificates, ClientCertificate};

/// Runs `test` beside a server with both doors; it gets the address of the one with TLS.
async fn with_both_doors<F: Future<Output = ()>>(
    settings: Settings,
    acceptor: Acceptor,
    test: impl FnOnce(Rig, SocketAddr) -> F,
) {
    let secured = settings.clone();
    with_server(settings, async |rig: Rig| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let doors = Doors::new(None, Some((listener, acceptor)));
        let served = serve(
            doors,
            secured,
            everybody(),
            rig.intake.clone(),
            Arc::new([]),
            Clock::system(),
            rig.stop.clone(),
        );
        tokio::join!(served, test(rig, address));
    })
    .await;
}

async fn certificates(tls: &Tls) -> Certificates {
    tls.certificates(&tls.server()).await
}

/// Reads until `expected` has come; everything that came.
async fn heard_until(stream: &mut (impl AsyncRead + Unpin), expected: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(expected) {
        let mut bytes = vec![0; 4096];
        let read = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("something comes");
        let read = read.unwrap_or_else(|error| panic!("{error} after {heard:?}"));
        assert_ne!(read, 0, "closed before {expected:?}, after {heard:?}");
        heard += std::str::from_utf8(&bytes[..read]).unwrap();
    }
    heard
}

#[tokio::test]
async fn a_send_gets_its_receipt_over_tls() {
    let tls = Tls::new();
    let acceptor = certificates(&tls).await.acceptor(ClientCertificate::Required);
    with_both_doors(settings(), acceptor, async |rig: Rig, address| {
        let mut client = tls.dial(address, None).await.unwrap();
        client.write_all((CONNECT.to_owned() + &send(1, "a 1 2")).as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        heard_until(&mut client, &receipt(1)).await;
        assert_eq!(rig.report().await.accepted.lines, 1);
        // A frame larger than any TLS record, and what answers it.
        let body = "a 1 2\n".repeat(100_000);
        client.write_all(send(2, &body).as_bytes()).await.unwrap();
        client.write_all(b"DISCONNECT\nreceipt:bye\n\n\0").await.unwrap();
        client.flush().await.unwrap();
        heard_until(&mut client, &receipt("bye")).await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "ended by close_notify");
        assert_eq!(rig.report().await.accepted.lines, 100_001);
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_full_spool_waits_for_room_with_nobody_who_has_left_a_tls_session() {
    let tls = Tls::new();
    let acceptor = certificates(&tls).await.acceptor(ClientCertificate::Required);
    with_both_doors(settings(), acceptor, async |rig: Rig, address| {
        rig.fill().await;
        let mut client = tls.dial(address, None).await.unwrap();
        client.write_all((CONNECT.to_owned() + &send(1, "a 1 2").repeat(1000)).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        heard_until(&mut client, "the spool is full").await;
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn many_receipts_come_through_though_the_client_reads_late() {
    let tls = Tls::new();
    let acceptor = certificates(&tls).await.acceptor(ClientCertificate::Required);
    with_both_doors(settings(), acceptor, async |rig: Rig, address| {
        let mut client = tls.dial(address, None).await.unwrap();
        client.write_all(CONNECT.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        heard_until(&mut client, "\0").await;
        let long = "r".repeat(2000);
        let frames: String = (0..2000).map(|number| send(format_args!("{long}{number}"), "a 1 2")).collect();
        let (mut reader, mut writer) = tokio::io::split(client);
        let say = async {
            writer.write_all(frames.as_bytes()).await.unwrap();
            writer.flush().await.unwrap();
        };
        let listen = async {
            while rig.report().await.accepted.lines == 0 {
                tokio::task::yield_now().await;
            }
            heard_until(&mut reader, &format!("receipt-id:{long}1999\n")).await;
        };
        tokio::join!(say, listen);
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn who_comes_to_the_wrong_door_is_told_so() {
    let tls = Tls::new();
    let acceptor = certificates(&tls).await.acceptor(ClientCertificate::Required);
    with_both_doors(settings(), acceptor, async |rig: Rig, address| {
        let mut plain = Client { stream: TcpStream::connect(address).await.unwrap(), heard: String::new() };
        plain.say(CONNECT).await;
        let heard = plain.hears_the_end().await;
        assert_eq!(
            error_text(&heard).trim_end_matches(['\0', '\n']),
            "this port speaks STOMP over TLS only: connect with TLS, or to a port without it"
        );

        let error = tls.dial(rig.address, None).await.unwrap_err();
        assert_eq!(error, "it does not speak TLS: is this a port for stomp:// rather than stomp+tls://?");
        let mut hello =
            Client { stream: TcpStream::connect(rig.address).await.unwrap(), heard: String::new() };
        hello.say("\x16\x03\x01\x02").await;
        let heard = hello.hears_the_end().await;
        assert!(error_text(&heard).contains("to the port of listen.stomp+tls"), "{heard}");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_in_time_while_others_are_served() {
    let tls = Tls::new();
    let acceptor = certificates(&tls).await.acceptor(ClientCertificate::Required);
    let acceptor = acceptor.within(Duration::from_secs(3));
    with_both_doors(settings(), acceptor, async |rig: Rig, address| {
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"\x16\x03\x01\x02").await.unwrap();
        let mut client = tls.dial(address, None).await.unwrap();
        client.write_all((CONNECT.to_owned() + &send(1, "a 1 2")).as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        heard_until(&mut client, &receipt(1)).await;
        for stalled in [&mut silent, &mut slow] {
            let ended = timeout(PATIENCE, stalled.read(&mut [0; 1])).await.expect("it is closed");
            assert!(!matches!(ended, Ok(1..)), "{ended:?}");
        }
        client.write_all(send(2, "a 1 2").as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        heard_until(&mut client, &receipt(2)).await;
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn one_client_too_many_is_told_so_over_tls() {
    let tls = Tls::new();
    let acceptor = certificates(&tls).await.acceptor(ClientCertificate::Required);
    let limits = Limits { connections: 1, ..Limits::default() };
    with_both_doors(with_limits(limits), acceptor, async |rig: Rig, address| {
        let _first = tls.dial(address, None).await.unwrap();
        let mut second = tls.dial(address, None).await.unwrap();
        let heard = heard_until(&mut second, "\0").await;
        assert!(error_text(&heard).contains("1 connections are open"), "{heard}");
        rig.stop();
    })
    .await;
}

#[tokio::test]
async fn only_a_client_with_a_certificate_of_the_ca_gets_in() {
    let tls = Tls::new();
    let mutual = tls.certificates(&tls.mutual()).await;
    let ours = tls.ca.issue(Leaf::named(&["web-1.test"]));
    with_both_doors(settings(), mutual.acceptor(ClientCertificate::Required), async |rig: Rig, address| {
        let mut client = tls.dial(address, Some(&ours)).await.unwrap();
        client.write_all(CONNECT.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        heard_until(&mut client, "CONNECTED").await;

        // TLS 1.3 lets a client speak before it is refused.
        let mut nobody = tls.dial(address, None).await.unwrap();
        let error = match nobody.write_all(CONNECT.as_bytes()).await {
            Ok(()) => timeout(PATIENCE, nobody.read(&mut [0; 1])).await.unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains("give it tls.cert and tls.key"), "{error}");
        rig.stop();
    })
    .await;
}

/// The agent stops at once, though a handshake goes on.
#[tokio::test]
async fn a_handshake_does_not_hold_up_the_end() {
    let tls = Tls::new();
    let acceptor = certificates(&tls).await.acceptor(ClientCertificate::Required).within(2 * PATIENCE);
    with_both_doors(settings(), acceptor, async |rig: Rig, address| {
        let mut silent = TcpStream::connect(address).await.unwrap();
        // The door is open, and its client in.
        tls.dial(address, None).await.unwrap();
        rig.stop();
        let ended = timeout(PATIENCE, silent.read(&mut [0; 1])).await.expect("it is closed");
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    })
    .await;
}
