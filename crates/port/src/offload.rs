//! Offloads, by ethdev's names: what is asked for when a port is opened, and who does it.

bitflags::bitflags! {
    /// What can be done to packets that come in.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct RxOffloads: u32 {
        /// Checksums of layer 4 are verified, or the peer leaves them out where the packet never was on a wire.
        const CHECKSUM = 1 << 0;
        /// Packets of a TCP or UDP stream come in as one, with a flag that says how to cut it.
        const LRO = 1 << 1;
        /// The VLAN tag is taken out of the packet.
        const VLAN_STRIP = 1 << 2;
        /// Packets of other VLANs are dropped.
        const VLAN_FILTER = 1 << 3;
        /// The RSS hash comes with the packet.
        const RSS_HASH = 1 << 4;
        /// A packet may lie in several buffers.
        const SCATTER = 1 << 5;
    }
}

bitflags::bitflags! {
    /// What can be done to packets that go out, where their flags ask for it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct TxOffloads: u32 {
        /// Checksums of layer 4 are completed.
        const CHECKSUM = 1 << 0;
        /// Large TCP packets are cut.
        const TCP_TSO = 1 << 1;
        /// Large UDP packets are cut into datagrams.
        const UDP_TSO = 1 << 2;
        /// The VLAN tag is put into the packet.
        const VLAN_INSERT = 1 << 3;
        /// A packet may lie in several buffers.
        const MULTI_SEGS = 1 << 4;
    }
}

macro_rules! names {
    ($type:ident, $what:literal: $($flag:ident = $name:literal),*) => {
        impl $type {
            const NAMES: &[(Self, &str)] = &[$((Self::$flag, $name)),*];

            /// The names of those that are set.
            #[must_use]
            pub fn names(self) -> Vec<&'static str> {
                let set = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag));
                set.map(|&(_, name)| name).collect()
            }

            /// The one of that name.
            ///
            /// # Errors
            /// [`PortError::UnknownOffload`].
            pub fn from_ethdev(name: &str) -> Result<Self, PortError> {
                let found = Self::NAMES.iter().find(|&&(_, known)| known == name);
                found
                    .map(|&(flag, _)| flag)
                    .ok_or_else(|| PortError::UnknownOffload {
                        what: $what,
                        got: name.to_owned(),
                        known: Self::all().names().join(", "),
                    })
            }
        }
    };
}

use crate::PortError;

names!(RxOffloads, "receive": CHECKSUM = "checksum", LRO = "lro", VLAN_STRIP = "vlan-strip", VLAN_FILTER = "vlan-filter",
    RSS_HASH = "rss-hash", SCATTER = "scatter");
names!(TxOffloads, "transmit": CHECKSUM = "checksum", TCP_TSO = "tcp-tso", UDP_TSO = "udp-tso", VLAN_INSERT = "vlan-insert",
    MULTI_SEGS = "multi-segs");

/// The offloads of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Of packets that come in.
    pub rx: RxOffloads,
    /// Of packets that go out.
    pub tx: TxOffloads,
}

impl Offloads {
    /// None.
    pub const NONE: Self = Self {
        rx: RxOffloads::empty(),
        tx: TxOffloads::empty(),
    };

    /// What software does for every port, whatever its driver.
    pub const SOFTWARE: Self = Self {
        rx: RxOffloads::all().difference(RxOffloads::LRO),
        tx: TxOffloads::all(),
    };

    /// What the two halves of virtio-net do for each other.
    pub const VIRTIO: Self = Self {
        rx: RxOffloads::CHECKSUM.union(RxOffloads::LRO),
        tx: TxOffloads::CHECKSUM
            .union(TxOffloads::TCP_TSO)
            .union(TxOffloads::UDP_TSO),
    };

    /// Those of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            rx: self.rx.union(other.rx),
            tx: self.tx.union(other.tx),
        }
    }

    /// Those of the first that are not of the second.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self {
            rx: self.rx.difference(other.rx),
            tx: self.tx.difference(other.tx),
        }
    }

    /// Their names, with the direction.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let rx = self.rx.names().into_iter().map(|name| format!("rx {name}"));
        let tx = self.tx.names().into_iter().map(|name| format!("tx {name}"));
        rx.chain(tx).collect()
    }
}

/// Who does which offloads for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffloadInfo {
    /// What was asked for when the port was opened.
    pub asked: Offloads,
    /// What the device does now: it depends on the peer, if there is one.
    pub device: Offloads,
    /// What software does where the device does not.
    pub software: Offloads,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every offload has one name, and is found by it.
    #[test]
    fn names_are_complete() {
        assert_eq!(
            RxOffloads::all().names().len(),
            RxOffloads::all().iter().count()
        );
        for flag in RxOffloads::all() {
            assert_eq!(RxOffloads::from_ethdev(flag.names()[0]).unwrap(), flag);
        }
        assert_eq!(
            TxOffloads::all().names().len(),
            TxOffloads::all().iter().count()
        );
        for flag in TxOffloads::all() {
            assert_eq!(TxOffloads::from_ethdev(flag.names()[0]).unwrap(), flag);
        }
    }

    /// An offload of the other direction is not taken for one of this.
    #[test]
    fn unknown_is_an_error() {
        let error = RxOffloads::from_ethdev("tcp-tso").unwrap_err();
        assert_eq!(error.code(), "ERR_VRING_OFFLOAD");
        assert!(error.to_string().contains("vlan-strip"), "{error}");
    }
}
