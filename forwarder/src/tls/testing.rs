//! Certificates for tests: a CA, what it signs, and the files of both. The agent's tests include this file.
#![allow(dead_code, reason = "each of the two crates uses a part of it")]

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use topology::model::TlsIdentity;

/// A CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a certificate is to say.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) common_name: DnValue,
    /// Hosts and addresses.
    pub(crate) names: Vec<String>,
    /// Valid from the first day of one year to that of the other.
    pub(crate) days: (i32, i32),
    pub(crate) is_ca: bool,
}

/// What was issued.
pub(crate) struct Issued {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

impl Leaf {
    /// For hosts and addresses, and for the present time.
    pub(crate) fn named(names: &[&str]) -> Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self { common_name: "leaf".into(), names, days: (2020, 2120), is_ca: false }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(self.names.clone()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name.clone());
        params.not_before = date_time_ymd(self.days.0, 1, 1);
        params.not_after = date_time_ymd(self.days.1, 1, 1);
        if self.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        } else {
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        }
        params
    }

    /// Signed by itself.
    pub(crate) fn self_signed(&self) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = self.params().self_signed(&key).unwrap();
        Issued {
            chain: vec![certificate.der().to_vec()],
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Authority {
    pub(crate) fn new(common_name: &str) -> Self {
        let leaf = Leaf { common_name: common_name.into(), is_ca: true, ..Leaf::named(&[]) };
        let (params, key) = (leaf.params(), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A CA beneath this one, and its certificate.
    pub(crate) fn intermediate(&self, common_name: &str) -> Self {
        let leaf = Leaf { common_name: common_name.into(), is_ca: true, ..Leaf::named(&[]) };
        let (params, key) = (leaf.params(), KeyPair::generate().unwrap());
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn issue(&self, leaf: Leaf) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.params().signed_by(&key, &self.issuer).unwrap();
        Issued {
            chain: vec![certificate.der().to_vec()],
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate as a file in `dir`.
    pub(crate) fn file(&self, dir: &Path, name: &str) -> PathBuf {
        written(dir, &format!("{name}.pem"), &self.pem)
    }
}

impl Issued {
    /// Both files in `dir`.
    pub(crate) fn files(&self, dir: &Path, name: &str) -> TlsIdentity {
        TlsIdentity {
            cert: written(dir, &format!("{name}.pem"), &self.cert_pem),
            key: written(dir, &format!("{name}.key"), &self.key_pem),
        }
    }
}

/// A file in `dir`, replaced at once as careful tools do it.
pub(crate) fn written(dir: &Path, name: &str, content: &str) -> PathBuf {
    let (file, new) = (dir.join(name), dir.join(format!("{name}.new")));
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, &file).unwrap();
    file
}
