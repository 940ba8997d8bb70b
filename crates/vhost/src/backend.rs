//! The device's end: serves one front end at a time, keeps the state of its rings and its memory, and tells a
//! [`BackendHandler`] what to do.

mod channel;
mod check;
mod config;
mod inflight;
mod iommu;
mod log;
mod memory;
mod notifier;
mod reply;
mod ring;
mod server;
mod session;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use vring_mem::guest::{GuestMemory, RingLog};
use vring_ring::inflight::Record;

pub use notifier::Notifier;
pub use server::BackendServer;

use crate::error::VhostError;
use crate::message::{F_LOG_ALL, F_PROTOCOL_FEATURES, MAX_VRINGS, ProtocolFeatures, Request};
use crate::wire::{self, Wait};
use session::Session;

/// How long a front end may take to complete a message that it began, or to read an answer.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a back end offers.
#[derive(Clone, Copy, Debug)]
pub struct BackendConfig {
    /// Virtio features. `F_PROTOCOL_FEATURES` need not be among them: it is offered anyway, unless `protocol_features` is empty. So is
    /// `F_LOG_ALL` with `LOG_SHMFD`.
    pub features: u64,
    /// Protocol features. Those that this crate does not implement are not offered.
    pub protocol_features: ProtocolFeatures,
    /// Rings: two for each queue pair, at most 256.
    pub max_queues: u16,
}

impl BackendConfig {
    fn offered_features(&self) -> u64 {
        let (mut features, protocol) = (
            self.features & !(F_PROTOCOL_FEATURES | F_LOG_ALL),
            self.offered_protocol(),
        );
        if !protocol.is_empty() {
            features |= F_PROTOCOL_FEATURES;
        }
        if protocol.contains(ProtocolFeatures::LOG_SHMFD) {
            features |= F_LOG_ALL;
        }
        features
    }

    fn offered_protocol(&self) -> ProtocolFeatures {
        self.protocol_features & ProtocolFeatures::IMPLEMENTED
    }

    fn rings(&self) -> u16 {
        self.max_queues.min(MAX_VRINGS)
    }
}

/// A ring that can be used from now on. The three areas were checked to be aligned and wholly inside one region each of
/// `memory`, which keeps them mapped as long as it is held.
#[derive(Debug)]
pub struct VringConfig {
    /// Number of the ring: even ones receive (from the driver's view), odd ones transmit.
    pub index: u16,
    /// Descriptors. A power of two unless `features` have the packed layout.
    pub size: u16,
    /// Descriptor area; packed: the ring. Aligned to 16.
    pub desc: NonNull<u8>,
    /// Driver area: avail ring (aligned to 2); packed: driver event suppression (aligned to 4).
    pub avail: NonNull<u8>,
    /// Device area: used ring; packed: device event suppression. Aligned to 4.
    pub used: NonNull<u8>,
    /// Where to go on: split, the next avail index; packed, indexes and wrap counters as the specification packs them.
    pub base: u32,
    /// Where the device records what is in flight, if the front end passed a record. What another back end left there has been taken up.
    pub record: Option<Record>,
    /// The virtio features that the driver took.
    pub features: u64,
    /// Whether packets may pass yet; [`BackendHandler::set_enabled`] changes it.
    pub enabled: bool,
    /// The memory that the ring's descriptors point into. While it has a log, what the device writes is marked there.
    pub memory: Arc<GuestMemory>,
    /// Where the ring itself is for that log; none if only packets are to be logged.
    pub log: Option<RingLog>,
    /// Readable when the driver added buffers; none if the ring is to be polled.
    pub kick: Option<Arc<OwnedFd>>,
    /// Written when buffers were used; none if the driver polls.
    pub call: Option<Arc<OwnedFd>>,
}

// SAFETY: the pointers are addresses into mappings that `memory` (in the same struct) keeps alive, not borrows; what may
// be done with them on which thread is decided by who builds a ring from them.
unsafe impl Send for VringConfig {}

/// The device. All methods are called on the thread that serves the connection, never two at once.
///
/// Between [`BackendHandler::start_queue`] and [`BackendHandler::stop_queue`] of one index a ring is *running*; the calls
/// about kicks, calls and enabling come for running rings only. A ring is stopped before anything about it changes (its
/// memory, its size, its addresses, the features) and started again after, so that a running ring never changes under
/// the data path.
pub trait BackendHandler: Send {
    /// A front end connected and sent its first byte.
    fn connected(&mut self) {}

    /// The connection is over; every ring was stopped. [`VhostError::is_disconnect`] tells an ordinary end from a fault.
    fn disconnected(&mut self, _why: &VhostError) {}

    /// The driver took these virtio features (without the bit of the protocol features).
    fn features_acked(&mut self, _features: u64) {}

    /// A ring is complete. While it is not enabled no packet may pass. What the driver puts into its transmit ring meanwhile may wait there
    /// until it is.
    ///
    /// # Errors
    /// A reason, in which case the ring is not running and the front end is told.
    fn start_queue(&mut self, config: VringConfig) -> Result<(), String>;

