//! A burst: up to [`MAX_BURST`] packets as a struct of arrays, in memory that Rust and JavaScript both see.
//!
//! ```text
//! words[0] = packets in it      words[1] = capacity      words[2..16] reserved
//! words[16 ..]            addr [capacity]   byte position of the packet's first byte in its mempool's region
//! words[16 +   capacity]  len  [capacity]   bytes of the packet, all segments together
//! words[16 + 2*capacity]  flags[capacity]   see [`flags`]
//! words[16 + 3*capacity]  csum [capacity]   start | offset << 16: where a checksum is to be completed
//! words[16 + 4*capacity]  gso  [capacity]   size | header length << 16: how the packet is to be cut
//! words[16 + 5*capacity]  tag  [capacity]   VLAN tag | type of the hash << 16
//! words[16 + 6*capacity]  hash [capacity]   RSS hash
//! ```
//!
//! The head lies on a cache line of its own. The last four arrays are the packets' *metadata*: a word there means something only where a flag
//! of the packet says so ([`flags::META`]), and nobody reads or writes it otherwise: plain packets never touch those lines.
//!
//! A burst is used by one thread at a time; its numbers may have been written by a script, so whoever takes packets out of a burst checks
//! them ([`crate::Mempool::checked`]).

use std::alloc::{self, Layout};
use std::ptr::NonNull;

/// Most packets that one burst can hold, as in testpmd's `--burst`.
pub const MAX_BURST: usize = 512;

/// Words before the arrays.
pub const HEAD_WORDS: usize = 16;

/// Arrays behind the head.
const ARRAYS: usize = 7;

/// Bits of a packet's flags.
pub mod flags {
    /// The packet has more than one segment: its first segment's length and the way to the next stand in the mempool's
    /// [`SegMeta`](crate::mempool::SegMeta).
    pub const MULTI: u32 = 1 << 0;
    /// The checksum at `start + offset` (the packet's `csum` word) holds only the sum of the pseudo header: it must be completed before the
    /// packet leaves for someone who does not know. The same on receive ("needed") and on transmit ("please do"): forwarding keeps it.
    pub const CSUM_PARTIAL: u32 = 1 << 1;
    /// The checksum of layer 4 was verified. With neither this nor [`CSUM_BAD`], nobody looked.
    pub const CSUM_GOOD: u32 = 1 << 2;
    /// The checksum of layer 4 was verified, and is wrong.
    pub const CSUM_BAD: u32 = 1 << 3;
    /// TCP over IPv4 to be cut, as the packet's `gso` word says: `size` bytes of payload in each, headers up to and with layer 4 as long as
    /// `header length`. Needs [`CSUM_PARTIAL`], as the other kinds do.
    pub const GSO_TCP4: u32 = 1 << 4;
    /// TCP over IPv6 to be cut.
    pub const GSO_TCP6: u32 = 1 << 5;
    /// UDP to be cut into IP fragments (UFO), over IPv4 or IPv6.
    pub const GSO_UDP: u32 = 1 << 6;
    /// UDP to be cut into datagrams (USO), over IPv4 or IPv6.
    pub const GSO_UDP_L4: u32 = 1 << 7;
    /// With one of TCP: CWR is set, in the first segment only.
    pub const GSO_ECN: u32 = 1 << 8;
    /// The VLAN tag (0x8100) is not in the packet, but in the low half of its `tag` word.
    pub const VLAN: u32 = 1 << 9;
    /// The packet's `hash` word holds its RSS hash, the high half of its `tag` word the hash's type (`VIRTIO_NET_HASH_REPORT_*`).
    pub const HASH: u32 = 1 << 10;

    /// The kinds of packets to be cut: at most one of them is set.
    pub const GSO: u32 = GSO_TCP4 | GSO_TCP6 | GSO_UDP | GSO_UDP_L4;
    /// Flags that say something of a packet's metadata: everything but [`MULTI`].
    pub const META: u32 = CSUM_PARTIAL | CSUM_GOOD | CSUM_BAD | GSO | GSO_ECN | VLAN | HASH;
}

