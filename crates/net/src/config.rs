//! The device's configuration space (5.1.4), read and written by offset: what stands where does not depend on the features, but whether it
//! means something does.
//!
//! ```text
//! 0 mac[6] · 6 status u16 · 8 max_virtqueue_pairs u16 · 10 mtu u16 · 12 speed u32 · 16 duplex u8 · 17 rss_max_key_size u8
//! 18 rss_max_indirection_table_length u16 · 20 supported_hash_types u32
//! ```

use std::ops::RangeInclusive;

use crate::Features;
use crate::soft::HashTypes;

/// Bytes of the whole structure.
pub const CONFIG_SIZE: usize = 24;

const SPEED: Features = Features::SPEED_DUPLEX;
const HASHES: Features = Features::RSS.union(Features::HASH_REPORT);

/// What the space says; a field without its feature is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetConfig {
    /// The device's address (`MAC`).
    pub mac: Option<[u8; 6]>,
    /// Bits of the state: [`NetConfig::LINK_UP`], [`NetConfig::ANNOUNCE`] (`STATUS`).
    pub status: Option<u16>,
    /// Most queue pairs, 1 to 32768 (`MQ` or `RSS`).
    pub max_virtqueue_pairs: Option<u16>,
    /// Most bytes of a packet behind its Ethernet header, at least 68 (`MTU`).
    pub mtu: Option<u16>,
    /// In Mbit/s; [`u32::MAX`] for unknown (`SPEED_DUPLEX`).
    pub speed: Option<u32>,
    /// 0 is half, 1 full, 255 unknown (`SPEED_DUPLEX`).
    pub duplex: Option<u8>,
    /// Most bytes of a key, at least 40 (`RSS` or `HASH_REPORT`).
    pub rss_max_key_size: Option<u8>,
    /// Most entries of the table, at least 128 (`RSS`).
    pub rss_max_indirection_table_length: Option<u16>,
    /// What packets can be hashed by (`RSS` or `HASH_REPORT`).
    pub supported_hash_types: Option<HashTypes>,
}

/// What a device says of itself that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    /// The space ends before a field whose feature was negotiated.
    #[error("expected a configuration space of at least {min} bytes for {field}, got {got}")]
    Short {
        /// The field.
        field: &'static str,
        /// Bytes up to its end.
        min: usize,
        /// Bytes that there are.
        got: usize,
    },
    /// A number outside of what the specification allows.
    #[error("expected {field} from {min} to {max}, got {got}")]
    Range {
        /// The field.
        field: &'static str,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
        /// What the device says.
        got: u32,
    },
}

/// A copy of the space, read field by field.
struct Fields<'a> {
    bytes: &'a [u8],
    features: Features,
}

impl Fields<'_> {
    /// The field of `N` bytes at `at`, if one of `with` was negotiated.
    fn get<const N: usize>(
        &self,
        field: &'static str,
        at: usize,
        with: Features,
    ) -> Result<Option<[u8; N]>, BadConfig> {
        if !self.features.intersects(with) {
            return Ok(None);
        }
        let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes.copied().map(Some).ok_or(BadConfig::Short {
            field,
            min: at + N,
            got: self.bytes.len(),
        })
    }

    fn u16(
        &self,
        field: &'static str,
        at: usize,
        with: Features,
        range: RangeInclusive<u16>,
    ) -> Result<Option<u16>, BadConfig> {
        let number = self.get(field, at, with)?.map(u16::from_le_bytes);
        if let Some(got) = number.filter(|number| !range.contains(number)) {
            return Err(BadConfig::Range {
                field,
                min: (*range.start()).into(),
                max: (*range.end()).into(),
                got: got.into(),
            });
        }
        Ok(number)
    }
}

impl NetConfig {
    /// Bit of `status`: the link is up.
    pub const LINK_UP: u16 = 1;
    /// Bit of `status`: the driver should announce itself.
    pub const ANNOUNCE: u16 = 2;

