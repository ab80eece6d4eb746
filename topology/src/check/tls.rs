//! Certificates and keys: who a node is, and whom it believes.

use std::path::PathBuf;

use super::book::Checked;
use super::credentials::absolute;
use super::section::Section;
use super::value::Value;
use crate::model::{TlsClient, TlsIdentity, TlsServer};

const CLIENT_KEYS: [&str; 3] = ["ca", "cert", "key"];
const NODE_KEYS: [&str; 4] = ["ca", "cert", "key", "client_ca"];

/// What a node says of itself: to those whom it dials, and to those who dial it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeTls {
    pub(crate) client: TlsClient,
    pub(crate) client_ca: Option<PathBuf>,
}

impl NodeTls {
    /// As a listener needs it; `None` without a certificate.
    pub(crate) fn server(&self) -> Option<TlsServer> {
        let identity = self.client.identity.clone()?;
        Some(TlsServer { identity, client_ca: self.client_ca.clone() })
    }
}

/// The `tls` of what dials.
pub(crate) fn client(at: &Value<'_>) -> Checked<TlsClient> {
    read(&Section::open(at.clone(), &CLIENT_KEYS)?)
}

/// The `tls` of a node, which may listen too.
pub(crate) fn node(at: &Value<'_>) -> Checked<NodeTls> {
    let section = Section::open(at.clone(), &NODE_KEYS)?;
    let client = read(&section);
    let client_ca = section.read("client_ca", path);
    Ok(NodeTls { client: client?, client_ca: client_ca? })
}

/// Whether listeners over TLS ask clients for a certificate; a faulty `tls` counts as if they did.
pub(crate) fn asks_for_certificates(tls: &Checked<Option<NodeTls>>) -> bool {
    match tls {
        Ok(tls) => tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        Err(_) => true,
    }
}

fn read(section: &Section<'_>) -> Checked<TlsClient> {
    let (ca, cert, key) = (section.read("ca", path), section.read("cert", path), section.read("key", path));
    let identity = match (cert?, key?) {
        (Some(cert), Some(key)) => Some(TlsIdentity { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            let mend = "name the file of the certificate's private key";
            return Err(section.at().fault_at("key", "is missing beside `cert`", mend));
        }
        (None, Some(_)) => {
            let mend = "name the file of the certificate that belongs to the key";
            return Err(section.at().fault_at("cert", "is missing beside `key`", mend));
        }
    };
    Ok(TlsClient { ca: ca?, identity })
}

fn path(at: &Value<'_>) -> Checked<PathBuf> {
    at.parse(absolute)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Topology;
    use crate::model::Upstream;
    use crate::tests::{agent, check, check_agent};

    #[test]
    fn a_broker_is_reached_over_tls() {
        let text = "mesh: m
brokers: { eu: { urls: [stomp+tls://mq1, 'stomp+tls://mq2:7'], tls: { ca: /ca, cert: /c, key: /k } } }
agents: { a: { forward: { to: eu } } }";
        let mesh = Topology::parse(text).unwrap();
        let Upstream::Stomp(upstream) = &mesh.agents[0].forward[0].upstream else { panic!() };
        let endpoints: Vec<_> = upstream.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(endpoints, ["mq1:61614", "mq2:7"]);
        let tls = upstream.tls.as_ref().unwrap();
        assert_eq!(tls.ca.as_deref(), Some(Path::new("/ca")));
        assert_eq!(tls.identity.as_ref().unwrap().cert, Path::new("/c"));
    }

    #[test]
    fn without_files_the_system_is_believed() {
        let text = "mesh: m\nbrokers: { eu: { urls: [stomp+tls://mq] } }\nagents: { a: {} }";
        let tls = Topology::parse(text).unwrap().brokers[0].stomp.tls.clone().unwrap();
        assert_eq!((tls.ca, tls.identity), (None, None));
    }

    #[test]
    fn certificate_and_key_belong_together() {
        let text = |tls| {
            format!(
                "mesh: m\nbrokers:\n  eu: {{ urls: [stomp+tls://mq], tls: {{ {tls} }} }}\nagents: {{ a: {{}} }}"
            )
        };
        check(
            &text("cert: /c"),
            "line 3: brokers.eu.tls.key: is missing beside `cert`; name the file of the certificate's private key",
        );
        check(
            &text("key: /k"),
            "line 3: brokers.eu.tls.cert: is missing beside `key`; name the file of the certificate that belongs to \
             the key",
        );
        check(
            &text("ca: ca.pem"),
            "line 3: brokers.eu.tls.ca: `ca.pem` is a relative path; write the whole path, from / on (`~` and `$` are \
             not expanded)",
        );
    }

    #[test]
    fn tls_without_the_scheme_is_a_fault() {
        check(
            "mesh: m\nbrokers: { eu: { urls: [stomp://mq], tls: { ca: /x } } }\nagents: { a: {} }",
            "line 2: brokers.eu.tls: says nothing to stomp:// urls, which are not encrypted; write stomp+tls:// in \
             `urls`, or remove the key",
        );
        check(
            "mesh: m\nbrokers: { eu: { urls: [stomp://mq, stomp+tls://mq] } }\nagents: { a: {} }",
            "line 2: brokers.eu.urls: mixes stomp:// and stomp+tls://, and a failover would go on in clear; write all of \
             them with stomp+tls://",
        );
        check_agent(
            "forward: { to: eu, tls: { ca: /x } }",
            "line 4: agents.a.forward.tls: says nothing to `eu`, which is not reached over TLS; write stomp+tls:// in \
             its `urls`, or remove the key",
        );
    }

    #[test]
    fn a_tls_listener_has_a_certificate() {
        let a = agent(
            "listen: { stomp+tls: 127.0.0.1:1, https: 127.0.0.1:2 }, tls: { cert: /c, key: /k, client_ca: /ca }",
        );
        assert_eq!(a.tls.unwrap().client_ca.as_deref(), Some(Path::new("/ca")));
        assert_eq!((a.listen.stomp, a.listen.stomp_tls.map(|addr| addr.port())), (None, Some(1)));
        check_agent(
            "listen: { stomp+tls: 127.0.0.1:1 }",
            "line 4: agents.a.listen.stomp+tls: has no certificate to show; add `tls: { cert: /etc/packetboat/a.pem, \
             key: /etc/packetboat/a.key }` to `a`",
        );
        check_agent(
            "tls: { cert: /c, key: /k, client_ca: /ca }",
            "line 4: agents.a.tls.client_ca: says nothing without a TLS listener; add `stomp+tls` to `listen`, or \
             remove the key",
        );
    }
}
