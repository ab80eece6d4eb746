//! rustls' own verifier, which decides; and in words why a certificate was refused, with the mend.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::authorities::Authorities;
use super::certificate::Certificate;
use super::{TlsError, provider};

/// For one handshake.
#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    authorities: Authorities,
    host: String,
    words: OnceLock<String>,
}

impl Verifier {
    /// Takes certificates for `host` that `authorities` have signed.
    pub(super) fn new(authorities: &Authorities, host: &str) -> Result<Self, TlsError> {
        let inner = WebPkiServerVerifier::builder_with_provider(authorities.roots(), provider()).build();
        let inner = inner.map_err(|error| TlsError::Certificate(error.to_string()))?;
        let (authorities, host) = (authorities.clone(), host.to_owned());
        Ok(Self { inner, authorities, host, words: OnceLock::new() })
    }

    /// Why the certificate was refused, if it was.
    pub(super) fn words(&self) -> Option<String> {
        self.words.get().cloned()
    }

    fn explain(&self, error: &Error, certificate: &Certificate, now_seconds: i64) -> String {
        let Self { authorities, host, .. } = self;
        let Certificate { subject, issuer, .. } = certificate;
        if let Some(fault) = certificate.time_fault(now_seconds) {
            return format!("its certificate ({subject}) {fault}");
        }
        let Error::InvalidCertificate(fault) = error else {
            return format!("its certificate ({subject}) is refused: {error}");
        };
        match fault {
            _ if !certificate.names_a_host() => format!(
                "its certificate ({subject}) has no subjectAltName, and the common name does not count: have it made \
                 again, with openssl by -addext subjectAltName={}",
                alternative(host)
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "its certificate is for {}, and not for {host}: dial it by one of these names, or have the \
                 certificate made for this one too",
                certificate.hosts()
            ),
            CertificateError::UnknownIssuer if subject == issuer => format!(
                "its certificate ({subject}) is signed by itself and not by {}: {}",
                authorities.source(),
                authorities.mend()
            ),
            CertificateError::UnknownIssuer => format!(
                "its certificate ({subject}) is not signed by {}, but by {issuer}: {}, or have the peer send its \
                 intermediate certificates",
                authorities.source(),
                authorities.mend()
            ),
            CertificateError::BadSignature => format!(
                "its certificate ({subject}) claims to be signed by {issuer}, but not with the key of {}: {}",
                authorities.source(),
                authorities.mend()
            ),
            CertificateError::Other(_) if certificate.is_ca => format!(
                "its certificate ({subject}) is that of a CA, which may sign but not serve: have one signed by it, or \
                 make it again with openssl's -addext basicConstraints=critical,CA:FALSE"
            ),
            other => format!("its certificate ({subject}) is refused: {other}"),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if let Err(error) = &verdict {
            let now_seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            self.words.get_or_init(|| match Certificate::parse(end_entity) {
                Some(certificate) => self.explain(error, &certificate, now_seconds),
                None => format!("its certificate is refused: {error}"),
            });
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// `host` as openssl writes it.
fn alternative(host: &str) -> String {
    let kind = if host.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
    format!("{kind}:{host}")
}
