//! Promise: a probe says what is so, whoever asks, and leaves nothing behind.

use std::fs;

use vring_mem::Pages;

use super::{Found, Probe, Verdict};

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn ordinary_shared_memory_works_everywhere() {
    let found = Probe::Memory(Pages::Base).run();
    assert_eq!((found.verdict, found.value), (Verdict::Works, 4096));
}

#[test]
fn what_is_not_there_and_what_is_a_folder_are_told_apart() {
    let absent = Probe::Open("/dev/vring-there-is-none").run();
    assert_eq!(
        absent,
        Found {
            verdict: Verdict::Absent,
            step: "open /dev/vring-there-is-none".into(),
            errno: Some(libc::ENOENT),
            value: 0,
        }
    );
    assert_eq!(Probe::Open("/dev").run().verdict, Verdict::Failed);
    assert_eq!(Probe::Open("/dev/null").run().verdict, Verdict::Works);
    assert_eq!(
        Probe::VfioGroup("/dev/null").run().errno,
        Some(libc::ENOTTY)
    );
}

#[test]
fn more_memory_than_there_is_cannot_be_locked() {
    // More than an address space holds.
    let found = Probe::Lock(1 << 47).run();
    assert_ne!(found.verdict, Verdict::Works);
    assert!(found.errno.is_some());
}

#[test]
fn probes_give_everything_back() {
    // Threads of other tests open files too.
    let all = [
        Probe::VhostNet,
        Probe::Tun,
        Probe::NewTap,
        Probe::PacketSocket,
        Probe::Memory(Pages::Base),
        Probe::Memory(Pages::Huge2M),
        Probe::Lock(1 << 20),
        Probe::Membarrier,
        Probe::PhysicalAddress,
        Probe::PortIo,
        Probe::Vfio,
    ];
    let before = open_files();
    for _ in 0..8 {
        for probe in all {
            let found = probe.run();
            assert_eq!(
                found.verdict == Verdict::Works,
                found.errno.is_none(),
                "{found:?}"
            );
        }
    }
    assert!(open_files() < before + 8);
    let links = fs::read_dir("/sys/class/net").map(|names| {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.map(|e| e.file_name());
        names
            .filter_map(|entry| name(entry).ok())
            .any(|name| name.to_string_lossy().starts_with("vringprobe"))
    });
    assert!(!links.unwrap_or(false));
}
