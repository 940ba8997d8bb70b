//! Registers of a device, wherever they are: in mapped memory, behind a file, or at ports of the processor.
//!
//! What is gone reads as ones, as on the bus: a device that was unplugged makes no error at each access, but at the next look at its state.

use std::cell::Cell;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vring_mem::guest::SharedFile;

/// Registers of 1, 2 or 4 bytes, little endian, by their offset. The callers of both methods stay inside, see [`Window`].
pub trait Registers: Send + Sync {
    /// Reads `size` bytes at `at`.
    fn read(&self, at: u64, size: usize) -> u32;
    /// Writes the low `size` bytes at `at`.
    fn write(&self, at: u64, size: usize, value: u32);
}

/// A part of a device's registers. Whatever an offset is, no access leaves the part.
#[derive(Clone)]
pub struct Window {
    registers: Arc<dyn Registers>,
    at: u64,
    len: u64,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({:#x}, {:#x} bytes)", self.at, self.len)
    }
}

impl Window {
    /// All `len` bytes of them.
    #[must_use]
    pub fn new(registers: Arc<dyn Registers>, len: u64) -> Self {
        let at = 0;
        Self { registers, at, len }
    }

    /// `len` bytes at `at`, if they are inside.
    #[must_use]
    pub fn part(&self, at: u64, len: u64) -> Option<Self> {
        at.checked_add(len).filter(|end| *end <= self.len)?;
        Some(Self {
            registers: self.registers.clone(),
            at: self.at + at,
            len,
        })
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn read(&self, at: u64, size: usize) -> u32 {
        match at.checked_add(size as u64) {
            Some(end) if end <= self.len => self.registers.read(self.at + at, size),
            _ => u32::MAX,
        }
    }

    #[inline]
    fn write(&self, at: u64, size: usize, value: u32) {
        if at
            .checked_add(size as u64)
            .is_some_and(|end| end <= self.len)
        {
            self.registers.write(self.at + at, size, value);
        }
    }

    /// Reads a byte.
    #[must_use]
    pub fn read8(&self, at: u64) -> u8 {
        self.read(at, 1).to_le_bytes()[0]
    }

    /// Reads two bytes.
    #[must_use]
    pub fn read16(&self, at: u64) -> u16 {
        let [low, high, ..] = self.read(at, 2).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Reads four bytes.
    #[must_use]
    pub fn read32(&self, at: u64) -> u32 {
        self.read(at, 4)
    }

    /// Writes a byte.
    pub fn write8(&self, at: u64, value: u8) {
        self.write(at, 1, value.into());
    }

    /// Writes two bytes.
    #[inline]
    pub fn write16(&self, at: u64, value: u16) {
        self.write(at, 2, value.into());
    }

    /// Writes four bytes.
    #[inline]
    pub fn write32(&self, at: u64, value: u32) {
        self.write(at, 4, value);
    }

    /// Writes eight bytes as two times four, the lower first (4.1.3.1).
    pub fn write64(&self, at: u64, value: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "takes the number apart")]
        self.write32(at, value as u32);
        self.write32(at + 4, (value >> 32) as u32);
    }
}

/// Registers behind a file that is read and written: configuration spaces, ports through sysfs, regions of VFIO's.
#[derive(Debug)]
pub(crate) struct FileRegisters {
    pub(crate) fd: Arc<OwnedFd>,
    /// Where they begin in it.
    pub(crate) offset: u64,
}

impl Registers for FileRegisters {
    fn read(&self, at: u64, size: usize) -> u32 {
        let mut bytes = [0; 4];
        match rustix::io::pread(&*self.fd, &mut bytes[..size], self.offset + at) {
            Ok(got) if got == size => u32::from_le_bytes(bytes),
            _ => u32::MAX,
        }
    }

    fn write(&self, at: u64, size: usize, value: u32) {
        let bytes = value.to_le_bytes();
        let _gone_is_seen_elsewhere =
            rustix::io::pwrite(&*self.fd, &bytes[..size], self.offset + at);
    }
}

/// Registers in memory: a mapped BAR. A device that is unplugged takes its pages away; then it reads as zeros.
#[derive(Debug)]
pub(crate) struct Mapped(pub(crate) SharedFile);

impl Mapped {
    fn at(&self, at: u64, size: usize) -> Option<*mut u8> {
        let at = usize::try_from(at).ok()?;
        let inside = at.is_multiple_of(size) && at.checked_add(size)? <= self.0.len();
        inside.then(|| self.0.at().as_ptr().wrapping_add(at))
    }
}

impl Registers for Mapped {
    #[inline]
    fn read(&self, at: u64, size: usize) -> u32 {
        let Some(ptr) = self.at(at, size) else {
            return u32::MAX;
        };
        // SAFETY: aligned and inside the mapping, which lives as long as we do.
        unsafe {
            match size {
                1 => ptr.read_volatile().into(),
                2 => ptr.cast::<u16>().read_volatile().into(),
                _ => ptr.cast::<u32>().read_volatile(),
            }
        }
    }

    #[inline]
    fn write(&self, at: u64, size: usize, value: u32) {
        let Some(ptr) = self.at(at, size) else {
            return;
        };
        let [b0, b1, ..] = value.to_le_bytes();
        // SAFETY: as in read.
        unsafe {
            match size {
                1 => ptr.write_volatile(b0),
                2 => ptr
                    .cast::<u16>()
                    .write_volatile(u16::from_le_bytes([b0, b1])),
                _ => ptr.cast::<u32>().write_volatile(value),
            }
        }
    }
}

/// Ports of the processor. A thread that may not use them (it began before the right was had, or the kernel is locked down) goes by the file.
pub(crate) struct Ports {
    pub(crate) base: u16,
    pub(crate) file: FileRegisters,
}

thread_local! {
    /// Whether this thread may: asked for once.
    static MAY: Cell<Option<bool>> = const { Cell::new(None) };
}

/// The right to use ports is a thread's own.
#[inline]
fn may_use_ports() -> bool {
    MAY.get().unwrap_or_else(|| {
        // SAFETY: it gives this thread a right, and touches nothing else.
        let may = unsafe { libc::iopl(3) } == 0;
        MAY.set(Some(may));
        may
    })
}

impl Registers for Ports {
    fn read(&self, at: u64, size: usize) -> u32 {
        self.file.read(at, size)
    }

    /// Notifications come this way, and by the file each would be a system call.
    #[inline]
    fn write(&self, at: u64, size: usize, value: u32) {
        match u16::try_from(at)
            .ok()
            .and_then(|at| self.base.checked_add(at))
        {
            Some(port) if size == 2 && may_use_ports() => out16(port, value),
            _ => self.file.write(at, size, value),
        }
    }
}

fn out16(port: u16, value: u32) {
    let [low, high, ..] = value.to_le_bytes();
    // SAFETY: this thread has the right (may_use_ports), and the port is one of a device that this process has taken: a window keeps the
    // access inside of the device's range.
    unsafe {
        std::arch::asm!("out dx, ax", in("dx") port, in("ax") u16::from_le_bytes([low, high]),
            options(nostack, preserves_flags));
    }
}
