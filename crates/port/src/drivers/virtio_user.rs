//! `net_virtio_user`: the virtio driver, on a vhost-user back end or on vhost in the kernel.

mod held;
mod kernel;
mod requests;
mod rings;
mod session;
mod wishes;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use vring_net::{Features, NetConfig};
use vring_vhost::{Endpoint, SocketRole, VhostError};

use super::agree::Half;
use super::control::Control;
use super::kind::check_size;
use super::netdev;
use super::{MAX_QUEUES, Opened, check_queues, random_mac, socket_details};
use crate::port::{Driver, Shared};
use crate::{Device, LinkStatus, Offloads, PortConfig, PortError, PortEvent, PortInfo};
use held::Held;
use session::Session;
use wishes::Wishes;

/// Descriptors of a ring unless something else is asked for, as in DPDK.
const QUEUE_SIZE: u16 = 256;

/// What was asked for.
#[derive(Debug, Clone)]
struct Options {
    name: String,
    /// Queue pairs that are set up.
    pairs: u16,
    rx_size: u16,
    tx_size: u16,
    wanted: Features,
    mtu: u16,
    /// Rings are kept for the back end that comes after one that is gone, where both keep a record.
    inflight: bool,
}

pub(super) fn open(device: &Device, config: &PortConfig) -> Opened {
    let path = device.require("path")?.to_owned();
    let max =
        u16::try_from(device.number("queues", 1, 1, MAX_QUEUES.into())?).unwrap_or(MAX_QUEUES);
    check_queues(device, config, max, max, 1)?;
    let mut wanted = Features::VERSION_1 | Features::MTU;
    wanted.set(Features::MRG_RXBUF, device.switch("mrg_rxbuf", true)?);
    wanted.set(Features::EVENT_IDX, device.switch("event_idx", true)?);
    wanted.set(Features::INDIRECT_DESC, device.switch("indirect", true)?);
    wanted.set(Features::RING_PACKED, device.switch("packed_vq", false)?);
    wanted.set(Features::IN_ORDER, device.switch("in_order", true)?);
    let iommu = device.switch("iommu_platform", false)?;
    wanted.set(Features::ACCESS_PLATFORM, iommu);
    let pairs = config.rx_queues.max(config.tx_queues);
    wanted.set(Features::MQ, pairs > 1);
    wanted |= Half::Driver.features(config.offloads);
    device.switch("cq", false)?;
    let inflight = device.switch("inflight", true)?;
    let options = Options {
        name: device.name.clone(),
        pairs,
        rx_size: ring_size(device, wanted, config.rx_desc)?,
        tx_size: ring_size(device, wanted, config.tx_desc)?,
        wanted,
        mtu: config.mtu,
        inflight,
    };
    if kernel::is_kernel(&path) {
        if iommu {
            let expected = "0 where path is vhost in the kernel, which gets addresses as they are";
            return Err(device.bad("iommu_platform", expected.into(), "1"));
        }
        return kernel::open(device, config, options, &path, max);
    }
    for key in netdev::ARGS {
        if let Some(value) = device.get(key) {
            let expected = "left out where path is the socket of a vhost-user back end";
            return Err(device.bad(key, expected.into(), value));
        }
    }
    let mac = device.mac("mac")?.unwrap_or_else(random_mac);
    let role = if device.switch("server", false)? {
        SocketRole::Listen
    } else {
        SocketRole::Dial
    };

    let shared = Shared::new(&device.name, config)?;
    let endpoint = Endpoint::open(role, &path).map_err(|source| PortError::Vhost {
        name: device.name.clone(),
        source,
    })?;
    let facts = Arc::new(Mutex::new(None));
    let wishes = Arc::new(Wishes::new()?);
    let control = Control::start(&format!("{}-ctl", device.name), {
        let (shared, options, facts) = (shared.clone(), options.clone(), facts.clone());
        let wishes = wishes.clone();
        move |stop| {
            Link {
                shared,
                options,
                facts,
                wishes,
                held: None,
                last_error: None,
            }
            .run(&endpoint, &stop);
        }
    })?;
    Ok((
        shared,
        Box::new(VirtioUser {
            control,
            mac,
            path,
            role,
            max,
            options,
            facts,
            wishes: Mutex::new(Some(wishes)),
        }),
    ))
}

/// `queue_size=` if it is given, else what the application configures, else the default.
fn ring_size(device: &Device, wanted: Features, configured: u16) -> Result<u16, PortError> {
    let default = if configured == 0 {
        QUEUE_SIZE
    } else {
        configured
    };
    let asked = device.number("queue_size", default.into(), 0, usize::MAX)?;
    check_size(&device.name, wanted, asked)
}

