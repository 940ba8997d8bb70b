//! What can go wrong with a device of the kernel's.

use std::io;

use rustix::io::Errno;

/// A failure to open, read or change a network device. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum NetdevError {
    /// The process lacks a capability.
    #[error(
        "{what}: not permitted; it needs {capability}: run as root, or give node that capability; `vring doctor` says how"
    )]
    NotPermitted {
        /// What was tried.
        what: String,
        /// The capability, or the access to a file.
        capability: &'static str,
    },
    /// The kernel has no tap driver, or this container does not show it.
    #[error(
        "{path} does not exist: load the module ({module}), or give the container that device; `vring doctor` says how"
    )]
    NoDriver {
        /// The character device.
        path: String,
        /// What `modprobe` takes.
        module: &'static str,
    },
    /// Another process has the device, or one queue more than it takes was asked for.
    #[error("{name} is in use: {hint}")]
    InUse {
        /// The device.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// There is no network device of that name.
    #[error(
        "expected a network device {name}{namespace}, there is none; `ip link` lists those that there are"
    )]
    NoSuchDevice {
        /// What was looked for.
        name: String,
        /// ` in …`, or nothing for the process's own namespace.
        namespace: String,
    },
    /// The name belongs to a device of another kind, or to a tap that was made otherwise.
    #[error("expected {name} to be {expected}, it is {got}; give another name, or delete it")]
    WrongKind {
        /// The device.
        name: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// The caller's descriptor is something else than what can carry packets.
    #[error("expected file descriptor {fd} to be {expected}, got {got}")]
    WrongDescriptor {
        /// Its number.
        fd: i32,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: &'static str,
    },
    /// No name for a network device.
    #[error("expected a device name of 1 to 15 bytes without spaces and slashes, got '{got}'")]
    BadName {
        /// What came.
        got: String,
    },
    /// The namespace does not exist, or does not any more.
    #[error(
        "expected a network namespace at {path}, got none ({source}); `ip netns add` makes one"
    )]
    NoNamespace {
        /// Where it was looked for.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A request to the kernel failed.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl NetdevError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotPermitted { .. } => "ERR_VRING_PERMISSION",
            Self::NoDriver { .. } => "ERR_VRING_NO_SUCH_PATH",
            Self::InUse { .. } => "ERR_VRING_DEVICE_IN_USE",
            Self::NoSuchDevice { .. } => "ERR_VRING_NO_SUCH_DEVICE",
            Self::WrongKind { .. } => "ERR_VRING_DEVICE_KIND",
            Self::WrongDescriptor { .. } => "ERR_VRING_DESCRIPTOR_KIND",
            Self::BadName { .. } => "ERR_VRING_DEVICE_NAME",
            Self::NoNamespace { .. } => "ERR_VRING_NO_NAMESPACE",
            Self::System { .. } => "ERR_VRING_SYSTEM",
        }
    }

    /// Of a request that needs `CAP_NET_ADMIN`.
    pub(crate) fn admin(what: impl Into<String>, errno: Errno) -> Self {
        Self::of(what, errno, "CAP_NET_ADMIN")
    }

    /// Of any request; `capability` is what it needs.
    pub(crate) fn of(what: impl Into<String>, errno: Errno, capability: &'static str) -> Self {
        let what = what.into();
        if matches!(errno, Errno::PERM | Errno::ACCESS) {
            Self::NotPermitted { what, capability }
        } else {
            Self::System {
                what,
                source: errno.into(),
            }
        }
    }
}
