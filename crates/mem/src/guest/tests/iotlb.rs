//! Memory behind an IOMMU.

use super::*;

use rustix::event::{EventfdFlags, eventfd};

const RW: Access = Access::all();

fn two_regions() -> GuestMemory {
    // One after the other for the front end, apart for the guest and here.
    let regions = vec![
        region(0x1000, 0x10_0000, 4 * PAGE),
        region(0x9000, 0x10_4000, 4 * PAGE),
    ];
    GuestMemory::new(regions).unwrap()
}

fn misses() -> Arc<Misses> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    Arc::new(Misses::new(Arc::new(wake)))
}

fn update(
    iotlb: &mut Iotlb,
    map: &GuestMemory,
    iova: u64,
    size: u64,
    user: u64,
    access: Access,
) -> Result<Updated, String> {
    iotlb.update((iova, size), user, access, map, |_, _| false)
}

fn wanted(misses: &Misses) -> Vec<(u64, Access)> {
    let mut all = Vec::new();
    misses.ask(|page, access, _| {
        all.push((page, access));
        true
    });
    all
}

/// What an entry allows can be done, and nothing else; a range that goes on in the next entry and in memory is one.
#[test]
fn permissions_and_borders() {
    let (map, mut iotlb) = (two_regions(), Iotlb::default());
    let one = |iova, user, access| (iova, user, access);
    for (iova, user, access) in [
        one(0x7000_0000, 0x10_0000, Access::READ),
        one(0x7000_1000, 0x10_1000, RW),
        one(0x7000_2000, 0x10_0000, Access::WRITE),
    ] {
        let updated = update(&mut iotlb, &map, iova, PAGE, user, access);
        assert_eq!(updated, Ok(Updated::Added));
    }
    let memory = iotlb.translated(&map, misses());
    let here = |user| map.translate_user(user, 1).map(|at| at.as_ptr() as u64);
    let at = |iova, len, access| {
        memory
            .translate(iova, len, access)
            .map(|at| at.as_ptr() as u64)
    };
    assert_eq!(at(0x7000_0010, 0x1ff0, Access::READ), here(0x10_0010));
    assert_eq!(at(0x7000_0010, 0x10, Access::WRITE), None);
    assert_eq!(at(0x7000_1010, 0x10, Access::WRITE), here(0x10_1010));
    assert_eq!(
        at(0x7000_1010, 0x1000, Access::WRITE),
        None,
        "other memory follows"
    );
    assert_eq!(at(0x7000_2000, 1, Access::READ), None);
    assert_eq!(at(0x7000_2000, PAGE, Access::WRITE), here(0x10_0000));
    assert_eq!(
        at(0x1000, 1, Access::READ),
        None,
        "guest-physical addresses mean nothing here"
    );
    assert!(map.translate(0x1000, 1, Access::READ).is_some());
    // What lies behind an address that is written is marked where it is in the guest.
    let page = memory.translate(0x7000_1000, 1, Access::WRITE).unwrap();
    assert_eq!(memory.guest_address_of(page.as_ptr()), Some(0x2000));
}

/// One translation may reach over regions that are adjacent in the front end only.
#[test]
fn a_translation_over_two_regions() {
    let (map, mut iotlb) = (two_regions(), Iotlb::default());
    assert_eq!(
        update(&mut iotlb, &map, 0x5000, 8 * PAGE, 0x10_0000, RW),
        Ok(Updated::Added)
    );
    let memory = iotlb.translated(&map, misses());
    let first = memory.region_of(0x5000, Access::WRITE).unwrap();
    let second = memory.region_of(0x9000, Access::WRITE).unwrap();
    assert_eq!(
        (second.end, second.host),
        (0xd000, map.regions()[1].host().as_ptr())
    );
    assert_eq!(first.host, map.regions()[0].host().as_ptr());
    // Half of it taken back is all of that piece gone.
    assert!(iotlb.invalidate(0x5fff, 2));
    let memory = iotlb.translated(&map, misses());
    assert!(memory.region_of(0x5000, Access::READ).is_none());
    assert!(memory.region_of(0x9000, Access::READ).is_some());
}

