//! An authority of a test, and the certificates that it signs, by the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Signs certificates. Its files lie in one folder.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    name: String,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, called `name`, with its files in `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let authority = Self { dir: dir.to_owned(), name: name.to_owned() };
        let subject = format!("/CN={name}");
        openssl(
            dir,
            &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
            &[
                "-keyout",
                &format!("{name}.key"),
                "-out",
                &format!("{name}.pem"),
                "-days",
                "30",
                "-subj",
                &subject,
            ],
        );
        authority
    }

    /// The file of its own certificate: what is believed.
    pub fn pem(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// A certificate for these `names`, such as `DNS:us.test` and `IP:127.0.0.1`, in files called `file`, for so
    /// many days.
    pub fn sign(&self, file: &str, names: &[&str], days: u32) -> Certificate {
        let (request, extensions) = (format!("{file}.csr"), format!("{file}.ext"));
        openssl(
            &self.dir,
            &["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
            &["-keyout", &format!("{file}.key.new"), "-out", &request, "-subj", &format!("/CN={file}")],
        );
        let text = format!("subjectAltName={}\nextendedKeyUsage=serverAuth,clientAuth\n", names.join(","));
        std::fs::write(self.dir.join(&extensions), text).expect("a file of a test can be written");
        openssl(
            &self.dir,
            &["x509", "-req", "-in", &request, "-CA", &format!("{}.pem", self.name)],
            &[
                "-CAkey",
                &format!("{}.key", self.name),
                "-CAcreateserial",
                "-days",
                &days.to_string(),
                "-extfile",
                &extensions,
                "-out",
                &format!("{file}.pem.new"),
            ],
        );
        let (cert, key) = (self.dir.join(format!("{file}.pem")), self.dir.join(format!("{file}.key")));
        for path in [&cert, &key] {
            let new = PathBuf::from(format!("{}.new", path.display()));
            std::fs::rename(new, path).expect("what openssl wrote is there");
        }
        Certificate { cert, key }
    }
}

fn openssl(dir: &Path, command: &[&str], options: &[&str]) {
    let mut openssl = Command::new("openssl");
    let output = openssl.args(command).args(options).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.expect("openssl is installed by tests/run");
    assert!(output.status.success(), "openssl {command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
