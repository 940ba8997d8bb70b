//! The other kind of back end: vhost in the kernel, between the rings and a device of the kernel's.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use vring_net::soft::RxConfig;
use vring_net::{Features, HeaderLayout};
use vring_netdev::take_drops;
use vring_vhost::kernel::SUPPLIES_HEADER;
use vring_vhost::{Kernel, KernelError, KernelRegion, Workers};

use super::Options;
use super::rings::{Rings, detach, device_address};
use crate::drivers::Opened;
use crate::drivers::agree::{Half, acknowledge};
use crate::drivers::control::Control;
use crate::drivers::netdev::{self, Ask, Handle, Kind, Netdev, Seen, Wanted, Watch};
use crate::event::eventfd;
use crate::port::{AppliedBy, Driver, RxParts, Shared};
use crate::{Device, LinkStatus, Offloads, PortConfig, PortError, PortInfo};

/// Whether that path is vhost in the kernel, as in DPDK: a character device. One that is not there is so by its name.
pub(super) fn is_kernel(path: &str) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.file_type().is_char_device(),
        Err(_) => path.starts_with("/dev/vhost"),
    }
}

/// Opens the port. Everything is there at once, or is an error now: the kernel does not come later, as a process may.
pub(super) fn open(
    device: &Device,
    config: &PortConfig,
    options: Options,
    path: &str,
    max: u16,
) -> Opened {
    let wanted = Wanted::parse(device)?;
    let tuning = Tuning {
        busy_poll: device.number("busy_poll", 0, 0, 1_000_000)?,
        workers: device.number("workers", 1, 1, 2)?,
    };
    let shared = Shared::new(&device.name, config)?;
    let session = Session::start(path, &wanted, &options, &shared, tuning)?;
    let workers = session.workers;
    let (features, mac) = (session.features, session.device.mac);
    let handle = Handle::new(&device.name, session.device.clone());
    let watch = Watch::new(&session.device, session.device.watched_mtu()).map_err(|source| {
        PortError::Netdev {
            name: device.name.clone(),
            source,
        }
    })?;
    let control = Control::start(&format!("{}-ctl", device.name), {
        let shared = shared.clone();
        move |stop| session.run(watch, &shared, &stop)
    })?;
    let port = VirtioKernel {
        control,
        device: handle,
        mac,
        max,
        options,
        features,
        path: path.to_owned(),
        workers,
    };
    Ok((shared, Box::new(port)))
}

struct VirtioKernel {
    control: Control,
    device: Handle,
    mac: [u8; 6],
    max: u16,
    options: Options,
    features: Features,
    path: String,
    workers: usize,
}

/// How the kernel's side works.
#[derive(Debug, Clone, Copy)]
struct Tuning {
    /// Microseconds that a worker looks for work before it sleeps.
    busy_poll: usize,
    /// Workers of a queue pair, where the kernel lets one choose.
    workers: usize,
}