/// One packet of a burst, as a value: for the paths that keep packets, and move few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet {
    /// Byte position of its first byte.
    pub addr: u32,
    /// Bytes, all segments together.
    pub len: u32,
    /// See [`flags`].
    pub flags: u32,
    /// With [`flags::CSUM_PARTIAL`]: start | offset << 16.
    pub csum: u32,
    /// With one of [`flags::GSO`]: size | header length << 16.
    pub gso: u32,
    /// With [`flags::VLAN`] or [`flags::HASH`]: VLAN tag | type of the hash << 16.
    pub tag: u32,
    /// With [`flags::HASH`].
    pub hash: u32,
}

/// The metadata of packets, see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Start | offset << 16.
    pub csum: &'a [u32],
    /// Size | header length << 16.
    pub gso: &'a [u32],
    /// VLAN tag | type of the hash << 16.
    pub tag: &'a [u32],
    /// RSS hash.
    pub hash: &'a [u32],
}

/// The metadata of packets, to be written.
#[derive(Debug, PartialEq, Eq)]
pub struct MetaMut<'a> {
    /// Start | offset << 16.
    pub csum: &'a mut [u32],
    /// Size | header length << 16.
    pub gso: &'a mut [u32],
    /// VLAN tag | type of the hash << 16.
    pub tag: &'a mut [u32],
    /// RSS hash.
    pub hash: &'a mut [u32],
}

impl MetaMut<'_> {
    /// Writes the words of entry `at`.
    ///
    /// # Panics
    /// When the capacity is not above `at`.
    #[inline]
    pub fn set(&mut self, at: usize, packet: &Packet) {
        (self.csum[at], self.gso[at]) = (packet.csum, packet.gso);
        (self.tag[at], self.hash[at]) = (packet.tag, packet.hash);
    }
}

/// Address, length and flags of packets, to be written.
type ArraysMut<'a> = (&'a mut [u32], &'a mut [u32], &'a mut [u32]);

/// See the module. The memory is freed on drop; the packets in it are not: their mempool is not known here.
#[derive(Debug)]
pub struct Burst {
    words: NonNull<u32>,
    capacity: usize,
}

// SAFETY: a burst owns its memory; moving it to another thread moves the only handle.
unsafe impl Send for Burst {}

