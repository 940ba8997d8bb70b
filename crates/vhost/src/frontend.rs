//! The driver's end: requests to a back end, one at a time, each with a time limit.

mod channel;
mod device;
mod inflight;
mod iommu;
mod memory;

pub use channel::{BackendRequest, BackendRequests, IotlbMiss};
pub use inflight::Inflight;
pub use iommu::{ACCESS_READ, ACCESS_WRITE};
pub use memory::FrontendRegion;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use crate::error::VhostError;
use crate::message::{
    FLAG_NEED_REPLY, FLAG_REPLY, Header, ProtocolFeatures, Request, VERSION, VERSION_MASK,
    VRING_F_LOG, VRING_NOFD, VringAddr, VringState,
};
use crate::wire::{self, Message, Wait};

/// How long a back end may take for one request unless [`Frontend::with_timeout`] says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a ring's three areas are, as addresses of this process.
#[derive(Clone, Copy, Debug)]
pub struct VringAddresses {
    /// Descriptor area (packed: the ring).
    pub desc: u64,
    /// Driver area: the avail ring (packed: driver event suppression).
    pub avail: u64,
    /// Device area: the used ring (packed: device event suppression).
    pub used: u64,
    /// The device area's guest-physical address, under which the device logs what it writes to the ring; none if it need not.
    pub log: Option<u64>,
}

/// A connection to a back end. Every method sends one request and, where the protocol has an answer or `REPLY_ACK` was
/// agreed on, waits for it.
///
/// Every method fails with [`VhostError::Disconnected`] if the peer is gone, [`VhostError::Timeout`] (which names the
/// request) if it is silent, [`VhostError::Rejected`] if it refuses, and [`VhostError::NotNegotiated`] without asking if the
/// request's protocol feature was not set. After any other error than the last two the two ends may be out of step: the
/// connection is not used again, and further calls report [`VhostError::Disconnected`].
pub struct Frontend {
    socket: OwnedFd,
    timeout: Duration,
    stop: Option<Arc<OwnedFd>>,
    protocol: ProtocolFeatures,
    broken: bool,
}

