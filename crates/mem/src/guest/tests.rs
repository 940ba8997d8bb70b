use std::os::fd::OwnedFd;

use super::file::map_shared;
use super::*;
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

mod iotlb;

const PAGE: u64 = 4096;

fn memfd(len: u64) -> OwnedFd {
    let fd = memfd_create("guest-test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, len).unwrap();
    fd
}

fn region(guest: u64, user: u64, size: u64) -> Arc<GuestRegion> {
    Arc::new(GuestRegion::map(guest, user, size, 0, memfd(size)).unwrap())
}

fn code<T: std::fmt::Debug>(result: Result<T, GuestMemoryError>) -> &'static str {
    result.unwrap_err().code()
}

/// Impossible numbers are refused before anything is mapped.
#[test]
fn refuses_impossible_regions() {
    let map =
        |guest, user, size, offset, len| GuestRegion::map(guest, user, size, offset, memfd(len));
    assert_eq!(code(map(0, 0, 0, 0, PAGE)), "ERR_VRING_MEMORY_EMPTY");
    assert_eq!(
        code(map(u64::MAX, 0, 2, 0, PAGE)),
        "ERR_VRING_MEMORY_OVERFLOW"
    );
    assert_eq!(
        code(map(0, u64::MAX, 2, 0, PAGE)),
        "ERR_VRING_MEMORY_OVERFLOW"
    );
    assert_eq!(
        code(map(0, 0, 2, u64::MAX, PAGE)),
        "ERR_VRING_MEMORY_OVERFLOW"
    );
    assert_eq!(
        code(map(0, 0, PAGE + 1, 0, PAGE)),
        "ERR_VRING_MEMORY_SHORT_FILE"
    );
    assert_eq!(
        code(map(0, 0, PAGE, 1, PAGE)),
        "ERR_VRING_MEMORY_SHORT_FILE"
    );
    assert_eq!(
        code(map(0, 0, u64::MAX, 0, PAGE)),
        "ERR_VRING_MEMORY_SHORT_FILE"
    );
}

/// A descriptor without a length (a pipe, an eventfd) is no memory.
#[test]
fn refuses_what_is_no_file() {
    let (read, _write) = rustix::pipe::pipe().unwrap();
    assert_eq!(
        code(GuestRegion::map(0, 0, PAGE, 0, read)),
        "ERR_VRING_MEMORY_NOT_A_FILE"
    );
}

/// An offset need not be aligned: the region begins at that very byte of the file.
#[test]
fn maps_from_an_unaligned_offset() {
    let fd = memfd(3 * PAGE);
    rustix::io::pwrite(&fd, b"vring", PAGE + 10).unwrap();
    let region = GuestRegion::map(0x1000, 0x2000, PAGE, PAGE + 10, fd).unwrap();
    let mut seen = [0u8; 5];
    for (at, byte) in seen.iter_mut().enumerate() {
        // SAFETY: five bytes of a region of a page.
        *byte = unsafe { region.host().as_ptr().add(at).read_volatile() };
    }
    assert_eq!(&seen, b"vring");
}

/// Regions may touch but not overlap, in either address space, and there is a most of them.
#[test]
fn refuses_overlap_and_too_many() {
    let memory = GuestMemory::new(vec![region(0x1000, 0x10_0000, PAGE)]).unwrap();
    let with = |guest, user| memory.with_region(region(guest, user, PAGE));
    assert_eq!(code(with(0x1fff, 0x20_0000)), "ERR_VRING_MEMORY_OVERLAP");
    assert_eq!(code(with(0x1, 0x20_0000)), "ERR_VRING_MEMORY_OVERLAP");
    assert_eq!(code(with(0x2000, 0x10_0fff)), "ERR_VRING_MEMORY_OVERLAP");
    assert_eq!(code(with(0x1000, 0x10_0000)), "ERR_VRING_MEMORY_OVERLAP");
    with(0x2000, 0x10_1000).unwrap();
    with(0x0, 0xf_f000).unwrap();

    let many = |count: u64| {
        GuestMemory::new(
            (0..count)
                .map(|n| region(n * PAGE, n * PAGE, PAGE))
                .collect(),
        )
    };
    assert!(many(MAX_REGIONS as u64).is_ok());
    assert_eq!(code(many(MAX_REGIONS as u64 + 1)), "ERR_VRING_MEMORY_SLOTS");
}

/// Only the region with exactly the named numbers goes, and what is left still translates.
#[test]
fn removes_exactly_one() {
    let memory = GuestMemory::new(vec![
        region(0x1000, 0x10_0000, PAGE),
        region(0x8000, 0x20_0000, PAGE),
    ])
    .unwrap();
    assert_eq!(
        code(memory.without_region(0x1000, 0x10_0000, PAGE - 1)),
        "ERR_VRING_MEMORY_UNKNOWN"
    );
    let rest = memory.without_region(0x1000, 0x10_0000, PAGE).unwrap();
    assert!(rest.translate(0x1000, 1, Access::READ).is_none());
    assert!(rest.translate(0x8000, 1, Access::READ).is_some());
    assert_eq!(rest.regions().len(), 1);
}

