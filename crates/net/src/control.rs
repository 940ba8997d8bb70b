//! The control queue's commands (5.1.6.5), as bytes: a driver encodes them, a device parses them.
//!
//! ```text
//! class u8 · command u8 · data …        what the driver sends, in one chain with a byte for the acknowledgement that the device writes
//! ```
//!
//! What a driver sends is hostile: a command is parsed from a copy, every count in it is compared with the bytes that are there, and tables
//! have a limit.

use crate::Features;
use crate::soft::HashTypes;

/// The acknowledgement: it was done.
pub const OK: u8 = 0;
/// The acknowledgement: it was not.
pub const ERR: u8 = 1;

/// Most addresses of each of the two tables, and most bytes of a key.
const MAX_ADDRESSES: usize = 1024;
const MAX_KEY: usize = 255;
/// Most entries of the indirection table: its mask and one.
const MAX_TABLE: usize = 512;
const MAX_PAIRS: u16 = 0x8000;

/// Bytes of the longest command.
pub const MAX_COMMAND: usize = 2 + 8 + 2 * MAX_ADDRESSES * 6;

const RX: u8 = 0;
const MAC: u8 = 1;
const VLAN: u8 = 2;
const ANNOUNCE: u8 = 3;
const MQ: u8 = 4;
const GUEST_OFFLOADS: u8 = 5;

/// A receive mode: its number is the command's (5.1.6.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RxMode {
    /// All packets.
    Promiscuous = 0,
    /// All to groups.
    AllMulticast = 1,
    /// All to single stations (`CTRL_RX_EXTRA`, as the rest).
    AllUnicast = 2,
    /// None to groups.
    NoMulticast = 3,
    /// None to single stations.
    NoUnicast = 4,
    /// No broadcasts.
    NoBroadcast = 5,
}

impl RxMode {
    const ALL: [Self; 6] = [
        Self::Promiscuous,
        Self::AllMulticast,
        Self::AllUnicast,
        Self::NoMulticast,
        Self::NoUnicast,
        Self::NoBroadcast,
    ];

    fn needs(self) -> Features {
        match self {
            Self::Promiscuous | Self::AllMulticast => Features::CTRL_RX,
            _ => Features::CTRL_RX_EXTRA,
        }
    }
}

/// How hashes are computed, and packets spread (5.1.6.5.6.4, 5.1.6.5.7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RssCommand {
    /// What packets are hashed by.
    pub types: HashTypes,
    /// The queue for packets without a hash.
    pub unclassified_queue: u16,
    /// The queue for each value of the hash's low bits: a power of two of them.
    pub table: Vec<u16>,
    /// Most transmit queues that will be used.
    pub max_tx_vq: u16,
    /// The key.
    pub key: Vec<u8>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A receive mode is switched.
    Rx(RxMode, bool),
    /// The tables of addresses: single stations, groups.
    MacTable(Vec<[u8; 6]>, Vec<[u8; 6]>),
    /// The own address.
    MacAddr([u8; 6]),
    /// Packets of a VLAN pass from now on, or do not.
    Vlan(u16, bool),
    /// The driver has announced itself.
    AnnounceAck,
    /// So many queue pairs are used.
    Pairs(u16),
    /// Receive-side scaling.
    Rss(RssCommand),
    /// Hashes are reported: their types and the key.
    Hash(HashTypes, Vec<u8>),
    /// The offloads that the driver wants of those that it negotiated (`GUEST_…`).
    GuestOffloads(Features),
}

impl Command {
    /// The feature without which there is no such command.
    #[must_use]
    pub fn needs(&self) -> Features {
        match self {
            Self::Rx(mode, _) => mode.needs(),
            Self::MacTable(..) => Features::CTRL_RX,
            Self::MacAddr(_) => Features::CTRL_MAC_ADDR,
            Self::Vlan(..) => Features::CTRL_VLAN,
            Self::AnnounceAck => Features::GUEST_ANNOUNCE,
            Self::Pairs(_) => Features::MQ,
            Self::Rss(_) => Features::RSS,
            Self::Hash(..) => Features::HASH_REPORT,
            Self::GuestOffloads(_) => Features::CTRL_GUEST_OFFLOADS,
        }
    }

