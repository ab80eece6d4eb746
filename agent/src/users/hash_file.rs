//! A passcode's hash in a file of its own, which is read again when it changes: a new passcode needs no
//! restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forwarder::Clock;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::stamp::Stamp;
use crate::users::stored_hash::{HashFault, StoredHash};

/// A larger file is the wrong one.
const FILE_BYTES_MAX: u64 = 4096;
/// A file that was changed less than this before it was read is read again: a second change might leave
/// the time as it is.
const SETTLED_AFTER_MS: i64 = 2000;
/// How often it is said that a file is still of no use.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The file with the hash of one user.
#[derive(Debug)]
pub(super) struct HashFile {
    login: String,
    path: PathBuf,
    clock: Clock,
    seen: Mutex<Seen>,
}

/// What was found when it was read last.
#[derive(Debug, Default)]
struct Seen {
    hash: Option<(Stamp, Arc<StoredHash>)>,
    complaint: Complaint,
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
enum FileFault {
    #[error("cannot be read ({0}): make it readable for the user that the agent runs as")]
    Read(#[from] std::io::Error),
    #[error("is no file: put the hash on the first line of a file")]
    NoFile,
    #[error("is larger than {FILE_BYTES_MAX} bytes: put the hash, and nothing else, on its first line")]
    Large,
    #[error("has a first line that {0}")]
    Hash(#[from] HashFault),
}

/// What the log hears of a file that is of no use: at once what is wrong, then once a minute how often it
/// was wanted.
#[derive(Debug, Default)]
struct Complaint {
    /// When what was said last.
    said: Option<(Instant, String)>,
    /// How often the file was wanted since.
    wanted: u64,
}

impl HashFile {
    pub(super) fn new(login: String, path: PathBuf, clock: Clock) -> Self {
        Self { login, path, clock, seen: Mutex::default() }
    }

    /// The hash as the file has it now. `None`: the file is of no use, which the log tells.
    pub(super) async fn hash(&self) -> Option<Arc<StoredHash>> {
        match self.look().await {
            Ok(hash) => {
                if self.lock().complaint.ends() {
                    tracing::info!(user = self.login, file = %self.path.display(), "the passcode hash file is well again");
                }
                Some(hash)
            }
            Err(fault) => {
                if let Some(wanted) = self.lock().complaint.goes_on(&fault.to_string()) {
                    tracing::warn!(
                        user = self.login, file = %self.path.display(), %fault, wanted,
                        "the user cannot log in: the passcode hash file is of no use"
                    );
                }
                None
            }
        }
    }

    async fn look(&self) -> Result<Arc<StoredHash>, FileFault> {
        let metadata = tokio::fs::metadata(&self.path).await?;
        if !metadata.is_file() {
            // To open a pipe might wait for ever.
            return Err(FileFault::NoFile);
        }
        if let Some((stamp, hash)) = &self.lock().hash
            && *stamp == Stamp::of(&metadata)
        {
            return Ok(Arc::clone(hash));
        }
        let (stamp, hash) = self.read().await?;
        let hash = Arc::new(hash);
        let is_settled = stamp.changed_seconds() * 1000 + SETTLED_AFTER_MS < self.clock.now_ms();
        self.lock().hash = is_settled.then(|| (stamp, Arc::clone(&hash)));
        Ok(hash)
    }

    async fn read(&self) -> Result<(Stamp, StoredHash), FileFault> {
        let file = File::open(&self.path).await?;
        let stamp = Stamp::of(&file.metadata().await?);
        let mut content = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).await?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(FileFault::Large);
        }
        let text = String::from_utf8(content).map_err(|_| HashFault::Form)?;
        let hash = StoredHash::parse(text.lines().next().unwrap_or_default().trim())?;
        Ok((stamp, hash))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Complaint {
    /// The file was wanted once more. If it is time to say so: how often since it was said last.
    fn goes_on(&mut self, fault: &str) -> Option<u64> {
        let now = Instant::now();
        self.wanted += 1;
        if let Some((at, said)) = &self.said
            && said == fault
            && now < *at + SAID_EVERY
        {
            return None;
        }
        self.said = Some((now, fault.to_owned()));
        Some(std::mem::take(&mut self.wanted))
    }

    /// Whether there was one.
    fn ends(&mut self) -> bool {
        std::mem::take(self).said.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::users::stored_hash::tests::quick;

    fn file(path: &Path) -> HashFile {
        HashFile::new("web".into(), path.into(), Clock::system())
    }

    async fn fault_of(path: &Path) -> String {
        let file = file(path);
        assert!(file.hash().await.is_none());
        file.look().await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn the_first_line_is_the_hash_and_a_change_shows_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.hash");
        let file = file(&path);
        // In place, of one length, faster than the file system's clock ticks.
        for passcode in ["first", "other", "third"] {
            std::fs::write(&path, format!("{}\r\n# a note\n", quick(passcode))).unwrap();
            assert!(file.hash().await.unwrap().fits(passcode.as_bytes()), "{passcode}");
        }
        let replacement = dir.path().join("new");
        std::fs::write(&replacement, quick("fresh")).unwrap();
        std::fs::rename(&replacement, &path).unwrap();
        assert!(file.hash().await.unwrap().fits(b"fresh"));
    }

    #[tokio::test]
    async fn a_settled_file_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.hash");
        std::fs::write(&path, quick("first")).unwrap();
        let later = Clock::manual(Arc::new(i64::MAX.into()));
        let file = HashFile::new("web".into(), path.clone(), later);
        let first = file.hash().await.unwrap();
        assert!(Arc::ptr_eq(&first, &file.hash().await.unwrap()));
        std::fs::write(dir.path().join("new"), quick("other")).unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(file.hash().await.unwrap().fits(b"other"));
    }

    #[tokio::test]
    async fn a_file_of_no_use_is_told_with_the_mend_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.hash");
        let missing = fault_of(&path).await;
        assert!(missing.starts_with("cannot be read (No such file"), "{missing}");
        assert_eq!(fault_of(dir.path()).await, FileFault::NoFile.to_string());
        assert_eq!(fault_of(Path::new("/dev/zero")).await, FileFault::NoFile.to_string());
        let whole = quick("right");
        for content in [&b""[..], b"\n", b"right", b"\xff", &whole.as_bytes()[..whole.len() - 30]] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(fault_of(&path).await, FileFault::Hash(HashFault::Form).to_string());
        }
        std::fs::write(&path, [b'a'; 5000]).unwrap();
        assert_eq!(fault_of(&path).await, FileFault::Large.to_string());
        let file = file(&path);
        assert!(file.hash().await.is_none());
        std::fs::write(&path, whole).unwrap();
        assert!(file.hash().await.is_some());
        assert!(file.lock().complaint.said.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_is_said_once_and_then_summed_up() {
        let mut complaint = Complaint::default();
        assert_eq!(complaint.goes_on("is missing"), Some(1));
        for _ in 0..1000 {
            assert_eq!(complaint.goes_on("is missing"), None);
        }
        tokio::time::advance(SAID_EVERY).await;
        assert_eq!(complaint.goes_on("is missing"), Some(1001));
        assert_eq!(complaint.goes_on("is large"), Some(1), "another fault is news");
        assert!(complaint.ends() && !complaint.ends());
    }
}