/// A range over two adjacent regions has no single address, and is walked with `region_of`.
#[test]
fn adjacent_regions_are_walked() {
    let memory = GuestMemory::new(vec![
        region(0x2000, 0x10_1000, PAGE),
        region(0x1000, 0x10_0000, PAGE),
    ])
    .unwrap();
    assert!(memory.translate(0x1ff0, 0x20, Access::READ).is_none());
    let first = memory.region_of(0x1ff0, Access::READ).unwrap();
    assert_eq!((first.start, first.end), (0x1000, 0x2000));
    let second = memory.region_of(first.end, Access::READ).unwrap();
    assert_eq!((second.start, second.end), (0x2000, 0x3000));
    assert!(memory.region_of(0x3000, Access::READ).is_none());
    assert!(memory.region_of(0xfff, Access::READ).is_none());
}

/// Length 0 does not make an address valid, and the end of a region is outside of it.
#[test]
fn zero_length_needs_a_valid_address() {
    let memory = GuestMemory::new(vec![region(0x1000, 0x10_0000, PAGE)]).unwrap();
    assert!(memory.translate(0x1000, 0, Access::READ).is_some());
    assert!(memory.translate(0x2000, 0, Access::READ).is_none());
    assert!(memory.translate(0, 0, Access::READ).is_none());
    assert!(memory.translate_user(0x10_0fff, 1).is_some());
    assert!(memory.translate_user(0x10_1000, 0).is_none());
    assert!(
        GuestMemory::default()
            .translate(0, 0, Access::READ)
            .is_none()
    );
    assert!(RegionView::EMPTY.translate(0, 0).is_none());
}

/// A peer that truncates its memory costs us that region and not the process.
#[test]
fn truncated_memory_poisons_the_region_only() {
    let fd = memfd(4 * PAGE);
    let keep = fd.try_clone().unwrap();
    let lost = Arc::new(GuestRegion::map(0x1000, 0x1000, 4 * PAGE, 0, fd).unwrap());
    let kept = region(0x10_0000, 0x10_0000, PAGE);
    let memory = GuestMemory::new(vec![lost.clone(), kept.clone()]).unwrap();
    let at = memory.translate(0x2000, 8, Access::READ).unwrap().as_ptr();
    // SAFETY: eight bytes inside the region, accessed volatile; the page behind them may be gone, which is the test.
    unsafe {
        at.write_volatile(7);
        assert_eq!(at.read_volatile(), 7);
        assert!(!memory.is_poisoned());
        ftruncate(&keep, 0).unwrap();
        assert_eq!(at.read_volatile(), 0);
        at.write_volatile(1);
        assert_eq!(at.read_volatile(), 1);
    }
    assert!(lost.is_poisoned() && memory.is_poisoned());
    assert!(!kept.is_poisoned());
    let rest = memory.without_region(0x1000, 0x1000, 4 * PAGE).unwrap();
    assert!(!rest.is_poisoned());
    drop((memory, lost));
    // A slot of the guard's table that is used again starts clean.
    assert!(!region(0x1000, 0x1000, PAGE).is_poisoned());
}

/// A fault that hits no guarded mapping keeps its meaning: it ends the process by SIGBUS. (A child process runs it.)
#[test]
fn foreign_faults_still_kill() {
    const CHILD: &str = "VRING_TEST_SIGBUS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let guarded = region(0x1000, 0x1000, PAGE);
        let fd = memfd(PAGE);
        let foreign = map_shared(&fd, 0, 4096).unwrap();
        ftruncate(&fd, 0).unwrap();
        // SAFETY: a mapping of a page whose file has no byte; the fault is the point.
        unsafe { foreign.start.as_ptr().read_volatile() };
        drop(guarded);
        return;
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "guest::tests::foreign_faults_still_kill"])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGBUS)
    );
}

proptest! {
    /// The sorted search gives for any address and length what looking at each region in turn gives.
    #[test]
    fn translate_equals_linear_search(gpa in 0u64..0x1_0000, len in 0u64..0x3000) {
        let memory = GuestMemory::new(vec![
            region(0x6000, 0x30_0000, 2 * PAGE),
            region(0x1000, 0x10_0000, PAGE),
            region(0x2000, 0x20_0000, PAGE),
        ]).unwrap();
        let expected = memory.regions().iter().find(|r| {
            r.guest_addr <= gpa && gpa < r.guest_addr + r.size && gpa + len <= r.guest_addr + r.size
        });
        let address = expected.map(|r| r.host().as_ptr() as u64 + (gpa - r.guest_addr));
        prop_assert_eq!(memory.translate(gpa, len, Access::READ).map(|p| p.as_ptr() as u64), address);
        let user = expected.map(|r| gpa - r.guest_addr + r.user_addr);
        if let Some(user) = user {
            prop_assert_eq!(memory.translate_user(user, len).map(|p| p.as_ptr() as u64), address);
        }
    }
}