impl Burst {
    /// A burst for `capacity` packets, which is clamped to 1..=[`MAX_BURST`].
    ///
    /// # Panics
    /// When the process is out of memory.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, MAX_BURST);
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a size that is not zero.
        let ptr = unsafe { alloc::alloc_zeroed(layout) };
        let Some(words) = NonNull::new(ptr.cast::<u32>()) else {
            alloc::handle_alloc_error(layout)
        };
        // SAFETY: word 1 is inside the allocation.
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_BURST")]
        unsafe {
            words.add(1).write(capacity as u32);
        }
        Self { words, capacity }
    }

    /// Words of a burst of that capacity, head and arrays.
    #[must_use]
    pub const fn word_count(capacity: usize) -> usize {
        HEAD_WORDS + ARRAYS * capacity
    }

    fn layout(capacity: usize) -> Layout {
        Layout::array::<u32>(Self::word_count(capacity))
            .and_then(|layout| layout.align_to(crate::CACHE_LINE))
            .expect("a burst is a few KiB at most")
    }

    /// The memory, [`Burst::word_count`] words: for the one who shows it to JavaScript.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u32 {
        self.words.as_ptr()
    }

    /// Packets that fit.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Packets in it. A script may have written any number: it counts as the capacity at most.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: word 0 is inside the allocation.
        (unsafe { self.words.read() } as usize).min(self.capacity)
    }

    /// No packet in it.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No packet more fits.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity
    }

    /// Says how many packets are in it: the entries below `len` have been written.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_BURST")]
        // SAFETY: word 0 is inside the allocation.
        unsafe {
            self.words.write(len.min(self.capacity) as u32);
        }
    }

    /// The first word of array `nth`.
    #[inline(always)]
    fn array(&self, nth: usize) -> *mut u32 {
        debug_assert!(nth < ARRAYS);
        self.words
            .as_ptr()
            .wrapping_add(HEAD_WORDS + nth * self.capacity)
    }

    /// # Safety
    /// `nth` is below [`ARRAYS`], `len` at most the capacity, and nobody writes to the array for as long as the slice lives.
    #[inline(always)]
    unsafe fn slice<'a>(&self, nth: usize, len: usize) -> &'a [u32] {
        // SAFETY: the arrays of `capacity` words each lie behind the head; the caller promises the rest.
        unsafe { std::slice::from_raw_parts(self.array(nth), len) }
    }

    /// # Safety
    /// `nth` is below [`ARRAYS`], and nobody else uses the array for as long as the slice lives.
    #[inline(always)]
    unsafe fn slice_mut<'a>(&mut self, nth: usize) -> &'a mut [u32] {
        // SAFETY: as in slice.
        unsafe { std::slice::from_raw_parts_mut(self.array(nth), self.capacity) }
    }

    /// The first three arrays in full length: address, length, flags.
    #[inline]
    pub fn arrays_mut(&mut self) -> ArraysMut<'_> {
        self.all_mut().0
    }

    /// The metadata in full length.
    #[inline]
    pub fn meta_mut(&mut self) -> MetaMut<'_> {
        self.all_mut().1
    }

    /// All seven arrays in full length.
    #[inline]
    pub fn all_mut(&mut self) -> (ArraysMut<'_>, MetaMut<'_>) {
        // SAFETY: the arrays do not overlap, and &mut self is the only user for as long as the slices live: JavaScript, which knows the
        // memory too, does not run while a native call does, and never gets bursts of native threads.
        unsafe {
            (
                (self.slice_mut(0), self.slice_mut(1), self.slice_mut(2)),
                MetaMut {
                    csum: self.slice_mut(3),
                    gso: self.slice_mut(4),
                    tag: self.slice_mut(5),
                    hash: self.slice_mut(6),
                },
            )
        }
    }

    /// Addresses, lengths and flags of the packets in it.
    #[inline]
    #[must_use]
    pub fn packets(&self) -> (&[u32], &[u32], &[u32]) {
        let len = self.len();
        // SAFETY: `len` clamps to the capacity; the rest as in all_mut.
        unsafe { (self.slice(0, len), self.slice(1, len), self.slice(2, len)) }
    }

    /// The metadata of the packets in it.
    #[inline]
    #[must_use]
    pub fn meta(&self) -> Meta<'_> {
        let len = self.len();
        // SAFETY: as in packets.
        unsafe {
            Meta {
                csum: self.slice(3, len),
                gso: self.slice(4, len),
                tag: self.slice(5, len),
                hash: self.slice(6, len),
            }
        }
    }

    /// Packet `at` of those in it, with its metadata if it has any.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    #[must_use]
    pub fn packet(&self, at: usize) -> Packet {
        let (addrs, lens, all_flags) = self.packets();
        let packet = Packet {
            addr: addrs[at],
            len: lens[at],
            flags: all_flags[at],
            ..Packet::default()
        };
        if packet.flags & flags::META == 0 {
            return packet;
        }
        let meta = self.meta();
        Packet {
            csum: meta.csum[at],
            gso: meta.gso[at],
            tag: meta.tag[at],
            hash: meta.hash[at],
            ..packet
        }
    }

    /// Writes entry `at`, with the metadata if the packet has any. The length of the burst stays.
    ///
    /// # Panics
    /// When the capacity is not above `at`.
    #[inline]
    pub fn set_packet(&mut self, at: usize, packet: &Packet) {
        let ((addrs, lens, all_flags), mut meta) = self.all_mut();
        (addrs[at], lens[at], all_flags[at]) = (packet.addr, packet.len, packet.flags);
        if packet.flags & flags::META != 0 {
            meta.set(at, packet);
        }
    }

    /// Appends a packet with its metadata; false when it is full.
    pub fn push_packet(&mut self, packet: &Packet) -> bool {
        let at = self.len();
        if at == self.capacity {
            return false;
        }
        self.set_packet(at, packet);
        self.set_len(at + 1);
        true
    }

    /// Appends a packet without metadata; false when it is full.
    #[inline]
    pub fn push(&mut self, addr: u32, len: u32, flags: u32) -> bool {
        let at = self.len();
        if at == self.capacity {
            return false;
        }
        let (addrs, lens, all_flags) = self.arrays_mut();
        addrs[at] = addr;
        lens[at] = len;
        all_flags[at] = flags;
        self.set_len(at + 1);
        true
    }

    /// Takes the first `count` packets out, whose owner is another now; the rest moves to the front.
    #[inline]
    pub fn remove_front(&mut self, count: usize) {
        let len = self.len();
        let count = count.min(len);
        if count < len {
            self.move_down(count, len, 0);
        }
        self.set_len(len - count);
    }

    /// Moves the entries from `from` up to and without `end` to `to` and behind, below `from`. Metadata moves where there is any.
    ///
    /// # Panics
    /// When `end` is above the capacity, or not `to <= from <= end`.
    pub fn move_down(&mut self, from: usize, end: usize, to: usize) {
        assert!(to <= from && from <= end);
        let ((addrs, lens, all_flags), meta) = self.all_mut();
        if all_flags[from..end].iter().any(|f| f & flags::META != 0) {
            for words in [meta.csum, meta.gso, meta.tag, meta.hash] {
                words.copy_within(from..end, to);
            }
        }
        for words in [addrs, lens, all_flags] {
            words.copy_within(from..end, to);
        }
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        // SAFETY: allocated in new with the same layout.
        unsafe { alloc::dealloc(self.words.as_ptr().cast(), Self::layout(self.capacity)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not taken from the front stays, in order.
    #[test]
    fn remove_front_keeps_order() {
        let mut burst = Burst::new(4);
        for i in 0..4 {
            assert!(burst.push(i, 60 + i, 0));
        }
        assert!(!burst.push(9, 9, 9));
        burst.remove_front(3);
        assert_eq!(burst.packets(), (&[3][..], &[63][..], &[0][..]));
        burst.remove_front(5);
        assert!(burst.is_empty());
    }

    /// A packet and its metadata stay together, and the arrays do not overlap.
    #[test]
    fn metadata_moves_with_its_packet() {
        let packet = |i: u32| Packet {
            addr: 1000 + i,
            len: 60 + i,
            flags: flags::META,
            csum: 2000 + i,
            gso: 3000 + i,
            tag: 4000 + i,
            hash: 5000 + i,
        };
        let plain = |i: u32| Packet {
            addr: i,
            len: 60,
            ..Packet::default()
        };
        let mut burst = Burst::new(5);
        for i in [0, 1, 2] {
            assert!(burst.push_packet(&packet(i)));
            assert!(burst.push_packet(&plain(i)) || i == 2);
        }
        assert!(!burst.push_packet(&packet(9)));
        burst.remove_front(1);
        let left: Vec<_> = (0..burst.len()).map(|i| burst.packet(i)).collect();
        assert_eq!(left, [plain(0), packet(1), plain(1), packet(2)]);
        burst.move_down(3, 4, 1);
        burst.set_len(2);
        assert_eq!(burst.packet(1), packet(2));
        assert_eq!(burst.meta().hash[1], 5002);
    }

    /// Packets without metadata leave the metadata's lines alone.
    #[test]
    fn plain_packets_touch_no_metadata() {
        let mut burst = Burst::new(4);
        for words in [0, 1, 2, 3] {
            let meta = burst.meta_mut();
            [meta.csum, meta.gso, meta.tag, meta.hash][words].fill(7);
        }
        for i in 0..4 {
            burst.push_packet(&Packet {
                addr: i,
                csum: 9,
                ..Packet::default()
            });
        }
        burst.remove_front(2);
        assert_eq!(burst.meta().csum, [7, 7]);
        assert_eq!(burst.packet(1).csum, 0);
    }

    /// A length that a script wrote beyond the capacity is not believed.
    #[test]
    fn length_is_clamped() {
        let burst = Burst::new(8);
        // SAFETY: word 0 of a live burst.
        unsafe { burst.as_ptr().write(1_000_000) };
        assert_eq!(burst.len(), 8);
        assert_eq!(burst.packets().0.len(), 8);
    }
}