    /// Reads a copy of the space, as far as the features say that it means something.
    ///
    /// # Errors
    /// The space is too short, or a number cannot be.
    pub fn read(bytes: &[u8], features: Features) -> Result<Self, BadConfig> {
        let fields = Fields { bytes, features };
        let pairs = Features::MQ | Features::RSS;
        let key = fields.get::<1>("rss_max_key_size", 17, HASHES)?;
        if let Some([got]) = key.filter(|[size]| *size < 40) {
            return Err(BadConfig::Range {
                field: "rss_max_key_size",
                min: 40,
                max: 255,
                got: got.into(),
            });
        }
        Ok(Self {
            mac: fields.get("mac", 0, Features::MAC)?,
            status: fields.u16("status", 6, Features::STATUS, 0..=u16::MAX)?,
            max_virtqueue_pairs: fields.u16("max_virtqueue_pairs", 8, pairs, 1..=0x8000)?,
            mtu: fields.u16("mtu", 10, Features::MTU, 68..=u16::MAX)?,
            speed: fields.get("speed", 12, SPEED)?.map(u32::from_le_bytes),
            duplex: fields.get("duplex", 16, SPEED)?.map(u8::from_le_bytes),
            rss_max_key_size: key.map(u8::from_le_bytes),
            rss_max_indirection_table_length: fields.u16(
                "rss_max_indirection_table_length",
                18,
                Features::RSS,
                128..=u16::MAX,
            )?,
            supported_hash_types: fields
                .get("supported_hash_types", 20, HASHES)?
                .map(|bytes| HashTypes::from_bits_retain(u32::from_le_bytes(bytes))),
        })
    }

    /// The space with these fields; zeros where there is none.
    #[must_use]
    pub fn write(&self) -> [u8; CONFIG_SIZE] {
        let mut bytes = [0; CONFIG_SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.mac.unwrap_or_default());
        put(6, &self.status.unwrap_or_default().to_le_bytes());
        put(
            8,
            &self.max_virtqueue_pairs.unwrap_or_default().to_le_bytes(),
        );
        put(10, &self.mtu.unwrap_or_default().to_le_bytes());
        put(12, &self.speed.unwrap_or_default().to_le_bytes());
        put(16, &[self.duplex.unwrap_or_default()]);
        put(17, &[self.rss_max_key_size.unwrap_or_default()]);
        let table = self.rss_max_indirection_table_length.unwrap_or_default();
        put(18, &table.to_le_bytes());
        let types = self.supported_hash_types.map_or(0, |types| types.bits());
        put(20, &types.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Features = Features::MAC
        .union(Features::STATUS)
        .union(Features::MQ)
        .union(Features::MTU)
        .union(SPEED)
        .union(HASHES);

    /// Each field stands where the kernel's structure has it.
    #[test]
    fn offsets_are_the_kernels() {
        use virtio_bindings::virtio_net::virtio_net_config as theirs;
        assert_eq!(size_of::<theirs>(), CONFIG_SIZE);
        assert_eq!(std::mem::offset_of!(theirs, status), 6);
        assert_eq!(std::mem::offset_of!(theirs, max_virtqueue_pairs), 8);
        assert_eq!(std::mem::offset_of!(theirs, mtu), 10);
        assert_eq!(std::mem::offset_of!(theirs, speed), 12);
        assert_eq!(std::mem::offset_of!(theirs, duplex), 16);
        assert_eq!(std::mem::offset_of!(theirs, rss_max_key_size), 17);
        assert_eq!(
            std::mem::offset_of!(theirs, rss_max_indirection_table_length),
            18
        );
        assert_eq!(std::mem::offset_of!(theirs, supported_hash_types), 20);
    }

    /// A field counts with its feature only, and a space may end before fields that do not count.
    #[test]
    fn fields_go_by_features() {
        let bytes = [2, 0, 0, 0, 0, 9, 1, 0, 0, 0];
        let config =
            NetConfig::read(&bytes, Features::MAC | Features::STATUS).expect("long enough");
        let expected = NetConfig {
            mac: Some([2, 0, 0, 0, 0, 9]),
            status: Some(NetConfig::LINK_UP),
            ..NetConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(
            NetConfig::read(&bytes, Features::MTU),
            Err(BadConfig::Short {
                field: "mtu",
                min: 12,
                got: 10
            })
        );
        assert_eq!(
            NetConfig::read(&bytes, Features::MQ).map_err(|error| error.to_string()),
            Err("expected max_virtqueue_pairs from 1 to 32768, got 0".into())
        );
    }

    proptest! {
        /// Whatever a device says is refused, or comes out again byte for byte.
        #[test]
        fn any_space(bytes in any::<[u8; CONFIG_SIZE]>(), len in 0..=CONFIG_SIZE) {
            if let Ok(config) = NetConfig::read(&bytes[..len], ALL) {
                prop_assert_eq!(len, CONFIG_SIZE);
                prop_assert_eq!(config.write(), bytes);
            }
            let mut right = bytes;
            (right[8], right[9], right[11], right[17], right[19]) = (1, bytes[9] & 0x7f, bytes[11] | 1, bytes[17] | 0x80, bytes[19] | 1);
            prop_assert_eq!(NetConfig::read(&right, ALL).expect("right numbers").write(), right);
        }
    }
}
