//! A small disk: an ext4 in a file, mounted by loop. It can be filled from outside, and mounted read-only.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::Scratch;

/// Says that this machine may not mount, and that the tests of disks are to be passed over.
const NO_MOUNT: &str = "PACKETBOAT_NO_MOUNT";
const MIB: u64 = 1024 * 1024;
/// That of an ext4 as small as these.
const BLOCK: usize = 1024;

/// Whether disks can be tested here. Only whoever runs the tests may say that they cannot.
pub fn can_mount() -> bool {
    let said_not = std::env::var_os(NO_MOUNT).is_some_and(|value| value == "1");
    if said_not {
        note(&format!("passed over: {NO_MOUNT}=1 says that nothing can be mounted here"));
    }
    !said_not
}

/// A mounted disk. It is unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
    image: PathBuf,
    filler: PathBuf,
    _scratch: Scratch,
}

impl Disk {
    /// Makes one of this size and mounts it.
    ///
    /// # Panics
    /// If this machine does not permit it, with what would.
    pub fn of_mib(mib: u64) -> Self {
        // `tests/run` unmounts what a killed test of its run has left, and knows it by this mark.
        let run = std::env::var("PACKETBOAT_TEST_RUN").unwrap_or_default();
        let scratch = Scratch::new(&format!("disk-{run}"));
        let [mount, image] = ["mount", "image"].map(|name| scratch.path().join(name));
        std::fs::create_dir(&mount).expect("a folder can be made in the temporary folder");
        let file = File::create(&image).expect("a file can be made in the temporary folder");
        file.set_len(mib * MIB).expect("a sparse file can be made");
        // Nothing is set apart for root, who runs this.
        run_to_end("mkfs.ext4", &["-q", "-m", "0", path(&image)]);
        let disk = Self { filler: mount.join("filler"), mount, image, _scratch: scratch };
        disk.mount("loop");
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Takes all the room that there is.
    pub fn fill(&self) {
        let filler = File::options().create(true).append(true).open(&self.filler);
        let mut filler = filler.expect("the filler can be opened");
        // In ever smaller pieces down to a block. They are not synced one by one: an agent that gives its reserve
        // back meanwhile would make that minutes on a slow disk.
        for piece in [1024 * 1024, 64 * 1024, 4096, BLOCK].map(|bytes| vec![0; bytes]) {
            let full = loop {
                match filler.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) => break filler.sync_all().err().unwrap_or(error),
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "the disk cannot be filled: {full}");
        }
    }

    /// Gives back what [`Disk::fill`] took, if it took something.
    pub fn clear(&self) {
        match std::fs::remove_file(&self.filler) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("the filler stays: {error}"),
            _ => {}
        }
    }

    /// Bytes that nobody has.
    pub fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.mount).expect("the disk is mounted");
        disk.f_bavail * disk.f_frsize
    }

    /// Mounts it anew, read-only.
    pub fn make_read_only(&self) {
        run_to_end("umount", &[path(&self.mount)]);
        self.mount("loop,ro");
    }

    /// Mounts it anew, to be written to.
    pub fn make_writable(&self) {
        run_to_end("umount", &[path(&self.mount)]);
        self.mount("loop");
    }

    fn mount(&self, options: &str) {
        run_to_end("mount", &["-o", options, path(&self.image), path(&self.mount)]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that still has it open is about to end. What stays is said by `tests/run`.
        Command::new("umount").args(["-l", path(&self.mount)]).status().ok();
    }
}

fn run_to_end(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {said}\nThis test mounts a small disk, which needs root and loop devices; \
         {NO_MOUNT}=1 passes over such tests where that cannot be had"
    );
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn note(text: &str) {
    // Nobody is left to tell if stderr is gone.
    writeln!(std::io::stderr(), "{text}").ok();
}
