//! The memory of a guest: files that a device maps, and the guest's own mapping of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vring_mem::guest::{Access, GuestMemory, GuestRegion};

/// See the module. Guest-physical addresses and front-end addresses are the same numbers.
#[derive(Debug)]
pub struct Ram {
    files: Vec<OwnedFd>,
    ours: GuestMemory,
    theirs: Arc<GuestMemory>,
}

/// Maps each file once.
fn map(files: &[OwnedFd], regions: &[(u64, u64)]) -> GuestMemory {
    let mapped = files.iter().zip(regions).map(|(fd, &(addr, len))| {
        let fd = fd.try_clone().expect("a descriptor more");
        Arc::new(GuestRegion::map(addr, addr, len, 0, fd).expect("a region of a test"))
    });
    GuestMemory::new(mapped.collect()).expect("regions that do not overlap")
}

impl Ram {
    /// Memory of these regions, address and length each.
    ///
    /// # Panics
    /// When the kernel has no memory, or the regions overlap.
    #[must_use]
    pub fn new(regions: &[(u64, u64)]) -> Self {
        let files: Vec<OwnedFd> = regions
            .iter()
            .map(|&(_, len)| {
                let fd = memfd_create("vring-peer", MemfdFlags::CLOEXEC).expect("memfd_create");
                ftruncate(&fd, len).expect("ftruncate");
                fd
            })
            .collect();
        Self {
            ours: map(&files, regions),
            theirs: Arc::new(map(&files, regions)),
            files,
        }
    }

    /// The memory as a device maps it.
    #[must_use]
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.theirs
    }

    /// The file behind a region.
    #[must_use]
    pub fn file(&self, region: usize) -> BorrowedFd<'_> {
        self.files[region].as_fd()
    }

    /// Where the device has `len` bytes of a guest address.
    ///
    /// # Panics
    /// When they are not inside one region.
    #[must_use]
    pub fn theirs(&self, addr: u64, len: u64) -> NonNull<u8> {
        self.theirs
            .translate(addr, len, Access::WRITE)
            .expect("inside the memory")
    }

    /// Where the guest has `len` bytes of a guest address.
    ///
    /// # Panics
    /// When they are not inside one region.
    #[must_use]
    pub fn ours(&self, addr: u64, len: u64) -> NonNull<u8> {
        self.ours
            .translate(addr, len, Access::WRITE)
            .expect("inside the memory")
    }

    /// Writes bytes as the guest.
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        let at = self.ours(addr, bytes.len() as u64);
        for (i, &byte) in bytes.iter().enumerate() {
            // SAFETY: inside the guest's own mapping, by the look above; volatile, since the device has the memory too.
            unsafe { at.add(i).write_volatile(byte) };
        }
    }

    /// Reads bytes as the guest.
    #[must_use]
    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let at = self.ours(addr, len as u64);
        // SAFETY: as in write.
        (0..len)
            .map(|i| unsafe { at.add(i).read_volatile() })
            .collect()
    }

    /// Takes all memory away, as a peer does that truncates its files.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn truncate(&self) {
        for file in &self.files {
            ftruncate(file, 0).expect("ftruncate");
        }
    }
}
