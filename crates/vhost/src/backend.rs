//! The device's end: serves one front end at a time, keeps the state of its rings and its memory, and tells a
//! [`BackendHandler`] what to do.

mod memory;
mod ring;
mod server;
mod session;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use vring_mem::guest::GuestMemory;

pub use server::BackendServer;

use crate::error::VhostError;
use crate::message::{F_PROTOCOL_FEATURES, MAX_VRINGS, ProtocolFeatures};
use crate::wire::{self, Wait};
use session::Session;

/// How long a front end may take to complete a message that it began, or to read an answer.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a back end offers.
#[derive(Clone, Copy, Debug)]
pub struct BackendConfig {
    /// Virtio features. `F_PROTOCOL_FEATURES` need not be among them: it is offered anyway, unless `protocol_features` is empty.
    pub features: u64,
    /// Protocol features. Those that this crate does not implement are not offered.
    pub protocol_features: ProtocolFeatures,
    /// Rings: two for each queue pair, at most 256.
    pub max_queues: u16,
}

impl BackendConfig {
    fn offered_features(&self) -> u64 {
        let features = self.features & !F_PROTOCOL_FEATURES;
        if self.offered_protocol().is_empty() {
            features
        } else {
            features | F_PROTOCOL_FEATURES
        }
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
    /// The virtio features that the driver took.
    pub features: u64,
    /// Whether packets may pass yet; [`BackendHandler::set_enabled`] changes it.
    pub enabled: bool,
    /// The memory that the ring's descriptors point into.
    pub memory: Arc<GuestMemory>,
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

    /// The driver wrote the device status (virtio 1.x, 2.1). All rings are stopped before status 0 is told.
    fn status(&mut self, _status: u8) {}

    /// The front end told the MTU in bytes.
    ///
    /// # Errors
    /// A reason why the device cannot have it; the front end is told.
    fn set_mtu(&mut self, _mtu: u16) -> Result<(), String> {
        Ok(())
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
}

impl<H: BackendHandler> Backend<H> {
    /// A back end that offers what `config` says and drives `handler`.
    pub fn new(config: BackendConfig, handler: H) -> Self {
        Self { config, handler }
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
        let mut session = Session::new(&self.config, &mut self.handler);
        let why = loop {
            let message = match wire::receive(socket, first, MESSAGE_TIMEOUT) {
                Ok(message) => message,
                Err(why) => break why,
            };
            let sent = session.handle(message).and_then(|reply| {
                let Some((header, payload)) = reply else {
                    return Ok(());
                };
                let wait = Wait::at_most(MESSAGE_TIMEOUT, "reading our answer", Some(stop));
                wire::send(socket, &header, &payload, &[], &wait)
            });
            if let Err(why) = sent {
                break why;
            }
        };
        session.close();
        self.handler.disconnected(&why);
        why
    }
}
