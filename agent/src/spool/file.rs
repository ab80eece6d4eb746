//! The directory of a spool: whose it is, and whether the file in it is one of ours. Everything here
//! happens before SQLite sees the file, because opening one with a hot WAL rewrites it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ffi};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use crate::spool::{salvage, schema};

const DATABASE: &str = "spool.db";
/// How long a second writer is waited for before it is fatal.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a spool cannot be opened; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error("the spool {} belongs to process {pid}; stop that one, or give this agent a `spool.dir` of its own", dir.display())]
    Owned {
        /// The directory.
        dir: PathBuf,
        /// The owner, as it wrote itself down.
        pid: String,
    },
    /// It cannot be written.
    #[error("{} cannot be written: {cause}; it must belong to the user that runs packetboat", path.display())]
    ReadOnly {
        /// What cannot be written.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Something else has its name.
    #[error("{} is not a directory; move it away, or choose another `spool.dir`", path.display())]
    NotADirectory {
        /// What should be one.
        path: PathBuf,
    },
    /// There is none.
    #[error("there is no spool in {}; `--dir` takes the `spool.dir` of an agent", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a packetboat spool; move it away, or choose another `spool.dir`", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error("{} has schema version {found}, this packetboat knows up to {}; install the newer release again", path.display(), schema::VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// It was read, and could not be shown.
    #[error("cannot write what the spool holds to standard output")]
    Output(#[source] io::Error),
    /// Anything else of the file system.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        cause: io::Error,
    },
    /// Anything else of SQLite.
    #[error("{}: {cause}", path.display())]
    Sqlite {
        /// Where.
        path: PathBuf,
        /// What.
        cause: rusqlite::Error,
    },
}

impl OpenError {
    fn io(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, cause }
            }
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { path, cause },
        }
    }

    pub(super) fn sqlite(path: &Path, cause: rusqlite::Error) -> Self {
        Self::Sqlite { path: path.to_owned(), cause }
    }

    /// Whether only room is missing.
    pub(super) fn is_disk_full(&self) -> bool {
        match self {
            Self::Sqlite { cause, .. } => is_disk_full(cause),
            Self::Io { cause, .. } => lacks_room(cause),
            _ => false,
        }
    }
}

/// What metrics tell of a host is not for everybody on it. As systemd makes the directory of the package's spools.
const DIR_MODE: u32 = 0o750;

/// The directory of a spool while it is ours. Dropping it releases the lock.
#[derive(Debug)]
pub(super) struct SpoolFile {
    dir: PathBuf,
    /// Opened before SQLite opens it and closed after: to close a second handle of a database releases
    /// SQLite's locks on it.
    database: Option<File>,
    _lock: File,
}

