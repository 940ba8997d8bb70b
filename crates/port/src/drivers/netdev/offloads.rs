//! What the kernel and a driver agree on of checksums and segments, where frames come and go behind virtio-net headers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use vring_net::Features;
use vring_netdev::{NetdevError, Offloads, set_offloads};

use crate::drivers::agree::Half;

/// The kernel must know the word to take such packets, whoever sends them.
const USO: Features = Features::GUEST_USO4
    .union(Features::GUEST_USO6)
    .union(Features::HOST_USO);

/// A tap or macvtap takes whatever its header says, and is told (`TUNSETOFFLOAD`) what it may leave to us.
pub(super) fn of_taps(queues: &[Arc<OwnedFd>], wanted: Features) -> Result<Features, NetdevError> {
    let mut agreed = wanted;
    for queue in queues {
        let known = Offloads {
            checksum: true,
            uso: true,
            ..Offloads::default()
        };
        if wanted.intersects(USO) && !set_offloads(queue.as_fd(), known)?.uso {
            agreed.remove(USO);
        }
    }
    for queue in queues {
        set_offloads(queue.as_fd(), left_to_us(agreed))?;
    }
    Ok(agreed)
}

fn left_to_us(agreed: Features) -> Offloads {
    Offloads {
        checksum: agreed.contains(Features::GUEST_CSUM),
        tso4: agreed.contains(Features::GUEST_TSO4),
        tso6: agreed.contains(Features::GUEST_TSO6),
        ecn: agreed.contains(Features::GUEST_ECN),
        ufo: agreed.contains(Features::GUEST_UFO),
        uso: agreed.contains(Features::GUEST_USO4 | Features::GUEST_USO6),
    }
}

/// A packet socket hands frames on as they are, whatever was asked for: the driver has to expect all that a header can say. Kernels that have a header
/// of that length for packet sockets (6.6) know all of it.
pub(super) fn of_packet_sockets(wanted: Features) -> Features {
    wanted
        | Half::Driver.features(crate::Offloads {
            rx: crate::RxOffloads::LRO,
            ..crate::Offloads::NONE
        })
}
