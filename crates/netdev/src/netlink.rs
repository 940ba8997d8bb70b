//! rtnetlink, one request at a time: what a link is, and how it is changed.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVtap, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVtapMode,
    State, Stats64,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::{Namespace, NetdevError};

/// Bytes of the largest answer about one link.
pub(crate) const ANSWER_SIZE: usize = 64 << 10;

/// A network device as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `tun`, `veth`, `macvtap`, …; `physical` for one that no driver of virtual devices made.
    pub kind: String,
    /// Ethernet address; zeros where there is none.
    pub mac: [u8; 6],
    /// Largest payload of a frame.
    pub mtu: u32,
    /// Somebody switched it on.
    pub up: bool,
    /// It is on and has a carrier: packets can pass.
    pub running: bool,
    /// Somebody asked for packets to all addresses: by `ip link`, by a packet socket, or from a device on top.
    pub promiscuous: bool,
    /// Somebody asked for all multicast packets.
    pub all_multicast: bool,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// The device below a macvlan or macvtap, or the other end of a veth.
    pub lower: Option<u32>,
    /// A macvtap that gets all that the device below gets, not only what is to its own address.
    pub passthru: bool,
    /// What it has counted since it was made.
    pub counters: LinkCounters,
}

/// What the kernel counts of a device, as the kernel sees it: what a tap's user sends is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Of those, or of those that were to be received, the ones that nobody in the kernel took.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that were to be sent and had no room.
    pub tx_dropped: u64,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            kind: "physical".into(),
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            promiscuous: flags.contains(LinkFlags::Promisc),
            all_multicast: flags.contains(LinkFlags::Allmulti),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => link.lower = Some(index),
                // The flag is what `ip link` set; this counts the others who asked.
                LinkAttribute::Promiscuity(users) => link.promiscuous |= users > 0,
                LinkAttribute::Stats64(stats) => link.counters = stats.into(),
                LinkAttribute::OperState(State::Down | State::LowerLayerDown) => {
                    link.running = false;
                }
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        link.learn(&info);
                    }
                }
                _ => (),
            }
        }
        link
    }
}

impl From<Stats64> for LinkCounters {
    fn from(stats: Stats64) -> Self {
        Self {
            rx_packets: stats.rx_packets,
            rx_dropped: stats.rx_dropped,
            tx_packets: stats.tx_packets,
            tx_dropped: stats.tx_dropped,
        }
    }
}

impl Link {
    fn learn(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = kind.to_string(),
            LinkInfo::Data(InfoData::MacVtap(all)) => {
                self.passthru = all.contains(&InfoMacVtap::Mode(MacVtapMode::Passthrough));
            }
            _ => (),
        }
    }
}

/// A socket for requests about links. Each request waits for its answer, which the kernel gives at once.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    namespace: String,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A netlink socket that gets the messages of these groups.
pub(crate) fn socket(namespace: &Namespace, groups: u32) -> Result<OwnedFd, NetdevError> {
    namespace
        .run(|| {
            let socket = rustix::net::socket_with(
                rustix::net::AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                // NETLINK_ROUTE is protocol 0.
                None,
            )?;
            rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
            Ok(socket)
        })?
        .map_err(|errno| NetdevError::admin("opening a netlink socket", errno))
}

impl Netlink {
    /// A socket in that namespace. Reading needs no capability.
    ///
    /// # Errors
    /// [`NetdevError::System`], and those of [`Namespace::run`].
    pub fn open(namespace: &Namespace) -> Result<Self, NetdevError> {
        let socket = socket(namespace, 0)?;
        // The kernel answers before send returns; this is for a kernel that has no memory for the answer.
        let limit = std::time::Duration::from_secs(5);
        set_socket_timeout(&socket, Timeout::Recv, Some(limit))
            .map_err(|errno| NetdevError::admin("opening a netlink socket", errno))?;
        Ok(Self {
            socket,
            namespace: namespace.suffix(),
            sequence: 0,
            buffer: vec![0; ANSWER_SIZE],
        })
    }

