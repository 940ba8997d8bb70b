//! The kernel's device at the other end of a port: a tap, a macvtap, or any other that a packet socket is bound to. The device arguments
//! are the same for all drivers that have one.

mod handle;
mod offloads;
mod receive;
mod watch;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::epoll;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use vring_net::Features;
use vring_netdev::{
    Fanout, Given, Link, Macvtap, Namespace, NetdevError, Netlink, PacketSocket, Tap, TapConfig,
    set_address, set_header_size, set_packet_header, take_given,
};

use super::random_mac;
use crate::port::Shared;
use crate::{Device, LinkStatus, PortError};

pub(super) use handle::Handle;
pub(super) use watch::{Seen, Watch, tell, tell_gone, wait};

/// What the arguments of a device ask for.
#[derive(Debug)]
pub(super) struct Wanted {
    port: String,
    driver: &'static str,
    /// A name, or none for the first free one of the form `tap0`.
    iface: Option<String>,
    namespace: Namespace,
    bridge: Option<String>,
    address: Option<(IpAddr, u8)>,
    mac: Option<[u8; 6]>,
    persist: bool,
    /// Descriptors of the caller's, one for each queue, instead of `iface`.
    fds: Vec<i32>,
}

/// The arguments that only make sense with a device of the kernel's.
pub(super) const ARGS: [&str; 6] = ["iface", "netns", "bridge", "ip", "persist", "fd"];

impl Wanted {
    pub(super) fn parse(device: &Device) -> Result<Self, PortError> {
        let fds: Result<Vec<i32>, _> = device
            .all("fd")
            .map(|text| {
                let number = text.parse().ok().filter(|&fd: &i32| fd >= 0);
                number.ok_or_else(|| device.bad("fd", "the number of a descriptor".into(), text))
            })
            .collect();
        let wanted = Self {
            port: device.name.clone(),
            driver: device.driver.name,
            iface: device.get("iface").map(str::to_owned),
            namespace: namespace(device)?,
            bridge: device.get("bridge").map(str::to_owned),
            address: device
                .get("ip")
                .map(|text| address(device, text))
                .transpose()?,
            mac: device.mac("mac")?,
            persist: device.switch("persist", false)?,
            fds: fds?,
        };
        if !wanted.fds.is_empty()
            && let Some(iface) = &wanted.iface
        {
            let expected = "left out where fd= says which device it is";
            return Err(device.bad("iface", expected.into(), iface));
        }
        Ok(wanted)
    }
}

/// `netns=`.
pub(super) fn namespace(device: &Device) -> Result<Namespace, PortError> {
    device
        .get("netns")
        .map_or(Ok(Namespace::own()), Namespace::open)
        .map_err(|source| lost(&device.name, source))
}

fn address(device: &Device, text: &str) -> Result<(IpAddr, u8), PortError> {
    let parsed = text.split_once('/').and_then(|(ip, prefix)| {
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|&prefix| prefix <= most)?;
        Some((ip, prefix))
    });
    parsed.ok_or_else(|| device.bad("ip", "an address and prefix like 10.0.0.1/24".into(), text))
}

fn lost(port: &str, source: NetdevError) -> PortError {
    PortError::Netdev {
        name: port.to_owned(),
        source,
    }
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tap,
    Macvtap,
    /// Any device, by packet sockets. The kernel goes on using it.
    Packet,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Macvtap => "macvtap",
            Self::Packet => "packet socket",
        }
    }
}

/// A device that is open, with a file for each queue. A tap that was made for the port is deleted with it, unless it is to persist.
#[derive(Debug)]
pub(super) struct Netdev {
    pub(super) name: String,
    place: Mutex<Place>,
    pub(super) kind: Kind,
    /// A macvtap that gets what the device below gets.
    passthru: bool,
    /// The port's address. A tap's other end has its own, unless one was asked for.
    pub(super) mac: [u8; 6],
    /// Frames come and go behind virtio-net headers.
    pub(super) has_header: bool,
    /// What of checksums and segments is agreed on with the kernel, of what was wanted.
    pub(super) offloads: Features,
    pub(super) queues: Vec<Arc<OwnedFd>>,
    pub(super) mtu: u32,
}

/// Where a device is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) namespace: Namespace,
    /// Its number there.
    pub(super) index: u32,
}

/// What a port wants of the device's side of its rings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    /// Files.
    pub(super) queues: u16,
    /// Bytes of a virtio-net header, where the device can have one.
    pub(super) header: u8,
    pub(super) mtu: u16,
    /// Checksums and segments, as a driver's features.
    pub(super) offloads: Features,
}

