use proptest::prelude::*;

use super::super::encode;
use super::*;

type Header = (Vec<u8>, Vec<u8>);

/// A frame with its escapes taken out, apart from the bytes it came in.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    command: &'static str,
    headers: Vec<Header>,
    body: Vec<u8>,
}

fn owned(frame: &Frame<'_>) -> Owned {
    let plain = |(from, to)| frame.version.unescape(&frame.bytes[from..to]).unwrap().into_owned();
    Owned {
        command: frame.command.as_str(),
        headers: frame.headers.iter().map(|header| (plain(header.name), plain(header.value))).collect(),
        body: frame.body.to_vec(),
    }
}

/// Everything that `chunks` hold, and the error that ended them.
fn decode_chunks<'a>(
    version: Version,
    limits: &Limits,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Owned>, Option<DecodeError>) {
    let mut decoder = Decoder::new(limits);
    decoder.open();
    let mut frames = Vec::new();
    let mut unread: Vec<u8> = Vec::new();
    for chunk in chunks {
        unread.extend_from_slice(chunk);
        loop {
            match decoder.decode(version, &unread) {
                Ok(Decoded::Frame(frame, bytes)) => {
                    frames.push(owned(&frame));
                    unread.drain(..bytes);
                }
                Ok(Decoded::Partial(bytes)) => {
                    unread.drain(..bytes);
                    break;
                }
                Err(fault) => return (frames, Some(fault)),
            }
        }
    }
    (frames, None)
}

fn decode(version: Version, input: &str) -> (Vec<Owned>, Option<DecodeError>) {
    decode_chunks(version, &Limits::default(), std::iter::once(input.as_bytes()))
}

/// One frame comes out of `input`, with these headers and this body.
#[track_caller]
fn check(version: Version, input: &str, headers: &[(&str, &str)], body: &str) {
    let (frames, fault) = decode(version, input);
    assert_eq!(fault, None, "{input:?}");
    assert_eq!(frames.len(), 1, "{input:?}: {frames:?}");
    let headers: Vec<Header> =
        headers.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
    assert_eq!(frames[0].headers, headers, "{input:?}");
    assert_eq!(frames[0].body, body.as_bytes(), "{input:?}");
}

#[track_caller]
fn check_fault(version: Version, input: &str, fault: DecodeError) {
    assert_eq!(decode(version, input), (Vec::new(), Some(fault)), "{input:?}");
}

/// STOMP 1.2, "STOMP Frames": the parts of a frame.
#[test]
fn a_frame_is_command_headers_and_body() {
    check(Version::V1_2, "SEND\na:b\nc:\n\nhello\0", &[("a", "b"), ("c", "")], "hello");
    check(Version::V1_2, "SEND\n\n\0", &[], "");
}

/// STOMP 1.2, "STOMP Frames": a line ends in LF, or CR LF.
#[test]
fn lines_may_end_in_crlf() {
    for version in Version::ALL {
        check(version, "SEND\r\na:b\r\n\r\n1\r\n\0\r\n", &[("a", "b")], "1\r\n");
    }
}

/// STOMP 1.2, "Size Limits and Body": with content-length the body may hold NUL.
#[test]
fn content_length_lets_nul_into_the_body() {
    check(Version::V1_2, "SEND\ncontent-length:5\n\na\0b\0c\0", &[("content-length", "5")], "a\0b\0c");
    check(Version::V1_0, "SEND\ncontent-length: 1 \n\na\0", &[("content-length", "1")], "a");
}

#[test]
fn a_content_length_that_is_wrong_is_an_error() {
    check_fault(Version::V1_2, "SEND\ncontent-length:2\n\nabc\0", DecodeError::NoNul(2));
    for wrong in ["-1", "x", "", "1 2", "+1"] {
        let input = format!("SEND\ncontent-length:{wrong}\n\nabc\0");
        check_fault(Version::V1_2, &input, DecodeError::ContentLength(wrong.to_owned()));
    }
    let too_large = DecodeError::BodyBytes(Limits::default().body_bytes);
    for large in ["1048577", "18446744073709551615", "99999999999999999999999999"] {
        check_fault(Version::V1_2, &format!("SEND\ncontent-length:{large}\n\n"), too_large.clone());
    }
}

