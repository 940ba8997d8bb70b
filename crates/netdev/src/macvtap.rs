//! Macvtaps: a device of its own on top of another, whose other end is a file.

use std::os::fd::{AsFd, OwnedFd};

use netlink_packet_route::link::{InfoData, InfoKind, InfoMacVtap, LinkInfo, MacVtapMode};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{self, InterfaceRequest};
use crate::{Link, Namespace, NetdevError, Netlink};

/// Flags of `TUNSETIFF` that a macvtap knows: a tap with a virtio-net header, without packet information.
const WITH_HEADER: u16 = 0x0002 | 0x1000 | 0x4000;

/// A macvtap that exists, with a file for each queue. The device stays when the files are closed.
#[derive(Debug)]
pub struct Macvtap {
    link: Link,
    queues: Vec<OwnedFd>,
}

impl Macvtap {
    /// Makes a macvtap over another device, in bridge mode.
    ///
    /// # Errors
    /// Those of [`Netlink`].
    pub fn create(netlink: &mut Netlink, name: &str, lower: u32) -> Result<Link, NetdevError> {
        let mode = InfoData::MacVtap(vec![InfoMacVtap::Mode(MacVtapMode::Bridge)]);
        let info = vec![LinkInfo::Kind(InfoKind::MacVtap), LinkInfo::Data(mode)];
        netlink.add(name, info, Some(lower))
    }

    /// Opens the file of an existing macvtap once for each queue, with virtio-net headers of that many bytes. They never block.
    ///
    /// # Errors
    /// [`NetdevError::NoSuchDevice`], [`NetdevError::WrongKind`], [`NetdevError::NoDriver`] when its `/dev/tapN` is not there,
    /// [`NetdevError::NotPermitted`].
    pub fn open(
        namespace: &Namespace,
        name: &str,
        queues: u16,
        header: u8,
    ) -> Result<Self, NetdevError> {
        let link = Netlink::open(namespace)?.link(name)?;
        if link.kind != "macvtap" {
            return Err(NetdevError::WrongKind {
                name: name.into(),
                expected: "a macvtap",
                got: format!("a device of kind {}", link.kind),
            });
        }
        let path = format!("/dev/tap{}", link.index);
        let queues = (0..queues)
            .map(|_| open_queue(&path, name, header))
            .collect::<Result<_, _>>()?;
        Ok(Self { link, queues })
    }

    /// The device.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Gives the files away.
    #[must_use]
    pub fn into_queues(self) -> Vec<OwnedFd> {
        self.queues
    }
}

fn open_queue(path: &str, name: &str, header: u8) -> Result<OwnedFd, NetdevError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => NetdevError::NoDriver {
            path: path.into(),
            module: "macvtap",
        },
        Errno::BUSY => NetdevError::InUse {
            name: name.into(),
            hint: "it has no queue left; ask for fewer queues",
        },
        _ => NetdevError::of(format!("opening {path}"), errno, "access to that file"),
    })?;
    let request = InterfaceRequest::new("", WITH_HEADER)?;
    sys::set_interface(file.as_fd(), request)
        .and_then(|_| sys::set_header_size(file.as_fd(), header.into()))
        .map_err(|errno| NetdevError::admin(format!("setting up {path}"), errno))?;
    Ok(file)
}
