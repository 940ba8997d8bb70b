//! `net_af_packet`: any Ethernet device of the kernel's, by packet sockets with rings. The kernel goes on using the device.

mod rx;
mod tx;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};
use vring_net::soft::RxConfig;
use vring_netdev::{Fanout, NetdevError, Netlink, PacketSocket, RingShape};

use super::control::Control;
use super::netdev::{self, Handle, Kind, Netdev, Watch};
use super::{MAX_QUEUES, Opened, check_queues};
use crate::port::{AppliedBy, Driver, RxParts, Shared};
use crate::{Device, PortConfig, PortError, PortInfo};
use rx::PacketRx;
use tx::PacketTx;

/// Bytes of a page: blocks are whole ones.
const PAGE: usize = 4096;

/// What the arguments ask of a socket.
struct Options {
    shape: RingShape,
    qdisc_bypass: bool,
}

pub(super) fn open(device: &Device, config: &PortConfig) -> Opened {
    let max = device.number("qpairs", 1, 1, MAX_QUEUES.into())?;
    let max = u16::try_from(max).unwrap_or(MAX_QUEUES);
    check_queues(device, config, max, max, 0)?;
    let options = Options {
        shape: shape(device)?,
        qdisc_bypass: device.switch("qdisc_bypass", false)?,
    };
    let fail = |source| PortError::Netdev {
        name: device.name.clone(),
        source,
    };
    let namespace = netdev::namespace(device)?;
    let name = device.require("iface")?;
    let link = Netlink::open(&namespace)
        .and_then(|mut netlink| netlink.link(name))
        .map_err(fail)?;
    let mut netdev = Netdev::of(link, Kind::Packet, namespace);
    let shared = Shared::new(&device.name, config)?;
    let mtu = Arc::new(AtomicU32::new(netdev.mtu));
    for pair in 0..config.rx_queues.max(config.tx_queues) {
        let socket = attach(&shared, &netdev, &mtu, &options, usize::from(pair))?;
        netdev.queues.push(Arc::new(socket));
    }
    let netdev = Arc::new(netdev);
    let watch = Watch::new(&netdev, mtu).map_err(fail)?;
    let control = watch.start(&shared, &netdev.name)?;
    let port = Packet {
        control,
        max,
        mac: device.mac("mac")?.unwrap_or(netdev.mac),
        frames: u16::try_from(options.shape.frames).unwrap_or(u16::MAX),
        device: Handle::new(&device.name, netdev),
    };
    Ok((shared, Box::new(port)))
}

/// `blocksz=`, `framesz=`, `framecnt=`, with DPDK's defaults.
fn shape(device: &Device) -> Result<RingShape, PortError> {
    let frame_size = device.number("framesz", 2048, 128, 1 << 20)?;
    let block_size = device.number(
        "blocksz",
        PAGE.max(frame_size.next_multiple_of(PAGE)),
        PAGE,
        1 << 24,
    )?;
    let frames = device.number("framecnt", 512, 1, 1 << 16)?;
    if frame_size % 16 != 0 || frame_size > block_size {
        let expected = format!("a multiple of 16, at most blocksz ({block_size})");
        return Err(device.bad("framesz", expected, &frame_size.to_string()));
    }
    if block_size % PAGE != 0 {
        let expected = format!("a multiple of {PAGE}");
        return Err(device.bad("blocksz", expected, &block_size.to_string()));
    }
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(RingShape {
        block_size: narrow(block_size),
        frame_size: narrow(frame_size),
        frames: narrow(frames),
    })
}

/// Gives one pair of queues its socket, of which it returns a second descriptor. Where there is no receive queue, the socket receives nothing: what it got would be lost.
fn attach(
    shared: &Shared,
    device: &Netdev,
    mtu: &Arc<AtomicU32>,
    options: &Options,
    pair: usize,
) -> Result<OwnedFd, PortError> {
    let receives = pair < shared.rx.len();
    let spread = receives && shared.rx.len() > 1;
    let rings = || -> Result<_, NetdevError> {
        let socket = PacketSocket::open(&device.place().namespace, &device.name)?;
        socket.ignore_outgoing()?;
        if options.qdisc_bypass {
            socket.bypass_qdisc()?;
        }
        let rings = socket.with_rings(options.shape, receives)?;
        if spread {
            rings
                .0
                .socket()
                .join(netdev::fanout_group(device.place().index), Fanout::Hash)?;
        }
        Ok(rings)
    };
    let (rx, tx) = rings().map_err(|source| PortError::Netdev {
        name: shared.name.clone(),
        source,
    })?;
    // Room for all frames at once, else the kernel refuses what the ring holds. Without the right to more, what there is must do.
    let room = 2 * options.shape.frames as usize * options.shape.frame_size as usize;
    let _ordinary = set_socket_send_buffer_size_force(&rx, room)
        .or_else(|_| set_socket_send_buffer_size(&rx, room));
    let socket = fcntl_dupfd_cloexec(rx.socket(), 3).map_err(|e| PortError::system("fcntl", e))?;
    if let Some(queue) = shared.rx.get(pair) {
        queue.set_wake_source(Some(Arc::new(netdev::readable(&rx)?)))?;
        queue.attach(Box::new(PacketRx::new(rx, &shared.pool)), None);
    }
    if let Some(queue) = shared.tx.get(pair) {
        let path = PacketTx::new(tx, &shared.pool, options.shape.tx_room(), mtu.clone());
        queue.attach(Box::new(path), None);
    }
    Ok(socket)
}

struct Packet {
    control: Control,
    max: u16,
    mac: [u8; 6],
    frames: u16,
    device: Handle,
}

impl Driver for Packet {
    fn info(&self) -> PortInfo {
        PortInfo {
            driver: "net_af_packet",
            max_rx_queues: self.max,
            max_tx_queues: self.max,
            rx_desc: self.frames,
            tx_desc: self.frames,
            details: self.device.details(),
            ..Default::default()
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn close(&self) {
        self.control.stop();
        self.device.close();
    }

    fn set_mac(&self, mac: [u8; 6]) -> Result<AppliedBy, PortError> {
        self.device.set_mac(mac)
    }

    fn set_rx_mode(&self, config: &RxConfig) -> Result<RxParts, PortError> {
        self.device.set_rx_mode(config)
    }

    fn set_mtu(&self, mtu: u16) -> Result<AppliedBy, PortError> {
        self.device.set_mtu(mtu)
    }
}