/// STOMP 1.2, "Repeated Header Entries": the first is the value.
#[test]
fn the_first_of_repeated_headers_counts() {
    let mut decoder = Decoder::new(&Limits::default());
    let input = b"SEND\nfoo:first\nfoo:second\ncontent-length:1\ncontent-length:5\n\nx\0";
    let Ok(Decoded::Frame(frame, bytes)) = decoder.decode(Version::V1_2, input) else { panic!("no frame") };
    assert_eq!(frame.header("foo").as_deref(), Some(&b"first"[..]));
    assert_eq!((frame.body, bytes), (&b"x"[..], input.len()));
}

/// STOMP 1.2, "Value Encoding", and that of 1.1 and 1.0.
#[test]
fn escapes_follow_the_version() {
    let input = "SEND\na\\cb:\\n\\\\\n\n\0";
    check(Version::V1_2, input, &[("a:b", "\n\\")], "");
    check(Version::V1_1, input, &[("a:b", "\n\\")], "");
    check(Version::V1_0, input, &[("a\\cb", "\\n\\\\")], "");
    check(Version::V1_2, "SEND\na:\\r\n\n\0", &[("a", "\r")], "");
    check_fault(Version::V1_1, "SEND\na:\\r\n\n\0", DecodeError::Escape("a:\\r".to_owned(), Version::V1_1));
    check_fault(Version::V1_2, "SEND\na\\t:b\n\n\0", DecodeError::Escape("a\\t:b".to_owned(), Version::V1_2));
}

/// STOMP 1.2, "Value Encoding": CONNECT is not escaped, so that 1.0 clients can have any passcode.
#[test]
fn connect_is_not_escaped() {
    for command in ["CONNECT", "STOMP"] {
        check(Version::V1_2, &format!("{command}\npasscode:a\\tb\n\n\0"), &[("passcode", "a\\tb")], "");
    }
}

/// A colon in a value is to be escaped, but all brokers take it as it is.
#[test]
fn a_value_may_hold_a_raw_colon() {
    check(Version::V1_2, "SEND\na:b:c\n\n\0", &[("a", "b:c")], "");
}

/// STOMP 1.2, "Value Encoding" forbids to trim; 1.0's clients pad.
#[test]
fn blanks_are_trimmed_at_1_0_only() {
    check(Version::V1_0, "SEND\na : b \n\n\0", &[("a", "b")], "");
    check(Version::V1_1, "SEND\na : b \n\n\0", &[("a ", " b ")], "");
    check(Version::V1_2, "SEND\na : b \n\n\0", &[("a ", " b ")], "");
}

/// STOMP 1.2, "Heart-beating" and "Augmented BNF": EOLs between frames.
#[test]
fn eols_between_frames_are_skipped() {
    let (frames, fault) = decode(Version::V1_2, "\n\r\nSEND\n\n1\0\n\n\r\nSEND\n\n2\0\n\r");
    assert_eq!(fault, None);
    assert_eq!(frames.iter().map(|frame| &frame.body[..]).collect::<Vec<_>>(), [b"1", b"2"]);
    let mut decoder = Decoder::new(&Limits::default());
    assert!(matches!(decoder.decode(Version::V1_2, b"\n\r\n\n"), Ok(Decoded::Partial(4))));
    assert!(!decoder.is_mid_frame(), "a heart-beat is no frame");
    assert!(matches!(decoder.decode(Version::V1_2, b"\r"), Ok(Decoded::Partial(0))));
    assert!(!decoder.is_mid_frame());
}

#[test]
fn other_protocols_are_told_at_once() {
    let hello = "\u{16}\u{3}\u{1}";
    check_fault(Version::V1_0, hello, DecodeError::Tls);
    check_fault(Version::V1_0, "GET / HTTP/1.1\r\n", DecodeError::Command("GET / HTTP/1.1".to_owned()));
    check_fault(Version::V1_0, "a.b 1 2\n", DecodeError::Command("a.b 1 2".to_owned()));
    check_fault(Version::V1_0, "\r\r", DecodeError::Command("\r".to_owned()));
    check_fault(Version::V1_0, "MESSAGE\n\n\0", DecodeError::Command("MESSAGE".to_owned()));
    check_fault(Version::V1_0, "send\n\n\0", DecodeError::Command("send".to_owned()));
    let endless = "A".repeat(13);
    check_fault(Version::V1_0, &endless, DecodeError::Command(endless.clone()));
}

