//! TLS of the listeners: the certificates in use, read again when their files change, and the handshake
//! with each client.
//!
//! rustls is named under here and in the forwarder's `tls` only. Ten thousand sessions stand at once, so
//! what rustls keeps for each is kept small: no tickets, no session store, a small send buffer.

mod acceptor;
mod certificates;
mod doors;
mod https;
mod links;
mod set;
mod socket;
#[cfg(test)]
#[path = "../../forwarder/src/tls/testing.rs"]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;

use forwarder::tls::Certificate;

pub(crate) use acceptor::{Acceptor, HandshakeError};
pub(crate) use certificates::{Certificates, keep_looking};
pub(crate) use doors::{Door, Doors};
pub(crate) use https::HttpsListener;
pub(crate) use links::LinkCertificates;
pub(crate) use socket::{Socket, closed};

/// A session with a client. Boxed: it is large, and every future that it is handed through would keep
/// room for it.
pub(crate) type TlsStream = Box<tokio_rustls::server::TlsStream<Socket>>;

/// What a listener does with a client that shows no certificate, where there is a `client_ca`. One that
/// shows a wrong one is turned away by every listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    /// It is turned away.
    Required,
    /// It is let in, and proves in another way who it is.
    Optional,
}

/// The names in the certificate that a client has shown, and whose key it has: those that our `client_ca`
/// has given it. Empty if it has shown none.
pub(crate) fn client_names(stream: &TlsStream) -> Vec<String> {
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    let certificate = shown.and_then(|der| Certificate::parse(der));
    certificate.map(|certificate| certificate.names()).unwrap_or_default()
}
