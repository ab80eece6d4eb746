//! Brokers: anything that speaks STOMP and is not ours.

use super::book::{Checked, every};
use super::credentials::Credentials;
use super::section::{Section, check_repeats};
use super::value::Value;
use super::{addresses, tls};
use crate::model::{Endpoint, StompUpstream, TlsClient};
use crate::names::plain;
use crate::raw::Node;

const KEYS: [&str; 7] = ["urls", "vhost", "login", "passcode_file", "tls", "prefer_first", "headers"];
const URLS_MEND: &str = "write a list such as [stomp://mq.example.net:61613]";

/// Virtual host of a broker that names none.
pub(crate) const VHOST: &str = "/";

/// Headers that Packetboat writes itself. The first of two equal headers wins, so that one of these could
/// send batches elsewhere, unsaved or unconfirmed.
const OURS: [&str; 14] = [
    "ack",
    "activemq.prefetchSize",
    "content-encoding",
    "content-length",
    "content-type",
    "destination",
    "heart-beat",
    "id",
    "login",
    "passcode",
    "persistent",
    "prefetch-count",
    "receipt",
    "transaction",
];

pub(crate) fn read(at: &Value<'_>) -> Checked<StompUpstream> {
    let section = Section::open(at.clone(), &KEYS)?;
    let endpoints = section.need("urls", URLS_MEND, urls);
    let vhost = section.read("vhost", Value::text);
    let credentials = Credentials::read(&section).and_then(|credentials| credentials.complete(&section));
    let headers = section.read("headers", headers);
    let tls = section.read("tls", tls::client);
    let prefer_first = section.read("prefer_first", Value::flag);
    if let (Some(at), Ok((_, false))) = (section.get("tls"), &endpoints) {
        at.fault(
            "says nothing to stomp:// urls, which are not encrypted",
            "write stomp+tls:// in `urls`, or remove the key",
        );
    }

    let (endpoints, is_tls) = endpoints?;
    let (login, passcode_file) = credentials?;
    let (send_headers, subscribe_headers) = headers?.unwrap_or_default();
    Ok(StompUpstream {
        endpoints,
        vhost: vhost?.unwrap_or(VHOST).to_owned(),
        login,
        passcode_file,
        send_headers,
        subscribe_headers,
        tls: tls?.or_else(|| is_tls.then(TlsClient::default)),
        prefer_first: prefer_first?.unwrap_or(false),
        is_agent: false,
    })
}

/// The endpoints, and whether they are reached over TLS.
fn urls(at: &Value<'_>) -> Checked<(Vec<Endpoint>, bool)> {
    let urls = every(at.items(URLS_MEND)?.iter().map(|url| url.parse(addresses::broker_url)))?;
    let (endpoints, over_tls): (Vec<_>, Vec<_>) = urls.into_iter().unzip();
    let is_tls = over_tls.contains(&true);
    if is_tls && over_tls.contains(&false) {
        return Err(at.fault(
            "mixes stomp:// and stomp+tls://, and a failover would go on in clear",
            "write all of them with stomp+tls://",
        ));
    }
    Ok((endpoints, is_tls))
}

type Headers = Vec<(String, String)>;

fn headers(at: &Value<'_>) -> Checked<(Headers, Headers)> {
    let section = Section::open(at.clone(), &["send", "subscribe"])?;
    let send = section.read("send", header_map);
    let subscribe = section.read("subscribe", header_map);
    Ok((send?.unwrap_or_default(), subscribe?.unwrap_or_default()))
}

fn header_map(at: &Value<'_>) -> Checked<Headers> {
    let entries = at.entries("write a map such as { x-queue-type: quorum }")?;
    check_repeats(&entries);
    every(entries.iter().map(|(key, value)| header(key, value)))
}

fn header(key: &str, at: &Value<'_>) -> Checked<(String, String)> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b':' && byte != b'\\';
    if key.is_empty() || !key.bytes().all(fits) {
        return Err(at.fault(
            format!("`{}` is no header name", plain(key)),
            "use visible ASCII characters other than `:` and `\\`",
        ));
    }
    if OURS.contains(&key) || key.starts_with("packetboat-") {
        return Err(at.fault(format!("packetboat writes the header `{key}` itself"), "remove it"));
    }
    let value = match at.node() {
        Node::Number(number) => number.clone(),
        Node::Flag(flag) => flag.to_string(),
        _ => at.text()?.to_owned(),
    };
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use crate::Topology;
    use crate::tests::check;

    fn text(settings: &str) -> String {
        format!("mesh: m\nbrokers:\n  eu: {{ {settings} }}\nagents: {{ a: {{}} }}")
    }

    fn check_broker(settings: &str, expected: &str) {
        check(&text(settings), expected);
    }

    #[test]
    fn a_broker_has_urls() {
        let mend = "write a list such as [stomp://mq.example.net:61613]";
        check_broker("vhost: /", &format!("line 3: brokers.eu.urls: is missing; {mend}"));
    }

    #[test]
    fn each_url_is_looked_at() {
        check_broker(
            "urls: [mq1, stomp://ok, 'stomp://mq2:0']",
            "line 3: brokers.eu.urls[0]: `mq1` has no scheme; write stomp://mq1\n\
             line 3: brokers.eu.urls[2]: `0` is no port; write a number from 1 to 65535",
        );
    }

    #[test]
    fn headers_are_kept_as_they_are_written() {
        let text = text(
            "urls: [stomp://mq], vhost: m, headers: { send: { x-queue-type: quorum, priority: 7, x: true } }",
        );
        let mesh = Topology::parse(&text).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let stomp = &mesh.brokers[0].stomp;
        assert_eq!(
            stomp.send_headers,
            [pair("x-queue-type", "quorum"), pair("priority", "7"), pair("x", "true")]
        );
        assert_eq!((&*stomp.vhost, stomp.subscribe_headers.len()), ("m", 0));
    }

    #[test]
    fn a_header_does_not_replace_ours() {
        check_broker(
            "urls: [stomp://mq], headers: { send: { persistent: false, packetboat-seq: 1 }, subscribe: { ack: auto } }",
            "line 3: brokers.eu.headers.send.persistent: packetboat writes the header `persistent` itself; remove it\n\
             line 3: brokers.eu.headers.send.packetboat-seq: packetboat writes the header `packetboat-seq` itself; \
             remove it\n\
             line 3: brokers.eu.headers.subscribe.ack: packetboat writes the header `ack` itself; remove it",
        );
    }

    #[test]
    fn a_header_fits_its_line() {
        check_broker(
            r#"urls: [stomp://mq], headers: { send: { "a:b": c, d: "e\nf", g: [h] } }"#,
            "line 3: brokers.eu.headers.send.a:b: `a:b` is no header name; use visible ASCII characters other than \
             `:` and `\\`\n\
             line 3: brokers.eu.headers.send.d: `e\\u{a}f` holds a control character; write it as one line of plain \
             text\n\
             line 3: brokers.eu.headers.send.g: is a list, and a text is wanted; write one text",
        );
    }

    #[test]
    fn a_header_is_given_once() {
        check_broker(
            "urls: [stomp://mq], headers: { send: { a: 1, a: 2 } }",
            "line 3: brokers.eu.headers.send.a: is given twice, before this on line 3; keep one of the two",
        );
    }
}
