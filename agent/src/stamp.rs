//! What tells that a file is another one than before, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file's marks. Whichever way it is replaced or written to, one of them changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also by a change of owner or mode, which may let us read it.
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When it was changed last, in whole seconds since the Unix epoch.
    pub(crate) fn changed_seconds(&self) -> i64 {
        self.changed.0
    }
}

/// The marks of several files. One that cannot be looked at has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<Stamp>>);

impl Stamps {
    /// Looks at `files`.
    pub(crate) async fn of(files: impl Iterator<Item = &Path>) -> Self {
        let mut stamps = Vec::new();
        for file in files {
            let metadata = tokio::fs::metadata(file).await.ok();
            stamps.push(metadata.as_ref().map(Stamp::of));
        }
        Self(stamps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_way_to_exchange_a_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, new) = (dir.path().join("a"), dir.path().join("b"));
        let mut before = Stamps::of([file.as_path()].into_iter()).await;
        assert_eq!(before, Stamps(vec![None]));
        let write = || std::fs::write(&file, "1").unwrap();
        let longer = || std::fs::write(&file, "22").unwrap();
        let rename = || {
            std::fs::write(&new, "33").unwrap();
            std::fs::rename(&new, &file).unwrap();
        };
        let link = || {
            std::fs::write(&new, "44").unwrap();
            std::fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink(&new, &file).unwrap();
        };
        let remove = || std::fs::remove_file(&file).unwrap();
        for change in [&write as &dyn Fn(), &longer, &rename, &link, &remove] {
            change();
            let after = Stamps::of([file.as_path()].into_iter()).await;
            assert_ne!(after, before);
            assert_eq!(Stamps::of([file.as_path()].into_iter()).await, after);
            before = after;
        }
    }
}