    /// The link of that name, or none.
    ///
    /// # Errors
    /// [`NetdevError::System`].
    pub fn find(&mut self, name: &str) -> Result<Option<Link>, NetdevError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.into())];
        self.get(message, name)
    }

    /// The link of that name.
    ///
    /// # Errors
    /// [`NetdevError::NoSuchDevice`], [`NetdevError::System`].
    pub fn link(&mut self, name: &str) -> Result<Link, NetdevError> {
        self.find(name)?.ok_or_else(|| self.none(name.to_owned()))
    }

    /// The link of that number.
    ///
    /// # Errors
    /// [`NetdevError::NoSuchDevice`], [`NetdevError::System`].
    pub fn link_at(&mut self, index: u32) -> Result<Link, NetdevError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let name = format!("number {index}");
        self.get(message, &name)?.ok_or_else(|| self.none(name))
    }

    /// Whether a link has that number.
    pub(crate) fn is_used(&mut self, index: u32) -> Result<bool, NetdevError> {
        match self.link_at(index) {
            Ok(_) => Ok(true),
            Err(NetdevError::NoSuchDevice { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Switches a link on or off.
    ///
    /// # Errors
    /// [`NetdevError::NotPermitted`], [`NetdevError::NoSuchDevice`], [`NetdevError::System`]; so for all that follow.
    pub fn set_up(&mut self, index: u32, on: bool) -> Result<(), NetdevError> {
        self.set_flag(index, LinkFlags::Up, on, "switching a link on or off")
    }

    /// Receives packets to all addresses, or not.
    ///
    /// # Errors
    /// As for [`Netlink::set_up`].
    pub fn set_promiscuous(&mut self, index: u32, on: bool) -> Result<(), NetdevError> {
        self.set_flag(index, LinkFlags::Promisc, on, "setting promiscuous mode")
    }

    /// Receives all multicast packets, or not.
    ///
    /// # Errors
    /// As for [`Netlink::set_up`].
    pub fn set_all_multicast(&mut self, index: u32, on: bool) -> Result<(), NetdevError> {
        self.set_flag(index, LinkFlags::Allmulti, on, "setting all-multicast mode")
    }

    /// Sets the largest payload of a frame.
    ///
    /// # Errors
    /// As for [`Netlink::set_up`].
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetdevError> {
        self.set(
            index,
            LinkAttribute::Mtu(mtu),
            &format!("setting MTU {mtu}"),
        )
    }

    /// Sets the Ethernet address.
    ///
    /// # Errors
    /// As for [`Netlink::set_up`].
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<(), NetdevError> {
        let attribute = LinkAttribute::Address(mac.to_vec());
        self.set(index, attribute, "setting an Ethernet address")
    }

    /// Makes the link a port of a bridge, or of none.
    ///
    /// # Errors
    /// As for [`Netlink::set_up`].
    pub fn set_master(&mut self, index: u32, bridge: Option<u32>) -> Result<(), NetdevError> {
        let attribute = LinkAttribute::Controller(bridge.unwrap_or(0));
        self.set(index, attribute, "adding a port to a bridge")
    }

    /// Gives the link an IP address.
    ///
    /// # Errors
    /// As for [`Netlink::set_up`].
    pub fn add_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> Result<(), NetdevError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = prefix;
        message.header.family = match ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.tell(
            RouteNetlinkMessage::NewAddress(message),
            flags,
            &format!("giving a link the address {ip}/{prefix}"),
        )
    }

    /// Makes a bridge.
    ///
    /// # Errors
    /// As for [`Netlink::set_up`].
    pub fn add_bridge(&mut self, name: &str) -> Result<Link, NetdevError> {
        self.add(name, vec![LinkInfo::Kind(InfoKind::Bridge)], None)
    }

    /// Makes a link of that kind, over another one where the kind wants one.
    pub(crate) fn add(
        &mut self,
        name: &str,
        info: Vec<LinkInfo>,
        lower: Option<u32>,
    ) -> Result<Link, NetdevError> {
        self.add_at(0, name, info, lower)
    }

    /// The same, with a number that is free; 0 for one of the kernel's choice.
    pub(crate) fn add_at(
        &mut self,
        index: u32,
        name: &str,
        info: Vec<LinkInfo>,
        lower: Option<u32>,
    ) -> Result<Link, NetdevError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::LinkInfo(info),
        ];
        message.attributes.extend(lower.map(LinkAttribute::Link));
        self.tell(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
            &format!("making the device {name}"),
        )?;
        self.link(name)
    }

    /// Deletes a link.
    ///
    /// # Errors
    /// As for [`Netlink::set_up`].
    pub fn delete(&mut self, index: u32) -> Result<(), NetdevError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let what = "deleting a device";
        self.tell(RouteNetlinkMessage::DelLink(message), NLM_F_ACK, what)
    }

    fn set_flag(
        &mut self,
        index: u32,
        flag: LinkFlags,
        on: bool,
        what: &str,
    ) -> Result<(), NetdevError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = flag;
        message.header.flags = if on { flag } else { LinkFlags::empty() };
        self.tell(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, what)
    }

    fn set(&mut self, index: u32, attribute: LinkAttribute, what: &str) -> Result<(), NetdevError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![attribute];
        self.tell(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, what)
    }

    fn get(&mut self, message: LinkMessage, name: &str) -> Result<Option<Link>, NetdevError> {
        let what = format!("asking for link {name}");
        match self.exchange(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(Some(RouteNetlinkMessage::NewLink(message))) => Ok(Some(message.into())),
            Err(Errno::NODEV) => Ok(None),
            Ok(_) => Err(NetdevError::admin(what, Errno::PROTO)),
            // A name that no device can have is one that none has.
            Err(Errno::RANGE | Errno::INVAL) => Ok(None),
            Err(errno) => Err(NetdevError::admin(what, errno)),
        }
    }

    fn tell(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: &str,
    ) -> Result<(), NetdevError> {
        match self.exchange(message, flags) {
            Ok(_) => Ok(()),
            Err(Errno::NODEV) => Err(self.none("any more".into())),
            Err(errno) => Err(NetdevError::admin(what, errno)),
        }
    }

    fn none(&self, name: String) -> NetdevError {
        NetdevError::NoSuchDevice {
            name,
            namespace: self.namespace.clone(),
        }
    }

    /// Sends a request and waits for what the kernel says: a message, or that it did it.
    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<RouteNetlinkMessage>, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        loop {
            let (len, _) =
                rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&self.buffer[..len])
                .map_err(|_| Errno::PROTO)?;
            // An answer to a request that timed out.
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
                NetlinkPayload::Error(error) => match error.code {
                    None => Ok(None),
                    Some(code) => Err(Errno::from_raw_os_error(-code.get())),
                },
                _ => Err(Errno::PROTO),
            };
        }
    }
}