/// Told again, the same is nothing new, more access is more, and other memory replaces what was known.
#[test]
fn updates_of_what_is_known() {
    let (map, mut iotlb) = (two_regions(), Iotlb::default());
    let mut told = |iova, size, user, access| update(&mut iotlb, &map, iova, size, user, access);
    assert_eq!(
        told(0x5000, PAGE, 0x10_0000, Access::READ),
        Ok(Updated::Added)
    );
    assert_eq!(
        told(0x5000, PAGE, 0x10_0000, Access::READ),
        Ok(Updated::Nothing)
    );
    assert_eq!(
        told(0x5000, PAGE, 0x10_0000, Access::WRITE),
        Ok(Updated::Added)
    );
    assert_eq!(told(0x5000, PAGE, 0x10_0000, RW), Ok(Updated::Nothing));
    assert_eq!(
        told(0x5000, PAGE, 0x10_1000, Access::READ),
        Ok(Updated::Replaced)
    );
    assert_eq!(
        told(0x4800, PAGE, 0x10_2000, Access::READ),
        Ok(Updated::Replaced)
    );
    assert_eq!(iotlb.len(), 1);
    let memory = iotlb.translated(&map, misses());
    assert!(memory.translate(0x57ff, 1, Access::READ).is_some());
    assert!(memory.translate(0x57ff, 1, Access::WRITE).is_none());
    assert!(memory.translate(0x5800, 1, Access::READ).is_none());
}

/// Numbers that make no sense, or lead out of what was shared, change nothing.
#[test]
fn impossible_updates_are_refused() {
    let (map, mut iotlb) = (two_regions(), Iotlb::default());
    for (iova, size, user, access) in [
        (0x5000, 0, 0x10_0000, RW),
        (u64::MAX, 2, 0x10_0000, RW),
        (1, u64::MAX, 0x10_0000, RW),
        (0x5000, PAGE, 0x10_0000, Access::empty()),
        (0x5000, PAGE, 0x10_7001, RW),
        (0x5000, 9 * PAGE, 0x10_0000, RW),
        (0x5000, PAGE, 0xf_ffff, RW),
        (0x5000, PAGE, u64::MAX, RW),
    ] {
        let refused = update(&mut iotlb, &map, iova, size, user, access);
        assert!(refused.is_err(), "{iova:#x} {size:#x} {user:#x}");
    }
    assert!(iotlb.is_empty());
    for (iova, size) in [(0, 0), (u64::MAX, u64::MAX), (u64::MAX, 1), (0, u64::MAX)] {
        assert!(!iotlb.invalidate(iova, size));
        update(&mut iotlb, &map, 0x5000, PAGE, 0x10_0000, RW).unwrap();
        let all = size == 0 || iova == 0;
        assert_eq!(iotlb.invalidate(iova, size), all);
        assert_eq!(iotlb.is_empty(), all);
        iotlb.clear();
    }
}

/// However many translations a front end tells, no more are kept than fit; those in use stay.
#[test]
fn the_cache_is_bounded() {
    let (map, mut iotlb) = (two_regions(), Iotlb::default());
    let keep = |at: u64, end: u64| at < 0x8000 && end > 0x5000;
    let count = 3 * MAX_TRANSLATIONS as u64;
    for n in 0..count {
        let updated = iotlb.update((n * PAGE, PAGE), 0x10_0000, RW, &map, keep);
        assert_eq!(updated, Ok(Updated::Added));
        assert!(iotlb.len() <= MAX_TRANSLATIONS);
        let memory = (n % 1000 == 0).then(|| iotlb.translated(&map, misses()));
        assert!(memory.is_none_or(|memory| memory.region_of(n * PAGE, Access::READ).is_some()));
    }
    let memory = iotlb.translated(&map, misses());
    for page in [0x5000, 0x6000, 0x7000, (count - 1) * PAGE] {
        assert!(memory.region_of(page, Access::READ).is_some(), "{page:#x}");
    }
}

