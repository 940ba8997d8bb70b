//! Unix sockets for either end: one end listens, the other dials, and which is which has nothing to do with who is the device.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, FileType};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

use crate::error::VhostError;
use crate::wire::Wait;

/// Longest path that fits into `sun_path` with its terminating zero.
const MAX_PATH: usize = 107;
/// Peers that may wait to be accepted while one is served.
const BACKLOG: i32 = 8;
/// First and longest pause between two attempts to dial.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Which end of the socket is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketRole {
    /// We make the socket and wait for the peer.
    Listen,
    /// The peer makes the socket; we connect, and try again while it is not there.
    Dial,
}

/// A listening socket at a path. Dropping it removes the file, if that is still the one that it made.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of our file: somebody may have put another in its place.
    identity: Option<(u64, u64)>,
}

impl Listener {
    /// Makes the socket file and listens. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`VhostError::SocketInUse`], [`VhostError::NotASocket`] (the file is not touched), [`VhostError::NoSuchPath`] (the
    /// folder), [`VhostError::Permission`], [`VhostError::PathTooLong`], or [`VhostError::System`].
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, VhostError> {
        Self::bind_as(path, SocketType::STREAM)
    }

    /// The same for a socket of another type; `SEQPACKET` is a stream of messages.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn bind_as(path: impl Into<PathBuf>, kind: SocketType) -> Result<Self, VhostError> {
        let path = path.into();
        let address = address_of(&path)?;
        let socket = new_socket(kind)?;
        if let Err(errno) = bind(&socket, &address) {
            if errno != Errno::ADDRINUSE {
                return Err(path_error("bind", &path, errno));
            }
            remove_stale(&path, kind)?;
            bind(&socket, &address).map_err(|errno| path_error("bind", &path, errno))?;
        }
        let listener = Self {
            socket,
            identity: identity_of(&path),
            path,
        };
        listen(&listener.socket, BACKLOG).map_err(|source| VhostError::System {
            call: "listen",
            source,
        })?;
        Ok(listener)
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, if one waits. It never blocks.
    ///
    /// # Errors
    /// What the kernel says, when it is out of descriptors or memory for example; the connection goes on waiting then.
    pub fn accept(&self) -> Result<Option<OwnedFd>, Errno> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(stream) => Ok(Some(stream)),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.identity.is_some() && identity_of(&self.path) == self.identity {
            // Nobody is left to tell, and the file does no harm: the next bind replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Connects once, without waiting.
///
/// # Errors
/// [`VhostError::NoSuchPath`], [`VhostError::NotASocket`], [`VhostError::Permission`], [`VhostError::PathTooLong`], or
/// [`VhostError::System`] (`ECONNREFUSED`: nobody listens).
pub fn dial(path: &Path) -> Result<OwnedFd, VhostError> {
    let address = address_of(path)?;
    let socket = new_socket(SocketType::STREAM)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(socket),
        Err(Errno::CONNREFUSED)
            if !fs::metadata(path).is_ok_and(|found| found.file_type().is_socket()) =>
        {
            Err(VhostError::NotASocket {
                path: path.to_owned(),
            })
        }
        Err(errno) => Err(path_error("connect", path, errno)),
    }
}

/// One end of a socket path, from which connections come one after the other.
#[derive(Debug)]
pub struct Endpoint(Inner);

#[derive(Debug)]
enum Inner {
    Listen(Listener),
    Dial(PathBuf),
}

impl Endpoint {
    /// Listens, or checks that the path can be dialled at all (the socket itself need not be there yet).
    ///
    /// # Errors
    /// As [`Listener::bind`]; when dialling, except for [`VhostError::SocketInUse`].
    pub fn open(role: SocketRole, path: impl Into<PathBuf>) -> Result<Self, VhostError> {
        let path = path.into();
        match role {
            SocketRole::Listen => Ok(Self(Inner::Listen(Listener::bind(path)?))),
            SocketRole::Dial => {
                check_dialable(&path)?;
                Ok(Self(Inner::Dial(path)))
            }
        }
    }

    /// Which end of the socket is ours.
    #[must_use]
    pub fn role(&self) -> SocketRole {
        match self.0 {
            Inner::Listen(_) => SocketRole::Listen,
            Inner::Dial(_) => SocketRole::Dial,
        }
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        match &self.0 {
            Inner::Listen(listener) => listener.path(),
            Inner::Dial(path) => path,
        }
    }