#[test]
fn headers_that_are_none_are_errors() {
    check_fault(Version::V1_2, "SEND\nabc\n\n\0", DecodeError::HeaderLine("abc".to_owned()));
    check_fault(Version::V1_2, "SEND\n:abc\n\n\0", DecodeError::HeaderLine(":abc".to_owned()));
    check_fault(Version::V1_2, "SEND\na:b\0", DecodeError::NulInHeaders);
    check_fault(Version::V1_2, "DISCONNECT\0", DecodeError::NulInHeaders);
}

/// STOMP 1.2, "Size Limits".
#[test]
fn sizes_are_limited_at_the_very_byte() {
    let limits = Limits { header_bytes: 20, header_count: 2, body_bytes: 5, ..Limits::default() };
    let fault = |input: &str| decode_chunks(Version::V1_2, &limits, std::iter::once(input.as_bytes())).1;
    // The LF of the empty line is at byte 20, then at byte 21.
    assert_eq!(fault("SEND\nlonglong:value\n\n12345\0"), None);
    assert_eq!(fault("SEND\nlonglong:value1\n\n12345\0"), Some(DecodeError::HeaderBytes(20)));
    assert_eq!(fault(&format!("SEND\n{}", "x".repeat(16))), Some(DecodeError::HeaderBytes(20)));
    assert_eq!(fault("SEND\na:\nb:\n\n\0"), None);
    assert_eq!(fault("SEND\na:\nb:\nc:\n\n\0"), Some(DecodeError::HeaderCount(2)));
    assert_eq!(fault("SEND\n\n123456\0"), Some(DecodeError::BodyBytes(5)));
    assert_eq!(fault("SEND\n\n123456"), Some(DecodeError::BodyBytes(5)), "not only once its NUL comes");
    let announced = b"SEND\ncontent-length:6\n\n";
    let limits = Limits { header_bytes: 100, ..limits };
    let fault = decode_chunks(Version::V1_2, &limits, std::iter::once(&announced[..])).1;
    assert_eq!(fault, Some(DecodeError::BodyBytes(5)));
}

/// Whoever has not logged in is to take no memory.
#[test]
fn before_the_session_is_open_there_is_no_body_to_speak_of() {
    let fault = |input: &str| Decoder::new(&Limits::default()).decode(Version::V1_0, input.as_bytes()).err();
    for command in ["CONNECT", "STOMP", "SEND"] {
        for body in ["", "\n", &"x".repeat(BODY_BYTES_BEFORE_OPEN)] {
            assert_eq!(fault(&format!("{command}\n\n{body}\0")), None);
        }
        let long = "x".repeat(BODY_BYTES_BEFORE_OPEN + 1);
        assert_eq!(fault(&format!("{command}\n\n{long}")), Some(DecodeError::BodyBeforeOpen));
        assert_eq!(fault(&format!("{command}\ncontent-length:1025\n")), Some(DecodeError::BodyBeforeOpen));
    }
}

/// STOMP 1.2, "ERROR": the receipt-id of the frame at fault.
#[test]
fn the_receipt_of_a_broken_frame_is_known_if_it_came_first() {
    let receipt = |input: &[u8]| {
        let mut decoder = Decoder::new(&Limits::default());
        decoder.decode(Version::V1_2, input).unwrap_err();
        decoder.head(Version::V1_2, input).and_then(|head| head.header("receipt").map(|id| id.into_owned()))
    };
    assert_eq!(receipt(b"\nSEND\nreceipt:a\\cb\nbroken\n\n\0").as_deref(), Some(&b"a:b"[..]));
    assert_eq!(receipt(b"SEND\nreceipt:1\ncontent-length:1\n\nabc\0").as_deref(), Some(&b"1"[..]));
    assert_eq!(receipt(b"SEND\nbroken\nreceipt:1\n\n\0"), None);
    assert_eq!(receipt(b"bad\n"), None);
}

