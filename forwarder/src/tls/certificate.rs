//! What a certificate says of itself. x509-parser is named here only; who may be trusted is rustls'
//! business.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// The names and the time of a certificate. What is in it is not checked by being here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The DNS names of its subjectAltName.
    pub dns_names: Vec<String>,
    /// The addresses of its subjectAltName.
    pub addresses: Vec<IpAddr>,
    /// Its common name, if it has exactly one.
    pub common_name: Option<String>,
    /// Whom it is for, in full.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Valid from, in seconds since the Unix epoch.
    pub not_before_seconds: i64,
    /// Valid to, in seconds since the Unix epoch.
    pub not_after_seconds: i64,
    /// Whether it may sign others.
    pub is_ca: bool,
}

impl Certificate {
    /// `None`: this is no certificate.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
        let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
        for name in alternatives {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Some(Self {
            dns_names,
            addresses,
            common_name: common_name(parsed.subject()),
            subject: printable(&parsed.subject().to_string()),
            issuer: printable(&parsed.issuer().to_string()),
            not_before_seconds: parsed.validity().not_before.timestamp(),
            not_after_seconds: parsed.validity().not_after.timestamp(),
            is_ca: parsed.is_ca(),
        })
    }

    /// Every name by which its owner can be known: DNS names, addresses, and the common name.
    pub fn names(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        let mut names: Vec<_> = self.dns_names.iter().cloned().chain(addresses).collect();
        names.extend(self.common_name.iter().filter(|name| !self.dns_names.contains(name)).cloned());
        names
    }

    /// Whether it names any host or address.
    pub fn names_a_host(&self) -> bool {
        !(self.dns_names.is_empty() && self.addresses.is_empty())
    }

    /// The hosts and addresses that it is for, fit for a message.
    pub fn hosts(&self) -> String {
        const SHOWN: usize = 8;
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        let mut hosts: Vec<_> = self.dns_names.iter().map(|name| printable(name)).chain(addresses).collect();
        let more = hosts.len().saturating_sub(SHOWN);
        hosts.truncate(SHOWN);
        let hosts = hosts.join(", ");
        if more > 0 { format!("{hosts} and {more} more") } else { hosts }
    }

    /// What is wrong with its time at `now_seconds`, if anything.
    pub fn time_fault(&self, now_seconds: i64) -> Option<String> {
        if now_seconds > self.not_after_seconds {
            return Some(format!("has expired: it was valid until {}", date(self.not_after_seconds)));
        }
        (now_seconds < self.not_before_seconds).then(|| {
            format!(
                "is not valid yet: it will be from {} (or is the clock of this host wrong? It shows {})",
                date(self.not_before_seconds),
                date(now_seconds)
            )
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// Of several it would depend on the reader which one counts.
fn common_name(subject: &X509Name<'_>) -> Option<String> {
    let mut names = subject.iter_common_name();
    match (names.next(), names.next()) {
        (Some(only), None) => only.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

/// A peer's words, fit for one line of a log.
fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    text.chars().take(CHARS_MAX).map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// A moment in seconds since the Unix epoch, as a date.
pub(super) fn date(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Ok(seconds) => {
            let at = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_DATE_SECONDS));
            humantime::format_rfc3339_seconds(at).to_string()
        }
        Err(_) => "a time before 1970".to_owned(),
    }
}

/// The end of the year 9999: no certificate can name a later one.
const LAST_DATE_SECONDS: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority, Leaf};

    fn issued(leaf: Leaf) -> Certificate {
        Certificate::parse(&Authority::new("ca").issue(leaf).chain[0]).unwrap()
    }

    #[test]
    fn a_certificate_tells_its_names_and_its_time() {
        let certificate =
            issued(Leaf { days: (2020, 2021), ..Leaf::named(&["a.test", "*.b.test", "10.0.0.1", "::1"]) });
        assert_eq!(certificate.dns_names, ["a.test", "*.b.test"]);
        assert_eq!(certificate.hosts(), "a.test, *.b.test, 10.0.0.1, ::1");
        assert_eq!(certificate.common_name.as_deref(), Some("leaf"));
        assert_eq!((certificate.subject.as_str(), certificate.issuer.as_str()), ("CN=leaf", "CN=ca"));
        assert_eq!(certificate.names(), ["a.test", "*.b.test", "10.0.0.1", "::1", "leaf"]);
        assert!(!certificate.is_ca);
        assert_eq!(date(certificate.not_before_seconds), "2020-01-01T00:00:00Z");
        let end = certificate.not_after_seconds;
        assert_eq!(certificate.time_fault(end), None);
        let expired = "has expired: it was valid until 2021-01-01T00:00:00Z";
        assert_eq!(certificate.time_fault(end + 1).as_deref(), Some(expired));
        let early = certificate.time_fault(certificate.not_before_seconds - 1).unwrap();
        assert!(early.starts_with("is not valid yet: it will be from 2020-01-01T00:00:00Z"), "{early}");
        assert!(early.contains("It shows 2019-12-31T23:59:59Z"), "{early}");
    }

    #[test]
    fn many_names_are_not_all_shown() {
        let names: Vec<String> = (0..10).map(|number| format!("h{number}.test")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(issued(Leaf::named(&names)).hosts().ends_with("h7.test and 2 more"));
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        let certificate = issued(Leaf::named(&[]));
        assert!(!certificate.names_a_host());
        assert_eq!(certificate.hosts(), "");
    }

    #[test]
    fn a_name_that_is_there_twice_counts_once() {
        assert_eq!(
            issued(Leaf { common_name: "a.test".into(), ..Leaf::named(&["a.test"]) }).names(),
            ["a.test"]
        );
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        assert_eq!(Certificate::parse(b""), None);
        assert_eq!(Certificate::parse(&[0x30; 100]), None);
    }

    #[test]
    fn a_peers_words_fit_in_one_line() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a?b?[31m");
        assert_eq!(printable(&"x".repeat(999)).len(), 200);
    }

    #[test]
    fn every_time_has_a_date() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(-1), "a time before 1970");
        assert_eq!(date(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