impl Netdev {
    /// A device that exists, without files.
    pub(super) fn of(link: Link, kind: Kind, namespace: Namespace) -> Self {
        Self {
            mac: link.mac,
            name: link.name,
            place: Mutex::new(Place {
                namespace,
                index: link.index,
            }),
            kind,
            passthru: link.passthru,
            has_header: false,
            offloads: Features::empty(),
            queues: Vec::new(),
            mtu: link.mtu,
        }
    }

    /// Its MTU when it was opened, for [`Watch`].
    pub(super) fn watched_mtu(&self) -> Arc<AtomicU32> {
        Arc::new(AtomicU32::new(self.mtu))
    }

    /// Where it is now: a tap may be moved.
    pub(super) fn place(&self) -> Place {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.clone()
    }

    /// Somebody moved it.
    pub(super) fn moved(&self, to: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// Opens what is wanted.
    pub(super) fn open(wanted: &Wanted, ask: Ask) -> Result<Self, PortError> {
        let fail = |source| lost(&wanted.port, source);
        let mut netlink = Netlink::open(&wanted.namespace).map_err(fail)?;
        let (mut device, made) = if wanted.fds.is_empty() {
            Self::by_name(wanted, &mut netlink, ask).map_err(fail)?
        } else {
            (Self::given(wanted, &mut netlink, ask.queues)?, false)
        };
        device.set_headers(ask).map_err(fail)?;
        device
            .set_up(wanted, &mut netlink, made, ask.mtu)
            .map_err(fail)?;
        Ok(device)
    }

    /// A tap unless the name belongs to something else. True when it was made now.
    fn by_name(
        wanted: &Wanted,
        netlink: &mut Netlink,
        ask: Ask,
    ) -> Result<(Self, bool), NetdevError> {
        let name = wanted.iface.as_deref().unwrap_or("tap%d");
        let new = |link, kind, queues| Self {
            has_header: kind != Kind::Packet,
            queues: shared(queues),
            ..Self::of(link, kind, wanted.namespace.clone())
        };
        match netlink.find(name)? {
            Some(link) if link.kind == "macvtap" => {
                let macvtap = Macvtap::open(&wanted.namespace, name, ask.queues, ask.header)?;
                Ok((new(link, Kind::Macvtap, macvtap.into_queues()), false))
            }
            Some(link) if link.kind != "tun" => {
                let sockets = packet_sockets(&wanted.namespace, &link, ask.queues)?;
                Ok((new(link, Kind::Packet, sockets), false))
            }
            _ => {
                let tap = Tap::open(&TapConfig {
                    name: name.into(),
                    queues: ask.queues,
                    header: Some(ask.header),
                    namespace: wanted.namespace.clone(),
                })?;
                if wanted.persist {
                    tap.set_persistent(true)?;
                }
                let made = !tap.existed();
                let link = netlink.link_at(tap.index())?;
                let mut device = new(link, Kind::Tap, tap.into_queues());
                device.mac = random_mac();
                Ok((device, made))
            }
        }
    }

    fn given(wanted: &Wanted, netlink: &mut Netlink, queues: u16) -> Result<Self, PortError> {
        let fail = |source| lost(&wanted.port, source);
        if wanted.fds.len() != usize::from(queues) {
            return Err(PortError::BadDevarg {
                driver: wanted.driver,
                key: "fd".into(),
                expected: format!("one descriptor for each of {queues} queues"),
                got: format!("{} descriptors", wanted.fds.len()),
            });
        }
        let taken: Result<Vec<_>, _> = wanted.fds.iter().map(|&fd| take_given(fd)).collect();
        let (queues, kinds): (Vec<_>, Vec<_>) = taken.map_err(fail)?.into_iter().unzip();
        let (link, has_header) = match &kinds[0] {
            Given::Tap { name, header } => (netlink.link(name), *header),
            Given::Packet { index } => (netlink.link_at(*index), false),
        };
        let link = link.map_err(fail)?;
        if kinds.iter().any(|other| *other != kinds[0]) {
            return Err(PortError::BadDevarg {
                driver: wanted.driver,
                key: "fd".into(),
                expected: "descriptors of one device".into(),
                got: format!("{kinds:?}"),
            });
        }
        let kind = match &kinds[0] {
            Given::Packet { .. } => Kind::Packet,
            Given::Tap { .. } if link.kind == "macvtap" => Kind::Macvtap,
            Given::Tap { .. } => Kind::Tap,
        };
        let mut device = Self {
            has_header,
            queues: shared(queues),
            ..Self::of(link, kind, wanted.namespace.clone())
        };
        if kind == Kind::Tap {
            device.mac = random_mac();
        }
        Ok(device)
    }

    /// Has frames come and go behind headers, and agrees with the kernel on what these may say. What another process set on a device that was there
    /// does not stay.
    fn set_headers(&mut self, ask: Ask) -> Result<(), NetdevError> {
        for queue in &self.queues {
            match self.kind {
                Kind::Packet => self.has_header = set_packet_header(queue.as_fd(), ask.header)?,
                _ if self.has_header => set_header_size(queue.as_fd(), ask.header)?,
                _ => (),
            }
        }
        self.offloads = match self.kind {
            _ if !self.has_header => Features::empty(),
            Kind::Packet => offloads::of_packet_sockets(ask.offloads),
            Kind::Tap | Kind::Macvtap => offloads::of_taps(&self.queues, ask.offloads)?,
        };
        Ok(())
    }

    /// Does to the device what the arguments say. What was made for the port gets its MTU and is switched on; what was there is left as it is.
    fn set_up(
        &mut self,
        wanted: &Wanted,
        netlink: &mut Netlink,
        made: bool,
        mtu: u16,
    ) -> Result<(), NetdevError> {
        if let Some(mac) = wanted.mac {
            self.mac = mac;
            // As in DPDK, both ends of a tap have the address: what is on the port's side stands for the kernel. Behind a bridge, the address
            // is of a station beyond it, which the tap must not claim to be.
            if wanted.bridge.is_none() && self.kind != Kind::Packet {
                set_address(self.queues[0].as_fd(), mac)?;
            }
        }
        let index = self.place().index;
        if made {
            netlink.set_mtu(index, mtu.into())?;
            self.mtu = mtu.into();
        }
        if let Some(bridge) = &wanted.bridge {
            let bridge = netlink.link(bridge)?;
            netlink.set_master(index, Some(bridge.index))?;
        }
        if let Some((ip, prefix)) = wanted.address {
            netlink.add_address(index, ip, prefix)?;
        }
        if made || wanted.bridge.is_some() || wanted.address.is_some() {
            netlink.set_up(index, true)?;
        }
        Ok(())
    }
}

/// A descriptor that is readable while the file is: whoever takes a wake-up reads it, which of the file itself would take a frame.
pub(super) fn readable(file: impl AsFd) -> Result<OwnedFd, PortError> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)
        .map_err(|e| PortError::system("epoll_create", e))?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(&set, file, data, epoll::EventFlags::IN)
        .map_err(|e| PortError::system("epoll_ctl", e))?;
    Ok(set)
}