    /// The bytes that a driver sends. A device refuses what is longer than it may be ([`Command::parse`]).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        match self {
            Self::Rx(mode, on) => put(&[RX, *mode as u8, u8::from(*on)]),
            Self::MacTable(unicast, multicast) => {
                put(&[MAC, 0]);
                for table in [unicast, multicast] {
                    put(&u32::try_from(table.len()).unwrap_or(u32::MAX).to_le_bytes());
                    put(table.as_flattened());
                }
            }
            Self::MacAddr(mac) => {
                put(&[MAC, 1]);
                put(mac);
            }
            Self::Vlan(id, on) => {
                put(&[VLAN, u8::from(!on)]);
                put(&id.to_le_bytes());
            }
            Self::AnnounceAck => put(&[ANNOUNCE, 0]),
            Self::Pairs(pairs) => {
                put(&[MQ, 0]);
                put(&pairs.to_le_bytes());
            }
            Self::Rss(rss) => {
                put(&[MQ, 1]);
                put(&rss.types.bits().to_le_bytes());
                let mask = u16::try_from(rss.table.len().saturating_sub(1)).unwrap_or(u16::MAX);
                put(&mask.to_le_bytes());
                put(&rss.unclassified_queue.to_le_bytes());
                rss.table.iter().for_each(|queue| put(&queue.to_le_bytes()));
                put(&rss.max_tx_vq.to_le_bytes());
                put(&[u8::try_from(rss.key.len()).unwrap_or(u8::MAX)]);
                put(&rss.key);
            }
            Self::Hash(types, key) => {
                put(&[MQ, 2]);
                put(&types.bits().to_le_bytes());
                // Four reserved words, so that it lies as the above does.
                put(&[0; 8]);
                put(&[u8::try_from(key.len()).unwrap_or(u8::MAX)]);
                put(key);
            }
            Self::GuestOffloads(features) => {
                put(&[GUEST_OFFLOADS, 0]);
                put(&features.bits().to_le_bytes());
            }
        }
        out
    }

    /// The command in a copy of what the driver sent. `None` when it is not one, not whole, too long, or its feature was not negotiated: the
    /// acknowledgement is [`ERR`] then.
    #[must_use]
    pub fn parse(bytes: &[u8], features: Features) -> Option<Self> {
        let (&[class, command], data) = bytes.split_first_chunk()?;
        let mut rest = Rest(data);
        let parsed = match (class, command) {
            (RX, mode) => Self::Rx(*RxMode::ALL.get(usize::from(mode))?, rest.switch()?),
            (MAC, 0) => Self::MacTable(rest.addresses()?, rest.addresses()?),
            (MAC, 1) => Self::MacAddr(rest.array()?),
            (VLAN, off @ 0..=1) => Self::Vlan(rest.id()?, off == 0),
            (ANNOUNCE, 0) => Self::AnnounceAck,
            (MQ, 0) => Self::Pairs(rest.u16().filter(|n| (1..=MAX_PAIRS).contains(n))?),
            (MQ, 1) => Self::Rss(rest.rss()?),
            (MQ, 2) => {
                let types = rest.types()?;
                rest.array::<8>()?;
                Self::Hash(types, rest.key()?)
            }
            (GUEST_OFFLOADS, 0) => Self::GuestOffloads(Features::from_bits_retain(
                u64::from_le_bytes(rest.array()?),
            )),
            _ => return None,
        };
        let whole = rest.0.is_empty() && features.contains(Features::CTRL_VQ | parsed.needs());
        whole.then_some(parsed)
    }
}