struct VirtioUser {
    control: Control,
    mac: [u8; 6],
    path: String,
    role: SocketRole,
    max: u16,
    options: Options,
    facts: Arc<Mutex<Option<Facts>>>,
    /// Until the port is closed.
    wishes: Mutex<Option<Arc<Wishes>>>,
}

impl VirtioUser {
    fn wishes(&self) -> MutexGuard<'_, Option<Arc<Wishes>>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the control thread knows while there is a back end.
#[derive(Debug, Clone, Copy)]
struct Facts {
    features: Features,
    /// What the device says of itself, where it can be asked.
    space: NetConfig,
}

impl Driver for VirtioUser {
    fn info(&self) -> PortInfo {
        let facts = *self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut details = socket_details(&self.path, self.role, facts.is_some());
        let space = facts.map_or_else(NetConfig::default, |facts| facts.space);
        if let Some(mac) = space.mac {
            let digits = mac.map(|byte| format!("{byte:02x}"));
            details.insert("device mac", digits.join(":"));
        }
        if let Some(mtu) = space.mtu {
            details.insert("device mtu", mtu.to_string());
        }
        if let Some(pairs) = space.max_virtqueue_pairs {
            details.insert("device queue pairs", pairs.to_string());
        }
        PortInfo {
            driver: "net_virtio_user",
            max_rx_queues: self.max,
            max_tx_queues: self.max,
            rx_desc: self.options.rx_size,
            tx_desc: self.options.tx_size,
            features: facts
                .map(|facts| facts.features.names())
                .unwrap_or_default(),
            details,
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn offloads(&self) -> Offloads {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.map_or(Offloads::NONE, |facts| {
            Half::Driver.offloads(facts.features)
        })
    }

    fn close(&self) {
        self.control.stop();
        self.wishes().take();
    }

    fn set_queue(&self, receives: bool, index: u16, on: bool) {
        if let Some(wishes) = &*self.wishes()
            && receives
        {
            wishes.set(index, on);
        }
    }
}

/// The control thread: one session after the other.
struct Link {
    shared: Arc<Shared>,
    options: Options,
    facts: Arc<Mutex<Option<Facts>>>,
    wishes: Arc<Wishes>,
    /// The rings that the queues have.
    held: Option<Held>,
    /// The same trouble with a back end that is dialled again and again is told once.
    last_error: Option<String>,
}

impl Link {
    fn run(mut self, endpoint: &Endpoint, stop: &Arc<OwnedFd>) {
        loop {
            let socket = match endpoint.connect(stop.as_fd(), None) {
                Ok(socket) => socket,
                Err(VhostError::Stopped) => return,
                Err(source) => {
                    self.tell(PortError::Vhost {
                        name: self.options.name.clone(),
                        source,
                    });
                    return;
                }
            };
            match Session::start(socket, stop, &self.options, &self.shared, &mut self.held) {
                Ok(session) => self.serve(session, stop),
                Err(error) => self.tell(error),
            }
            // What a back end has recorded waits for the next one. Else it has let go of the rings, and the buffers in them are ours again.
            if !self.held.as_ref().is_some_and(Held::is_recorded) {
                rings::detach(&self.shared);
                self.held = None;
            }
            if is_readable(&**stop) {
                return;
            }
            if endpoint.role() == SocketRole::Dial && pause(stop) {
                return;
            }
        }
    }

    /// The session runs until the back end is gone or the port is closed.
    fn serve(&mut self, mut session: Session, stop: &OwnedFd) {
        self.last_error = None;
        self.heed(&session);
        let why = session.wait(stop, &self.wishes, |session| self.heed(session));
        rings::halt(&self.shared, true);
        self.shared.set_link(LinkStatus::DOWN);
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if matches!(why, VhostError::Stopped) {
            session.shut_down();
        } else if !why.is_disconnect() {
            self.tell(PortError::Vhost {
                name: self.options.name.clone(),
                source: why,
            });
        }
    }

    /// Takes over what the device says of itself.
    fn heed(&self, session: &Session) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(Facts {
            features: session.features(),
            space: session.space(),
        });
        self.shared.set_link(session.link());
    }

    fn tell(&mut self, error: PortError) {
        let message = error.to_string();
        let ordinary = matches!(&error, PortError::Vhost { source, .. } if source.is_disconnect() || matches!(source, VhostError::Stopped));
        if !ordinary && self.last_error.as_ref() != Some(&message) {
            self.shared.events.push(PortEvent::Error(error));
            self.last_error = Some(message);
        }
    }
}

fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Before dialling again, so that a back end that refuses us at once is not dialled in a hot loop. True when it is time to stop.
fn pause(stop: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(stop, PollFlags::IN)];
    let redial = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    poll(&mut fds, Some(&redial)).is_ok_and(|ready| ready > 0)
}