    /// Stops a running ring and returns where it was (next `base`). Must not return before the data path has let go of the
    /// ring and of its memory.
    fn stop_queue(&mut self, index: u16) -> u32;

    /// A running ring has another call descriptor, or none.
    fn set_call(&mut self, index: u16, call: Option<Arc<OwnedFd>>);

    /// A running ring has another kick descriptor, or none.
    fn set_kick(&mut self, index: u16, kick: Option<Arc<OwnedFd>>);

    /// Packets of a running ring may pass from now on, or may not.
    fn set_enabled(&mut self, index: u16, on: bool);

    /// All running rings go on with this memory: the same, with other translations (`VIRTIO_F_ACCESS_PLATFORM`). Must not return before the data
    /// path has let go of the one before.
    fn set_memory(&mut self, _memory: &Arc<GuestMemory>) {}

    /// The driver wrote the device status (virtio 1.x, 2.1). All rings are stopped before status 0 is told.
    fn status(&mut self, _status: u8) {}

    /// The front end told the MTU in bytes.
    ///
    /// # Errors
    /// A reason why the device cannot have it; the front end is told.
    fn set_mtu(&mut self, _mtu: u16) -> Result<(), String> {
        Ok(())
    }

    /// The device configuration space (for a net device: virtio 1.x, 5.1.4). Whatever a front end reads lies in it.
    fn config(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// The driver writes to the configuration space, or, if `restored`, a migration does to fields that a driver cannot write.
    ///
    /// # Errors
    /// A reason why not; the front end is told.
    fn set_config(&mut self, offset: u32, bytes: &[u8], restored: bool) -> Result<(), String> {
        let _no_field_can_be_written = (offset, bytes, restored);
        Err("expected no write: no field of this configuration space can be written".to_owned())
    }

    /// A migrated guest wants to be announced by a RARP broadcast from this address.
    fn rarp(&mut self, _mac: [u8; 6]) {}

    /// The device was reset; all rings were stopped.
    fn reset(&mut self) {}
}

/// Serves one connected front end after the other.
pub struct Backend<H> {
    config: BackendConfig,
    handler: H,
    notifier: Arc<Notifier>,
}

impl<H: BackendHandler> Backend<H> {
    /// A back end that offers what `config` says and drives `handler`.
    ///
    /// # Errors
    /// [`VhostError::System`] without a descriptor for its notifier.
    pub fn new(config: BackendConfig, handler: H) -> Result<Self, VhostError> {
        Ok(Self {
            config,
            handler,
            notifier: Arc::new(Notifier::new()?),
        })
    }

    /// For other threads that have something to tell the front end.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler again, when no more front end is to be served.
    pub fn into_handler(self) -> H {
        self.handler
    }

    /// Serves one front end on a connected Unix stream socket until it goes away, breaks the protocol or `stop` becomes
    /// readable, and returns why. All rings are stopped and all its memory is let go of by then.
    ///
    /// A peer that connects and leaves without a byte (somebody probing whether the socket is in use) is not reported to
    /// the handler.
    pub fn serve(&mut self, socket: &OwnedFd, stop: BorrowedFd<'_>) -> VhostError {
        let socket = socket.as_fd();
        let first = Wait::forever(Some(stop));
        if let Err(why) = first.until_ready(socket, rustix::event::PollFlags::IN) {
            return why;
        }
        if let Err(VhostError::Disconnected) = wire::check_idle(socket) {
            return VhostError::Disconnected;
        }
        self.handler.connected();
        let mut session = Session::new(&self.config, &mut self.handler, &self.notifier);
        let why = loop {
            if let Err(why) = step(&mut session, socket, stop) {
                break why;
            }
        };
        session.close();
        self.handler.disconnected(&why);
        why
    }
}

/// Waits for whatever comes next, and does it.
fn step(
    session: &mut Session<'_>,
    socket: BorrowedFd<'_>,
    stop: BorrowedFd<'_>,
) -> Result<(), VhostError> {
    session.wait(socket, stop)?;
    session.serve_channel();
    if !wire::is_readable(socket) {
        return Ok(());
    }
    let message = wire::receive(socket, Wait::forever(Some(stop)), MESSAGE_TIMEOUT)?;
    // Translations that come one after the other are taken in together, before whatever else there is.
    if message.header.request != Request::IOTLB_MSG as u32 {
        session.iotlb_catch_up();
    }
    if let Some(answer) = session.handle(message)? {
        let wait = Wait::at_most(MESSAGE_TIMEOUT, "reading our answer", Some(stop));
        let fds: Vec<_> = answer.fds.iter().map(AsFd::as_fd).collect();
        wire::send(socket, &answer.header, &answer.payload, &fds, &wait)?;
    }
    if !wire::is_readable(socket) {
        session.iotlb_catch_up();
    }
    Ok(())
}
