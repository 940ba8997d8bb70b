//! VLAN tags, put into packets and taken out.

use std::sync::Arc;

use vring_mem::Mempool;
use vring_mem::burst::{Packet, flags};
use vring_mem::mempool::{MAX_SEGS, Segment};

use super::View;
use super::headers::{ADDRESSES, TAG, VLAN};

/// What became of a packet that a tag was to be put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    Done,
    /// No buffer is free for the tag.
    NoBuffer,
    /// The packet does not fit its mempool, or has no room for more segments.
    Bad,
}

/// The same as addresses count.
const TAG_BYTES: u32 = 4;
const ADDRESSES_BYTES: u32 = 12;
const _: () = assert!(TAG_BYTES as usize == TAG && ADDRESSES_BYTES as usize == ADDRESSES);

/// The addresses and the tag, as they stand at the front of a packet.
fn front(view: &View<'_>, packet: &Packet) -> Option<[u8; ADDRESSES + TAG]> {
    let mut front = [0; ADDRESSES + TAG];
    view.read(0, &mut front[..ADDRESSES]).then_some(())?;
    #[expect(clippy::cast_possible_truncation, reason = "the tag is the low half")]
    let tci = packet.tag as u16;
    front[ADDRESSES..ADDRESSES + 2].copy_from_slice(&VLAN.to_be_bytes());
    front[ADDRESSES + 2..].copy_from_slice(&tci.to_be_bytes());
    Some(front)
}

/// Puts the packet's tag ([`flags::VLAN`]) into it: into the headroom, or into a segment of its own before the rest.
pub(super) fn insert(pool: &Arc<Mempool>, packet: &mut Packet) -> Inserted {
    let Some(view) = View::new(pool, packet) else {
        return Inserted::Bad;
    };
    let (Some(front), Some(first)) = (front(&view, packet), view.first()) else {
        return Inserted::Bad;
    };
    let moved = if pool.checked(first.addr, first.len, TAG_BYTES) {
        let longer = Segment {
            addr: first.addr - TAG_BYTES,
            len: first.len + TAG_BYTES,
        };
        relink(pool, packet, longer);
        Inserted::Done
    } else {
        prepend(pool, packet, &view, first)
    };
    if moved != Inserted::Done {
        return moved;
    }
    packet.len += TAG_BYTES;
    packet.flags &= !flags::VLAN;
    packet.csum = packet.csum.wrapping_add(TAG_BYTES);
    packet.gso = packet.gso.wrapping_add(TAG_BYTES << 16);
    match View::new(pool, packet) {
        Some(view) if view.write(0, &front) => Inserted::Done,
        _ => Inserted::Bad,
    }
}

/// Without headroom: the addresses and the tag in a buffer of their own. The addresses are cut off the first segment.
fn prepend(pool: &Arc<Mempool>, packet: &mut Packet, view: &View<'_>, first: Segment) -> Inserted {
    if first.len <= ADDRESSES_BYTES || view.count() >= MAX_SEGS {
        return Inserted::Bad;
    }
    let mut buffer = [0];
    if pool.alloc_bulk(&mut buffer) == 0 {
        return Inserted::NoBuffer;
    }
    let rest = Segment {
        addr: first.addr + ADDRESSES_BYTES,
        len: first.len - ADDRESSES_BYTES,
    };
    relink(pool, packet, rest);
    if packet.flags & flags::MULTI == 0 {
        pool.link(rest, vring_mem::mempool::NO_SEG);
    }
    let head = Segment {
        addr: buffer[0],
        len: ADDRESSES_BYTES + TAG_BYTES,
    };
    pool.link(head, rest.addr);
    packet.addr = head.addr;
    packet.flags |= flags::MULTI;
    Inserted::Done
}

/// The first segment is `first` from now on. The length of the packet is the caller's to change.
fn relink(pool: &Mempool, packet: &mut Packet, first: Segment) {
    if packet.flags & flags::MULTI != 0 {
        let buffer = pool.buffer_of(packet.addr) as usize;
        if let Some(meta) = pool.meta().get(buffer) {
            pool.link(first, meta.next.load(std::sync::atomic::Ordering::Relaxed));
        }
    }
    packet.addr = first.addr;
}

/// Takes the tag out of a packet that begins with one, into its `tag` word. A first segment that does not reach over the tag is left alone.
pub(super) fn strip(pool: &Mempool, packet: &mut Packet, view: &View<'_>, tci: u16) {
    let mut addresses = [0; ADDRESSES];
    let Some(first) = view.first().filter(|s| s.len as usize > ADDRESSES + TAG) else {
        return;
    };
    if packet.flags & flags::VLAN != 0 || !view.read(0, &mut addresses) {
        return;
    }
    view.write(TAG, &addresses);
    let shorter = Segment {
        addr: first.addr + TAG_BYTES,
        len: first.len - TAG_BYTES,
    };
    relink(pool, packet, shorter);
    packet.len -= TAG_BYTES;
    packet.flags |= flags::VLAN;
    let hash_type = if packet.flags & flags::HASH == 0 {
        0
    } else {
        packet.tag & 0xffff_0000
    };
    packet.tag = hash_type | u32::from(tci);
    packet.csum = packet.csum.wrapping_sub(TAG_BYTES);
    packet.gso = packet.gso.wrapping_sub(TAG_BYTES << 16);
}