/// A header's name or value as each version can carry it. A line's last CR belongs to its end.
fn text(version: Version) -> BoxedStrategy<Vec<u8>> {
    match version {
        Version::V1_0 => "[a-z\\\\éß@/]{1,8}".prop_map(String::into_bytes).boxed(),
        Version::V1_1 => "[ a-z\\\\:\n é]{0,8}[a-z:\\\\\n ]".prop_map(String::into_bytes).boxed(),
        Version::V1_2 => "[ a-z\\\\:\r\n é]{0,8}[a-z:\\\\\r\n ]".prop_map(String::into_bytes).boxed(),
    }
}

fn frames(version: Version) -> impl Strategy<Value = Vec<Owned>> {
    let headers = prop::collection::vec((text(version), text(version)), 0..5);
    let body = prop::collection::vec(prop_oneof![Just(0), Just(b'\n'), any::<u8>()], 0..40);
    let command = prop_oneof![Just("SEND"), Just("BEGIN"), Just("UNSUBSCRIBE")];
    let frame = (command, headers, body).prop_map(|(command, mut headers, body)| {
        headers.push((b"content-length".to_vec(), body.len().to_string().into_bytes()));
        Owned { command, headers, body }
    });
    prop::collection::vec(frame, 0..5)
}

fn versions() -> impl Strategy<Value = Version> {
    prop::sample::select(&Version::ALL[..])
}

fn encoded(version: Version, frames: &[Owned]) -> Vec<u8> {
    let mut out = Vec::new();
    for Owned { command, headers, body } in frames {
        let names: Vec<&str> = headers.iter().map(|(name, _)| std::str::from_utf8(name).unwrap()).collect();
        let headers: Vec<(&str, &[u8])> =
            names.into_iter().zip(headers.iter().map(|(_, value)| &value[..])).collect();
        encode::frame(version, command, &headers, body, &mut out);
    }
    out
}

/// `bytes` in pieces of the given lengths, over and over.
fn pieces<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    lengths.iter().cycle().map_while(move |&length| {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Bytes that look like frames for a while.
fn almost_frames() -> impl Strategy<Value = Vec<u8>> {
    const TOKENS: [&[u8]; 13] = [
        b"SEND\n",
        b"CONNECT\r\n",
        b"a:b\n",
        b"content-length:3\n",
        b"x\\y:z\\n\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"abc",
        b"\0\n",
        b"\xff\xfe",
        b"0123456789012345678901234567890123456789",
    ];
    let token = prop::sample::select(&TOKENS[..]);
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn encode_then_decode_is_identity((version, frames) in versions().prop_flat_map(|v| (Just(v), frames(v)))) {
        let bytes = encoded(version, &frames);
        let decoded = decode_chunks(version, &Limits::default(), std::iter::once(&bytes[..]));
        prop_assert_eq!(decoded, (frames, None));
    }

    #[test]
    fn any_chunking_decodes_alike(
        (version, frames) in versions().prop_flat_map(|v| (Just(v), frames(v))),
        lengths in prop::collection::vec(1..50usize, 1..10),
    ) {
        let bytes = encoded(version, &frames);
        let decoded = decode_chunks(version, &Limits::default(), pieces(&bytes, &lengths));
        prop_assert_eq!(decoded, (frames, None));
    }

    #[test]
    fn broken_frames_fail_alike_in_any_chunking(
        version in versions(),
        bytes in almost_frames(),
        lengths in prop::collection::vec(1..20usize, 1..10),
    ) {
        let limits = Limits { header_bytes: 60, header_count: 3, body_bytes: 50, ..Limits::default() };
        let (whole, fault) = decode_chunks(version, &limits, std::iter::once(&bytes[..]));
        let (pieced, pieced_fault) = decode_chunks(version, &limits, pieces(&bytes, &lengths));
        prop_assert_eq!(whole, pieced);
        let kind = |fault: &Option<DecodeError>| fault.as_ref().map(std::mem::discriminant);
        prop_assert_eq!(kind(&fault), kind(&pieced_fault), "{:?} and {:?}", fault, pieced_fault);
    }

    #[test]
    fn garbage_never_panics(
        version in versions(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lengths in prop::collection::vec(1..20usize, 1..10),
    ) {
        decode_chunks(version, &Limits::default(), pieces(&bytes, &lengths));
    }
}
