//! One connection: what was negotiated, the memory map, the rings, and what each message does to them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::ioctl_fionbio;
use vring_mem::guest::{DirtyLog, GuestMemory, MAX_REGIONS};
use zerocopy::IntoBytes;

use super::channel::Channel;
pub(super) use super::check::expect_fds;
use super::check::narrow;
use super::inflight::{self, Inflight};
use super::iommu::Iommu;
use super::reply::{Answer, Reply};
use super::ring::{Kick, Ring};
use super::{BackendConfig, BackendHandler, Notifier};
use crate::error::VhostError;
use crate::message::{
    F_PROTOCOL_FEATURES, F_RING_PACKED, FLAG_NEED_REPLY, FLAG_REPLY, Header, MAX_VRING_SIZE,
    MemoryRegion, ProtocolFeatures, Request, VERSION, VERSION_MASK, VRING_INDEX_MASK, VRING_NOFD,
    VringAddr, VringState,
};
use crate::wire::{self, Message};

/// Device status bit by which the driver says that it set its features (virtio 1.x, 2.1).
const STATUS_FEATURES_OK: u8 = 0x08;

pub(super) struct Session<'a> {
    pub(super) config: &'a BackendConfig,
    pub(super) handler: &'a mut dyn BackendHandler,
    pub(super) notifier: &'a Notifier,
    /// Taken by the driver, with `F_PROTOCOL_FEATURES`.
    pub(super) features: u64,
    /// The last SET_FEATURES was refused, so the driver's FEATURES_OK does not hold.
    features_refused: bool,
    pub(super) protocol: ProtocolFeatures,
    status: u8,
    /// What the front end shared.
    pub(super) map: GuestMemory,
    /// Regions of it that were added more than once: a copy for each time but the first.
    pub(super) copies: Vec<MemoryRegion>,
    /// What rings are started with.
    pub(super) memory: Arc<GuestMemory>,
    pub(super) log: Option<Arc<DirtyLog>>,
    pub(super) log_call: Option<Arc<OwnedFd>>,
    pub(super) channel: Option<Channel>,
    pub(super) inflight: Option<Inflight>,
    pub(super) rings: Vec<Ring>,
    pub(super) iommu: Iommu,
}

impl<'a> Session<'a> {
    pub fn new(
        config: &'a BackendConfig,
        handler: &'a mut dyn BackendHandler,
        notifier: &'a Notifier,
    ) -> Self {
        // Whatever was told before is for nobody.
        notifier.take();
        Self {
            config,
            handler,
            notifier,
            features: 0,
            features_refused: false,
            protocol: ProtocolFeatures::empty(),
            status: 0,
            map: GuestMemory::default(),
            copies: Vec::new(),
            memory: Arc::default(),
            log: None,
            log_call: None,
            channel: None,
            inflight: None,
            rings: (0..config.rings()).map(|_| Ring::default()).collect(),
            iommu: Iommu::new(notifier),
        }
    }

    /// Stops all rings and lets go of the memory.
    pub fn close(mut self) {
        self.stop_all();
    }

    /// Does what a message says. Returns the answer to send, if it has one.
    ///
    /// An error ends the connection. A well-formed message with a bad value only does so if the front end did not ask for
    /// an acknowledgement, in which it can be told.
    pub fn handle(&mut self, message: Message) -> Result<Option<Answer>, VhostError> {
        let Header { request, flags, .. } = message.header;
        if flags & (VERSION_MASK | FLAG_REPLY) != VERSION {
            return Err(VhostError::BadHeader {
                expected: "request",
                request,
                flags,
            });
        }
        let known = Request::from_number(request);
        let result = match known {
            Some(known) => self.dispatch(known, &message.payload, message.fds),
            None => Err(VhostError::UnknownRequest(request)),
        };
        // Looked at after the request: SET_PROTOCOL_FEATURES may be the one that makes acknowledgements possible.
        let ack =
            flags & FLAG_NEED_REPLY != 0 && self.protocol.contains(ProtocolFeatures::REPLY_ACK);
        let reply = match result {
            Ok(Some(reply)) => reply,
            Ok(None) if ack => Reply::Number(0),
            Ok(None) => return Ok(None),
            Err(error) if ack && error.is_refusal() && !known.is_some_and(Request::has_reply) => {
                tracing::debug!(%error, "refused a vhost-user request");
                Reply::Number(1)
            }
            Err(error) => return Err(error),
        };
        Ok(Some(reply.to(request)))
    }

