//! Feature bits of virtio and virtio-net (5.1.3 and 6).

mod table;

pub use table::{Entry, Support, TABLE, markdown};

bitflags::bitflags! {
    /// A set of features. Bits without a name are kept: a peer's set is shown as it is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Features: u64 {
        /// The device takes packets with a partial checksum.
        const CSUM = 1 << 0;
        /// The driver takes packets with a partial checksum.
        const GUEST_CSUM = 1 << 1;
        /// The driver can change its offloads at run time.
        const CTRL_GUEST_OFFLOADS = 1 << 2;
        /// The device tells its MTU.
        const MTU = 1 << 3;
        /// The device tells its address.
        const MAC = 1 << 5;
        /// The driver takes TSOv4.
        const GUEST_TSO4 = 1 << 7;
        /// The driver takes TSOv6.
        const GUEST_TSO6 = 1 << 8;
        /// The driver takes TSO with ECN.
        const GUEST_ECN = 1 << 9;
        /// The driver takes UFO.
        const GUEST_UFO = 1 << 10;
        /// The device takes TSOv4.
        const HOST_TSO4 = 1 << 11;
        /// The device takes TSOv6.
        const HOST_TSO6 = 1 << 12;
        /// The device takes TSO with ECN.
        const HOST_ECN = 1 << 13;
        /// The device takes UFO.
        const HOST_UFO = 1 << 14;
        /// A received packet may lie in several buffers.
        const MRG_RXBUF = 1 << 15;
        /// The device tells its link state.
        const STATUS = 1 << 16;
        /// There is a control queue.
        const CTRL_VQ = 1 << 17;
        /// Receive modes by the control queue.
        const CTRL_RX = 1 << 18;
        /// VLAN filters by the control queue.
        const CTRL_VLAN = 1 << 19;
        /// More receive modes by the control queue.
        const CTRL_RX_EXTRA = 1 << 20;
        /// The driver can announce itself.
        const GUEST_ANNOUNCE = 1 << 21;
        /// Several queue pairs.
        const MQ = 1 << 22;
        /// The address is set by the control queue.
        const CTRL_MAC_ADDR = 1 << 23;
        /// The device tells when it runs out of buffers, even when suppressed (legacy).
        const NOTIFY_ON_EMPTY = 1 << 24;
        /// All writes are logged (vhost).
        const LOG_ALL = 1 << 26;
        /// Any layout of descriptors (legacy).
        const ANY_LAYOUT = 1 << 27;
        /// Tables of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// Notifications at an index.
        const EVENT_IDX = 1 << 29;
        /// vhost-user has protocol features.
        const PROTOCOL_FEATURES = 1 << 30;
        /// Version 1 of the specification.
        const VERSION_1 = 1 << 32;
        /// Addresses are translated by the platform.
        const ACCESS_PLATFORM = 1 << 33;
        /// The packed ring.
        const RING_PACKED = 1 << 34;
        /// Buffers are used in order.
        const IN_ORDER = 1 << 35;
        /// The platform orders memory.
        const ORDER_PLATFORM = 1 << 36;
        /// Notifications carry data.
        const NOTIFICATION_DATA = 1 << 38;
        /// Queues are reset one by one.
        const RING_RESET = 1 << 40;
        /// Notifications are coalesced by the control queue.
        const NOTF_COAL = 1 << 53;
        /// The driver takes USO over IPv4.
        const GUEST_USO4 = 1 << 54;
        /// The driver takes USO over IPv6.
        const GUEST_USO6 = 1 << 55;
        /// The device takes USO.
        const HOST_USO = 1 << 56;
        /// Packets come with their hash.
        const HASH_REPORT = 1 << 57;
        /// The header's length of headers is exact.
        const GUEST_HDRLEN = 1 << 59;
        /// Receive-side scaling.
        const RSS = 1 << 60;
        /// The device says how many segments and acknowledgements it joined.
        const RSC_EXT = 1 << 61;
        /// A standby for another device.
        const STANDBY = 1 << 62;
        /// Speed and duplex can be read.
        const SPEED_DUPLEX = 1 << 63;
        const _ = !0;
    }
}

impl Features {
    /// The names of the known ones, in the order of their bits.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter_names().map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::{virtio_config, virtio_net, virtio_ring};

    /// Our bits are those of the kernel's headers.
    #[test]
    fn bits_are_the_kernels() {
        for (ours, theirs) in [
            (Features::CSUM, virtio_net::VIRTIO_NET_F_CSUM),
            (Features::GUEST_CSUM, virtio_net::VIRTIO_NET_F_GUEST_CSUM),
            (Features::MTU, virtio_net::VIRTIO_NET_F_MTU),
            (Features::MAC, virtio_net::VIRTIO_NET_F_MAC),
            (Features::HOST_UFO, virtio_net::VIRTIO_NET_F_HOST_UFO),
            (Features::MRG_RXBUF, virtio_net::VIRTIO_NET_F_MRG_RXBUF),
            (Features::STATUS, virtio_net::VIRTIO_NET_F_STATUS),
            (Features::CTRL_VQ, virtio_net::VIRTIO_NET_F_CTRL_VQ),
            (
                Features::GUEST_ANNOUNCE,
                virtio_net::VIRTIO_NET_F_GUEST_ANNOUNCE,
            ),
            (Features::MQ, virtio_net::VIRTIO_NET_F_MQ),
            (
                Features::CTRL_MAC_ADDR,
                virtio_net::VIRTIO_NET_F_CTRL_MAC_ADDR,
            ),
            (Features::GUEST_USO4, virtio_net::VIRTIO_NET_F_GUEST_USO4),
            (Features::GUEST_USO6, virtio_net::VIRTIO_NET_F_GUEST_USO6),
            (Features::HOST_USO, virtio_net::VIRTIO_NET_F_HOST_USO),
            (
                Features::GUEST_HDRLEN,
                virtio_net::VIRTIO_NET_F_GUEST_HDRLEN,
            ),
            (Features::RSC_EXT, virtio_net::VIRTIO_NET_F_RSC_EXT),
            (Features::HASH_REPORT, virtio_net::VIRTIO_NET_F_HASH_REPORT),
            (Features::RSS, virtio_net::VIRTIO_NET_F_RSS),
            (
                Features::SPEED_DUPLEX,
                virtio_net::VIRTIO_NET_F_SPEED_DUPLEX,
            ),
            (
                Features::NOTIFY_ON_EMPTY,
                virtio_config::VIRTIO_F_NOTIFY_ON_EMPTY,
            ),
            (Features::ANY_LAYOUT, virtio_config::VIRTIO_F_ANY_LAYOUT),
            (
                Features::INDIRECT_DESC,
                virtio_ring::VIRTIO_RING_F_INDIRECT_DESC,
            ),
            (Features::EVENT_IDX, virtio_ring::VIRTIO_RING_F_EVENT_IDX),
            (Features::VERSION_1, virtio_config::VIRTIO_F_VERSION_1),
            (Features::RING_PACKED, virtio_config::VIRTIO_F_RING_PACKED),
            (Features::IN_ORDER, virtio_config::VIRTIO_F_IN_ORDER),
            (
                Features::NOTIFICATION_DATA,
                virtio_config::VIRTIO_F_NOTIFICATION_DATA,
            ),
        ] {
            assert_eq!(ours.bits(), 1 << theirs, "{ours:?}");
        }
    }
}
