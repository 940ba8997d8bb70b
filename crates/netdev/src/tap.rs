//! Taps: Ethernet devices whose other end is a file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{self, InterfaceRequest};
use crate::{Namespace, NetdevError, Netlink};

/// Where taps are made.
const TUN: &str = "/dev/net/tun";
/// Most queues of a tap.
const MAX_QUEUES: u16 = 256;

/// Flags of `TUNSETIFF`.
mod flag {
    pub const TAP: u16 = 0x0002;
    pub const MULTI_QUEUE: u16 = 0x0100;
    pub const ATTACH_QUEUE: u16 = 0x0200;
    pub const DETACH_QUEUE: u16 = 0x0400;
    pub const NO_PACKET_INFO: u16 = 0x1000;
    pub const VNET_HEADER: u16 = 0x4000;
}

/// What the holder of a tap takes from the kernel (`TUN_F_…`): packets whose checksum or segmentation is left to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Partial checksums. Without it, nothing else counts.
    pub checksum: bool,
    /// TCP over IPv4 to be cut.
    pub tso4: bool,
    /// TCP over IPv6 to be cut.
    pub tso6: bool,
    /// TCP with ECN to be cut.
    pub ecn: bool,
    /// UDP to be fragmented.
    pub ufo: bool,
    /// UDP to be cut into datagrams; from Linux 6.2 on.
    pub uso: bool,
}

impl Offloads {
    fn bits(self) -> usize {
        let bit = |on: bool, bits: usize| if on { bits } else { 0 };
        bit(self.checksum, 0x01)
            | bit(self.tso4, 0x02)
            | bit(self.tso6, 0x04)
            | bit(self.ecn, 0x08)
            | bit(self.ufo, 0x10)
            | bit(self.uso, 0x60)
    }
}

/// What to open.
#[derive(Debug, Clone)]
pub struct TapConfig {
    /// Its name; `%d` stands for a number of the kernel's choice. A tap of that name that exists is attached to.
    pub name: String,
    /// Queues, 1 to 256.
    pub queues: u16,
    /// Each frame comes and goes behind a virtio-net header of that many bytes; `None`: bare frames.
    pub header: Option<u8>,
    /// The namespace it is in.
    pub namespace: Namespace,
}

/// A tap with its queues, each a file of its own. The device goes when the last file is closed, unless it is persistent.
#[derive(Debug)]
pub struct Tap {
    name: String,
    index: u32,
    existed: bool,
    queues: Vec<OwnedFd>,
}

impl Tap {
    /// Makes a tap, or attaches to one that exists and is free. Its files never block.
    ///
    /// # Errors
    /// [`NetdevError::NotPermitted`] without `CAP_NET_ADMIN`, [`NetdevError::NoDriver`], [`NetdevError::InUse`],
    /// [`NetdevError::WrongKind`] when the name belongs to something else, [`NetdevError::BadName`].
    pub fn open(config: &TapConfig) -> Result<Self, NetdevError> {
        config.namespace.run(|| Self::open_here(config))?
    }