impl AsFd for Frontend {
    /// The socket, to be polled: between requests it becomes readable only when the peer hangs up (see
    /// [`Frontend::check_alive`]).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Frontend {
    /// Takes a connected Unix stream socket, from whichever end opened it.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            timeout: DEFAULT_TIMEOUT,
            stop: None,
            protocol: ProtocolFeatures::empty(),
            broken: false,
        }
    }

    /// With another time limit for each request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With a descriptor that ends a wait for the peer when it becomes readable ([`VhostError::Stopped`]).
    #[must_use]
    pub fn with_stop(mut self, stop: Arc<OwnedFd>) -> Self {
        self.stop = Some(stop);
        self
    }

    /// From now on only the time limit ends a request: for taking leave of the back end after the stop descriptor became readable.
    pub fn ignore_stop(&mut self) {
        self.stop = None;
    }

    /// The protocol features that were agreed on.
    #[must_use]
    pub fn protocol_features(&self) -> ProtocolFeatures {
        self.protocol
    }

    /// Looks whether the peer is still there, without waiting.
    ///
    /// # Errors
    /// [`VhostError::Disconnected`] if it hung up, [`VhostError::BadHeader`] if it sent what nobody asked for.
    pub fn check_alive(&self) -> Result<(), VhostError> {
        if self.broken {
            return Err(VhostError::Disconnected);
        }
        wire::check_idle(self.socket.as_fd())
    }

    /// The virtio features that the device offers, with `F_PROTOCOL_FEATURES` if it knows protocol features.
    pub fn get_features(&mut self) -> Result<u64, VhostError> {
        self.query(Request::GET_FEATURES, &[])
    }

    /// Tells the virtio features that the driver took. Keep `F_PROTOCOL_FEATURES` in them if it was offered: without it the
    /// device enables rings as they start.
    pub fn set_features(&mut self, features: u64) -> Result<(), VhostError> {
        self.tell(Request::SET_FEATURES, features.as_bytes(), &[])
    }

    /// The protocol features that the back end offers, those unknown here left out. Only if `F_PROTOCOL_FEATURES` is offered.
    pub fn get_protocol_features(&mut self) -> Result<ProtocolFeatures, VhostError> {
        let bits: u64 = self.query(Request::GET_PROTOCOL_FEATURES, &[])?;
        Ok(ProtocolFeatures::from_bits_truncate(bits))
    }

    /// Takes protocol features. They apply from the next request on.
    pub fn set_protocol_features(&mut self, features: ProtocolFeatures) -> Result<(), VhostError> {
        // Back ends differ in whether this very request can be acknowledged already, so it is never asked to be.
        self.protocol = ProtocolFeatures::empty();
        self.tell(
            Request::SET_PROTOCOL_FEATURES,
            features.bits().as_bytes(),
            &[],
        )?;
        self.protocol = features;
        Ok(())
    }

    /// How many queue pairs the back end can serve.
    pub fn get_queue_num(&mut self) -> Result<u64, VhostError> {
        self.query(Request::GET_QUEUE_NUM, &[])
    }

    /// Opens the session.
    pub fn set_owner(&mut self) -> Result<(), VhostError> {
        self.tell(Request::SET_OWNER, &[], &[])
    }

    /// Tells how many descriptors ring `index` has.
    pub fn set_vring_num(&mut self, index: u16, num: u32) -> Result<(), VhostError> {
        self.tell_vring(Request::SET_VRING_NUM, index, num)
    }

    /// Tells where ring `index` is.
    pub fn set_vring_addr(&mut self, index: u16, at: VringAddresses) -> Result<(), VhostError> {
        let payload = VringAddr {
            index: index.into(),
            flags: if at.log.is_some() { VRING_F_LOG } else { 0 },
            desc: at.desc,
            used: at.used,
            avail: at.avail,
            log: at.log.unwrap_or(0),
        };
        self.tell(Request::SET_VRING_ADDR, payload.as_bytes(), &[])
    }

    /// Tells where the device goes on in ring `index`: split rings, the next avail index; packed ones, indexes with wrap
    /// counters as the specification packs them.
    pub fn set_vring_base(&mut self, index: u16, base: u32) -> Result<(), VhostError> {
        self.tell_vring(Request::SET_VRING_BASE, index, base)
    }

    /// Stops ring `index` and returns where the device was. When this returns the device does not touch the ring any more.
    pub fn get_vring_base(&mut self, index: u16) -> Result<u32, VhostError> {
        let request = VringState {
            index: index.into(),
            num: 0,
        };
        let reply: VringState = self.query(Request::GET_VRING_BASE, request.as_bytes())?;
        if reply.index == u32::from(index) {
            return Ok(reply.num);
        }
        self.broken = true;
        Err(VhostError::BadValue {
            request: Request::GET_VRING_BASE,
            reason: format!(
                "expected an answer about ring {index}, got ring {}",
                reply.index
            ),
        })
    }

    /// Starts ring `index`, with the descriptor by which we wake the device, or none if it polls.
    pub fn set_vring_kick(
        &mut self,
        index: u8,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), VhostError> {
        self.tell_vring_fd(Request::SET_VRING_KICK, index, fd)
    }

    /// Passes the descriptor by which the device wakes us about ring `index`, or none if we poll.
    pub fn set_vring_call(
        &mut self,
        index: u8,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), VhostError> {
        self.tell_vring_fd(Request::SET_VRING_CALL, index, fd)
    }

    /// Passes the descriptor by which the device tells that ring `index` is broken.
    pub fn set_vring_err(
        &mut self,
        index: u8,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), VhostError> {
        self.tell_vring_fd(Request::SET_VRING_ERR, index, fd)
    }

    /// Lets packets of ring `index` pass, or not. Only where `F_PROTOCOL_FEATURES` was taken.
    pub fn set_vring_enable(&mut self, index: u16, on: bool) -> Result<(), VhostError> {
        self.tell_vring(Request::SET_VRING_ENABLE, index, on.into())
    }

    /// The virtio device status (protocol feature `STATUS`).
    pub fn get_status(&mut self) -> Result<u8, VhostError> {
        let status: u64 = self.query(Request::GET_STATUS, &[])?;
        u8::try_from(status).map_err(|_| VhostError::BadValue {
            request: Request::GET_STATUS,
            reason: format!("expected a status of 8 bits, got {status:#x}"),
        })
    }

    /// Tells the virtio device status (protocol feature `STATUS`).
    pub fn set_status(&mut self, status: u8) -> Result<(), VhostError> {
        self.tell(Request::SET_STATUS, u64::from(status).as_bytes(), &[])
    }

    /// Tells the MTU in bytes (protocol feature `NET_MTU`).
    pub fn net_set_mtu(&mut self, mtu: u16) -> Result<(), VhostError> {
        self.tell(Request::NET_SET_MTU, u64::from(mtu).as_bytes(), &[])
    }

    /// Asks the back end to announce `mac` by a RARP broadcast (protocol feature `RARP`).
    pub fn send_rarp(&mut self, mac: [u8; 6]) -> Result<(), VhostError> {
        let mut payload = [0u8; 8];
        payload[..6].copy_from_slice(&mac);
        self.tell(Request::SEND_RARP, &payload, &[])
    }

    /// Disables all rings and resets the device (protocol feature `RESET_DEVICE`). The memory map stays.
    pub fn reset_device(&mut self) -> Result<(), VhostError> {
        self.tell(Request::RESET_DEVICE, &[], &[])
    }

    fn tell_vring(&mut self, request: Request, index: u16, num: u32) -> Result<(), VhostError> {
        let payload = VringState {
            index: index.into(),
            num,
        };
        self.tell(request, payload.as_bytes(), &[])
    }

    fn tell_vring_fd(
        &mut self,
        request: Request,
        index: u8,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), VhostError> {
        match fd {
            Some(fd) => self.tell(request, u64::from(index).as_bytes(), &[fd]),
            None => self.tell(request, (u64::from(index) | VRING_NOFD).as_bytes(), &[]),
        }
    }

    /// Sends a request that has no answer of its own; waits for the acknowledgement if there is one.
    fn tell(
        &mut self,
        request: Request,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), VhostError> {
        if !self.has(ProtocolFeatures::REPLY_ACK) {
            return self
                .exchange(request, payload, fds, Expect::Nothing)
                .map(drop);
        }
        let reply = self.exchange(request, payload, fds, Expect::Ack)?;
        match wire::parse(request, &reply.payload)? {
            0u64 => Ok(()),
            answer => Err(VhostError::Rejected { request, answer }),
        }
    }

    /// Sends a request that has an answer with a payload, and returns that.
    fn query<T: FromBytes>(&mut self, request: Request, payload: &[u8]) -> Result<T, VhostError> {
        let sizes = [size_of::<T>()];
        let reply = self.exchange(request, payload, &[], Expect::Payload(&sizes))?;
        wire::parse(request, &reply.payload)
    }

    /// One round. Marks the connection as broken if the round fails in a way that leaves the two ends out of step.
    fn exchange(
        &mut self,
        request: Request,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
        expect: Expect<'_>,
    ) -> Result<Message, VhostError> {
        let feature = request.needs();
        if !self.protocol.contains(feature) {
            return Err(VhostError::NotNegotiated { request, feature });
        }
        if self.broken {
            return Err(VhostError::Disconnected);
        }
        let need = match expect {
            Expect::Ack => FLAG_NEED_REPLY,
            Expect::Nothing | Expect::Payload(_) | Expect::Descriptor(_) => 0,
        };
        let header = Header {
            request: request as u32,
            flags: VERSION | need,
            size: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        let name = request.to_string();
        let wait = Wait::at_most(self.timeout, &name, self.stop.as_ref().map(AsFd::as_fd));
        let socket = self.socket.as_fd();
        let result = wire::send(socket, &header, payload, fds, &wait)
            .and_then(|()| receive_reply(socket, request, expect, wait));
        self.broken = result.is_err();
        result
    }
}