    fn dispatch(
        &mut self,
        request: Request,
        payload: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Reply>, VhostError> {
        use Request as R;
        let feature = request.needs();
        if !self.protocol.contains(feature) {
            return Err(VhostError::NotNegotiated { request, feature });
        }
        match request {
            R::SET_MEM_TABLE => return self.set_mem_table(payload, fds).map(|()| None),
            R::ADD_MEM_REG => return self.add_mem_region(payload, fds).map(|()| None),
            R::REM_MEM_REG => return self.remove_mem_region(payload, &fds).map(|()| None),
            R::SET_VRING_KICK | R::SET_VRING_CALL | R::SET_VRING_ERR => {
                return self.set_vring_fd(request, payload, fds).map(|()| None);
            }
            R::SET_LOG_BASE => {
                let area = self.set_log_base(payload, fds)?;
                return Ok(Some(Reply::Bytes(area.as_bytes().to_vec())));
            }
            R::SET_INFLIGHT_FD => return self.set_inflight_fd(payload, fds).map(|()| None),
            R::SET_LOG_FD => return self.set_log_fd(payload, fds).map(|()| None),
            R::SET_BACKEND_REQ_FD => return self.set_backend_req_fd(payload, fds).map(|()| None),
            _ => expect_fds(request, &fds, 0)?,
        }
        match request {
            R::SET_FEATURES | R::SET_PROTOCOL_FEATURES | R::SET_STATUS | R::NET_SET_MTU => {
                let value = wire::parse::<u64>(request, payload)?;
                self.set_number(request, value)?;
            }
            R::SEND_RARP => {
                let [a, b, c, d, e, f, ..] = wire::parse::<[u8; 8]>(request, payload)?;
                self.handler.rarp([a, b, c, d, e, f]);
            }
            R::IOTLB_MSG => self.iotlb_message(wire::parse(request, payload)?)?,
            R::GET_CONFIG => return Ok(Some(Reply::Bytes(self.get_config(payload)?))),
            R::SET_CONFIG => self.set_config(payload)?,
            R::GET_INFLIGHT_FD => {
                let (area, fd) = self.get_inflight_fd(payload)?;
                return Ok(Some(Reply::Inflight(area, fd)));
            }
            R::SET_VRING_ADDR => self.set_vring_addr(wire::parse(request, payload)?)?,
            R::SET_VRING_NUM | R::SET_VRING_BASE | R::SET_VRING_ENABLE | R::GET_VRING_BASE => {
                return self.vring_state(request, wire::parse(request, payload)?);
            }
            _ => {
                wire::parse::<()>(request, payload)?;
                return Ok(self.simple(request));
            }
        }
        Ok(None)
    }

    /// Requests without a payload.
    fn simple(&mut self, request: Request) -> Option<Reply> {
        match request {
            Request::GET_FEATURES => Some(Reply::Number(self.config.offered_features())),
            Request::GET_PROTOCOL_FEATURES => {
                Some(Reply::Number(self.config.offered_protocol().bits()))
            }
            // A net device counts in pairs, as every front end for one expects.
            Request::GET_QUEUE_NUM => Some(Reply::Number(u64::from(self.config.rings() / 2))),
            Request::GET_MAX_MEM_SLOTS => Some(Reply::Number(MAX_REGIONS as u64)),
            Request::GET_STATUS => Some(Reply::Number(self.status.into())),
            Request::RESET_OWNER => {
                self.disable_all();
                None
            }
            Request::RESET_DEVICE => {
                self.reset_device();
                None
            }
            _ => None,
        }
    }

    fn set_number(&mut self, request: Request, value: u64) -> Result<(), VhostError> {
        match request {
            Request::SET_FEATURES => self.set_features(value),
            Request::SET_PROTOCOL_FEATURES => {
                let offered = self.config.offered_protocol();
                match ProtocolFeatures::from_bits(value).filter(|taken| offered.contains(*taken)) {
                    Some(taken) => self.protocol = taken,
                    None => {
                        let reason = format!(
                            "expected a subset of the offered {:#x}, got {value:#x}",
                            offered.bits()
                        );
                        return Err(VhostError::BadValue { request, reason });
                    }
                }
                Ok(())
            }
            Request::SET_STATUS => {
                let status = narrow::<u8>(request, "status", value)?;
                self.set_status(status);
                Ok(())
            }
            _ => {
                let mtu = narrow::<u16>(request, "MTU", value)?;
                self.handler
                    .set_mtu(mtu)
                    .map_err(|reason| VhostError::BadValue { request, reason })
            }
        }
    }

    fn set_features(&mut self, features: u64) -> Result<(), VhostError> {
        let offered = self.config.offered_features();
        self.features_refused = features & !offered != 0;
        if self.features_refused {
            return Err(VhostError::BadValue {
                request: Request::SET_FEATURES,
                reason: format!("expected a subset of the offered {offered:#x}, got {features:#x}"),
            });
        }
        if features != self.features {
            self.stop_all();
            self.features = features;
            self.iommu.forget();
            self.rebuild_memory();
        }
        self.handler.features_acked(features & !F_PROTOCOL_FEATURES);
        self.start_complete();
        Ok(())
    }

    fn set_status(&mut self, status: u8) {
        self.status = status;
        if self.features_refused {
            self.status &= !STATUS_FEATURES_OK;
        }
        if status == 0 {
            // A driver that resets the device is done with its rings. QEMU sends this first when it stops, asks for the bases
            // only then and needs them, so they are kept; a new kick is needed to start again.
            self.stop_all();
            self.forget_kicks();
            self.features_refused = false;
        }
        self.handler.status(self.status);
    }

    /// RESET_OWNER is deprecated, and read in two ways; this one, disabling all rings, is what the specification recommends.
    fn disable_all(&mut self) {
        self.stop_all();
        self.forget_kicks();
        for ring in &mut self.rings {
            ring.enabled = false;
        }
    }

    /// The memory map stays: a front end that adds its regions one by one will not send them again.
    fn reset_device(&mut self) {
        self.stop_all();
        for ring in &mut self.rings {
            *ring = Ring::default();
        }
        self.inflight = None;
        self.status = 0;
        self.features_refused = false;
        self.features &= F_PROTOCOL_FEATURES;
        self.iommu.forget();
        self.rebuild_memory();
        self.handler.reset();
    }

    fn set_vring_addr(&mut self, addr: VringAddr) -> Result<(), VhostError> {
        let request = Request::SET_VRING_ADDR;
        let index = self.ring_index(request, addr.index.into())?;
        self.stop(index);
        self.ring(index).addr = Some(addr);
        self.start(index, request)
    }

    fn vring_state(
        &mut self,
        request: Request,
        state: VringState,
    ) -> Result<Option<Reply>, VhostError> {
        let index = self.ring_index(request, state.index.into())?;
        let bad = |what: &str| VhostError::BadValue {
            request,
            reason: format!("ring {index}: expected {what}, got {}", state.num),
        };
        match request {
            Request::SET_VRING_NUM => {
                if !(1..=MAX_VRING_SIZE).contains(&state.num) {
                    return Err(bad("a size of 1 to 32768"));
                }
                if self.ring(index).running {
                    // The areas of a ring of another size are other areas: it waits for them.
                    self.stop(index);
                    self.ring(index).addr = None;
                }
                self.ring(index).size = state.num;
                self.start(index, request)?;
            }
            Request::SET_VRING_BASE => {
                self.stop(index);
                self.ring(index).base = state.num;
                self.start(index, request)?;
            }
            Request::SET_VRING_ENABLE => {
                let on = match state.num {
                    0 => false,
                    1 => true,
                    _ => return Err(bad("0 or 1")),
                };
                self.set_enabled(index, on);
            }
            _ => {
                self.stop(index);
                self.ring(index).kick = Kick::Unset;
                self.iotlb_flush();
                return Ok(Some(Reply::Vring(VringState {
                    index: state.index,
                    num: self.ring(index).base,
                })));
            }
        }
        Ok(None)
    }

    fn set_enabled(&mut self, index: u16, on: bool) {
        let features = self.features;
        let ring = self.ring(index);
        let before = ring.is_enabled(features);
        ring.enabled = on;
        let now = ring.is_enabled(features);
        if ring.running && before != now {
            self.handler.set_enabled(index, now);
        }
    }

    fn set_vring_fd(
        &mut self,
        request: Request,
        payload: &[u8],
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), VhostError> {
        let value: u64 = wire::parse(request, payload)?;
        expect_fds(request, &fds, usize::from(value & VRING_NOFD == 0))?;
        if value & !(VRING_INDEX_MASK | VRING_NOFD) != 0 {
            return Err(VhostError::BadValue {
                request,
                reason: format!(
                    "expected a ring below 256 and the no-descriptor bit, got {value:#x}"
                ),
            });
        }
        let index = self.ring_index(request, value & VRING_INDEX_MASK)?;
        let fd = fds.pop();
        match request {
            Request::SET_VRING_ERR => self.ring(index).err = fd,
            Request::SET_VRING_CALL => {
                // The data path writes to it, and must not be made to wait by a peer whose counter or pipe is full.
                let _what_cannot_be_written_to = fd.as_ref().map(|fd| ioctl_fionbio(fd, true));
                let call = fd.map(Arc::new);
                self.ring(index).call.clone_from(&call);
                if self.ring(index).running {
                    self.handler.set_call(index, call);
                }
            }
            _ => {
                let kick = fd.map(Arc::new);
                self.ring(index).kick = Kick::new(kick.clone());
                if self.ring(index).running {
                    self.handler.set_kick(index, kick);
                } else {
                    self.start(index, request)?;
                }
            }
        }
        Ok(())
    }

    fn ring_index(&self, request: Request, index: u64) -> Result<u16, VhostError> {
        u16::try_from(index)
            .ok()
            .filter(|index| usize::from(*index) < self.rings.len())
            .ok_or_else(|| VhostError::BadValue {
                request,
                reason: format!("expected a ring below {}, got {index}", self.rings.len()),
            })
    }

    /// `index` comes from [`Session::ring_index`] or from counting the rings.
    fn ring(&mut self, index: u16) -> &mut Ring {
        &mut self.rings[usize::from(index)]
    }

    /// Starts a ring that is complete and not running. With no memory map yet, a ring is not complete.
    fn start(&mut self, index: u16, request: Request) -> Result<(), VhostError> {
        let (features, memory) = (self.features, self.memory.clone());
        let packed = features & F_RING_PACKED != 0;
        let inflight = self.inflight.as_ref();
        let record = inflight.and_then(|inflight| inflight.record(index, packed));
        let iommu = self.has_iommu();
        let ring = self.ring(index);
        if ring.running || !ring.is_complete() || memory.regions().is_empty() {
            return Ok(());
        }
        if iommu && !ring.is_translated(features, &memory) {
            return Ok(());
        }
        let take_up = ring.take_up;
        ring.locate(index, features, &memory, record)
            .and_then(|mut config| {
                if take_up {
                    config.base = inflight::take_up(&config)?;
                }
                self.handler.start_queue(config)
            })
            .map_err(|reason| VhostError::BadValue { request, reason })?;
        let ring = self.ring(index);
        (ring.running, ring.take_up) = (true, false);
        Ok(())
    }

    /// Starts what can be started after a change that concerns all rings. A ring that the change made impossible stays
    /// stopped; it is tried again at the next change.
    pub(super) fn start_complete(&mut self) {
        for index in 0..self.config.rings() {
            if let Err(error) = self.start(index, Request::SET_MEM_TABLE) {
                tracing::debug!(%error, "ring {index} stays stopped");
            }
        }
    }

    pub(super) fn stop(&mut self, index: u16) {
        if self.ring(index).running {
            let base = self.handler.stop_queue(index);
            let ring = self.ring(index);
            ring.base = base;
            ring.running = false;
        }
    }

    pub(super) fn stop_all(&mut self) {
        for index in 0..self.config.rings() {
            self.stop(index);
        }
    }

    /// All rings have another record.
    pub(super) fn take_up_all(&mut self) {
        for ring in &mut self.rings {
            ring.take_up = true;
        }
    }

    pub(super) fn ring_count(&self) -> u16 {
        self.config.rings()
    }

    fn forget_kicks(&mut self) {
        for ring in &mut self.rings {
            ring.kick = Kick::Unset;
        }
        self.iotlb_flush();
    }
}