/// What is left of a command's data.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn switch(&mut self) -> Option<bool> {
        self.array()
            .map(|[on]| on)
            .filter(|on| *on <= 1)
            .map(|on| on == 1)
    }

    fn id(&mut self) -> Option<u16> {
        self.u16().filter(|id| *id < 4096)
    }

    fn types(&mut self) -> Option<HashTypes> {
        let bits = self.array().map(u32::from_le_bytes)?;
        Some(HashTypes::from_bits_retain(bits))
    }

    fn addresses(&mut self) -> Option<Vec<[u8; 6]>> {
        let count = usize::try_from(self.array().map(u32::from_le_bytes)?).ok()?;
        if count > MAX_ADDRESSES {
            return None;
        }
        (0..count).map(|_| self.array()).collect()
    }

    fn key(&mut self) -> Option<Vec<u8>> {
        let [len] = self.array()?;
        let (key, rest) = self.0.split_at_checked(usize::from(len).min(MAX_KEY))?;
        self.0 = rest;
        Some(key.to_vec())
    }

    fn rss(&mut self) -> Option<RssCommand> {
        let types = self.types()?;
        let entries = usize::from(self.u16()?) + 1;
        if entries > MAX_TABLE || !entries.is_power_of_two() {
            return None;
        }
        Some(RssCommand {
            types,
            unclassified_queue: self.u16()?,
            table: (0..entries).map(|_| self.u16()).collect::<Option<_>>()?,
            max_tx_vq: self.u16().filter(|n| (1..=MAX_PAIRS).contains(n))?,
            key: self.key()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn commands() -> impl Strategy<Value = Command> {
        let types = any::<u32>().prop_map(HashTypes::from_bits_retain);
        let key = vec(any::<u8>(), 0..=MAX_KEY);
        let table = (0..=9u32).prop_flat_map(|log| vec(any::<u16>(), 1usize << log));
        let rss = (types, any::<u16>(), table, 1..=MAX_PAIRS, key).prop_map(
            |(types, unclassified_queue, table, max_tx_vq, key)| RssCommand {
                types,
                unclassified_queue,
                table,
                max_tx_vq,
                key,
            },
        );
        prop_oneof![
            (0..6usize, any::<bool>()).prop_map(|(mode, on)| Command::Rx(RxMode::ALL[mode], on)),
            (vec(any::<[u8; 6]>(), 0..20), vec(any::<[u8; 6]>(), 0..20))
                .prop_map(|(unicast, multicast)| Command::MacTable(unicast, multicast)),
            any::<[u8; 6]>().prop_map(Command::MacAddr),
            (0..4096u16, any::<bool>()).prop_map(|(id, on)| Command::Vlan(id, on)),
            Just(Command::AnnounceAck),
            (1..=MAX_PAIRS).prop_map(Command::Pairs),
            rss.clone().prop_map(Command::Rss),
            rss.prop_map(|rss| Command::Hash(rss.types, rss.key)),
            any::<u64>().prop_map(|bits| Command::GuestOffloads(Features::from_bits_retain(bits))),
        ]
    }

    proptest! {
        /// A device understands what a driver encoded, if the feature was negotiated; no byte may be missing, or too many.
        #[test]
        fn commands_arrive(command in commands(), cut in any::<proptest::sample::Index>()) {
            let mut bytes = command.encode();
            prop_assert!(bytes.len() <= MAX_COMMAND);
            prop_assert_eq!(Command::parse(&bytes[..cut.index(bytes.len())], Features::all()), None);
            prop_assert_eq!(Command::parse(&bytes, Features::all() - command.needs()), None);
            prop_assert_eq!(Command::parse(&bytes, Features::all() - Features::CTRL_VQ), None);
            prop_assert_eq!(Command::parse(&bytes, Features::all()), Some(command));
            bytes.push(0);
            prop_assert_eq!(Command::parse(&bytes, Features::all()), None);
        }

        /// Whatever a driver sends is refused, or is a command that would be encoded the same but for reserved bytes.
        #[test]
        fn any_bytes(class in 0..7u8, command in 0..4u8, data in vec(any::<u8>(), 0..64)) {
            let bytes = [&[class, command], &data[..]].concat();
            if let Some(parsed) = Command::parse(&bytes, Features::all()) {
                prop_assert_eq!(parsed.encode().len(), bytes.len());
            }
        }
    }

    /// Counts are not believed: of addresses, of entries, of bytes of a key; and there is no VLAN 4096.
    #[test]
    fn lies_are_refused() {
        let all = Features::all();
        for bytes in [
            &[MAC, 0, 0xff, 0xff, 0xff, 0xff][..],
            &[MAC, 0, 1, 4, 0, 0, 0, 0, 0, 0],
            &[MQ, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
            &[MQ, 1, 0, 0, 0, 0, 0xff, 0xff, 0, 0],
            &[MQ, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 40, 1, 2, 3],
            &[MQ, 0, 0, 0],
            &[MQ, 0, 1, 0x80],
            &[VLAN, 0, 0, 0x10],
            &[RX, 6, 1],
            &[RX, 0, 2],
            &[RX],
            &[],
        ] {
            assert_eq!(Command::parse(bytes, all), None, "{bytes:?}");
        }
    }
}
