//! Which packets an application wants: by destination address and VLAN.

use super::headers;

/// A set of VLAN ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanSet([u64; 64]);

impl VlanSet {
    /// Without any: only packets without a tag, or with one that is of priority only, pass.
    pub const EMPTY: Self = Self([0; 64]);

    /// Puts an id in, or takes it out. Only its low 12 bits count.
    pub fn set(&mut self, id: u16, on: bool) {
        let (word, bit) = (usize::from(id >> 6) % 64, 1 << (id % 64));
        if on {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }

    /// Whether the id, the low 12 bits, is in it.
    #[must_use]
    pub fn contains(&self, id: u16) -> bool {
        self.0[usize::from(id >> 6) % 64] & (1 << (id % 64)) != 0
    }
}

impl FromIterator<u16> for VlanSet {
    fn from_iter<T: IntoIterator<Item = u16>>(ids: T) -> Self {
        let mut set = Self::EMPTY;
        ids.into_iter().for_each(|id| set.set(id, true));
        set
    }
}

/// The destination addresses that pass, in order.
#[derive(Debug, Default)]
pub(super) struct MacFilter {
    addresses: Vec<[u8; 6]>,
    all_multicast: bool,
}

impl MacFilter {
    /// The station's own address, more of them, and groups.
    pub(super) fn new(
        mac: [u8; 6],
        macs: &[[u8; 6]],
        multicast: &[[u8; 6]],
        all_multicast: bool,
    ) -> Self {
        let mut addresses = [&[mac], macs, multicast].concat();
        addresses.sort_unstable();
        addresses.dedup();
        Self {
            addresses,
            all_multicast,
        }
    }

    /// `head` begins with the packet. Broadcasts pass always.
    pub(super) fn passes(&self, head: &[u8]) -> bool {
        let Some(&destination) = head.first_chunk::<6>() else {
            return false;
        };
        destination == [0xff; 6]
            || (self.all_multicast && destination[0] & 1 != 0)
            || self.addresses.binary_search(&destination).is_ok()
    }
}

/// Whether a packet passes by its tag, which is `outside` of it or in it. Id 0 says that the tag is of priority only.
pub(super) fn vlan_passes(set: &VlanSet, outside: Option<u16>, head: &[u8]) -> bool {
    let id = outside.or_else(|| headers::vlan_tag(head)).unwrap_or(0) & 0xfff;
    id == 0 || set.contains(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each id is one of its own.
    #[test]
    fn vlan_sets() {
        let mut set: VlanSet = [1, 63, 64, 4095].into_iter().collect();
        let ids: Vec<_> = (0..4096).filter(|&id| set.contains(id)).collect();
        assert_eq!(ids, [1, 63, 64, 4095]);
        set.set(64, false);
        assert!(!set.contains(64) && set.contains(63));
        set.set(0xf001, false);
        assert!(!set.contains(1), "priority bits do not count");
    }

    /// Own addresses, listed groups and broadcasts pass; all groups where that was asked for.
    #[test]
    fn addresses() {
        let (own, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let (group, other_group) = ([0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]);
        let some = MacFilter::new(own, &[other], &[group], false);
        let all = MacFilter::new(own, &[], &[], true);
        for (address, by_some, by_all) in [
            (own, true, true),
            (other, true, false),
            (group, true, true),
            (other_group, false, true),
            ([0xff; 6], true, true),
            ([2, 0, 0, 0, 0, 3], false, false),
        ] {
            assert_eq!(some.passes(&address), by_some, "{address:?}");
            assert_eq!(all.passes(&address), by_all, "{address:?}");
        }
        assert!(!all.passes(&own[..5]));
    }
}
