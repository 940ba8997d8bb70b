//! Macvtaps: a device of its own on top of another, whose other end is a file.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use netlink_packet_route::link::{InfoData, InfoKind, InfoMacVtap, LinkInfo, MacVtapMode};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{self, InterfaceRequest};
use crate::{Link, Namespace, NetdevError, Netlink};

/// Flags of `TUNSETIFF` that a macvtap knows: a tap with a virtio-net header, without packet information.
const WITH_HEADER: u16 = 0x0002 | 0x1000 | 0x4000;

/// Devices are numbered by namespace, their files in /dev by that number alone: with a number of the kernel's choice, macvtaps of two
/// namespaces would want the same file. The numbers from here on, `STEP` of them for a process, are nobody's.
const FIRST_NUMBER: u32 = 1 << 20;
const STEP: u32 = 256;
const SPREAD: u32 = 1 << 22;

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
        netlink.add(name, info(MacVtapMode::Bridge), Some(lower))
    }

    /// Makes a macvtap that has another device to itself and switches it on: it gets all unicast and multicast frames that the other
    /// receives, whatever their address, and what is written to it goes out there (`mode passthru`).
    ///
    /// # Errors
    /// Those of [`Netlink`]; [`NetdevError::System`] when there is another macvlan or macvtap on top of that device.
    pub fn take_over(netlink: &mut Netlink, name: &str, lower: u32) -> Result<Link, NetdevError> {
        let mut index = free_number(FIRST_NUMBER + std::process::id() % SPREAD * STEP);
        let link = loop {
            match netlink.add_at(index, name, info(MacVtapMode::Passthrough), Some(lower)) {
                Err(NetdevError::System { source, .. })
                    if source.raw_os_error() == Some(libc::EBUSY) && netlink.is_used(index)? =>
                {
                    index = free_number(index + 1);
                }
                result => break result?,
            }
        };
        netlink.set_all_multicast(link.index, true)?;
        netlink.set_up(link.index, true)?;
        Ok(link)
    }

    /// The file of the device of that number.
    #[must_use]
    pub fn path(index: u32) -> String {
        format!("/dev/tap{index}")
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
        let path = Self::path(link.index);
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

fn info(mode: MacVtapMode) -> Vec<LinkInfo> {
    let data = InfoData::MacVtap(vec![InfoMacVtap::Mode(mode)]);
    vec![LinkInfo::Kind(InfoKind::MacVtap), LinkInfo::Data(data)]
}

/// The first number from there on whose file is not there.
fn free_number(first: u32) -> u32 {
    let mut numbers = (first..).filter(|&number| !Path::new(&Macvtap::path(number)).exists());
    numbers.next().unwrap_or(first)
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
        .and_then(|_| sys::set_header(file.as_fd(), header.into()))
        .map_err(|errno| NetdevError::admin(format!("setting up {path}"), errno))?;
    Ok(file)
}