/// A page is asked for once until it is told, taken back or refused, and what was refused is known as such.
#[test]
fn misses_are_asked_for_once() {
    let (map, iotlb, misses) = (two_regions(), Iotlb::default(), misses());
    let memory = iotlb.translated(&map, misses.clone());
    assert_eq!(memory.want(0x5ff0, 0x20, Access::READ), 2);
    assert_eq!(memory.want(0x5000, 0x2000, Access::READ), 0);
    assert_eq!(memory.want(0x5000, 1, Access::WRITE), 1);
    let all = [
        (0x5000, Access::READ),
        (0x6000, Access::READ),
        (0x5000, Access::WRITE),
    ];
    assert_eq!(wanted(&misses), all);
    assert_eq!(wanted(&misses), []);
    misses.answered(0, true);
    assert!(misses.is_refused(0x5fff, Access::READ));
    assert!(!misses.is_refused(0x5fff, Access::WRITE));
    assert_eq!(memory.want(0x5000, 1, Access::READ), 0, "it was refused");
    misses.answered(1, false);
    assert_eq!(
        memory.want(0x6000, 1, Access::READ),
        1,
        "told, or so it was said"
    );
    misses.told(0x5000, PAGE, Access::READ);
    assert!(!misses.is_refused(0x5000, Access::READ));
    assert_eq!(memory.want(0x5000, 1, Access::WRITE), 0, "still asked for");
    misses.told(0, 0, Access::all());
    assert_eq!(memory.want(0x5000, 1, Access::WRITE), 1);
    // Memory without an IOMMU has nothing to ask for.
    assert_eq!(map.want(0x7000_0000, 1, Access::READ), 0);
}

/// The answer to an old question says nothing of a new one about the same page, which was told, taken back and mapped again in between.
#[test]
fn late_answers_are_not_taken_for_others() {
    let (map, iotlb, misses) = (two_regions(), Iotlb::default(), misses());
    let memory = iotlb.translated(&map, misses.clone());
    assert_eq!(memory.want(0x5000, 1, Access::READ), 1);
    assert_eq!(wanted(&misses).len(), 1);
    misses.told(0x5000, PAGE, RW);
    assert_eq!(memory.want(0x5000, 1, Access::READ), 1);
    assert_eq!(wanted(&misses).len(), 1);
    misses.answered(0, true);
    assert!(!misses.is_refused(0x5000, Access::READ));
    assert_eq!(memory.want(0x5000, 1, Access::READ), 0, "still asked for");
    misses.answered(1, true);
    assert!(misses.is_refused(0x5000, Access::READ));
}

/// A storm of misses is bounded, in one buffer and in all; what was refused makes room.
#[test]
fn a_storm_of_misses_is_bounded() {
    let (map, iotlb, misses) = (two_regions(), Iotlb::default(), misses());
    let memory = iotlb.translated(&map, misses.clone());
    assert!(memory.want(0, u64::MAX, Access::READ) <= 32);
    assert_eq!(
        memory.want(u64::MAX, u64::MAX, Access::READ),
        0,
        "no update can tell it"
    );
    for page in 0..100_000 {
        memory.want(page << 20, 1, Access::WRITE);
    }
    let asked = wanted(&misses);
    assert!(asked.len() <= 256, "{}", asked.len());
    assert_eq!(memory.want(7 << 40, 1, Access::READ), 0, "there is no room");
    (0..300).for_each(|number| misses.answered(number, true));
    assert_eq!(memory.want(7 << 40, 1, Access::READ), 1);
}

proptest! {
    /// Whatever is told and taken back, an address leads to what was last told of it, or nowhere.
    #[test]
    fn never_stale(steps in proptest::collection::vec((0usize..16, 1usize..5, 0u64..4, 0u8..4), 1..40)) {
        let (map, mut iotlb) = (two_regions(), Iotlb::default());
        // Page by page: what may be true of it. An update that reaches into another may forget that.
        let mut model = [None::<(u64, Access)>; 24];
        for (page, pages, user, access) in steps {
            let (iova, size) = (page as u64 * PAGE, pages as u64 * PAGE);
            if access == 0 {
                iotlb.invalidate(iova, size);
                (page..page + pages).for_each(|p| model[p] = None);
            } else {
                let access = Access::from_bits(access).unwrap();
                let user = 0x10_0000 + user * PAGE;
                if update(&mut iotlb, &map, iova, size, user, access).is_ok() {
                    for (nth, known) in (0u64..).zip(&mut model[page..page + pages]) {
                        let user = user + nth * PAGE;
                        let before = known.filter(|before| before.0 == user);
                        *known = Some((user, before.map_or(access, |before| before.1 | access)));
                    }
                }
            }
            let memory = iotlb.translated(&map, misses());
            for (p, known) in model.iter().enumerate() {
                for access in [Access::READ, Access::WRITE] {
                    let Some(at) = memory.translate(p as u64 * PAGE, PAGE, access) else { continue };
                    prop_assert!(known.is_some_and(|known| known.1.contains(access)));
                    prop_assert_eq!(Some(at), map.translate_user(known.unwrap().0, 1));
                }
            }
        }
    }
}
