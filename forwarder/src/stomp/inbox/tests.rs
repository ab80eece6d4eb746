use super::*;
use proptest::prelude::*;

const SMALL: Limits = Limits { head_bytes_max: 200, body_bytes_max: 10 };

/// All frames of `stream`, fed in pieces of the given sizes, then the rest.
fn frames_of(
    stream: &[u8],
    pieces: impl IntoIterator<Item = usize>,
    limits: Limits,
) -> Result<Vec<RawFrame>, FrameError> {
    let mut inbox = Inbox::new(limits);
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut pieces = pieces.into_iter();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        rest = after;
        inbox.buffer().extend_from_slice(piece);
        while let Some(frame) = inbox.next()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn frame(head: &str, body: &str, cut_bytes: usize) -> RawFrame {
    RawFrame { head: head.to_owned().into(), body: body.to_owned().into(), cut_bytes }
}

#[track_caller]
fn check(stream: &str, expected: &[RawFrame]) {
    for piece in 1..=stream.len() {
        let frames = frames_of(stream.as_bytes(), std::iter::repeat(piece), SMALL);
        assert_eq!(frames.as_deref(), Ok(expected), "in pieces of {piece}");
    }
}

#[test]
fn frames_with_any_number_of_line_ends_between_them() {
    let expected = [frame("RECEIPT\nreceipt-id:1\n\n", "", 0), frame("ERROR\n\n", "", 0)];
    check("RECEIPT\nreceipt-id:1\n\n\0\n\n\n\nERROR\n\n\0\n\r\n\n", &expected);
}

#[test]
fn line_ends_may_be_crlf() {
    let head = "RECEIPT\r\nreceipt-id:1\r\n\r\n";
    check(&format!("\r\n{head}\0\r\n"), &[frame(head, "", 0)]);
}

#[test]
fn a_body_ends_at_nul_or_after_its_length() {
    check("MESSAGE\n\nab\nc\0\n", &[frame("MESSAGE\n\n", "ab\nc", 0)]);
    let head = "MESSAGE\ncontent-length:5\n\n";
    check(&format!("{head}a\0b\0c\0"), &[frame(head, "a\0b\0c", 0)]);
    let head = "MESSAGE\ncontent-length:0\n\n";
    check(&format!("{head}\0\n"), &[frame(head, "", 0)]);
}

#[test]
fn a_body_beyond_the_limit_is_cut_and_the_stream_goes_on() {
    let after = || frame("RECEIPT\n\n", "", 0);
    check("MESSAGE\n\n0123456789\0RECEIPT\n\n\0", &[frame("MESSAGE\n\n", "0123456789", 0), after()]);
    check("MESSAGE\n\n0123456789abc\0RECEIPT\n\n\0", &[frame("MESSAGE\n\n", "0123456789", 3), after()]);
    let head = "MESSAGE\ncontent-length:13\n\n";
    check(&format!("{head}0123456789a\0c\0\nRECEIPT\n\n\0"), &[frame(head, "0123456789", 3), after()]);
}

#[test]
fn a_large_body_is_skipped_without_being_kept() {
    let mut inbox = Inbox::new(SMALL);
    inbox.buffer().extend_from_slice(b"MESSAGE\ncontent-length:99999999999\n\n");
    for _ in 0..100 {
        inbox.buffer().extend_from_slice(&[b'x'; 1000]);
        assert_eq!(inbox.next(), Ok(None));
        assert!(inbox.buffer().is_empty());
    }
}

#[track_caller]
fn check_error(stream: &[u8], expected: &str) {
    for pieces in [1, stream.len()] {
        let error = frames_of(stream, std::iter::repeat(pieces), SMALL).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn what_is_not_stomp_is_an_error_at_once() {
    let mut inbox = Inbox::new(SMALL);
    inbox.buffer().extend_from_slice(b"AMQP\0\0\x09\x01");
    assert_eq!(inbox.next(), Err(FrameError::Command("AMQP\\x00\\x00\\t\\x01".to_owned())));
    check_error(b"MESSAGE\ncontent-length:x\n\n\0", "content-length `x` is not a number");
    check_error(b"MESSAGE\ncontent-length:2\n\nabc\0", "a frame of content-length 2 does not end in NUL");
    let long = format!("MESSAGE\nx:{}", "y".repeat(300));
    check_error(long.as_bytes(), "the head of a frame is longer than 200 bytes");
}

#[test]
fn tls_and_http_are_told_from_stomp() {
    for bytes in
        [&b"\x15\x03\x01\x00\x02\x02\x46"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AAAAAAAAAAAAAAAAA"]
    {
        let error = frames_of(bytes, [], SMALL).unwrap_err();
        assert!(matches!(error, FrameError::Command(_)), "{error}");
    }
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..30);
    let beats = prop::collection::vec(prop::sample::select(vec!["\n", "\r\n"]), 0..4);
    (body, any::<bool>(), any::<bool>(), beats).prop_map(|(body, has_length, crlf, beats)| {
        let end = if crlf { "\r\n" } else { "\n" };
        let body: Vec<u8> = body.into_iter().filter(|&byte| has_length || byte != 0).collect();
        let length = if has_length { format!("content-length:{}{end}", body.len()) } else { String::new() };
        let head = format!("MESSAGE{end}x:y{end}{length}{end}");
        [head.as_bytes(), &body, b"\0", beats.concat().as_bytes()].concat()
    })
}

proptest! {
    #[test]
    fn any_chunking_decodes_alike(
        frames in prop::collection::vec(any_frame(), 1..6),
        pieces in prop::collection::vec(1usize..40, 0..60),
    ) {
        let stream = frames.concat();
        let whole = frames_of(&stream, [], SMALL).unwrap();
        prop_assert_eq!(whole.len(), frames.len());
        prop_assert_eq!(frames_of(&stream, pieces, SMALL).unwrap(), whole);
    }

    #[test]
    fn garbage_in_any_chunking_ends_alike(
        stream in prop::collection::vec(any::<u8>(), 0..300),
        pieces in prop::collection::vec(1usize..40, 0..60),
    ) {
        // An error quotes what was there when it was found, which depends on the pieces.
        let kind = |frames: Result<Vec<RawFrame>, FrameError>| frames.map_err(|error| std::mem::discriminant(&error));
        prop_assert_eq!(kind(frames_of(&stream, pieces, SMALL)), kind(frames_of(&stream, [], SMALL)));
    }

    #[test]
    fn no_prefix_of_a_frame_is_a_frame(frame in any_frame(), cut in any::<prop::sample::Index>()) {
        let nul = frame.iter().rposition(|&byte| byte == 0).unwrap();
        let prefix = &frame[..cut.index(nul + 1)];
        let whole = frames_of(prefix, [], SMALL).unwrap();
        prop_assert_eq!(whole, Vec::new());
    }
}
