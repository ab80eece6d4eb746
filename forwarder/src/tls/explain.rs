//! What the other end's behaviour means, with the mend, in place of rustls' own words.

use std::io;

use rustls::{AlertDescription, Error};

use super::TlsError;
use super::presenter::Presenter;

/// Why a handshake with a peer failed whose certificate was not at fault.
pub(super) fn handshake(error: &io::Error, presenter: &Presenter) -> TlsError {
    match rustls_error(error) {
        Some(Error::AlertReceived(alert)) => {
            ended(format!("it ended the TLS handshake: {}", alert_words(*alert)), presenter)
        }
        Some(Error::InvalidMessage(_)) => TlsError::Handshake(
            "it does not speak TLS: is this a port for stomp:// rather than stomp+tls://?".to_owned(),
        ),
        Some(Error::PeerIncompatible(fault)) => {
            TlsError::Handshake(format!("no TLS in common: TLS 1.2 and 1.3 are spoken here ({fault:?})"))
        }
        Some(other) => TlsError::Handshake(format!("the TLS handshake failed: {other}")),
        None => ended(closed_words(error, "the TLS handshake failed", "during the TLS handshake"), presenter),
    }
}

/// Why an established session broke; `fresh`: nothing of the peer has been read yet.
pub(super) fn session(error: io::Error, presenter: &Presenter, fresh: bool) -> io::Error {
    let suspicion = presenter.suspicion().filter(|_| fresh);
    let words = match rustls_error(&error) {
        Some(Error::AlertReceived(alert)) => format!("it ended the TLS session: {}", alert_words(*alert)),
        Some(_) => return error,
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection without ending TLS".to_owned()
        }
        None if suspicion.is_none() => return error,
        None => error.to_string(),
    };
    let words = match suspicion {
        Some(suspicion) => format!("{words}; {suspicion}"),
        None => words,
    };
    io::Error::new(error.kind(), words)
}

fn ended(words: String, presenter: &Presenter) -> TlsError {
    match presenter.suspicion() {
        Some(suspicion) => TlsError::Ours(format!("{words}; {suspicion}")),
        None => TlsError::Handshake(words),
    }
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn closed_words(error: &io::Error, failed: &str, during: &str) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return format!("it closed the connection {during} (is this its port for TLS?)");
    }
    format!("{failed}: {error}")
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => "a client certificate is required".to_owned(),
        AlertDescription::UnknownCA => "it does not know the CA of our certificate".to_owned(),
        AlertDescription::CertificateExpired => "our certificate has expired".to_owned(),
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3".to_owned(),
        AlertDescription::UnrecognisedName => {
            "it has no certificate for the name that was dialled".to_owned()
        }
        other => format!("alert {other:?}"),
    }
}
