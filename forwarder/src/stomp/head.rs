//! The head of a received frame: the command line, the header lines and the blank line.
//!
//! A broker passes on what any producer wrote into a header, and a head that the codec cannot parse
//! would end the session, be redelivered, and end the next one too. So heads are mended first.

use bytes::{BufMut, BytesMut};

/// The header lines of `head`, each without its line end, up to the blank line.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip(1)
        .take_while(|line| !line.is_empty())
}

fn command(head: &[u8]) -> &[u8] {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Name and value of a header line; `None` for a line that is not one.
fn pair(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    (colon > 0).then(|| (&line[..colon], &line[colon + 1..]))
}

/// What the first `content-length` says; `Err` holds a value that is not a number.
pub(super) fn content_length(head: &[u8]) -> Result<Option<usize>, String> {
    let Some((_, value)) = lines(head).filter_map(pair).find(|(name, _)| *name == b"content-length") else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value);
    let digits = text.trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(length) if is_number => Ok(Some(length)),
        _ => Err(text.into_owned()),
    }
}

/// The head as a whole frame without a body, such that tokio-stomp parses it: lines that are no header
/// are left out, a CR within a line is escaped, and what STOMP 1.0 leaves out is filled in.
pub(super) fn mended(head: &[u8]) -> BytesMut {
    let command = command(head);
    let mut frame = BytesMut::with_capacity(head.len() + 32);
    let mut has_version = false;
    let mut has_subscription = false;
    frame.put_slice(command);
    frame.put_u8(b'\n');
    for line in lines(head) {
        let Some((name, _)) = pair(line) else { continue };
        if name == b"content-length" {
            continue;
        }
        has_version |= name == b"version";
        has_subscription |= name == b"subscription";
        put_line(line, &mut frame);
    }
    if command.eq_ignore_ascii_case(b"CONNECTED") && !has_version {
        frame.put_slice(b"version:1.0\n");
    }
    if command.eq_ignore_ascii_case(b"MESSAGE") && !has_subscription {
        frame.put_slice(b"subscription:\n");
    }
    frame.put_slice(b"\n\0");
    frame
}

fn put_line(line: &[u8], frame: &mut BytesMut) {
    for (index, piece) in line.split(|&byte| byte == b'\r').enumerate() {
        if index > 0 {
            frame.put_slice(b"\\r");
        }
        frame.put_slice(piece);
    }
    frame.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_mended(head: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&mended(head.as_bytes())), expected);
    }

    #[test]
    fn a_sound_head_stays_as_it_is_without_its_length() {
        check_mended("RECEIPT\nreceipt-id:1\n\n", "RECEIPT\nreceipt-id:1\n\n\0");
        check_mended(
            "MESSAGE\r\nsubscription:0\r\ncontent-length:5\r\n\r\n",
            "MESSAGE\nsubscription:0\n\n\0",
        );
    }

    #[test]
    fn what_a_strange_producer_wrote_does_not_break_it() {
        check_mended("ERROR\nno colon\n:no name\nx:a\rb\n\n", "ERROR\nx:a\\rb\n\n\0");
    }

    #[test]
    fn what_stomp_1_0_leaves_out_is_filled_in() {
        check_mended("CONNECTED\nsession:7\n\n", "CONNECTED\nsession:7\nversion:1.0\n\n\0");
        check_mended("MESSAGE\nmessage-id:7\n\n", "MESSAGE\nmessage-id:7\nsubscription:\n\n\0");
    }

    #[test]
    fn the_first_content_length_counts_and_must_be_a_number() {
        let length = |head: &str| content_length(head.as_bytes());
        assert_eq!(length("MESSAGE\ncontent-length:7\ncontent-length:9\n\n"), Ok(Some(7)));
        assert_eq!(length("MESSAGE\r\ncontent-length:7\r\n\r\n"), Ok(Some(7)));
        assert_eq!(length("MESSAGE\nx:content-length:7\n\n"), Ok(None));
        for wrong in ["", "-1", "+1", "7a", "99999999999999999999999"] {
            assert_eq!(length(&format!("MESSAGE\ncontent-length:{wrong}\n\n")), Err(wrong.to_owned()));
        }
    }
}
