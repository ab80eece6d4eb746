//! Who we are to an upstream. The passcode is read from its file at each connect, so that a changed
//! one needs no restart, and is never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::AsyncReadExt;
use topology::model::StompUpstream;

/// A passcode file larger than this is the wrong file.
const FILE_BYTES_MAX: usize = 4096;

/// A secret; its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Passcode(String);

impl Passcode {
    /// Wraps a secret that was had elsewhere.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passcode(..)")
    }
}

/// What CONNECT says about us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The `host` header: RabbitMQ takes it as the virtual host.
    pub host: String,
    /// Who; `None`: CONNECT carries no login.
    pub login: Option<String>,
    /// The secret.
    pub passcode: Option<Passcode>,
    /// Which node of the mesh we are; `None`: none, but a producer like others.
    pub node: Option<String>,
}

/// The passcode file is of no use. It is read again at the next connect.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It could not be read.
    #[error("cannot read the passcode file {}: {cause}", file.display())]
    Read {
        /// As the topology names it.
        file: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It was read, and is no passcode.
    #[error("the passcode file {} {fault}: its first line must be the passcode", file.display())]
    Content {
        /// As the topology names it.
        file: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl Login {
    /// The login of `node` at `upstream`, with the passcode as its file has it now.
    pub async fn read(upstream: &StompUpstream, node: Option<&str>) -> Result<Self, LoginError> {
        let passcode = match &upstream.passcode_file {
            Some(file) => Some(read_passcode(file).await?),
            None => None,
        };
        let (host, login, node) = (upstream.vhost.clone(), upstream.login.clone(), node.map(str::to_owned));
        Ok(Self { host, login, passcode, node })
    }
}

async fn read_passcode(file: &Path) -> Result<Passcode, LoginError> {
    let content =
        read_bounded(file).await.map_err(|cause| LoginError::Read { file: file.to_owned(), cause })?;
    let fail = |fault| Err(LoginError::Content { file: file.to_owned(), fault });
    if content.len() > FILE_BYTES_MAX {
        return fail("is larger than 4096 bytes");
    }
    let Ok(text) = String::from_utf8(content) else {
        return fail("is not UTF-8");
    };
    match text.lines().next().unwrap_or_default() {
        "" => fail("has an empty first line"),
        line if line.contains(char::is_control) => fail("holds control characters"),
        line => Ok(Passcode::new(line)),
    }
}

async fn read_bounded(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let one_too_many = FILE_BYTES_MAX as u64 + 1;
    File::open(file).await?.take(one_too_many).read_to_end(&mut content).await?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passcode_of(content: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("eu.passcode");
        std::fs::write(&file, content).unwrap();
        match read_passcode(&file).await {
            Ok(passcode) => Ok(passcode.expose().to_owned()),
            Err(error) => Err(error.to_string().replace(&file.display().to_string(), "FILE")),
        }
    }

    #[tokio::test]
    async fn the_first_line_is_the_passcode() {
        assert_eq!(passcode_of(b"se:cret\\1").await, Ok("se:cret\\1".to_owned()));
        assert_eq!(passcode_of(b"secret \n").await, Ok("secret ".to_owned()));
        assert_eq!(passcode_of(b"secret\r\n# a note\n").await, Ok("secret".to_owned()));
    }

    #[tokio::test]
    async fn a_wrong_file_is_named_with_the_mend() {
        let mend = ": its first line must be the passcode";
        for (content, fault) in [
            (&b""[..], "has an empty first line"),
            (b"\nsecret\n", "has an empty first line"),
            (b"\xff\n", "is not UTF-8"),
            (b"a\0b\n", "holds control characters"),
            (&[b'a'; 5000], "is larger than 4096 bytes"),
        ] {
            assert_eq!(passcode_of(content).await, Err(format!("the passcode file FILE {fault}{mend}")));
        }
    }

    #[tokio::test]
    async fn a_missing_file_a_directory_and_an_endless_device_are_errors() {
        let error = read_passcode(Path::new("/nonexistent/eu.passcode")).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot read the passcode file /nonexistent/eu.passcode: "));
        assert!(read_passcode(Path::new("/")).await.is_err());
        assert!(read_passcode(Path::new("/dev/zero")).await.is_err());
    }

    #[test]
    fn a_passcode_is_not_shown() {
        let login = Login {
            host: "/".into(),
            login: Some("u".into()),
            passcode: Some(Passcode::new("secret")),
            node: None,
        };
        assert!(!format!("{login:?}").contains("secret"));
    }
}
