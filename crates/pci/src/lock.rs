//! One process for a device. The kernel sees to that for VFIO alone.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Locks a device by its configuration space's file, until that is closed: which process has the lock, if it is not this one now.
///
/// The lock goes with the process that has it, however that ends.
pub(crate) fn lock(config: &OwnedFd, path: &Path) -> Result<(), String> {
    flock(config, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let inode = fs::metadata(path).map(|metadata| metadata.ino());
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        inode
            .ok()
            .and_then(|inode| holder_of_lock(&locks, inode))
            .unwrap_or_else(|| "of another kind".to_owned())
    })
}

/// The process in a line like `1: FLOCK  ADVISORY  WRITE 1234 00:17:5678 0 EOF`.
fn holder_of_lock(locks: &str, inode: u64) -> Option<String> {
    let end = format!(":{inode}");
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let held = words.get(1) == Some(&"FLOCK") && words.get(5)?.ends_with(&end);
        held.then(|| words[4].to_owned())
    })
}

/// Another process that has a file open, as far as this one may know: programs that know nothing of our lock use devices too.
pub(crate) fn user_of(file: &Path) -> Option<String> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    names.find(|pid| {
        pid.bytes().all(|b| b.is_ascii_digit())
            && *pid != own
            && fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten()
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second one is told who has the lock; when the first lets go, it is free.
    #[test]
    fn locks_once() {
        let path = std::env::temp_dir().join(format!("vring-lock-{}", std::process::id()));
        let open = || OwnedFd::from(fs::File::create(&path).unwrap());
        let (first, second) = (open(), open());
        assert_eq!(lock(&first, &path), Ok(()));
        assert_eq!(lock(&second, &path), Err(std::process::id().to_string()));
        drop(first);
        assert_eq!(lock(&second, &path), Ok(()));
        fs::remove_file(path).unwrap();
    }

    /// Only a lock of that file counts.
    #[test]
    fn reads_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:17:5678 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 00:17:5678 0 EOF\n";
        assert_eq!(holder_of_lock(locks, 5678).as_deref(), Some("12"));
        assert_eq!(holder_of_lock(locks, 678), None);
    }

    /// A file that another process has open is found by it.
    #[test]
    fn finds_users() {
        let path = std::env::temp_dir().join(format!("vring-user-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        assert_eq!(user_of(&path), None);
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(fs::OpenOptions::new().append(true).open(&path).unwrap())
            .spawn()
            .unwrap();
        assert_eq!(user_of(&path), Some(child.id().to_string()));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(path).unwrap();
    }
}
