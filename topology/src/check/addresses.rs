//! Hosts, ports and URLs, read from text. Nothing is resolved here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::book::Complaint;
use crate::model::Endpoint;
use crate::names::plain;

pub(crate) const STOMP_PORT: u16 = 61613;
pub(crate) const STOMP_TLS_PORT: u16 = 61614;
pub(crate) const GRAPHITE_PORT: u16 = 2003;
pub(crate) const HTTP_PORT: u16 = 9613;

/// One of a broker's `urls`: `stomp://host[:port]`, or `stomp+tls://host[:port]`; tells whether it is over TLS.
pub(crate) fn broker_url(text: &str) -> Result<(Endpoint, bool), Complaint> {
    let Some((scheme, rest)) = split_scheme(text)? else {
        let mend = format!("write stomp://{}", plain(text));
        return Err(Complaint::new(format!("`{}` has no scheme", plain(text)), mend));
    };
    match scheme {
        "stomp" => Ok((endpoint(rest, STOMP_PORT)?, false)),
        "stomp+tls" => Ok((endpoint(rest, STOMP_TLS_PORT)?, true)),
        "stomp+ssl" | "stomps" => {
            let mend = format!("write stomp+tls://{}", plain(rest));
            Err(Complaint::new(format!("{scheme}:// is not spoken here"), mend))
        }
        _ => Err(Complaint::new(
            format!("{}:// is not spoken here", plain(scheme)),
            "write stomp://HOST:PORT, or stomp+tls://HOST:PORT, with the port of the broker's STOMP listener",
        )),
    }
}

/// One of the addresses of a Graphite: `host[:port]`, or the same with `graphite://` before it.
pub(crate) fn graphite(text: &str) -> Result<Endpoint, Complaint> {
    match split_scheme(text)? {
        None => endpoint(text, GRAPHITE_PORT),
        Some(("graphite", rest)) => endpoint(rest, GRAPHITE_PORT),
        Some((scheme, _)) => Err(Complaint::new(
            format!("{}:// is no Graphite", plain(scheme)),
            "write HOST:PORT with the port of carbon's line receiver",
        )),
    }
}

/// Scheme and rest of a URL, if it is one. What may hold a passcode is never repeated in a message.
pub(crate) fn split_scheme(text: &str) -> Result<Option<(&str, &str)>, Complaint> {
    if text.contains('@') {
        return Err(Complaint::new(
            "a login inside an address ends up in logs and process lists",
            "remove it, and use `login` and `passcode_file`",
        ));
    }
    Ok(text.split_once("://"))
}

fn endpoint(text: &str, default_port: u16) -> Result<Endpoint, Complaint> {
    if let Some(extra) = text.find(['/', '?', '#']) {
        let message = format!("`{}` says more than host and port", plain(text));
        return Err(Complaint::new(message, format!("end it before `{}`", plain(&text[extra..]))));
    }
    let (host_text, port_text) = split_port(text)?;
    let port = match port_text {
        None => default_port,
        Some(digits) => port(digits)?,
    };
    Ok(Endpoint { host: host(host_text)?, port })
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(text: &str) -> Result<(&str, Option<&str>), Complaint> {
    if text.starts_with('[') {
        let end = text.find(']').map_or(text.len(), |bracket| bracket + 1);
        return match &text[end..] {
            "" => Ok((text, None)),
            port => match port.strip_prefix(':') {
                Some(port) => Ok((&text[..end], Some(port))),
                None => Err(Complaint::new(
                    format!("`{}` is no address", plain(text)),
                    "write a colon between the bracket and the port: [2001:db8::1]:61613",
                )),
            },
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, rest)) if rest.contains(':') => Err(Complaint::new(
            format!("`{}` is an IPv6 address without brackets", plain(text)),
            "write it like [2001:db8::1]:61613, in quotes",
        )),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

fn port(digits: &str) -> Result<u16, Complaint> {
    match digits.parse() {
        Ok(port) if port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(Complaint::new(format!("`{}` is no port", plain(digits)), "write a number from 1 to 65535")),
    }
}

/// A DNS name or an IP address; IPv6 with or without brackets, given back without.
pub(crate) fn host(text: &str) -> Result<String, Complaint> {
    let host = name_or_address(text)?;
    if host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_unspecified()) {
        return Err(Complaint::new(
            format!("`{}` is where one listens, and each who dials it reaches itself", plain(text)),
            "write the name or the address by which others reach it",
        ));
    }
    Ok(host)
}

fn name_or_address(text: &str) -> Result<String, Complaint> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<Ipv6Addr>() {
        return Ok(address.to_string());
    }
    if is_host_name(text) {
        return Ok(text.to_owned());
    }
    let mend = "write a DNS name or an IP address, and nothing else";
    Err(Complaint::new(format!("`{}` is no host", plain(text)), mend))
}