/// The device is gone, or the port is to be: the queues have nothing any more.
pub(super) fn detach(shared: &Shared) {
    shared.set_link(LinkStatus::DOWN);
    for queue in &shared.rx {
        let _the_set_is_ours = queue.set_wake_source(None);
        queue.detach();
    }
    shared.tx.iter().for_each(|queue| queue.detach());
}

fn shared(files: Vec<OwnedFd>) -> Vec<Arc<OwnedFd>> {
    files.into_iter().map(Arc::new).collect()
}

/// A number unlike any other group's on that device: from the process and the device, as in DPDK.
pub(super) fn fanout_group(index: u32) -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "groups are numbered in 16 bits"
    )]
    let group = (std::process::id() ^ index) as u16;
    group
}

/// Bytes of packets that a socket holds for vhost.
const SOCKET_BUFFER: usize = 4 << 20;

/// A socket for each queue, among which the kernel spreads the flows.
fn packet_sockets(
    namespace: &Namespace,
    link: &Link,
    queues: u16,
) -> Result<Vec<OwnedFd>, NetdevError> {
    let group = fanout_group(link.index);
    (0..queues)
        .map(|_| {
            let socket = PacketSocket::open(namespace, &link.name)?;
            socket.ignore_outgoing()?;
            socket.bypass_qdisc()?;
            // Room for what comes while the kernel's worker is elsewhere. Without the right to more, what there is must do.
            let _ordinary = set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)
                .or_else(|_| set_socket_recv_buffer_size(&socket, SOCKET_BUFFER));
            socket.bind()?;
            if queues > 1 {
                socket.join(group, Fanout::Hash)?;
            }
            Ok(socket.into_fd())
        })
        .collect()
}
