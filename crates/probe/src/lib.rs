//! What the kernel lets this process do, found out by doing it: the same calls that a port makes when it is opened, and everything is given
//! back at once. A file that is there says little: containers show devices that they may not open, and security modules
//! refuse what permissions allow.

mod kernel;
mod memory;
mod pci;
#[cfg(test)]
mod tests;

use std::io;

use rustix::io::Errno;
use vring_mem::Pages;

/// What to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe<'a> {
    /// Opens `/dev/vhost-net` and becomes its owner. Gives vhost's features.
    VhostNet,
    /// Opens `/dev/net/tun`. Gives the flags that its devices can have.
    Tun,
    /// Makes a tap, which is gone at once: it never is up.
    NewTap,
    /// Opens a raw packet socket that receives nothing.
    PacketSocket,
    /// Makes sealed shared memory of one such page, present.
    Memory(Pages),
    /// Locks so many bytes, without making them present.
    Lock(usize),
    /// Registers for barriers on all cores of this process.
    Membarrier,
    /// Looks up where a page of this process lies in the machine's memory.
    PhysicalAddress,
    /// Asks for an I/O port, one that only a thread that ends has.
    PortIo,
    /// Opens VFIO's container. Gives its kinds of IOMMU, bit N for extension N.
    Vfio,
    /// Opens VFIO's file of a group, `/dev/vfio/26`. Gives its flags: bit 0, all its devices can be used.
    VfioGroup(&'a str),
    /// Opens a file to read and write, such as `/dev/uio0`.
    Open(&'a str),
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Works,
    /// The device, or the kernel's part behind it, is not there.
    Absent,
    /// This process may not.
    Denied,
    /// Somebody else has it.
    Busy,
    /// There is not enough of it, or it is refused for another reason.
    Failed,
}

/// What came of a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How it went.
    pub verdict: Verdict,
    /// What was tried last: a system call or a request, and on what.
    pub step: String,
    /// The kernel's error number, where there is one.
    pub errno: Option<i32>,
    /// What it gave, see [`Probe`]; 0 without.
    pub value: u64,
}

impl Found {
    fn works(step: impl Into<String>, value: u64) -> Self {
        Self {
            verdict: Verdict::Works,
            step: step.into(),
            errno: None,
            value,
        }
    }

    fn refused(step: impl Into<String>, errno: Errno) -> Self {
        let verdict = match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::AFNOSUPPORT | Errno::NOSYS => {
                Verdict::Absent
            }
            Errno::ACCESS | Errno::PERM => Verdict::Denied,
            Errno::BUSY => Verdict::Busy,
            _ => Verdict::Failed,
        };
        Self {
            verdict,
            step: step.into(),
            errno: Some(errno.raw_os_error()),
            value: 0,
        }
    }

    fn error(step: impl Into<String>, error: &io::Error) -> Self {
        Self::refused(step, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

impl Probe<'_> {
    /// Tries it.
    #[must_use]
    pub fn run(self) -> Found {
        match self {
            Self::VhostNet => kernel::vhost_net(),
            Self::Tun => kernel::tun(),
            Self::NewTap => kernel::new_tap(),
            Self::PacketSocket => kernel::packet_socket(),
            Self::Membarrier => kernel::membarrier(),
            Self::Memory(pages) => memory::shared(pages),
            Self::Lock(bytes) => memory::lock(bytes),
            Self::PhysicalAddress => memory::physical_address(),
            Self::PortIo => pci::port_io(),
            Self::Vfio => pci::vfio(),
            Self::VfioGroup(path) => pci::vfio_group(path),
            Self::Open(path) => pci::open(path),
        }
    }
}