    fn open_here(config: &TapConfig) -> Result<Self, NetdevError> {
        let mut netlink = Netlink::open(&Namespace::own())?;
        let existing = netlink.find(&config.name)?;
        let mut flags = flag::TAP | flag::NO_PACKET_INFO;
        if config.header.is_some() {
            flags |= flag::VNET_HEADER;
        }
        let many = config.queues > 1;
        let first = match attach(
            &config.name,
            flags | if many { flag::MULTI_QUEUE } else { 0 },
        ) {
            // One queue of a device that was made for several.
            Err(Errno::INVAL) if !many => {
                flags |= flag::MULTI_QUEUE;
                attach(&config.name, flags)
            }
            result => {
                flags |= if many { flag::MULTI_QUEUE } else { 0 };
                result
            }
        };
        let kind = existing.as_ref().map(|link| link.kind.as_str());
        let explain = |errno| explain(config, errno, kind);
        let (file, name) = first.map_err(explain)?;
        let mut queues = vec![file];
        for _ in 1..config.queues.min(MAX_QUEUES) {
            let (file, _) = attach(&name, flags).map_err(explain)?;
            queues.push(file);
        }
        if let Some(size) = config.header {
            for queue in &queues {
                set_header_size(queue.as_fd(), size)?;
            }
        }
        let index = netlink
            .find(&name)?
            .ok_or_else(|| NetdevError::NoSuchDevice {
                name: name.clone(),
                namespace: config.namespace.suffix(),
            })?
            .index;
        Ok(Self {
            name,
            index,
            existed: existing.is_some(),
            queues,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in its namespace.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// It was there before.
    #[must_use]
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// The files of its queues.
    #[must_use]
    pub fn queues(&self) -> &[OwnedFd] {
        &self.queues
    }

    /// Gives the files away.
    #[must_use]
    pub fn into_queues(self) -> Vec<OwnedFd> {
        self.queues
    }

    /// Whether the device stays when its files are closed.
    ///
    /// # Errors
    /// [`NetdevError::NotPermitted`], [`NetdevError::System`].
    pub fn set_persistent(&self, on: bool) -> Result<(), NetdevError> {
        sys::set_number::<{ sys::SET_PERSIST }>(self.queues[0].as_fd(), on.into())
            .map_err(|e| NetdevError::admin(format!("making {} persistent", self.name), e))
    }

    /// Lets a user attach to the device without `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// [`NetdevError::NotPermitted`], [`NetdevError::System`].
    pub fn set_owner(&self, user: u32) -> Result<(), NetdevError> {
        sys::set_number::<{ sys::SET_OWNER }>(self.queues[0].as_fd(), user as usize)
            .map_err(|e| NetdevError::admin(format!("setting the owner of {}", self.name), e))
    }

    /// Takes one queue of a multi-queue tap out of the kernel's choice of queues, or back in. Its file stays open.
    ///
    /// # Errors
    /// [`NetdevError::System`] when there is no such queue, or the tap has one only.
    pub fn enable_queue(&self, queue: usize, on: bool) -> Result<(), NetdevError> {
        let what = || format!("queue {queue} of {}", self.name);
        let flags = if on {
            flag::ATTACH_QUEUE
        } else {
            flag::DETACH_QUEUE
        };
        let fd = self.queues.get(queue).ok_or(Errno::BADF);
        fd.and_then(|fd| {
            let request = InterfaceRequest::new("", flags).map_err(|_| Errno::INVAL)?;
            sys::set_queue(fd.as_fd(), request)
        })
        .map_err(|e| NetdevError::admin(what(), e))
    }
}

/// Says what the holder of a tap's or macvtap's file takes from the kernel. What this kernel does not know (USO before Linux 6.2) is left
/// out; the answer is what counts now. For a tap it counts for all queues, for a macvtap for this one.
///
/// # Errors
/// [`NetdevError::System`].
pub fn set_offloads(fd: BorrowedFd<'_>, wanted: Offloads) -> Result<Offloads, NetdevError> {
    match sys::set_number::<{ sys::SET_OFFLOAD }>(fd, wanted.bits()) {
        Err(Errno::INVAL) if wanted.uso => set_offloads(
            fd,
            Offloads {
                uso: false,
                ..wanted
            },
        ),
        result => result
            .map(|()| wanted)
            .map_err(|e| NetdevError::admin("setting the offloads of a tap", e)),
    }
}

/// Says whether the kernel's side of a tap has a carrier: `ip link` shows NO-CARRIER without.
///
/// # Errors
/// [`NetdevError::System`]; kernels before 5.0 have no such request.
pub fn set_carrier(fd: BorrowedFd<'_>, on: bool) -> Result<(), NetdevError> {
    sys::set_carrier(fd, on).map_err(|e| NetdevError::admin("setting the carrier of a tap", e))
}

/// Sets the Ethernet address of a tap's or macvtap's device. Whoever holds its file may, without `CAP_NET_ADMIN`.
///
/// # Errors
/// [`NetdevError::System`].
pub fn set_address(fd: BorrowedFd<'_>, mac: [u8; 6]) -> Result<(), NetdevError> {
    sys::set_address(fd, mac)
        .map_err(|errno| NetdevError::admin("setting the Ethernet address of a tap", errno))
}

/// Where a tap is now: its namespace and name, of which neither need be what it was. `None` when it is gone, or the kernel does not tell, before Linux
/// 5.7 or without `CAP_NET_ADMIN` there.
#[must_use]
pub fn place_of(fd: BorrowedFd<'_>) -> Option<(Namespace, String)> {
    let (name, ..) = name_of(fd)?;
    let namespace = sys::namespace_of(fd).ok()?;
    Some((Namespace::of(namespace), name))
}

/// Has a tap or macvtap put a virtio-net header of that many bytes before each frame: for one that has headers at all.
///
/// # Errors
/// [`NetdevError::System`].
pub fn set_header_size(fd: BorrowedFd<'_>, size: u8) -> Result<(), NetdevError> {
    sys::set_header(fd, size.into())
        .map_err(|errno| NetdevError::admin("setting the header's size of a tap", errno))
}

/// Most addresses that a tap compares whole. The others it hashes, if they are of groups.
const EXACT: usize = 8;
/// `TUN_FLT_ALLMULTI`.
const ALL_MULTICAST: u16 = 1;

/// Has the kernel hand on frames to these addresses only, and with `all_multicast` those to any group; `None`: all. Broadcasts are among the
/// addresses, if they are wanted. Counts for all queues of a tap; macvtaps have no such thing. True when no other frame comes through: the
/// kernel lets more pass where there are many addresses.
///
/// # Errors
/// [`NetdevError::System`].
pub fn set_address_filter(
    fd: BorrowedFd<'_>,
    addresses: Option<&[[u8; 6]]>,
    all_multicast: bool,
) -> Result<bool, NetdevError> {
    let bytes = filter_bytes(addresses.unwrap_or_default(), all_multicast);
    sys::set_tx_filter(fd, &bytes)
        .map_err(|errno| NetdevError::admin("setting the address filter of a tap", errno))?;
    Ok(addresses.is_some_and(|all| all.len() <= EXACT))
}

/// The kernel's `struct tun_filter`. Of addresses that are not compared whole, those of stations end the filter: they come first.
fn filter_bytes(addresses: &[[u8; 6]], all_multicast: bool) -> Vec<u8> {
    let mut sorted = addresses.to_vec();
    sorted.sort_by_key(|address| address[0] & 1);
    let flags = if all_multicast { ALL_MULTICAST } else { 0 };
    let count = u16::try_from(sorted.len()).unwrap_or(u16::MAX);
    let mut bytes = [flags.to_ne_bytes(), count.to_ne_bytes()].concat();
    bytes.extend(sorted.iter().take(count.into()).flatten());
    bytes
}

/// Opens one more file of the device. With its name, which the kernel may have chosen.
fn attach(name: &str, flags: u16) -> Result<(OwnedFd, String), Errno> {
    let request = InterfaceRequest::new(name, flags).map_err(|_| Errno::NAMETOOLONG)?;
    let file = rustix::fs::open(
        TUN,
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )?;
    let request = sys::set_interface(file.as_fd(), request)?;
    Ok((file, request.name()))
}

/// Why `attach` failed.
fn explain(config: &TapConfig, errno: Errno, kind: Option<&str>) -> NetdevError {
    let name = config.name.clone();
    match (errno, kind) {
        (Errno::NAMETOOLONG, _) => NetdevError::BadName { got: name },
        (Errno::NOENT | Errno::NODEV | Errno::NXIO, _) => NetdevError::NoDriver {
            path: TUN.into(),
            module: "tun",
        },
        (Errno::BUSY, _) => NetdevError::InUse {
            name,
            hint: "another process holds this tap; end it, give another name, or make the tap with several queues",
        },
        (Errno::TOOBIG, _) => NetdevError::InUse {
            name,
            hint: "it has no queue left; ask for fewer queues",
        },
        (Errno::INVAL, Some("tun")) => NetdevError::WrongKind {
            name,
            expected: "a tap with several queues",
            got: "a tap with one queue, or a tun".into(),
        },
        (Errno::INVAL, Some(kind)) => NetdevError::WrongKind {
            name,
            expected: "a tap",
            got: format!("a device of kind {kind}"),
        },
        _ => NetdevError::admin(format!("opening tap {name}"), errno),
    }
}

/// The file of the tap's device for a descriptor that is one, with its name.
pub(crate) fn name_of(fd: BorrowedFd<'_>) -> Option<(String, bool, bool)> {
    let request = sys::get_interface(fd).ok()?;
    let has = |bit| request.flags & bit != 0;
    Some((request.name(), has(flag::TAP), has(flag::VNET_HEADER)))
}
