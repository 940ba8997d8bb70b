//! `net_vhost`: the device side of a guest's or container's virtio-net, over vhost-user.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vring_mem::guest::GuestMemory;
use vring_net::{Features, HeaderLayout, NetConfig, rarp_request};
use vring_vhost::{
    BackendConfig, BackendHandler, BackendServer, Notifier, ProtocolFeatures, SocketRole,
    VhostError, VringConfig,
};

use super::agree::Half;
use super::control::Control;
use super::kind::DeviceKind;
use super::paths::{device_rx, device_tx};
use super::{MAX_QUEUES, Opened, check_queues, socket_details};
use crate::event::by_eventfd;
use crate::port::{AppliedBy, Driver, Shared};
use crate::{
    Device, LinkStatus, Offloads, PortConfig, PortError, PortEvent, PortInfo, RxOffloads,
    TxOffloads,
};

/// What is offered always. The guest's VMM answers for the rest.
const OFFERED: Features = Features::VERSION_1
    .union(Features::ANY_LAYOUT)
    .union(Features::MTU)
    .union(Features::GUEST_ANNOUNCE);

/// Some of it only if the port's arguments say so: most VMMs have the configuration space of a net device themselves, and warn of a back end
/// that has it too.
const OFFERED_PROTOCOL: ProtocolFeatures = ProtocolFeatures::IMPLEMENTED;

pub(super) fn open(device: &Device, config: &PortConfig) -> Opened {
    let path = device.require("iface")?.to_owned();
    let queues = device.number("queues", 1, 1, MAX_QUEUES.into())?;
    let queues = u16::try_from(queues).unwrap_or(MAX_QUEUES);
    check_queues(device, config, queues, queues, 1)?;
    let role = if device.switch("client", false)? {
        SocketRole::Dial
    } else {
        SocketRole::Listen
    };
    let mut features = OFFERED;
    features.set(Features::MRG_RXBUF, device.switch("mrg_rxbuf", true)?);
    features.set(Features::EVENT_IDX, device.switch("event_idx", true)?);
    features.set(Features::INDIRECT_DESC, device.switch("indirect", true)?);
    features.set(Features::RING_PACKED, device.switch("packed_vq", true)?);
    features.set(Features::IN_ORDER, device.switch("in_order", true)?);
    features.set(Features::MQ, queues > 1);
    features |= offered_offloads(config.offloads, device.switch("tso", false)?);
    let keeps_partial = device.switch("legacy-ol-flags", false)?;
    let iommu = device.switch("iommu-support", false)?;
    features.set(Features::ACCESS_PLATFORM, iommu);
    let mut protocol_features = OFFERED_PROTOCOL;
    let config_space = device.switch("config", false)?;
    features.set(Features::STATUS, config_space);
    features.set(Features::SPEED_DUPLEX, config_space);
    protocol_features.set(ProtocolFeatures::CONFIG, config_space);
    protocol_features.set(ProtocolFeatures::BACKEND_REQ, iommu || config_space);
    protocol_features.set(
        ProtocolFeatures::INFLIGHT_SHMFD,
        device.switch("inflight", true)?,
    );
    let mac = device.mac("mac")?.unwrap_or_else(next_mac);

    let shared = Shared::new(&device.name, config)?;
    let facts = Arc::new(Mutex::new(Facts::default()));
    let space = Arc::new(Mutex::new(NetConfig {
        status: Some(NetConfig::LINK_UP),
        max_virtqueue_pairs: Some(queues),
        mtu: Some(config.mtu),
        speed: Some(LinkStatus::UP.speed),
        duplex: Some(1),
        ..NetConfig::default()
    }));
    let handler = Handler {
        shared: shared.clone(),
        facts: facts.clone(),
        space: space.clone(),
        rings: (0..2 * queues).map(|_| None).collect(),
        last_error: None,
    };
    let backend = BackendConfig {
        features: features.bits(),
        protocol_features,
        max_queues: 2 * queues,
    };
    let vhost = |source| PortError::Vhost {
        name: device.name.clone(),
        source,
    };
    let server = BackendServer::open(role, &path, backend, handler).map_err(vhost)?;
    let notifier = server.notifier().clone();
    let control = Control::start(&format!("{}-ctl", device.name), {
        let shared = shared.clone();
        move |stop| {
            if let (_, source) = server.run(&stop)
                && !matches!(source, VhostError::Stopped)
            {
                shared.events.push(PortEvent::Error(PortError::Vhost {
                    name: shared.name.clone(),
                    source,
                }));
            }
        }
    })?;
    Ok((
        shared,
        Box::new(Vhost {
            control,
            mac,
            path,
            role,
            queues,
            keeps_partial,
            facts,
            space,
            notifier: Mutex::new(Some(notifier)),
        }),
    ))
}

/// Guests take whatever a port may send, and leave checksums of their own out: a port completes them where nobody asked for such packets.
/// Packets to be cut come to those only who did, as in DPDK.
fn offered_offloads(mut asked: Offloads, tso: bool) -> Features {
    asked.rx |= RxOffloads::CHECKSUM;
    asked
        .rx
        .set(RxOffloads::LRO, tso || asked.rx.contains(RxOffloads::LRO));
    asked.tx = TxOffloads::all();
    Half::Device.features(asked)
}

