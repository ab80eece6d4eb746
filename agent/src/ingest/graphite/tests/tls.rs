//! The same listener behind TLS. A receipt is `close_notify` and FIN.

use forwarder::tls::TlsStream;

use super::*;
use crate::tls::tests::Rig as Tls;
use crate::tls::{ClientCertificate, Doors};

/// Opens a door with TLS to `agent`.
async fn secured(agent: &mut Agent, tls: &Tls) -> SocketAddr {
    let certificates = tls.certificates(&tls.server()).await;
    let listener = bind_tls("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let doors = Doors::new(None, Some((listener, certificates.acceptor(ClientCertificate::Required))));
    let (intake, stop) = (agent.intake.clone(), agent.stop.clone());
    agent.tasks.spawn(serve_tcp(doors, intake, Clock::system(), Clients::new(Limits::default()), stop));
    address
}

/// Waits for the end of the connection. A FIN alone is no receipt.
async fn tls_answer(client: &mut TlsStream) -> Answer {
    match timeout(LIMIT, client.read(&mut [0; 16])).await.expect("the agent closes the connection") {
        Ok(0) => Answer::Fin,
        Ok(_) => panic!("the agent never writes"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Answer::Reset,
        Err(error) => panic!("{error}"),
    }
}

async fn assert_no_tls_answer(client: &mut TlsStream) {
    assert!(timeout(A_WHILE, client.read(&mut [0; 16])).await.is_err(), "the agent must not answer yet");
}

#[tokio::test]
async fn the_end_of_tls_is_answered_once_all_lines_are_committed() {
    let (mut agent, tls) = (Agent::new().await, Tls::new());
    let address = secured(&mut agent, &tls).await;
    let mut client = tls.dial(address, None).await.unwrap();
    client.write_all(b"a 1 1\nb 2 2\r\nlast.without.lf 3 3").await.unwrap();
    client.shutdown().await.unwrap();
    assert_no_tls_answer(&mut client).await;
    agent.commit();
    assert_eq!(tls_answer(&mut client).await, Answer::Fin);
    assert_eq!(agent.committed().await, "a 1 1\nb 2 2\nlast.without.lf 3 3\n");
}

#[tokio::test]
async fn lines_are_taken_as_they_come() {
    let (mut agent, tls) = (Agent::new().await, Tls::new());
    let address = secured(&mut agent, &tls).await;
    agent.commit();
    let mut client = tls.dial(address, None).await.unwrap();
    for byte in b"a 1 1\r\nb 2 2\n" {
        client.write_all(&[*byte]).await.unwrap();
        client.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.until_committed(2).await, "a 1 1\nb 2 2\n");
    client.shutdown().await.unwrap();
    assert_eq!(tls_answer(&mut client).await, Answer::Fin);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_long_stream_comes_whole_and_in_order() {
    const LINES: usize = 100_000;
    let (mut agent, tls) = (Agent::new().await, Tls::new());
    let address = secured(&mut agent, &tls).await;
    agent.commit();
    let mut client = tls.dial(address, None).await.unwrap();
    let lines: String = (0..LINES).map(|number| format!("m {number} 1\n")).collect();
    client.write_all(lines.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(tls_answer(&mut client).await, Answer::Fin);
    let committed = agent.committed().await;
    assert!(committed == lines, "{} lines", committed.lines().count());
}

#[tokio::test]
async fn if_a_commit_fails_a_tls_client_is_reset() {
    let (mut agent, tls) = (Agent::new().await, Tls::new());
    let address = secured(&mut agent, &tls).await;
    let (mut closed, mut open) =
        (tls.dial(address, None).await.unwrap(), tls.dial(address, None).await.unwrap());
    closed.write_all(b"a 1 1\n").await.unwrap();
    closed.shutdown().await.unwrap();
    open.write_all(b"b 1 1\n").await.unwrap();
    open.flush().await.unwrap();
    assert_no_tls_answer(&mut open).await;
    agent.fail();
    assert_eq!(tls_answer(&mut closed).await, Answer::Reset);
    assert_eq!(tls_answer(&mut open).await, Answer::Reset, "without waiting for its end");
}

/// Anybody on the way can close a connection, and make `a 17` of `a 1700`.
#[tokio::test]
async fn a_connection_that_is_cut_off_gets_no_receipt_and_its_last_line_is_not_taken() {
    let (mut agent, tls) = (Agent::new().await, Tls::new());
    let address = secured(&mut agent, &tls).await;
    let mut client = tls.dial(address, None).await.unwrap();
    client.write_all(b"a 1 1\nb 17").await.unwrap();
    client.flush().await.unwrap();
    socket2::SockRef::from(client.socket()).shutdown(std::net::Shutdown::Write).unwrap();
    agent.commit();
    assert_eq!(tls_answer(&mut client).await, Answer::Reset);
    assert_eq!(agent.until_committed(1).await, "a 1 1\n");
    assert_eq!(agent.desk.look(|spool| spool.report().unwrap().rejects).await, Ok(0));
}

#[tokio::test]
async fn when_the_agent_stops_only_who_has_ended_tls_gets_a_receipt() {
    let (mut agent, tls) = (Agent::new().await, Tls::new());
    let address = secured(&mut agent, &tls).await;
    let (mut closed, mut open) =
        (tls.dial(address, None).await.unwrap(), tls.dial(address, None).await.unwrap());
    let mut silent = TcpStream::connect(address).await.unwrap();
    closed.write_all(b"a 1 1\n").await.unwrap();
    closed.shutdown().await.unwrap();
    open.write_all(b"b 1 1\nunfinished").await.unwrap();
    open.flush().await.unwrap();
    assert_no_tls_answer(&mut open).await;
    agent.stop.cancel();
    agent.commit();
    assert_eq!(tls_answer(&mut closed).await, Answer::Fin);
    assert_eq!(tls_answer(&mut open).await, Answer::Reset);
    assert_eq!(answer(&mut silent).await, Answer::Reset);
    let lines = agent.committed().await;
    assert!(lines.contains("a 1 1\n") && lines.contains("b 1 1\n"), "{lines}");
    assert!(!lines.contains("unfinished"), "{lines}");
}

#[tokio::test]
async fn who_comes_to_the_wrong_door_is_reset_and_leaves_nothing() {
    let (mut agent, tls) = (Agent::new().await, Tls::new());
    let address = secured(&mut agent, &tls).await;
    agent.commit();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"a 1 1\n").await.unwrap();
    plain.shutdown().await.unwrap();
    assert_eq!(answer(&mut plain).await, Answer::Reset);
    let error = tls.dial(agent.address, None).await.unwrap_err();
    assert!(error.contains("the TLS handshake failed"), "{error}");
    assert_eq!(agent.committed().await, "");
    assert_eq!(agent.desk.look(|spool| spool.report().unwrap().rejects).await, Ok(0));
}
