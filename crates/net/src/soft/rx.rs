//! Behind a receive path: filters, checksums, VLAN tags and hashes, as far as the device did not do them.

use std::sync::Arc;

use vring_mem::burst::{Packet, flags};
use vring_mem::{Burst, Mempool};

use super::filter::{self, MacFilter, VlanSet};
use super::headers::{self, HEAD};
use super::toeplitz::Toeplitz;
use super::{RssConfig, View, csum, vlan};
use crate::{Counters, DropReason};

/// What is done about checksums of layer 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// Nothing: the application understands [`flags::CSUM_PARTIAL`].
    Off,
    /// Partial checksums are completed: who knows nothing of offloads sees packets as they are on the wire. Packets that are to be cut
    /// ([`flags::GSO`]) stay as they are: they come to those only who asked for them.
    #[default]
    Complete,
    /// As `Off`, and those that nobody looked at are verified.
    Verify,
}

/// What an application wants to receive, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RxConfig {
    /// Packets to any address; the next four do not matter then.
    pub promiscuous: bool,
    /// Packets to any group.
    pub all_multicast: bool,
    /// The own address.
    pub mac: [u8; 6],
    /// More addresses.
    pub macs: Vec<[u8; 6]>,
    /// Groups.
    pub multicast: Vec<[u8; 6]>,
    /// Packets without a tag, and of these VLANs only.
    pub vlan_filter: Option<Box<VlanSet>>,
    /// Takes VLAN tags out of packets: see [`flags::VLAN`].
    pub vlan_strip: bool,
    /// Checksums of layer 4.
    pub checksum: Checksum,
    /// Hashes packets: see [`flags::HASH`].
    pub hash: Option<RssConfig>,
}

impl Default for RxConfig {
    fn default() -> Self {
        Self {
            promiscuous: true,
            all_multicast: false,
            mac: [0; 6],
            macs: Vec::new(),
            multicast: Vec::new(),
            vlan_filter: None,
            vlan_strip: false,
            checksum: Checksum::default(),
            hash: None,
        }
    }
}

/// What was taken out of a burst after it had been counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filtered {
    /// Packets.
    pub packets: usize,
    /// Bytes of those packets.
    pub bytes: u64,
}

/// See the module. One for each receive queue.
#[derive(Debug)]
pub struct SoftRx {
    pool: Arc<Mempool>,
    macs: Option<MacFilter>,
    vlans: Option<Box<VlanSet>>,
    strip: bool,
    checksum: Checksum,
    hash: Option<(Toeplitz, RssConfig)>,
}

impl SoftRx {
    /// For packets of this mempool.
    #[must_use]
    pub fn new(pool: Arc<Mempool>, config: &RxConfig) -> Self {
        Self {
            pool,
            macs: (!config.promiscuous).then(|| {
                MacFilter::new(
                    config.mac,
                    &config.macs,
                    &config.multicast,
                    config.all_multicast,
                )
            }),
            vlans: config.vlan_filter.clone(),
            strip: config.vlan_strip,
            checksum: config.checksum,
            hash: config
                .hash
                .clone()
                .map(|rss| (Toeplitz::new(&rss.key), rss)),
        }
    }

    /// Nothing is to be done to any packet of a path whose packets have no flags but those of `gives`: [`SoftRx::run`] need not be called.
    #[must_use]
    pub fn is_idle(&self, gives: u32) -> bool {
        !self.looks_at_all() && (self.checksum == Checksum::Off || gives & flags::CSUM_PARTIAL == 0)
    }

    /// Each packet is looked at, and not only those with a flag.
    fn looks_at_all(&self) -> bool {
        self.macs.is_some()
            || self.vlans.is_some()
            || self.strip
            || self.checksum == Checksum::Verify
            || self.hash.is_some()
    }

    /// Works on the packets of the burst from number `first` on. Those that are not wanted are freed, counted as `rx_filtered`, and the others
    /// close up. A packet that does not fit its mempool is left as it is.
    pub fn run(&self, burst: &mut Burst, first: usize, counters: &Counters) -> Filtered {
        let mut filtered = Filtered::default();
        let len = burst.len();
        if first >= len {
            return filtered;
        }
        let all = burst.packets().2[first..].iter().fold(0, |all, f| all | f);
        if !self.looks_at_all() && all & flags::CSUM_PARTIAL == 0 {
            return filtered;
        }
        let mut kept = first;
        for at in first..len {
            let mut packet = burst.packet(at);
            if self.receive(&mut packet) {
                burst.set_packet(kept, &packet);
                kept += 1;
            } else {
                filtered.packets += 1;
                filtered.bytes += u64::from(packet.len);
                self.pool.free_packet(packet.addr, packet.flags);
            }
        }
        burst.set_len(kept);
        if filtered.packets > 0 {
            counters.drop(DropReason::RxFiltered, filtered.packets as u64);
        }
        filtered
    }

    /// False when the packet is not wanted.
    fn receive(&self, packet: &mut Packet) -> bool {
        let Some(view) = View::new(&self.pool, packet) else {
            return true;
        };
        let mut bytes = [0; HEAD];
        let head = view.head(&mut bytes[..self.head_len()]);
        if !self.wants(packet, head) {
            return false;
        }
        if self.checksum == Checksum::Complete
            && packet.flags & (flags::CSUM_PARTIAL | flags::GSO) == flags::CSUM_PARTIAL
            && csum::complete(&view, packet)
        {
            packet.flags = packet.flags & !flags::CSUM_PARTIAL | flags::CSUM_GOOD;
        }
        if self.looks_into_ip() {
            self.look_into_ip(packet, &view, head);
        }
        if self.strip
            && let Some(tci) = headers::vlan_tag(head)
        {
            vlan::strip(&self.pool, packet, &view, tci);
        }
        true
    }

    fn wants(&self, packet: &Packet, head: &[u8]) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "the tag is the low half")]
        let outside = (packet.flags & flags::VLAN != 0).then_some(packet.tag as u16);
        self.macs.as_ref().is_none_or(|macs| macs.passes(head))
            && self
                .vlans
                .as_ref()
                .is_none_or(|vlans| filter::vlan_passes(vlans, outside, head))
    }

    fn looks_into_ip(&self) -> bool {
        self.checksum == Checksum::Verify || self.hash.is_some()
    }

    /// Bytes of a packet that decide about it.
    fn head_len(&self) -> usize {
        if self.looks_into_ip() {
            HEAD
        } else {
            headers::ADDRESSES + headers::TAG
        }
    }

    /// Verifies the checksum, and computes the hash.
    fn look_into_ip(&self, packet: &mut Packet, view: &View<'_>, head: &[u8]) {
        const KNOWN: u32 = flags::CSUM_PARTIAL | flags::CSUM_GOOD | flags::CSUM_BAD;
        let Some(at) = headers::parse(head, view.len()) else {
            return;
        };
        if self.checksum == Checksum::Verify
            && packet.flags & KNOWN == 0
            && let Some(right) = csum::verify(view, head, &at)
        {
            packet.flags |= if right {
                flags::CSUM_GOOD
            } else {
                flags::CSUM_BAD
            };
        }
        if packet.flags & flags::HASH == 0
            && let Some((toeplitz, rss)) = &self.hash
            && let Some((hash, report)) = toeplitz.of_packet(head, &at, rss.types)
        {
            packet.flags |= flags::HASH;
            packet.hash = hash;
            packet.tag = packet.tag & 0xffff | (report as u32) << 16;
        }
    }
}
