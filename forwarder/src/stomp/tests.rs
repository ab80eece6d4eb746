use super::peer::{CONNECTED, Peer, login, session_over};
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;

async fn refusal(answer: &str) -> String {
    let settings = StompSettings::default();
    match session_over(64 * 1024, answer, &settings).await {
        Ok(_) => panic!("the session stands"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn connect_says_who_we_are_unescaped_and_what_we_speak() {
    for (spelling, passcode) in [(Spelling::AsIs, "se:cret\\1"), (Spelling::Doubled, "se:cret\\\\1")] {
        let (near, far) = duplex(1000);
        let mut peer = Peer::new(far);
        let answer = async {
            let connect = peer.frame().await.unwrap();
            peer.say(CONNECTED).await;
            connect
        };
        let (login, settings) = (login(), StompSettings::default());
        let open = Connection::open(near, "mq1:61613", &login, spelling, &settings);
        let (connection, connect) = tokio::join!(open, answer);
        assert_eq!(connection.unwrap().connected().version, Version::V1_2);
        assert_eq!(connect.head[..3], ["CONNECT", "accept-version:1.0,1.1,1.2", "heart-beat:10000,10000"]);
        assert_eq!(connect.header("host"), Some("/"));
        assert_eq!(connect.header("login"), Some("packetboat"));
        assert_eq!(connect.header("passcode"), Some(passcode));
    }
}

#[tokio::test]
async fn each_version_is_taken() {
    for (answer, version) in [
        ("CONNECTED\nsession:1\n\n\0", Version::V1_0),
        ("CONNECTED\nversion:1.0\nheart-beat:x\n\n\0", Version::V1_0),
        ("CONNECTED\nversion:1.1\n\n\0\n", Version::V1_1),
        ("\n\nCONNECTED\r\nversion:1.2\r\n\r\n\0\r\n", Version::V1_2),
    ] {
        let settings = StompSettings::default();
        let (connection, _peer) = session_over(1000, answer, &settings).await.unwrap();
        assert_eq!(connection.connected().version, version);
    }
}

#[tokio::test]
async fn what_came_with_connected_is_not_lost() {
    let answer = format!("{CONNECTED}RECEIPT\nreceipt-id:5\n\n\0");
    let (mut connection, _peer) = session_over(1000, &answer, &StompSettings::default()).await.unwrap();
    assert!(matches!(connection.next().await, Ok(Incoming::Receipt(id)) if id == "5"));
}

#[tokio::test]
async fn a_refused_login_is_told_in_the_brokers_words() {
    let error = refusal("ERROR\nmessage:Bad CONNECT\n\nAccess refused for user 'packetboat'\n\0\n").await;
    assert_eq!(
        error,
        "the login was refused: Bad CONNECT: Access refused for user 'packetboat' (check login, \
         passcode_file and vhost)"
    );
}

#[tokio::test]
async fn wrong_answers_are_told_apart() {
    for (answer, expected) in [
        ("AMQP\0\0\x09\x01", "a wrong answer to CONNECT: `AMQP\\x00\\x00\\t\\x01` is not a STOMP command"),
        ("CONNECTED\nversion:3.0\n\n\0", "a wrong answer to CONNECT: the upstream chose version `3.0`"),
        (
            "CONNECTED\nversion:1.2\nheart-beat:fast\n\n\0",
            "a wrong answer to CONNECT: heart-beat `fast` is not two numbers",
        ),
        ("RECEIPT\nreceipt-id:1\n\n\0", "a wrong answer to CONNECT: neither CONNECTED nor ERROR"),
    ] {
        assert_eq!(refusal(answer).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_ends_the_handshake_in_time() {
    let error = refusal("\n\nCONNECT").await;
    assert_eq!(error, "no answer to CONNECT within 10s (is this the STOMP port?)");
}

#[tokio::test]
async fn a_value_that_would_break_the_frame_is_not_sent() {
    let (near, far) = duplex(1000);
    let login = Login { host: "/\nlogin:root".into(), login: None, passcode: None, node: None };
    let error =
        Connection::open(near, "mq1", &login, Spelling::AsIs, &StompSettings::default()).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Value("host")));
    assert!(Peer::new(far).frame().await.is_none());
}

/// Accepts one connection, answers its CONNECT and returns what that said.
async fn answer_once(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut connect = Vec::new();
    while !connect.ends_with(b"\0") {
        assert_ne!(stream.read_buf(&mut connect).await.unwrap(), 0);
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(connect).unwrap()
}

fn upstream(ports: &[u16], passcode_file: Option<std::path::PathBuf>) -> StompUpstream {
    let endpoint = |&port: &u16| Endpoint { host: "127.0.0.1".to_owned(), port };
    StompUpstream {
        endpoints: ports.iter().map(endpoint).collect(),
        vhost: "/".to_owned(),
        login: Some("packetboat".to_owned()),
        passcode_file,
        send_headers: Vec::new(),
        subscribe_headers: Vec::new(),
        is_agent: false,
        prefer_first: false,
        tls: None,
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_broker_that_refuses_is_passed_over_like_one_that_is_down() {
    let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
    let upstream = upstream(&[first_port, second_port], None);
    let settings = StompSettings::default();
    let (connection, _, _) = tokio::join!(
        connect(&upstream, None, &settings),
        answer_once(&first, "ERROR\nmessage:standby\n\n\0"),
        answer_once(&second, CONNECTED),
    );
    assert_eq!(connection.unwrap().peer(), format!("127.0.0.1:{second_port}"));
}

#[tokio::test]
async fn when_nobody_lets_us_in_everybody_says_why() {
    let (first, first_port) = listener().await;
    let (gone, gone_port) = listener().await;
    drop(gone);
    let upstream = upstream(&[first_port, gone_port], None);
    let settings = StompSettings::default();
    let (result, _) = tokio::join!(
        connect(&upstream, None, &settings),
        answer_once(&first, "ERROR\nmessage:standby\n\n\0")
    );
    let text = result.err().unwrap().to_string();
    assert!(text.starts_with(&format!("127.0.0.1:{first_port}: the login was refused: standby")), "{text}");
    assert!(text.contains(&format!("; cannot reach 127.0.0.1:{gone_port} (")), "{text}");
}

#[tokio::test]
async fn a_refused_backslash_is_spelled_the_other_way() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passcode");
    std::fs::write(&file, "a\\b\n").unwrap();
    let (listener, port) = listener().await;
    let upstream = upstream(&[port], Some(file));
    let settings = StompSettings::default();
    let broker = async {
        let first = answer_once(&listener, "ERROR\nmessage:no\n\n\0").await;
        (first, answer_once(&listener, CONNECTED).await)
    };
    let (connection, (first, second)) = tokio::join!(connect(&upstream, None, &settings), broker);
    assert!(connection.is_ok());
    assert!(first.contains("\npasscode:a\\\\b\n"), "{first}");
    assert!(second.contains("\npasscode:a\\b\n"), "{second}");
}

#[tokio::test]
async fn without_a_passcode_nothing_is_dialled() {
    let upstream = upstream(&[1], Some("/nonexistent/passcode".into()));
    let error = connect(&upstream, None, &StompSettings::default()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Login(_)));
    assert!(error.to_string().starts_with("cannot read the passcode file /nonexistent/passcode: "));
}
