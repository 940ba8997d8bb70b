//! What a port and its peer agree on about offloads: the same for both halves of virtio-net, whatever carries their features.
//!
//! | ethdev | of packets to the driver | of packets to the device |
//! |---|---|---|
//! | `checksum` | `GUEST_CSUM` | `CSUM` |
//! | `lro`, `tcp-tso` | `GUEST_TSO4`, `GUEST_TSO6`, `GUEST_ECN` | `HOST_TSO4`, `HOST_TSO6`, `HOST_ECN` |
//! | `lro`, `udp-tso` | `GUEST_UFO`, `GUEST_USO4`, `GUEST_USO6` | `HOST_UFO`, `HOST_USO` |
//!
//! The first of two is for who receives, the second for who sends. Segments are checksums too (5.1.3.1).

use vring_net::Features;

use crate::{Offloads, RxOffloads, TxOffloads};

/// Features of one direction.
struct Way {
    csum: Features,
    tcp: Features,
    udp: Features,
    /// With these, the device cuts or joins both kinds of TCP, and UDP into datagrams.
    whole_tcp: Features,
    whole_udp: Features,
}

const TO_DRIVER: Way = Way {
    csum: Features::GUEST_CSUM,
    tcp: Features::GUEST_TSO4
        .union(Features::GUEST_TSO6)
        .union(Features::GUEST_ECN),
    udp: Features::GUEST_UFO
        .union(Features::GUEST_USO4)
        .union(Features::GUEST_USO6),
    whole_tcp: Features::GUEST_TSO4.union(Features::GUEST_TSO6),
    whole_udp: Features::GUEST_USO4.union(Features::GUEST_USO6),
};

const TO_DEVICE: Way = Way {
    csum: Features::CSUM,
    tcp: Features::HOST_TSO4
        .union(Features::HOST_TSO6)
        .union(Features::HOST_ECN),
    udp: Features::HOST_UFO.union(Features::HOST_USO),
    whole_tcp: Features::HOST_TSO4.union(Features::HOST_TSO6),
    whole_udp: Features::HOST_USO,
};

/// Which half of virtio-net a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Driver,
    Device,
}

impl Half {
    /// Of packets that come in, and of those that go out.
    const fn ways(self) -> (&'static Way, &'static Way) {
        match self {
            Self::Driver => (&TO_DRIVER, &TO_DEVICE),
            Self::Device => (&TO_DEVICE, &TO_DRIVER),
        }
    }

    /// What these offloads need: for a driver to want, for a device to offer.
    pub(super) fn features(self, asked: Offloads) -> Features {
        let (rx, tx) = self.ways();
        let lro = asked.rx.contains(RxOffloads::LRO);
        let tcp = asked.tx.contains(TxOffloads::TCP_TSO);
        let udp = asked.tx.contains(TxOffloads::UDP_TSO);
        let mut features = Features::empty();
        features.set(rx.csum, asked.rx.contains(RxOffloads::CHECKSUM) || lro);
        features.set(rx.tcp | rx.udp, lro);
        features.set(
            tx.csum,
            asked.tx.contains(TxOffloads::CHECKSUM) || tcp || udp,
        );
        features.set(tx.tcp, tcp);
        features.set(tx.udp, udp);
        features
    }

    /// What the peer does with these agreed on. Where it does a part only, software does the rest.
    pub(super) fn offloads(self, agreed: Features) -> Offloads {
        let (agreed, _) = agreed.settle_with(Features::CTRL_VQ);
        let (rx, tx) = self.ways();
        let mut done = Offloads::NONE;
        done.rx.set(RxOffloads::CHECKSUM, agreed.contains(rx.csum));
        done.rx
            .set(RxOffloads::LRO, agreed.intersects(rx.whole_tcp));
        done.tx.set(TxOffloads::CHECKSUM, agreed.contains(tx.csum));
        done.tx
            .set(TxOffloads::TCP_TSO, agreed.contains(tx.whole_tcp));
        done.tx
            .set(TxOffloads::UDP_TSO, agreed.contains(tx.whole_udp));
        done
    }
}

/// What a driver acknowledges of what a device offers. `given` is there without being offered, see [`Features::settle_with`]. Large packets
/// come to a driver only that has room for them (5.1.6.3.1): no buffer of a mempool has, so several must do for one packet.
pub(super) fn acknowledge(offered: Features, wanted: Features, given: Features) -> Features {
    let mut features = offered & wanted;
    if !features.contains(Features::MRG_RXBUF) {
        features.remove(TO_DRIVER.tcp | TO_DRIVER.udp);
    }
    features.settle_with(given).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offloads = Offloads::VIRTIO;

    /// What one half needs to send is what the other needs to receive, and every feature of the header is among them.
    #[test]
    fn halves_mirror_each_other() {
        for tx in TxOffloads::all().iter() {
            let sends = Offloads {
                tx,
                ..Offloads::NONE
            };
            let receives = Offloads {
                rx: RxOffloads::LRO,
                ..Offloads::NONE
            };
            for (one, other) in [(Half::Driver, Half::Device), (Half::Device, Half::Driver)] {
                let needed = one.features(sends);
                assert!(other.features(receives).contains(needed), "{needed:?}");
                assert_eq!(needed.settle(), (needed, Vec::new()));
            }
        }
        assert_eq!(Half::Driver.features(ALL), Half::Device.features(ALL));
        assert_eq!(Half::Driver.features(ALL).names().len(), 13);
        assert_eq!(Half::Driver.features(Offloads::NONE), Features::empty());
    }

    /// What was asked for and agreed on is done; without checksums nothing is, and a half of TSO is not TSO.
    #[test]
    fn tells_what_is_done() {
        for half in [Half::Driver, Half::Device] {
            assert_eq!(half.offloads(half.features(ALL)), ALL);
            assert_eq!(half.offloads(Features::VERSION_1), Offloads::NONE);
        }
        let lame = Features::HOST_TSO4 | Features::HOST_TSO6 | Features::GUEST_CSUM;
        assert_eq!(Half::Driver.offloads(lame).names(), ["rx checksum"]);
        let half = Features::CSUM | Features::HOST_TSO4;
        assert_eq!(Half::Driver.offloads(half).names(), ["tx checksum"]);
    }

    /// Large packets need buffers that merge; what depends on what was not offered is not acknowledged.
    #[test]
    fn acknowledges_what_it_can() {
        let acked = |offered, wanted| acknowledge(offered, wanted, Features::empty());
        let wanted = Half::Driver.features(ALL);
        assert_eq!(
            acked(Features::all(), wanted),
            wanted - TO_DRIVER.tcp - TO_DRIVER.udp
        );
        let merging = wanted | Features::MRG_RXBUF;
        assert_eq!(acked(Features::all(), merging), merging);
        assert_eq!(
            acked(Features::all() - Features::CSUM, merging),
            merging - Features::CSUM - TO_DEVICE.tcp - TO_DEVICE.udp
        );
    }
}