    /// Waits for the next connection: accepts, or dials every 100 ms growing to 1 s until somebody answers.
    ///
    /// # Errors
    /// [`VhostError::Stopped`] as soon as `stop` is readable; after `timeout` (never, if `None`) what the last attempt
    /// failed with, or [`VhostError::Timeout`].
    pub fn connect(
        &self,
        stop: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) -> Result<OwnedFd, VhostError> {
        let wait = Wait {
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            stop: Some(stop),
            what: "a connection to our socket",
            limit: timeout.unwrap_or_default(),
        };
        match &self.0 {
            Inner::Listen(listener) => accept_next(listener, stop, &wait),
            Inner::Dial(path) => dial_until(path, stop, wait.deadline),
        }
    }
}

fn accept_next(
    listener: &Listener,
    stop: BorrowedFd<'_>,
    wait: &Wait<'_>,
) -> Result<OwnedFd, VhostError> {
    loop {
        wait.until_ready(listener.socket.as_fd(), PollFlags::IN)?;
        match listener.accept() {
            Ok(Some(stream)) => return Ok(stream),
            Ok(None) => {}
            // Out of descriptors or memory: the connection stays in the queue, so the socket stays readable. Not to spin.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                pause(RETRY.0, stop)?;
            }
            Err(source) => {
                return Err(VhostError::System {
                    call: "accept",
                    source,
                });
            }
        }
    }
}

fn dial_until(
    path: &Path,
    stop: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> Result<OwnedFd, VhostError> {
    let mut delay = RETRY.0;
    loop {
        let failed = match dial(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(failed);
        }
        pause(left.unwrap_or(delay).min(delay), stop)?;
        delay = (delay * 2).min(RETRY.1);
    }
}

/// Waits for `duration`, or ends with [`VhostError::Stopped`] when `stop` becomes readable.
pub(crate) fn pause(duration: Duration, stop: BorrowedFd<'_>) -> Result<(), VhostError> {
    let timeout = Timespec::try_from(duration).unwrap_or_default();
    let mut fds = [PollFd::from_borrowed_fd(stop, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) | Err(Errno::INTR) => Ok(()),
        Ok(_) => Err(VhostError::Stopped),
        Err(source) => Err(VhostError::System {
            call: "poll",
            source,
        }),
    }
}

fn new_socket(kind: SocketType) -> Result<OwnedFd, VhostError> {
    socket_with(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|source| VhostError::System {
        call: "socket",
        source,
    })
}

fn address_of(path: &Path) -> Result<SocketAddrUnix, VhostError> {
    let length = path.as_os_str().as_bytes().len();
    let too_long = || VhostError::PathTooLong {
        path: path.to_owned(),
        length,
        max: MAX_PATH,
    };
    if length == 0 || length > MAX_PATH {
        return Err(too_long());
    }
    SocketAddrUnix::new(path).map_err(|_| too_long())
}

fn path_error(call: &'static str, path: &Path, errno: Errno) -> VhostError {
    match errno {
        Errno::NOENT if call == "bind" => VhostError::NoSuchPath {
            path: folder_of(path),
        },
        Errno::NOENT => VhostError::NoSuchPath {
            path: path.to_owned(),
        },
        Errno::NOTDIR => VhostError::NoSuchPath {
            path: folder_of(path),
        },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => VhostError::Permission {
            path: path.to_owned(),
        },
        Errno::ADDRINUSE => VhostError::SocketInUse {
            path: path.to_owned(),
        },
        source => VhostError::System { call, source },
    }
}

/// Removes the socket file at `path` if it is one and nobody listens on it.
fn remove_stale(path: &Path, kind: SocketType) -> Result<(), VhostError> {
    if !is_socket(path) {
        return Err(VhostError::NotASocket {
            path: path.to_owned(),
        });
    }
    match connect(&new_socket(kind)?, &address_of(path)?) {
        Err(Errno::CONNREFUSED) => match fs::remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(VhostError::Permission {
                    path: path.to_owned(),
                })
            }
            // Gone already, or the second bind tells what is wrong.
            _ => Ok(()),
        },
        Err(Errno::NOENT) => Ok(()),
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => Err(path_error("connect", path, errno)),
        // Connected, its queue is full (EAGAIN), or it is of another type (EPROTOTYPE): somebody has it.
        _ => Err(VhostError::SocketInUse {
            path: path.to_owned(),
        }),
    }
}

fn check_dialable(path: &Path) -> Result<(), VhostError> {
    address_of(path)?;
    let failed = |errno| path_error("stat", path, errno);
    match rustix::fs::stat(path) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Socket => {
            rustix::fs::access(path, Access::WRITE_OK).map_err(failed)
        }
        Ok(_) => Err(VhostError::NotASocket {
            path: path.to_owned(),
        }),
        // It may come yet, if it has where to come to.
        Err(Errno::NOENT) => match rustix::fs::stat(folder_of(path)) {
            Ok(_) => Ok(()),
            Err(errno) => Err(path_error("stat", &folder_of(path), errno)),
        },
        Err(errno) => Err(failed(errno)),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests;