impl Driver for VirtioKernel {
    fn info(&self) -> PortInfo {
        let mut details = self.device.details();
        details.insert("back end", self.path.clone());
        details.insert("workers", format!("{} a queue pair", self.workers));
        PortInfo {
            driver: "net_virtio_user",
            max_rx_queues: self.max,
            max_tx_queues: self.max,
            rx_desc: self.options.rx_size,
            tx_desc: self.options.tx_size,
            features: self.features.names(),
            details,
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn offloads(&self) -> Offloads {
        Half::Driver.offloads(self.features)
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

    fn set_link(&self, up: bool) -> Result<AppliedBy, PortError> {
        self.device.set_link(up)
    }

    fn set_mtu(&self, mtu: u16) -> Result<AppliedBy, PortError> {
        self.device.set_mtu(mtu)
    }
}

/// Rings that the kernel serves. The fields are dropped in this order: the kernel lets go before the memory goes.
struct Session {
    /// One for each queue pair.
    vhosts: Vec<Kernel>,
    /// Readable when the kernel found a ring broken.
    broken: OwnedFd,
    device: Arc<Netdev>,
    features: Features,
    rings: Rings,
    /// Of each queue pair.
    workers: usize,
}

impl Session {
    fn start(
        path: &str,
        wanted: &Wanted,
        options: &Options,
        shared: &Shared,
        tuning: Tuning,
    ) -> Result<Self, PortError> {
        let kernel = |source| PortError::Kernel {
            name: options.name.clone(),
            source,
        };
        let owner = if tuning.workers > 1 {
            Workers::Process
        } else {
            Workers::Kernel
        };
        let vhosts: Vec<_> = (0..options.pairs)
            .map(|_| Kernel::open(path, owner))
            .collect::<Result<_, _>>()
            .map_err(kernel)?;
        // The transmit ring's own, or none: the kernel's default is as good as what it does not have.
        let apart = tuning.workers > 1 && vhosts.iter().all(|vhost| vhost.own_worker(1));
        // In place of ANY_LAYOUT it has something else, see there.
        let known =
            Features::from_bits_retain(vhosts[0].features().map_err(kernel)? & !SUPPLIES_HEADER);
        let header = HeaderLayout::of(known & options.wanted).len;
        let offloads = Half::Driver.features(Offloads::VIRTIO);
        let ask = Ask {
            queues: options.pairs,
            header: u8::try_from(header).unwrap_or(u8::MAX),
            mtu: options.mtu,
            offloads: offloads & acknowledge(known | offloads, options.wanted, Features::CTRL_VQ),
        };
        let device = Netdev::open(wanted, ask)?;
        // What a header says passes through vhost: the device's side of it is the kernel's device.
        let wanted = options.wanted | device.offloads;
        let features = acknowledge(known | device.offloads, wanted, Features::CTRL_VQ);

        let session = Self {
            vhosts,
            broken: eventfd()?,
            device: Arc::new(device),
            features,
            rings: Rings::new(options, features)?,
            workers: if apart { 2 } else { 1 },
        };
        session
            .set_up(shared, known, tuning.busy_poll)
            .map_err(kernel)?;
        session.rings.attach(shared)?;
        session.count_missed(shared);
        session
            .start_rings()
            .map_err(kernel)
            .inspect_err(|_| session.stop(shared))?;
        Ok(session)
    }

    /// A packet socket counts what it has no room for; what a tap has none for is in the counters of its device.
    fn count_missed(&self, shared: &Shared) {
        if self.device.kind != Kind::Packet {
            return;
        }
        for (queue, socket) in shared.rx.iter().zip(&self.device.queues) {
            let socket = socket.clone();
            // A look that fails counts next time.
            queue.set_missed(Some(Box::new(move || {
                take_drops(socket.as_fd()).unwrap_or(0).into()
            })));
        }
    }

    /// All but the devices.
    fn set_up(
        &self,
        shared: &Shared,
        known: Features,
        busy_poll: usize,
    ) -> Result<(), KernelError> {
        let mut features = (self.features & known).bits();
        if !self.device.has_header {
            features |= SUPPLIES_HEADER;
        }
        let memory = [&**shared.pool.region(), &self.rings.region].map(|region| KernelRegion {
            guest_addr: device_address(region),
            size: region.len() as u64,
            user_addr: device_address(region),
            flags: 0,
        });
        for (vhost, pair) in self.vhosts.iter().zip(self.rings.rings.chunks(2)) {
            vhost.set_features(features)?;
            vhost.set_mem_table(&memory)?;
            for (index, ring) in (0..).zip(pair) {
                vhost.set_vring_num(index, ring.size)?;
                vhost.set_vring_base(index, 0)?;
                vhost.set_vring_addr(index, self.rings.addresses(ring))?;
                vhost.set_vring_kick(index, ring.kick.as_fd())?;
                vhost.set_vring_call(index, ring.call.as_fd())?;
                vhost.set_vring_err(index, self.broken.as_fd())?;
                if busy_poll > 0 {
                    let microseconds = u32::try_from(busy_poll).unwrap_or(u32::MAX);
                    vhost.set_busy_poll(index, microseconds)?;
                }
            }
        }
        Ok(())
    }

    /// Gives each ring its device.
    fn start_rings(&self) -> Result<(), KernelError> {
        for (vhost, queue) in self.vhosts.iter().zip(&self.device.queues) {
            for index in 0..2 {
                vhost.set_backend(index, Some(queue.as_fd()))?;
            }
        }
        Ok(())
    }

    /// Takes the devices away, and then the rings from the queues: from here on nobody touches the buffers in them.
    fn stop(&self, shared: &Shared) {
        shared.set_link(LinkStatus::DOWN);
        for vhost in &self.vhosts {
            for index in 0..2 {
                let _it_has_none = vhost.set_backend(index, None);
            }
        }
        detach(shared);
    }

    /// The control thread.
    fn run(self, mut watch: Watch, shared: &Shared, stop: &OwnedFd) {
        let why = watch.run(shared, stop, Some(&self.broken));
        self.stop(shared);
        let name = &self.device.name;
        match why {
            Seen::Stopped => return,
            Seen::Gone => netdev::tell_gone(shared, name),
            Seen::Alarm => netdev::tell(
                shared,
                "vhost found a ring broken and stopped; close the port and open it again",
            ),
        }
        netdev::wait(stop);
    }
}