/// DPDK's addresses for this driver: `VHOST` and a number.
fn next_mac() -> [u8; 6] {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    [0x56, 0x48, 0x4f, 0x53, 0x54, number[0]]
}

struct Vhost {
    control: Control,
    mac: [u8; 6],
    path: String,
    role: SocketRole,
    queues: u16,
    keeps_partial: bool,
    facts: Arc<Mutex<Facts>>,
    space: Arc<Mutex<NetConfig>>,
    /// Until the port is closed.
    notifier: Mutex<Option<Arc<Notifier>>>,
}

impl Vhost {
    fn notifier(&self) -> MutexGuard<'_, Option<Arc<Notifier>>> {
        self.notifier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration space says something else from now on, and a front end that asked to be told is told.
    fn change_space(&self, change: impl FnOnce(&mut NetConfig)) {
        change(&mut self.space.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(notifier) = &*self.notifier() {
            notifier.config_changed();
        }
    }
}

/// What the control thread knows and [`Vhost::info`] tells.
#[derive(Debug, Default, Clone)]
struct Facts {
    connected: bool,
    features: Option<Features>,
    mtu: Option<u16>,
    rx_desc: u16,
    tx_desc: u16,
}

impl Driver for Vhost {
    fn info(&self) -> PortInfo {
        let facts = self
            .facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut details = socket_details(&self.path, self.role, facts.connected);
        if let Some(mtu) = facts.mtu {
            details.insert("peer mtu", mtu.to_string());
        }
        PortInfo {
            driver: "net_vhost",
            max_rx_queues: self.queues,
            max_tx_queues: self.queues,
            rx_desc: facts.rx_desc,
            tx_desc: facts.tx_desc,
            features: facts.features.map(Features::names).unwrap_or_default(),
            details,
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn offloads(&self) -> Offloads {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts
            .features
            .map_or(Offloads::NONE, |agreed| Half::Device.offloads(agreed))
    }

    fn keeps_partial(&self) -> bool {
        self.keeps_partial
    }

    fn close(&self) {
        self.control.stop();
        self.notifier().take();
    }

    fn set_link(&self, up: bool) -> Result<AppliedBy, PortError> {
        let status = if up { NetConfig::LINK_UP } else { 0 };
        self.change_space(|space| space.status = Some(status));
        Ok(AppliedBy::Software)
    }

    fn set_mtu(&self, mtu: u16) -> Result<AppliedBy, PortError> {
        self.change_space(|space| space.mtu = Some(mtu));
        Ok(AppliedBy::Software)
    }
}

/// A ring that runs, and whether packets may pass.
struct Running {
    config: VringConfig,
    enabled: bool,
}

struct Handler {
    shared: Arc<Shared>,
    facts: Arc<Mutex<Facts>>,
    space: Arc<Mutex<NetConfig>>,
    rings: Vec<Option<Running>>,
    /// The same trouble with a peer that comes again and again is told once.
    last_error: Option<String>,
}

/// The driver transmits on odd rings: there we receive.
fn receives(index: u16) -> bool {
    index % 2 == 1
}

impl Handler {
    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets packets pass. Rings without a queue of ours are left alone.
    fn attach(&self, config: &VringConfig) -> Result<(), PortError> {
        let features = Features::from_bits_retain(config.features);
        let layout = HeaderLayout::of(features);
        let pair = usize::from(config.index / 2);
        let ring = DeviceKind::new(config).map_err(|fault| PortError::Peer {
            name: self.shared.name.clone(),
            what: fault.to_string(),
            code: "ERR_VRING_PEER",
        })?;
        let pool = self.shared.pool.clone();
        if receives(config.index) {
            if let Some(queue) = self.shared.rx.get(pair) {
                queue.set_wake_source(config.kick.clone())?;
                queue.attach(
                    device_rx(ring, config, pool, layout),
                    by_eventfd(config.call.clone()),
                );
            }
        } else if let Some(queue) = self.shared.tx.get(pair) {
            queue.attach(
                device_tx(ring, config, pool, layout),
                by_eventfd(config.call.clone()),
            );
        }
        Ok(())
    }

    /// Lets no packet pass; where the ring would go on.
    fn detach(&self, index: u16) -> Option<u32> {
        let pair = usize::from(index / 2);
        if receives(index) {
            let queue = self.shared.rx.get(pair)?;
            let base = queue.with_path(|path| path.base());
            queue.detach();
            let _the_set_is_ours = queue.set_wake_source(None);
            base
        } else {
            let queue = self.shared.tx.get(pair)?;
            let base = queue.with_path(|path| path.base());
            queue.detach();
            base
        }
    }

    /// The link is up while packets can pass on the first pair.
    fn update_link(&self) {
        let passes = |ring: &Option<Running>| ring.as_ref().is_some_and(|ring| ring.enabled);
        let up = self.rings.iter().take(2).all(passes);
        self.shared
            .set_link(if up { LinkStatus::UP } else { LinkStatus::DOWN });
    }

    fn running(&mut self, index: u16) -> Option<&mut Running> {
        self.rings.get_mut(usize::from(index))?.as_mut()
    }

    fn call_fd(&self, index: u16, call: Option<Arc<OwnedFd>>) {
        let pair = usize::from(index / 2);
        if receives(index) {
            self.shared
                .rx
                .get(pair)
                .inspect(|queue| queue.set_notify(by_eventfd(call)));
        } else {
            self.shared
                .tx
                .get(pair)
                .inspect(|queue| queue.set_notify(by_eventfd(call)));
        }
    }
}

impl BackendHandler for Handler {
    fn connected(&mut self) {
        self.facts().connected = true;
    }

    fn disconnected(&mut self, why: &VhostError) {
        *self.facts() = Facts::default();
        self.shared.set_link(LinkStatus::DOWN);
        if why.is_disconnect() || matches!(why, VhostError::Stopped) {
            return;
        }
        let message = why.to_string();
        if self.last_error.as_ref() != Some(&message) {
            let what =
                format!("the connection was ended, because the peer broke the protocol: {message}");
            self.shared.events.push(PortEvent::Error(PortError::Peer {
                name: self.shared.name.clone(),
                what,
                code: why.code(),
            }));
            self.last_error = Some(message);
        }
    }

    fn features_acked(&mut self, features: u64) {
        self.facts().features = Some(Features::from_bits_retain(features));
    }

    fn start_queue(&mut self, config: VringConfig) -> Result<(), String> {
        let (index, enabled) = (config.index, config.enabled);
        {
            let mut facts = self.facts();
            let desc = if receives(index) {
                &mut facts.rx_desc
            } else {
                &mut facts.tx_desc
            };
            *desc = config.size;
        }
        if enabled {
            self.attach(&config).map_err(|error| error.to_string())?;
        }
        if let Some(slot) = self.rings.get_mut(usize::from(index)) {
            *slot = Some(Running { config, enabled });
        }
        self.update_link();
        Ok(())
    }

    fn stop_queue(&mut self, index: u16) -> u32 {
        let base = self.detach(index);
        let ring = self
            .rings
            .get_mut(usize::from(index))
            .and_then(Option::take);
        self.update_link();
        base.or(ring.map(|ring| ring.config.base)).unwrap_or(0)
    }

    fn set_call(&mut self, index: u16, call: Option<Arc<OwnedFd>>) {
        if let Some(ring) = self.running(index) {
            ring.config.call = call.clone();
            if ring.enabled {
                self.call_fd(index, call);
            }
        }
    }

    fn set_kick(&mut self, index: u16, kick: Option<Arc<OwnedFd>>) {
        let Some(ring) = self.running(index) else {
            return;
        };
        ring.config.kick = kick.clone();
        if ring.enabled
            && receives(index)
            && let Some(queue) = self.shared.rx.get(usize::from(index / 2))
        {
            if let Err(error) = queue.set_wake_source(kick) {
                self.shared.events.push(PortEvent::Error(error));
            }
            queue.nudge();
        }
    }

    fn set_enabled(&mut self, index: u16, on: bool) {
        let Some(ring) = self
            .rings
            .get_mut(usize::from(index))
            .and_then(Option::take)
        else {
            return;
        };
        let mut ring = ring;
        if ring.enabled != on {
            ring.enabled = on;
            if !on {
                ring.config.base = self.detach(index).unwrap_or(ring.config.base);
            } else if let Err(error) = self.attach(&ring.config) {
                ring.enabled = false;
                self.shared.events.push(PortEvent::Error(error));
            }
        }
        self.rings[usize::from(index)] = Some(ring);
        self.update_link();
    }

    fn set_memory(&mut self, memory: &Arc<GuestMemory>) {
        for ring in self.rings.iter_mut().flatten() {
            ring.config.memory = memory.clone();
            if !ring.enabled {
                continue;
            }
            let pair = usize::from(ring.config.index / 2);
            if receives(ring.config.index) {
                let queue = self.shared.rx.get(pair);
                queue.and_then(|queue| queue.with_path(|path| path.set_memory(memory)));
            } else {
                let queue = self.shared.tx.get(pair);
                queue.and_then(|queue| queue.with_path(|path| path.set_memory(memory)));
            }
        }
    }

    fn config(&mut self) -> Vec<u8> {
        let space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        space.write().to_vec()
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), String> {
        if mtu < 68 {
            return Err(format!("expected an MTU of at least 68, got {mtu}"));
        }
        self.facts().mtu = Some(mtu);
        self.shared.events.push(PortEvent::Mtu(mtu));
        Ok(())
    }

    /// Whoever forwards what the port receives passes the announcement on, and switches learn where the guest is now.
    fn rarp(&mut self, mac: [u8; 6]) {
        if let Some(queue) = self.shared.rx.first() {
            queue.put(&rarp_request(mac));
        }
        self.shared.events.push(PortEvent::Rarp(mac));
    }
}