/// What answers a request.
#[derive(Clone, Copy)]
enum Expect<'a> {
    Nothing,
    /// A number, which the back end is asked for.
    Ack,
    /// A payload of one of these lengths.
    Payload(&'a [usize]),
    /// A payload of one of these lengths, and a descriptor or none.
    Descriptor(&'a [usize]),
}

fn receive_reply(
    socket: BorrowedFd<'_>,
    request: Request,
    expect: Expect<'_>,
    wait: Wait<'_>,
) -> Result<Message, VhostError> {
    let (sizes, most_fds) = match expect {
        Expect::Nothing => return Ok(Message::default()),
        Expect::Ack => (&[size_of::<u64>()][..], 0),
        Expect::Payload(sizes) => (sizes, 0),
        Expect::Descriptor(sizes) => (sizes, 1),
    };
    let message = wire::receive(socket, wait, wait.limit)?;
    let Header {
        request: number,
        flags,
        ..
    } = message.header;
    if number != request as u32 || flags & (VERSION_MASK | FLAG_REPLY) != VERSION | FLAG_REPLY {
        return Err(VhostError::BadHeader {
            expected: "reply to our request",
            request: number,
            flags,
        });
    }
    if message.fds.len() > most_fds {
        return Err(VhostError::FdCount {
            request,
            expected: most_fds,
            got: message.fds.len(),
        });
    }
    if !sizes.contains(&message.payload.len()) {
        return Err(VhostError::PayloadSize {
            request: request.to_string(),
            expected: sizes[0],
            got: message.payload.len(),
        });
    }
    Ok(message)
}