impl SpoolFile {
    /// Makes the directory if need be and marks this process as its owner.
    pub(super) fn lock(dir: &Path) -> Result<Self, OpenError> {
        let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
        made.map_err(|cause| OpenError::io(dir, cause))?;
        let path = dir.join("spool.lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|cause| OpenError::io(&path, cause))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let pid = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                return Err(OpenError::Owned { dir: dir.to_owned(), pid });
            }
            Err(errno) => return Err(OpenError::io(&path, errno.into())),
        }
        let owner = format!("{}\n", std::process::id());
        // In place: on a full disk an emptied file gets nothing any more.
        lock.write_all(owner.as_bytes())
            .and_then(|()| lock.set_len(owner.len() as u64))
            .map_err(|cause| OpenError::io(&path, cause))?;
        Ok(Self { dir: dir.to_owned(), database: None, _lock: lock })
    }

    /// The database's path.
    pub(super) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    /// The size of the database's file; 0 if it cannot be read.
    pub(super) fn database_bytes(&self) -> u64 {
        fs::metadata(self.database()).map_or(0, |file| file.len())
    }

    /// The size of the write-ahead log; 0 if there is none.
    pub(super) fn wal_bytes(&self) -> u64 {
        fs::metadata(with_suffix(&self.database(), "-wal")).map_or(0, |file| file.len())
    }

    /// Makes sure that the write-ahead log has `bytes` of the disk, whatever it holds now.
    pub(super) fn claim_log(&self, bytes: u64) -> io::Result<()> {
        let log = OpenOptions::new().write(true).open(with_suffix(&self.database(), "-wal"))?;
        claim(&log, 0, bytes)
    }

    /// Makes sure that the database can grow by `bytes`. A checkpoint ends that.
    pub(super) fn claim_growth(&self, bytes: u64) -> io::Result<()> {
        let Some(database) = &self.database else { return Ok(()) };
        let now = database.metadata()?;
        if now.blocks() * 512 >= now.len() + bytes {
            return Ok(());
        }
        claim(database, now.len(), bytes)
    }

    /// What the spool takes of its disk, the reserve too.
    pub(super) fn held_bytes(&self) -> u64 {
        let reserve = fs::metadata(self.reserve()).map_or(0, |file| file.len());
        self.database_bytes() + self.wal_bytes() + reserve
    }

    /// The reserve's path.
    pub(super) fn reserve(&self) -> PathBuf {
        self.dir.join("spool.reserve")
    }

    /// Opens the database, or makes it. A corrupt one is set aside and what can be read of it is taken
    /// over into a new one.
    pub(super) fn open_database(&mut self, now_ms: i64) -> Result<Connection, OpenError> {
        let path = self.database();
        match read_header(&path, OpenOptions::new().read(true).write(true))? {
            Header::None => self.create(&path)?,
            Header::Spool => {}
        }
        match self.open_existing() {
            Ok(db) => Ok(db),
            Err(cause) if salvage::is_corrupt(&cause) => self.replace_corrupt(now_ms),
            Err(cause) => Err(OpenError::sqlite(&path, cause)),
        }
    }

    /// Sets the corrupt database aside, under a name that tells when, and salvages what can be read of
    /// it into a new one.
    pub(super) fn replace_corrupt(&mut self, now_ms: i64) -> Result<Connection, OpenError> {
        let path = self.database();
        let aside = self.dir.join(format!("{DATABASE}.corrupt-{now_ms}"));
        for suffix in ["", "-wal"] {
            let (from, to) = (with_suffix(&path, suffix), with_suffix(&aside, suffix));
            match fs::rename(&from, &to) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(OpenError::io(&from, cause));
                }
                _ => {}
            }
        }
        drop(fs::remove_file(with_suffix(&path, "-shm")));
        self.create(&path)?;
        tracing::warn!(file = %path.display(), "the spool's file is corrupt: what can be read of it is taken over");
        let mut db = self.open_existing().map_err(|cause| OpenError::sqlite(&path, cause))?;
        let salvaged = salvage::salvage(&aside, &mut db).map_err(|cause| OpenError::sqlite(&path, cause))?;
        tracing::error!(
            file = %path.display(), aside = %aside.display(),
            batches = salvaged.batches, lines = salvaged.lines, unreadable = salvaged.unreadable_batches,
            lost_lines = salvaged.lost_lines,
            "the spool's file was corrupt: it is set aside, and what could be read of it goes on"
        );
        Ok(db)
    }

    fn open_existing(&mut self) -> Result<Connection, rusqlite::Error> {
        let path = self.database();
        // What cannot be opened is SQLite's to tell.
        self.database = OpenOptions::new().write(true).open(&path).ok();
        let mut db = Connection::open(&path)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        schema::migrate(&mut db)?;
        Ok(db)
    }

    /// Makes a database under another name first, so that a crash leaves none or a whole one.
    fn create(&self, path: &Path) -> Result<(), OpenError> {
        let new = self.dir.join(format!("{DATABASE}.new"));
        for suffix in ["", "-journal", "-wal", "-shm"] {
            drop(fs::remove_file(with_suffix(&new, suffix)));
        }
        let make = || {
            let mut db = Connection::open(&new)?;
            schema::migrate(&mut db)
        };
        make().map_err(|cause| OpenError::sqlite(&new, cause))?;
        fs::rename(&new, path).map_err(|cause| OpenError::io(path, cause))?;
        let sync_dir = File::open(&self.dir).and_then(|dir| dir.sync_all());
        sync_dir.map_err(|cause| OpenError::io(&self.dir, cause))
    }
}

/// The database of the spool in `dir`, if there is one that this release can read.
pub(super) fn existing_database(dir: &Path) -> Result<PathBuf, OpenError> {
    let path = dir.join(DATABASE);
    match read_header(&path, OpenOptions::new().read(true))? {
        Header::None => Err(OpenError::Missing { dir: dir.to_owned() }),
        Header::Spool => Ok(path),
    }
}

/// Whether an error means that the disk has no room. The index beside the log says so in its own way.
pub(super) fn is_disk_full(error: &rusqlite::Error) -> bool {
    let Some(error) = error.sqlite_error() else { return false };
    error.code == ErrorCode::DiskFull || error.extended_code == ffi::SQLITE_IOERR_SHMSIZE
}

/// Whether an error means that the disk has no room, or none for our user. SQLite does not tell a quota from a
/// broken disk: the room is claimed before, where the file system can promise any.
pub(super) fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Takes blocks of the disk without changing what the file holds. A file system that does not know how
/// is no error: then the reserve is all there is.
fn claim(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, from, bytes) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        done => Ok(done?),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What the first bytes of a file say.
enum Header {
    /// There is no file, or an empty one.
    None,
    /// A spool of a version that we know.
    Spool,
}

/// Reads `user_version` (byte 60) and `application_id` (byte 68) by hand; see "The Database Header" in
/// SQLite's file format.
fn read_header(path: &Path, options: &OpenOptions) -> Result<Header, OpenError> {
    let mut header = [0; 100];
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Header::None),
        Err(cause) => return Err(OpenError::io(path, cause)),
    };
    let size = file.metadata().map_err(|cause| OpenError::io(path, cause))?.len();
    if size == 0 {
        return Ok(Header::None);
    }
    let not_ours = || OpenError::NotOurs { path: path.to_owned() };
    file.read_exact(&mut header).map_err(|_| not_ours())?;
    let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (found, application_id) = (number(60), number(68));
    if application_id != schema::APPLICATION_ID {
        return Err(not_ours());
    }
    if found > schema::VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found });
    }
    Ok(Header::Spool)
}
