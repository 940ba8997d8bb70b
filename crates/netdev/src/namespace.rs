//! Network namespaces: where a device lives.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::NetdevError;

/// Where `ip netns` keeps them.
const FOLDER: &str = "/var/run/netns";

/// A network namespace. Devices and sockets belong to the one in which they were opened, whoever uses them later.
#[derive(Debug, Clone, Default)]
pub struct Namespace(Option<Arc<Other>>);

#[derive(Debug)]
struct Other {
    text: String,
    fd: OwnedFd,
}

impl Namespace {
    /// The one that the process is in.
    #[must_use]
    pub fn own() -> Self {
        Self(None)
    }

    /// Another one: a name of `ip netns`, or a path like `/proc/123/ns/net`.
    ///
    /// # Errors
    /// [`NetdevError::NoNamespace`], [`NetdevError::NotPermitted`].
    pub fn open(text: &str) -> Result<Self, NetdevError> {
        let path = if text.contains('/') {
            text.to_owned()
        } else {
            format!("{FOLDER}/{text}")
        };
        let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(
            |errno| NetdevError::NoNamespace {
                path: path.clone(),
                source: errno.into(),
            },
        )?;
        let other = Other {
            text: text.to_owned(),
            fd,
        };
        let namespace = Self(Some(Arc::new(other)));
        // A file that is no namespace is found out now, not when the first device is opened.
        namespace.run(|| ())?;
        Ok(namespace)
    }

    /// The one that the descriptor is of. It is called as `ip netns` calls it, if it does.
    pub(crate) fn of(fd: OwnedFd) -> Self {
        let text = name_of(&fd).unwrap_or_else(|| "without a name".into());
        Self(Some(Arc::new(Other { text, fd })))
    }

    /// Runs `f` in the namespace. For another one than the process's on a thread of its own, which ends with it: no thread that was
    /// there before is ever moved.
    ///
    /// # Errors
    /// [`NetdevError::NotPermitted`] without `CAP_SYS_ADMIN`, [`NetdevError::NoNamespace`].
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> Result<R, NetdevError> {
        let Some(other) = &self.0 else { return Ok(f()) };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || {
                other.enter()?;
                Ok(f())
            });
            match thread {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(source) => Err(NetdevError::System {
                    what: "starting a thread".into(),
                    source,
                }),
            }
        })
    }

    /// ` in NAME`, for messages; nothing for the process's own.
    pub(crate) fn suffix(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |other| {
            format!(" in network namespace {}", other.text)
        })
    }
}

/// What `ip netns` calls it.
fn name_of(namespace: &OwnedFd) -> Option<String> {
    let wanted = rustix::fs::fstat(namespace).ok()?;
    let mut files = std::fs::read_dir(FOLDER).ok()?.flatten();
    let found = files.find(|file| {
        rustix::fs::stat(file.path())
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (wanted.st_dev, wanted.st_ino))
    })?;
    Some(found.file_name().to_string_lossy().into_owned())
}

impl Other {
    fn enter(&self) -> Result<(), NetdevError> {
        move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
            |errno| match errno {
                rustix::io::Errno::INVAL => NetdevError::NoNamespace {
                    path: self.text.clone(),
                    source: errno.into(),
                },
                _ => NetdevError::of(
                    format!("entering network namespace {}", self.text),
                    errno,
                    "CAP_SYS_ADMIN",
                ),
            },
        )
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("own", |other| &other.text))
    }
}