fn is_host_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits);
    let last = labels.rsplit('.').next().unwrap_or(labels);
    // A name that ends in a number is an IPv4 address, or a mistyped one.
    let ends_in_number = last.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 253
        && labels.split('.').all(is_label)
        && (!ends_in_number || text.parse::<Ipv4Addr>().is_ok())
}

/// Where a node listens: an IP address and a port.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, Complaint> {
    match text.parse::<SocketAddr>() {
        Ok(addr) if addr.port() == 0 => {
            Err(Complaint::new("port 0 is a different one at each start", "write a number from 1 to 65535"))
        }
        Ok(addr) => Ok(addr),
        Err(_) => {
            Err(Complaint::new(format!("`{}` is no IP address and port", plain(text)), listen_mend(text)))
        }
    }
}

fn listen_mend(text: &str) -> String {
    let port = text.strip_prefix("*:").or(text.strip_prefix(':')).unwrap_or_default();
    if port.parse::<u16>().is_ok() {
        format!("write 0.0.0.0:{port} for all interfaces")
    } else if text.parse::<u16>().is_ok() {
        format!("write 127.0.0.1:{text} for this machine, or 0.0.0.0:{text} for all interfaces")
    } else if let Some(port) = text.strip_prefix("localhost:") {
        format!("write 127.0.0.1:{}", plain(port))
    } else {
        "write it like 0.0.0.0:61613, or \"[::]:61613\" in quotes".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::check_agent;

    fn complaint<T: std::fmt::Debug>(read: Result<T, Complaint>) -> String {
        let Complaint { message, mend } = read.unwrap_err();
        format!("{message}; {mend}")
    }

    fn check_broker(url: &str, expected: &str) {
        assert_eq!(broker_url(url).unwrap().0.to_string(), expected);
    }

    #[test]
    fn where_one_listens_is_no_way_to_reach_anybody() {
        for unspecified in ["0.0.0.0", "::", "[::]", "::ffff:0.0.0.0"] {
            assert_eq!(
                complaint(host(unspecified)),
                format!(
                    "`{unspecified}` is where one listens, and each who dials it reaches itself; write the name or the \
                     address by which others reach it"
                )
            );
        }
        assert!(complaint(broker_url("stomp://0.0.0.0:61613")).starts_with("`0.0.0.0` is where one listens"));
    }

    #[test]
    fn a_broker_has_a_stomp_url() {
        check_broker("stomp://mq", "mq:61613");
        check_broker("stomp://mq.example.net:1", "mq.example.net:1");
        check_broker("stomp://192.0.2.1:61613", "192.0.2.1:61613");
        check_broker("stomp://[2001:db8::1]", "[2001:db8::1]:61613");
        check_broker("stomp://[2001:db8::1]:7", "[2001:db8::1]:7");
    }

    #[test]
    fn another_scheme_is_a_fault() {
        let rest =
            "write stomp://HOST:PORT, or stomp+tls://HOST:PORT, with the port of the broker's STOMP listener";
        assert_eq!(complaint(broker_url("amqp://mq")), format!("amqp:// is not spoken here; {rest}"));
        assert_eq!(complaint(broker_url("mq:61613")), "`mq:61613` has no scheme; write stomp://mq:61613");
        assert_eq!(
            complaint(broker_url("stomps://mq")),
            "stomps:// is not spoken here; write stomp+tls://mq"
        );
        assert_eq!(
            complaint(graphite("http://g")),
            "http:// is no Graphite; write HOST:PORT with the port of carbon's line receiver"
        );
    }

    #[test]
    fn a_login_in_a_url_is_a_fault_that_does_not_repeat_it() {
        let rest = "a login inside an address ends up in logs and process lists; \
                    remove it, and use `login` and `passcode_file`";
        for url in ["stomp://me:geheim@mq", "me:geheim@mq", "amqp://me:geheim@mq"] {
            assert_eq!(complaint(broker_url(url)), rest);
        }
        check_agent(
            "forward: { to: 'stomp://me:geheim@mq' }",
            &format!("line 4: agents.a.forward.to: {rest}"),
        );
    }

    #[test]
    fn a_port_is_a_port() {
        for port in ["0", "65536", "x", "", "+1", "-1"] {
            let expected = format!("`{port}` is no port; write a number from 1 to 65535");
            assert_eq!(complaint(broker_url(&format!("stomp://mq:{port}"))), expected);
        }
    }

    #[test]
    fn nothing_follows_the_port() {
        let expected = "`mq:1/vhost` says more than host and port; end it before `/vhost`";
        assert_eq!(complaint(broker_url("stomp://mq:1/vhost")), expected);
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        assert_eq!(
            complaint(broker_url("stomp://2001:db8::1")),
            "`2001:db8::1` is an IPv6 address without brackets; write it like [2001:db8::1]:61613, in quotes"
        );
        assert_eq!(
            complaint(graphite("[2001:db8::1]2003")),
            "`[2001:db8::1]2003` is no address; \
             write a colon between the bracket and the port: [2001:db8::1]:61613"
        );
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for good in ["a", "a-b.c_d.", "192.0.2.1", "x1.2y"] {
            assert_eq!(host(good), Ok(good.to_owned()));
        }
        assert_eq!(host("[2001:DB8::1]"), Ok("2001:db8::1".to_owned()));
        for bad in
            ["", "a..b", "a b", "é", "1.2.3", "1.2.3.400", "[mq]", "[::1", "a:1", "http://a", &"a".repeat(64)]
        {
            let expected = format!("`{bad}` is no host; write a DNS name or an IP address, and nothing else");
            assert_eq!(complaint(host(bad)), expected);
        }
    }

    #[test]
    fn a_graphite_is_reached_on_its_own_port() {
        assert_eq!(graphite("g").unwrap().to_string(), "g:2003");
        assert_eq!(graphite("graphite://[::1]:7").unwrap().to_string(), "[::1]:7");
    }

    fn check_listen(text: &str, expected: &str) {
        assert_eq!(complaint(listen(text)), format!("`{text}` is no IP address and port; {expected}"));
    }

    #[test]
    fn a_listener_has_an_ip_address_and_a_port() {
        assert!(listen("0.0.0.0:61613").is_ok() && listen("[::]:61613").is_ok());
        check_listen("*:61613", "write 0.0.0.0:61613 for all interfaces");
        check_listen(":61613", "write 0.0.0.0:61613 for all interfaces");
        check_listen("61613", "write 127.0.0.1:61613 for this machine, or 0.0.0.0:61613 for all interfaces");
        check_listen("localhost:61613", "write 127.0.0.1:61613");
        for text in ["edge.example.net:61613", "0.0.0.0", "::1:61613", "0.0.0.0:70000"] {
            check_listen(text, "write it like 0.0.0.0:61613, or \"[::]:61613\" in quotes");
        }
    }

    #[test]
    fn a_listener_has_a_fixed_port() {
        let expected = "port 0 is a different one at each start; write a number from 1 to 65535";
        assert_eq!(complaint(listen("127.0.0.1:0")), expected);
    }
}
