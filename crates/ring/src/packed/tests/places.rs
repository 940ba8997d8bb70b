//! Places and events, at every turn of the ring: against numbers that never wrap.

use virtio_bindings::virtio_ring as spec;

use crate::DescFlags;
use crate::packed::shared::*;

/// Sizes at which all is tried that can be, and large ones at which the edges are.
const SMALL: [u16; 9] = [1, 2, 3, 4, 5, 7, 8, 13, 16];
const LARGE: [u16; 7] = [255, 256, 257, 1000, 4096, 32_767, 32_768];

/// A place by its number, counted from the first of a ring whose wrap counter is 1.
fn place(number: u32, size: u16) -> (u16, bool) {
    let size = u32::from(size);
    (
        u16::try_from(number % size).unwrap(),
        (number / size).is_multiple_of(2),
    )
}

fn avail(number: u32, size: u16) -> Pos {
    let (slot, wrap) = place(number, size);
    Pos::avail(slot, wrap)
}

fn used(number: u32, size: u16) -> Pos {
    let (slot, wrap) = place(number, size);
    Pos::used(slot, wrap)
}

/// Flags and events have the values of the Linux headers.
#[test]
fn constants_of_the_specification() {
    let avail = 1u64 << spec::VRING_PACKED_DESC_F_AVAIL << FLAGS_SHIFT;
    let used = 1u64 << spec::VRING_PACKED_DESC_F_USED << FLAGS_SHIFT;
    assert_eq!((AVAIL, USED, BOTH), (avail, used, avail | used));
    assert_eq!(u32::from(EVENTS_ON), spec::VRING_PACKED_EVENT_FLAG_ENABLE);
    assert_eq!(u32::from(EVENTS_OFF), spec::VRING_PACKED_EVENT_FLAG_DISABLE);
    assert_eq!(u32::from(EVENTS_AT), spec::VRING_PACKED_EVENT_FLAG_DESC);
    assert_eq!(u32::from(DescFlags::NEXT.bits()), spec::VRING_DESC_F_NEXT);
    assert_eq!(u32::from(DescFlags::WRITE.bits()), spec::VRING_DESC_F_WRITE);
    assert_eq!(
        u32::from(DescFlags::INDIRECT.bits()),
        spec::VRING_DESC_F_INDIRECT
    );
    assert_eq!(spec::VRING_PACKED_EVENT_F_WRAP_CTR, 15);
    assert_eq!(size_of::<spec::vring_packed_desc>(), 16);
    assert_eq!(size_of::<spec::vring_packed_desc_event>(), 4);
    let desc = spec::vring_packed_desc {
        addr: 1,
        len: 2,
        id: 3,
        flags: 4,
    };
    // SAFETY: sixteen bytes without padding.
    let words: [u64; 2] = unsafe { std::mem::transmute(desc) };
    assert_eq!(words, [1, word(2, 3) | 4 << FLAGS_SHIFT]);
}

/// Steps, skips and distances agree with numbers, from every place of a ring, over every length.
#[test]
fn places_are_numbers() {
    let check = |from: u32, count: u32, size: u16| {
        let counted = u16::try_from(count).unwrap();
        let (mut a, mut u) = (avail(from, size), used(from, size));
        assert_eq!((a.other(), u.other()), (u, a));
        assert_eq!(
            (a.wrap(), u.wrap()),
            (place(from, size).1, place(from, size).1)
        );
        a.skip(counted, size);
        u.skip(counted, size);
        assert_eq!(
            (a, u),
            (avail(from + count, size), used(from + count, size))
        );
        assert_eq!(avail(from, size).distance(a, size), counted);
        assert_eq!(used(from, size).distance(u, size), counted);
        let mut step = avail(from, size);
        step.step(size);
        assert_eq!(step, avail(from + 1, size));
    };
    for size in SMALL {
        let n = u32::from(size);
        for from in 0..2 * n {
            (0..=n).for_each(|count| check(from, count, size));
        }
    }
    for size in LARGE {
        let n = u32::from(size);
        for from in [0, 1, n - 1, n, n + 1, 2 * n - 1] {
            for count in [0, 1, 2, n / 2, n - 1, n] {
                check(from, count, size);
            }
        }
    }
}

/// A place is asked for and published in a burst: whoever asked is told of it, and of no other, wherever the ring ends.
#[test]
fn the_event_that_was_asked_for() {
    let check = |new: u32, count: u32, event: u32, size: u16| {
        let word = wish(true, true, used(event, size));
        assert_eq!(word, wish(true, true, avail(event, size)));
        let (new_pos, count_u16) = (avail(new, size), u16::try_from(count).unwrap());
        let inside = (new - count..new).contains(&event);
        let told = is_wanted(word, true, new_pos, count_u16, size);
        assert_eq!(
            told, inside,
            "{event} in the {count} before {new} of {size}"
        );
        let told = is_wanted(word, true, new_pos.other(), count_u16, size);
        assert_eq!(told, inside, "by the device");
    };
    for size in SMALL {
        let n = u32::from(size);
        for (new, count) in (2 * n..4 * n).flat_map(|new| (1..=n).map(move |count| (new, count))) {
            // Places a ring ahead look like those a ring behind: nobody asks for them.
            (new - n..new + n).for_each(|event| check(new, count, event, size));
        }
    }
    for size in LARGE {
        let n = u32::from(size);
        for new in [2 * n, 2 * n + 1, 3 * n - 1, 3 * n, 3 * n + 1, 4 * n - 1] {
            for count in [1, 2, n / 2, n - 1, n] {
                let edges = [new - n, new - count, new, new + n];
                let near = edges
                    .iter()
                    .flat_map(|&edge| edge.saturating_sub(3)..edge + 3);
                near.filter(|event| (new - n..new + n).contains(event))
                    .for_each(|event| check(new, count, event, size));
            }
        }
    }
}

/// Never is never, always is always; a place without `EVENT_IDX` and what means nothing are taken for always.
#[test]
fn flags_of_events() {
    for (flags, event_idx, told) in [
        (EVENTS_OFF, true, false),
        (EVENTS_OFF, false, false),
        (EVENTS_ON, true, true),
        (EVENTS_ON, false, true),
        (EVENTS_AT, false, true),
        (3, true, true),
        (3, false, true),
    ] {
        for at in [0, 5, 0x8000, 0xffff] {
            let word = event_word(flags, at);
            assert_eq!(is_wanted(word, event_idx, avail(3, 8), 1, 8), told);
        }
    }
}
