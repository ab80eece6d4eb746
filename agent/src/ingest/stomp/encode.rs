//! Frames for a client, into bytes: no I/O. Each ends with NUL and LF (PHP's client loses frames
//! without the LF).

use super::version::Version;

/// Appends a frame. Headers are escaped, but for those of CONNECTED (STOMP 1.2, "Value Encoding").
pub(crate) fn frame(
    version: Version,
    command: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let escapes = if command == "CONNECTED" { Version::V1_0 } else { version };
    out.extend_from_slice(command.as_bytes());
    out.push(b'\n');
    for (name, value) in headers {
        escapes.escape(name.as_bytes(), out);
        out.push(b':');
        escapes.escape(value, out);
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(body);
    out.extend_from_slice(b"\0\n");
}

/// Appends a RECEIPT: the frame with this `receipt` header is done (STOMP 1.2, "RECEIPT").
pub(crate) fn receipt(version: Version, id: &[u8], out: &mut Vec<u8>) {
    frame(version, "RECEIPT", &[("receipt-id", id)], b"", out);
}

/// Appends a RECEIPT that promises nothing yet: the frame is part of an open transaction.
pub(super) fn buffered_receipt(version: Version, id: &[u8], out: &mut Vec<u8>) {
    frame(version, "RECEIPT", &[("receipt-id", id), ("packetboat-receipt", b"buffered")], b"", out);
}

/// Appends an ERROR that says `text`, both as its `message` and as its body: clients show one or the
/// other. `more` are headers besides.
pub(crate) fn error(
    version: Version,
    text: &str,
    receipt: Option<&[u8]>,
    more: &[(&str, &[u8])],
    out: &mut Vec<u8>,
) {
    // Quotes from the client may hold anything.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let body = format!("{text}\n");
    let length = body.len().to_string();
    let mut headers: Vec<(&str, &[u8])> = vec![("message", text.as_bytes())];
    headers.extend(receipt.map(|id| ("receipt-id", id)));
    headers.extend_from_slice(more);
    headers.extend([("content-type", "text/plain".as_bytes()), ("content-length", length.as_bytes())]);
    frame(version, "ERROR", &headers, body.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        written(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_receipt_ends_with_nul_and_lf() {
        check(|out| receipt(Version::V1_2, b"m-1", out), "RECEIPT\nreceipt-id:m-1\n\n\0\n");
    }

    /// STOMP 1.2, 1.1 and 1.0, "Value Encoding".
    #[test]
    fn headers_are_escaped_by_version() {
        let id = b"a:b\\c\nd\re";
        check(|out| receipt(Version::V1_2, id, out), "RECEIPT\nreceipt-id:a\\cb\\\\c\\nd\\re\n\n\0\n");
        check(|out| receipt(Version::V1_1, id, out), "RECEIPT\nreceipt-id:a\\cb\\\\c\\nd\re\n\n\0\n");
        check(|out| receipt(Version::V1_0, id, out), "RECEIPT\nreceipt-id:a:b\\c d\re\n\n\0\n");
    }

    /// STOMP 1.2, "Value Encoding": "All frames except the CONNECT and CONNECTED frames".
    #[test]
    fn connected_is_not_escaped() {
        let headers: [(&str, &[u8]); 1] = [("session", b"a:b")];
        check(|out| frame(Version::V1_2, "CONNECTED", &headers, b"", out), "CONNECTED\nsession:a:b\n\n\0\n");
    }

    /// STOMP 1.2, "ERROR": a `message` header, a body with more, the `receipt-id` of the frame at fault.
    #[test]
    fn an_error_says_the_same_in_header_and_body() {
        check(
            |out| error(Version::V1_2, "no: \"\u{7}\"", Some(b"7"), &[], out),
            "ERROR\nmessage:no\\c \" \"\nreceipt-id:7\ncontent-type:text/plain\ncontent-length:8\n\nno: \" \"\n\0\n",
        );
    }
}
