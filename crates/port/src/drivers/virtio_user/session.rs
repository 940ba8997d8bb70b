//! One connection to a back end: negotiates, shares memory, starts the rings.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use vring_net::{Features, NetConfig};
use vring_vhost::{Frontend, FrontendRegion, ProtocolFeatures, Request, VhostError};

use super::Options;
use super::held::Held;
use super::requests::Requests;
use super::rings::{self, Rings, detach, device_address};
use super::wishes::Wishes;
use crate::drivers::agree::acknowledge;
use crate::drivers::kind::first_base;
use crate::event::signal;
use crate::port::Shared;
use crate::{LinkStatus, PortError};

/// Device status bits (virtio 1.2, 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;

/// What we use of the protocol where the back end has it.
const PROTOCOL: ProtocolFeatures = ProtocolFeatures::MQ
    .union(ProtocolFeatures::REPLY_ACK)
    .union(ProtocolFeatures::STATUS)
    .union(ProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(ProtocolFeatures::NET_MTU)
    .union(ProtocolFeatures::INFLIGHT_SHMFD)
    .union(ProtocolFeatures::CONFIG)
    .union(ProtocolFeatures::BACKEND_REQ);

/// What a device says in its configuration space, taken where that can be read by message.
const IN_SPACE: Features = Features::MAC
    .union(Features::STATUS)
    .union(Features::SPEED_DUPLEX);

/// See the module. Its rings are taken over by the queues; what is left here is the connection.
pub(super) struct Session {
    frontend: Frontend,
    features: Features,
    rings: u16,
    /// Rings that the back end was told to leave alone.
    off: BTreeSet<u16>,
    requests: Option<Requests>,
    /// What the device says of itself, where it can be asked.
    space: NetConfig,
}

impl Session {
    /// Brings the device up on the rings that are held, or on new ones, and lets the port's queues work on them.
    pub(super) fn start(
        socket: OwnedFd,
        stop: &Arc<OwnedFd>,
        options: &Options,
        shared: &Shared,
        held: &mut Option<Held>,
    ) -> Result<Self, PortError> {
        let vhost = |source| PortError::Vhost {
            name: options.name.clone(),
            source,
        };
        let mut frontend = Frontend::new(socket).with_stop(stop.clone());
        let features = negotiate(&mut frontend, options)?;
        rings::halt(shared, true);
        let bases = held
            .as_ref()
            .and_then(|held| held.bases(features, &frontend, shared));
        if bases.is_none() && held.take().is_some() {
            detach(shared);
        }
        let held = match held {
            Some(held) => held,
            None => held.insert(Held::new(Rings::new(options, features)?, shared)?),
        };
        let bases = bases.unwrap_or_else(|| vec![first_base(features); held.rings.rings.len()]);
        let requests = set_up(&mut frontend, features, &held.rings, shared).map_err(vhost)?;
        let space = read_space(&mut frontend, features).map_err(vhost)?;
        held.pass_record(&mut frontend).map_err(vhost)?;
        start_rings(&mut frontend, features, &held.rings, &bases, options).map_err(vhost)?;
        rings::halt(shared, false);
        Ok(Self {
            frontend,
            features,
            rings: 2 * options.pairs,
            off: BTreeSet::new(),
            requests,
            space,
        })
    }

    /// What was agreed on.
    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// What the device says of itself; nothing where it cannot be asked.
    pub(super) fn space(&self) -> NetConfig {
        self.space
    }

    /// The link as the device has it, up where it does not say.
    pub(super) fn link(&self) -> LinkStatus {
        let status = self.space.status.unwrap_or(NetConfig::LINK_UP);
        let known = self.space.speed.filter(|&speed| speed != u32::MAX);
        LinkStatus {
            up: status & NetConfig::LINK_UP != 0,
            speed: known.unwrap_or(LinkStatus::UP.speed),
        }
    }

    /// Does what the back end asks; whether it has changed.
    fn serve(&mut self) -> Result<bool, VhostError> {
        let Some(requests) = &self.requests else {
            return Ok(false);
        };
        if requests.serve(&mut self.frontend)? {
            self.space = read_space(&mut self.frontend, self.features)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Tells the back end what is wished, and calls `changed` when the device says something else of itself, until it is gone or `stop` is
    /// readable, and says which.
    pub(super) fn wait(
        &mut self,
        stop: &OwnedFd,
        wishes: &Wishes,
        changed: impl Fn(&Self),
    ) -> VhostError {
        loop {
            if let Err(why) = self.tell(wishes) {
                return why;
            }
            let asked = self.requests.as_ref().map_or(stop.as_fd(), Requests::fd);
            let mut fds = [
                PollFd::new(stop, PollFlags::IN),
                PollFd::new(&self.frontend, PollFlags::IN),
                PollFd::from_borrowed_fd(wishes.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(asked, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) if !fds[0].revents().is_empty() => return VhostError::Stopped,
                Ok(_) if fds[1].revents().is_empty() => match self.serve() {
                    Ok(true) => changed(self),
                    Ok(false) => (),
                    Err(why) => return why,
                },
                Ok(_) => {
                    if let Err(why) = self.frontend.check_alive() {
                        return why;
                    }
                }
                Err(rustix::io::Errno::INTR) => (),
                Err(source) => {
                    return VhostError::System {
                        call: "poll",
                        source,
                    };
                }
            }
        }
    }

    /// Without protocol features, rings cannot be disabled: a back end then goes on until a ring is full.
    fn tell(&mut self, wishes: &Wishes) -> Result<(), VhostError> {
        let off = wishes.take();
        if self.features.contains(Features::PROTOCOL_FEATURES) {
            for &ring in off.symmetric_difference(&self.off) {
                if ring < self.rings {
                    self.frontend.set_vring_enable(ring, !off.contains(&ring))?;
                }
            }
        }
        self.off = off;
        Ok(())
    }

    /// Takes leave: the back end stops all rings and says where. One that does not answer is as good as gone.
    pub(super) fn shut_down(&mut self) {
        self.frontend.ignore_stop();
        for index in 0..self.rings {
            if self.frontend.get_vring_base(index).is_err() {
                return;
            }
        }
        if self
            .frontend
            .protocol_features()
            .contains(ProtocolFeatures::STATUS)
        {
            let _it_is_stopped_anyway = self.frontend.set_status(0);
        }
    }
}

fn negotiate(frontend: &mut Frontend, options: &Options) -> Result<Features, PortError> {
    let vhost = |source| PortError::Vhost {
        name: options.name.clone(),
        source,
    };
    let offered = Features::from_bits_retain(frontend.get_features().map_err(vhost)?);
    // The control queue is the front end's, and we need none.
    let mut features = acknowledge(offered, options.wanted | IN_SPACE, Features::CTRL_VQ);
    if offered.contains(Features::PROTOCOL_FEATURES) {
        let mut protocol = frontend.get_protocol_features().map_err(vhost)? & PROTOCOL;
        if !options.inflight {
            protocol.remove(ProtocolFeatures::INFLIGHT_SHMFD);
        }
        if !features.contains(Features::ACCESS_PLATFORM)
            && !protocol.contains(ProtocolFeatures::CONFIG)
        {
            protocol.remove(ProtocolFeatures::BACKEND_REQ);
        }
        frontend.set_protocol_features(protocol).map_err(vhost)?;
        features |= Features::PROTOCOL_FEATURES;
    }
    // Without the channel nobody could ask for a translation.
    if !frontend.protocol_features().contains(Requests::NEEDS) {
        features.remove(Features::ACCESS_PLATFORM);
    }
    // What cannot be read is not agreed on.
    if !has_space(frontend) {
        features.remove(IN_SPACE);
    }
    let pairs = if frontend.protocol_features().contains(ProtocolFeatures::MQ) {
        frontend.get_queue_num().map_err(vhost)?
    } else {
        1
    };
    if pairs < u64::from(options.pairs) {
        let what = format!(
            "expected a back end with {} queue pairs, it has {pairs}; ask for fewer queues",
            options.pairs
        );
        return Err(PortError::Peer {
            name: options.name.clone(),
            what,
            code: "ERR_VRING_PEER",
        });
    }
    frontend.set_owner().map_err(vhost)?;
    Ok(features)
}

/// All that comes before the rings: call descriptors, features, memory.
fn set_up(
    frontend: &mut Frontend,
    features: Features,
    rings: &Rings,
    shared: &Shared,
) -> Result<Option<Requests>, VhostError> {
    let status = frontend
        .protocol_features()
        .contains(ProtocolFeatures::STATUS);
    if status {
        frontend.set_status(0)?;
        frontend.set_status(ACKNOWLEDGE | DRIVER)?;
    }
    for ring in &rings.rings {
        frontend.set_vring_call(ring_u8(ring.index), Some(ring.call.as_fd()))?;
    }
    frontend.set_features(features.bits())?;
    if status {
        frontend.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)?;
    }
    let regions = [&**shared.pool.region(), &*rings.region].map(|region| FrontendRegion {
        guest_addr: device_address(region),
        user_addr: device_address(region),
        size: region.len() as u64,
        mmap_offset: 0,
        fd: region.fd(),
    });
    frontend.share_memory(&regions)?;
    let protocol = frontend.protocol_features();
    if !protocol.contains(ProtocolFeatures::BACKEND_REQ) {
        return Ok(None);
    }
    let shared = regions.map(|region| (region.user_addr, region.size));
    frontend
        .open_backend_channel()
        .map(|channel| Some(Requests::new(channel, shared)))
}

fn has_space(frontend: &Frontend) -> bool {
    let protocol = frontend.protocol_features();
    protocol.contains(ProtocolFeatures::CONFIG)
}

/// Reads as much of the configuration space as the features say that there is. The features have been set.
fn read_space(frontend: &mut Frontend, features: Features) -> Result<NetConfig, VhostError> {
    let fields = [
        (Features::MAC, 6),
        (Features::STATUS, 8),
        (Features::MQ, 10),
        (Features::MTU, 12),
        (Features::SPEED_DUPLEX, 17),
    ];
    let mut agreed = fields.iter().filter(|(field, _)| features.contains(*field));
    let Some(&(_, size)) = agreed.next_back().filter(|_| has_space(frontend)) else {
        return Ok(NetConfig::default());
    };
    let bytes = frontend.get_config(0, size)?;
    NetConfig::read(&bytes, features).map_err(|error| VhostError::BadValue {
        request: Request::GET_CONFIG,
        reason: error.to_string(),
    })
}

fn start_rings(
    frontend: &mut Frontend,
    features: Features,
    rings: &Rings,
    bases: &[u32],
    options: &Options,
) -> Result<(), VhostError> {
    for (ring, &base) in rings.rings.iter().zip(bases) {
        frontend.set_vring_num(ring.index, ring.size.into())?;
        frontend.set_vring_base(ring.index, base)?;
        frontend.set_vring_addr(ring.index, rings.addresses(ring))?;
        frontend.set_vring_kick(ring_u8(ring.index), Some(ring.kick.as_fd()))?;
        // A back end that is gone may have taken a kick and nothing else.
        signal(&*ring.kick);
    }
    if features.contains(Features::PROTOCOL_FEATURES) {
        for ring in &rings.rings {
            frontend.set_vring_enable(ring.index, true)?;
        }
    }
    let protocol = frontend.protocol_features();
    if protocol.contains(ProtocolFeatures::NET_MTU) && features.contains(Features::MTU) {
        frontend.net_set_mtu(options.mtu)?;
    }
    if protocol.contains(ProtocolFeatures::STATUS) {
        frontend.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)?;
    }
    Ok(())
}

/// vhost-user numbers the rings of descriptors that come with file descriptors in 8 bits; there are at most 256 rings.
fn ring_u8(index: u16) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}
