use bytes::Buf;

use super::*;

fn text(put: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    put(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn read_text(head: &str, body: &'static str, version: Version) -> Frame {
    let raw =
        RawFrame { head: head.to_owned().into(), body: Bytes::from_static(body.as_bytes()), cut_bytes: 0 };
    read(raw, version).unwrap()
}

fn message(head: &str, version: Version) -> Message {
    match read_text(head, "", version) {
        Frame::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

/// tokio-stomp writes none of a message's extra headers, so that there is no `receipt` and nothing is
/// persistent. When this fails, the splice can go.
#[test]
fn tokio_stomp_forgets_extra_headers_and_so_they_are_spliced_in() {
    let send = || ToServer::Send { destination: "/queue/q".into(), transaction: None, body: None };
    let extra_headers = vec![(b"receipt".to_vec(), b"1".to_vec())];
    let forgetful = text(|out| {
        ClientCodec.encode(tokio_stomp::Message { content: send(), extra_headers }, out).unwrap();
    });
    assert_eq!(forgetful, "SEND\ndestination:/queue/q\n\n\0");

    let headers = [("receipt", "1"), ("x", "a:b\n")];
    let (mut sent, body) = (Outbox::default(), Bytes::from_static(b"a\0b"));
    put_send("/queue/q", headers.into_iter(), &body, Version::V1_2, &mut sent);
    assert_eq!(
        sent.chunk(),
        b"SEND\nreceipt:1\nx:a\\cb\\n\ncontent-length:3\ndestination:/queue/q\n\na\0b\0"
    );
}

fn tokio_stomp_reads(frame: &str) -> Result<Option<tokio_stomp::Message<FromServer>>, String> {
    ClientCodec.decode(&mut BytesMut::from(frame)).map_err(|error| error.to_string())
}

/// Why `inbox` and `head` stand before it. When this fails, some of them can go.
#[test]
fn tokio_stomp_trips_over_what_brokers_send() {
    let frame = "RECEIPT\nreceipt-id:1\n\n\0";
    assert!(matches!(tokio_stomp_reads(frame), Ok(Some(_))));
    assert!(tokio_stomp_reads(&format!("\n\n{frame}")).is_err(), "two heart-beats");
    assert!(tokio_stomp_reads("ERROR\nx:a\rb\n\n\0").is_err(), "a CR that a producer wrote");
    assert!(tokio_stomp_reads("ERROR\n:b\n\n\0").is_err(), "an empty name that a producer wrote");
    assert!(tokio_stomp_reads("CONNECTED\nsession:1\n\n\0").is_err(), "STOMP 1.0");
    let endless = format!("MESSAGE\n\n{}", "x".repeat(1_000_000));
    assert!(matches!(tokio_stomp_reads(&endless), Ok(None)), "a frame of any size is waited for");
    let escaped = tokio_stomp_reads("RECEIPT\nreceipt-id:a\\cb\n\n\0").unwrap().unwrap();
    assert!(matches!(escaped.content, FromServer::Receipt { receipt_id } if receipt_id == "a\\cb"));
}

#[test]
fn connect_is_not_escaped() {
    let content = ToServer::Connect {
        accept_version: "1.2".into(),
        host: "/".into(),
        login: None,
        passcode: Some("se:cret".into()),
        heartbeat: None,
    };
    let escaped = text(|out| ClientCodec.encode(content.into(), out).unwrap());
    assert!(escaped.contains("passcode:se\\ccret\n"));

    let sent = text(|out| put_connect(&[("host", "/"), ("passcode", "se:cret")], out));
    assert_eq!(sent, "CONNECT\nhost:/\npasscode:se:cret\n\n\0");
}

/// An id that is not unescaped would be escaped twice in its ACK. ActiveMQ's are full of `\c`.
#[test]
fn an_ack_says_the_id_as_the_message_did() {
    let head = "MESSAGE\nack:ID\\chost-1\\\\x\nmessage-id:m\\c1\nsubscription:0\ndestination:/queue/q\n\n";
    let (_, raw) = head.split_once("ack:").unwrap();
    let raw_id = raw.split('\n').next().unwrap();
    let message = message(head, Version::V1_2);
    assert_eq!(message.ack, AckToken::Ack("ID:host-1\\x".to_owned()));
    assert_eq!(message.id, "m:1");
    let ack = text(|out| put_ack(&message.ack, Version::V1_2, out));
    assert_eq!(ack, format!("ACK\nid:{raw_id}\n\n\0"));
}

#[test]
fn before_1_2_an_ack_has_a_message_id_and_no_id() {
    let head = "MESSAGE\nmessage-id:m\\c1\nsubscription:0\ndestination:/queue/q\n\n";
    for (version, id) in [(Version::V1_1, "m\\c1"), (Version::V1_0, "m\\c1")] {
        let token = message(head, version).ack;
        let ack = text(|out| put_ack(&token, version, out));
        assert_eq!(ack, format!("ACK\nmessage-id:{id}\nsubscription:0\n\n\0"));
        let nack = text(|out| put_nack(&token, "no", version, out));
        assert_eq!(nack, format!("NACK\nmessage-id:{id}\nsubscription:0\npacketboat-reason:no\n\n\0"));
    }
}

#[test]
fn the_reason_of_a_nack_is_one_line_of_bounded_length() {
    let token = AckToken::Ack("0-1".to_owned());
    let nack = text(|out| put_nack(&token, "loop: a\nb", Version::V1_2, out));
    assert_eq!(nack, "NACK\npacketboat-reason:loop\\c a b\nid:0-1\n\n\0");
    let nack = text(|out| put_nack(&token, &"x".repeat(1000), Version::V1_2, out));
    assert!(nack.contains(&format!(":{}...\n", "x".repeat(WORDS_CHARS_MAX))), "{nack}");
}

#[test]
fn a_1_0_message_without_a_subscription_is_read() {
    let message = message("MESSAGE\ndestination:/queue/q\nmessage-id:7\n\n", Version::V1_0);
    assert_eq!(message.destination, "/queue/q");
    assert_eq!(message.ack, AckToken::MessageId { message_id: "7".into(), subscription: String::new() });
}

#[test]
fn the_first_of_repeated_headers_counts() {
    let head = "MESSAGE\nx:1\nx:2\ndestination:/q\nmessage-id:1\nsubscription:0\n\n";
    assert_eq!(message(head, Version::V1_2).headers.get("x"), Some("1"));
}

#[test]
fn connected_keeps_its_headers() {
    let head = "CONNECTED\nversion:1.2\nserver:packetboat/0.1.0\npacketboat-wire:1\nheart-beat:0,0\n\n";
    let Frame::Connected(connected) = read_text(head, "", Version::V1_2) else { panic!() };
    assert_eq!(connected.version, Version::V1_2);
    assert_eq!(connected.server.as_deref(), Some("packetboat/0.1.0"));
    assert_eq!(connected.headers.get("packetboat-wire"), Some("1"));
    assert_eq!(connected.heart_beat.as_deref(), Some("0,0"));
}

#[test]
fn unknown_commands_and_versions_are_errors() {
    for head in ["FOO\n\n", "CONNECTED\nversion:2.0\n\n", "RECEIPT\n\n"] {
        let raw = RawFrame { head: head.into(), body: Bytes::new(), cut_bytes: 0 };
        assert!(matches!(read(raw, Version::V1_2), Err(FrameError::Codec(_))), "{head}");
    }
}

#[track_caller]
fn check_words(head: &str, body: &'static str, expected: &str) {
    let Frame::Error(Refused { words, .. }) = read_text(head, body, Version::V1_2) else { panic!() };
    assert_eq!(words, expected);
}

#[test]
fn an_error_becomes_one_line() {
    check_words("ERROR\nmessage:Bad CONNECT\n\n", "Access refused\n", "Bad CONNECT: Access refused");
    check_words("ERROR\nmessage:no\\n\\cway\n\n", "", "no :way");
    check_words("ERROR\nmessage:too bad\n\n", "\njava.lang.X: too bad\n\tat Y\n", "java.lang.X: too bad");
    check_words("ERROR\n\n", "", "ERROR without a message");
    check_words("ERROR\n\n", "a\x1b[31mb", "a [31mb");
    let Frame::Error(Refused { words: long, .. }) =
        read_text(&format!("ERROR\nmessage:{}\n\n", "ä".repeat(1000)), "", Version::V1_2)
    else {
        panic!()
    };
    assert_eq!(long.chars().count(), WORDS_CHARS_MAX + 3);
}
