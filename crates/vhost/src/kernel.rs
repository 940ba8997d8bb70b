//! vhost in the kernel: the ioctls of `/dev/vhost-net`, by which a worker of the kernel's moves packets between one queue pair of
//! ours and a tap, a macvtap or a packet socket.
//!
//! The kernel reaches our memory by the addresses that it has in this process: nothing that was given to [`Kernel::set_mem_table`] may be
//! unmapped before both rings were taken off their device again ([`Kernel::set_backend`] with `None`), or the [`Kernel`] was dropped.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, Updater, ioctl, opcode};

use crate::VringAddresses;

/// The number of vhost's ioctls.
const VHOST: u8 = 0xaf;
/// The kernel puts the virtio-net header before what the device sends, and takes it off what it gets: for devices that have none. In
/// this place the driver's features have `ANY_LAYOUT`, of which vhost-net knows nothing.
pub const SUPPLIES_HEADER: u64 = 1 << 27;

/// A failure of vhost in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is no such device.
    #[error(
        "{path} does not exist: load the module (vhost_net), or give the container that device; `vring doctor` says how"
    )]
    NoDevice {
        /// The device.
        path: String,
    },
    /// The process may not open it.
    #[error(
        "no permission for {path}: run as root, or give the user write access to it; `vring doctor` says how"
    )]
    Permission {
        /// The device.
        path: String,
    },
    /// It takes fewer memory regions than there are.
    #[error(
        "expected vhost to take {count} memory regions, it takes fewer; raise the module parameter vhost.max_mem_regions"
    )]
    Regions {
        /// How many there are.
        count: usize,
    },
    /// The kernel can or may not start a thread for it.
    #[error(
        "the kernel started no worker for vhost ({source}): it has no memory, or this user or control group has as many processes as it may (ulimit -u, pids.max)"
    )]
    NoWorker {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refuses a request.
    #[error("vhost: {request} failed: {source}")]
    Request {
        /// The request.
        request: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl KernelError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoDevice { .. } => "ERR_VRING_NO_SUCH_PATH",
            Self::Permission { .. } => "ERR_VRING_PERMISSION",
            Self::Regions { .. } => "ERR_VRING_VHOST_MEMORY",
            Self::NoWorker { .. } => "ERR_VRING_VHOST_WORKER",
            Self::Request { .. } => "ERR_VRING_VHOST_KERNEL",
        }
    }
}

/// Memory that the kernel's worker may read and write.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct KernelRegion {
    /// First address in descriptors.
    pub guest_addr: u64,
    /// Bytes.
    pub size: u64,
    /// First address in this process.
    pub user_addr: u64,
    /// Zero.
    pub flags: u64,
}

/// The kernel's `struct vhost_memory`: the number of regions in 32 bits, as many zeros, and the regions.
fn memory_table(regions: &[KernelRegion]) -> Vec<u64> {
    let count = u32::try_from(regions.len()).unwrap_or(u32::MAX);
    let mut head = [0; 8];
    head[..4].copy_from_slice(&count.to_ne_bytes());
    let words = regions
        .iter()
        .flat_map(|r| [r.guest_addr, r.size, r.user_addr, r.flags]);
    [u64::from_ne_bytes(head)]
        .into_iter()
        .chain(words)
        .collect()
}

/// The request with a table of any length.
struct SetMemTable<'a>(&'a [u64]);

// SAFETY: the request only reads, from where the table is, as long as it is borrowed.
unsafe impl Ioctl for SetMemTable<'_> {
    type Output = ();
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        SET_MEM_TABLE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// The kernel's `struct vhost_vring_state`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct State {
    index: u32,
    number: u32,
}

/// The kernel's `struct vhost_vring_file`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct File {
    index: u32,
    fd: RawFd,
}

/// The kernel's `struct vhost_vring_addr`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Addresses {
    index: u32,
    flags: u32,
    desc: u64,
    used: u64,
    avail: u64,
    log: u64,
}

const GET_FEATURES: Opcode = opcode::read::<u64>(VHOST, 0x00);
const SET_FEATURES: Opcode = opcode::write::<u64>(VHOST, 0x00);
const SET_OWNER: Opcode = opcode::none(VHOST, 0x01);
/// Of the two numbers before the table alone.
const SET_MEM_TABLE: Opcode = opcode::write::<u64>(VHOST, 0x03);
const SET_VRING_NUM: Opcode = opcode::write::<State>(VHOST, 0x10);
const SET_VRING_ADDR: Opcode = opcode::write::<Addresses>(VHOST, 0x11);
const SET_VRING_BASE: Opcode = opcode::write::<State>(VHOST, 0x12);
const GET_VRING_BASE: Opcode = opcode::read_write::<State>(VHOST, 0x12);
const SET_VRING_KICK: Opcode = opcode::write::<File>(VHOST, 0x20);
const SET_VRING_CALL: Opcode = opcode::write::<File>(VHOST, 0x21);
const SET_VRING_ERR: Opcode = opcode::write::<File>(VHOST, 0x22);
const SET_VRING_BUSYLOOP_TIMEOUT: Opcode = opcode::write::<State>(VHOST, 0x23);
/// From Linux 6.5 on; vhost-net has it in kernels of few.
const NEW_WORKER: Opcode = opcode::read::<u32>(VHOST, 0x08);
const ATTACH_VRING_WORKER: Opcode = opcode::write::<State>(VHOST, 0x15);
const GET_BACKEND_FEATURES: Opcode = opcode::read::<u64>(VHOST, 0x26);
const NET_SET_BACKEND: Opcode = opcode::write::<File>(VHOST, 0x30);
const SET_FORK_FROM_OWNER: Opcode = opcode::write::<u8>(VHOST, 0x84);

/// Who the kernel's workers belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// To the kernel: they do not inherit the processors that the calling thread is bound to, and count for nobody. One for both rings.
    Kernel,
    /// To this process, like threads of its own, which is what the kernel wants of who makes more than one.
    Process,
}

/// One `/dev/vhost-net`: ring 0 receives, ring 1 transmits.
#[derive(Debug)]
pub struct Kernel {
    file: OwnedFd,
}

impl Kernel {
    /// Opens the device and makes this process its owner: the kernel starts its worker. Kernels without the choice (before 6.18) have `workers`
    /// one way or the other.
    ///
    /// # Errors
    /// [`KernelError::NoDevice`], [`KernelError::Permission`], [`KernelError::NoWorker`], [`KernelError::Request`].
    pub fn open(path: &str, workers: Workers) -> Result<Self, KernelError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => {
                KernelError::NoDevice { path: path.into() }
            }
            Errno::ACCESS | Errno::PERM => KernelError::Permission { path: path.into() },
            _ => refused("open", errno),
        })?;
        let vhost = Self { file };
        let forks = u8::from(workers == Workers::Process);
        let _no_choice = vhost.set::<SET_FORK_FROM_OWNER, u8>("SET_FORK_FROM_OWNER", forks);
        // SAFETY: no argument.
        unsafe { ioctl(&vhost.file, NoArg::<SET_OWNER>::new()) }.map_err(|errno| match errno {
            Errno::AGAIN | Errno::NOMEM => KernelError::NoWorker {
                source: errno.into(),
            },
            _ => refused("SET_OWNER", errno),
        })?;
        Ok(vhost)
    }

    /// Gives ring `index` a worker of its own, where the kernel lets one choose. Not while it has a device. False: it shares the one that there is.
    #[must_use]
    pub fn own_worker(&self, index: u16) -> bool {
        // SAFETY: the kernel writes one u32.
        let made = unsafe { ioctl(&self.file, Getter::<NEW_WORKER, u32>::new()) };
        made.is_ok_and(|worker| {
            self.set::<ATTACH_VRING_WORKER, State>("ATTACH_VRING_WORKER", state(index, worker))
                .is_ok()
        })
    }

    /// What the kernel's half has besides the device's features (`VHOST_BACKEND_F_…`). All of it is for address translation, which these rings
    /// are without: none is taken.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn backend_features(&self) -> Result<u64, KernelError> {
        // SAFETY: the kernel writes one u64.
        unsafe { ioctl(&self.file, Getter::<GET_BACKEND_FEATURES, u64>::new()) }
            .map_err(|errno| refused("GET_BACKEND_FEATURES", errno))
    }

    /// The features that the kernel's half knows. Those of virtio-net alone (checksums, segmentation) are the device's and not among them.
    ///
    /// # Errors
    /// [`KernelError::Request`]; so for all that follow.
    pub fn features(&self) -> Result<u64, KernelError> {
        // SAFETY: the kernel writes one u64.
        unsafe { ioctl(&self.file, Getter::<GET_FEATURES, u64>::new()) }
            .map_err(|errno| refused("GET_FEATURES", errno))
    }

    /// Takes features, or [`SUPPLIES_HEADER`].
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_features(&self, features: u64) -> Result<(), KernelError> {
        self.set::<SET_FEATURES, u64>("SET_FEATURES", features)
    }

    /// Says what memory descriptors may name. It has to stay mapped, see the module.
    ///
    /// # Errors
    /// [`KernelError::Regions`], and as for [`Kernel::features`].
    pub fn set_mem_table(&self, regions: &[KernelRegion]) -> Result<(), KernelError> {
        let table = memory_table(regions);
        // SAFETY: the kernel reads what the table begins with and then as many regions as that says, which it has.
        unsafe { ioctl(&self.file, SetMemTable(&table)) }.map_err(|errno| match errno {
            Errno::TOOBIG | Errno::NOSPC => KernelError::Regions {
                count: regions.len(),
            },
            _ => refused("SET_MEM_TABLE", errno),
        })
    }

    /// How many descriptors ring `index` has. Not while it has a device.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_vring_num(&self, index: u16, size: u16) -> Result<(), KernelError> {
        let state = state(index, size.into());
        self.set::<SET_VRING_NUM, State>("SET_VRING_NUM", state)
    }

    /// The avail index from which ring `index` goes on.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_vring_base(&self, index: u16, base: u32) -> Result<(), KernelError> {
        self.set::<SET_VRING_BASE, State>("SET_VRING_BASE", state(index, base))
    }

    /// Where ring `index` is. While it runs, the number may be out of date.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn vring_base(&self, index: u16) -> Result<u32, KernelError> {
        let mut answer = state(index, 0);
        // SAFETY: the kernel reads and writes one `struct vhost_vring_state`.
        unsafe {
            ioctl(
                &self.file,
                Updater::<GET_VRING_BASE, State>::new(&mut answer),
            )
        }
        .map_err(|errno| refused("GET_VRING_BASE", errno))?;
        Ok(answer.number)
    }

    /// Where ring `index` lies.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_vring_addr(&self, index: u16, at: VringAddresses) -> Result<(), KernelError> {
        let addresses = Addresses {
            index: index.into(),
            flags: 0,
            desc: at.desc,
            used: at.used,
            avail: at.avail,
            log: 0,
        };
        self.set::<SET_VRING_ADDR, Addresses>("SET_VRING_ADDR", addresses)
    }

    /// The eventfd by which we wake the kernel's worker.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_vring_kick(&self, index: u16, fd: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.set::<SET_VRING_KICK, File>("SET_VRING_KICK", file(index, Some(fd)))
    }

    /// The eventfd by which it wakes us.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_vring_call(&self, index: u16, fd: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.set::<SET_VRING_CALL, File>("SET_VRING_CALL", file(index, Some(fd)))
    }

    /// The eventfd by which it tells that the ring is broken.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_vring_err(&self, index: u16, fd: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.set::<SET_VRING_ERR, File>("SET_VRING_ERR", file(index, Some(fd)))
    }

    /// How many microseconds the worker looks for work before it sleeps.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_busy_poll(&self, index: u16, microseconds: u32) -> Result<(), KernelError> {
        let state = state(index, microseconds);
        self.set::<SET_VRING_BUSYLOOP_TIMEOUT, State>("SET_VRING_BUSYLOOP_TIMEOUT", state)
    }

    /// Starts ring `index` on a tap, macvtap or packet socket, or stops it: when a stop returns, the kernel does not touch the ring any more.
    ///
    /// # Errors
    /// As for [`Kernel::features`].
    pub fn set_backend(&self, index: u16, fd: Option<BorrowedFd<'_>>) -> Result<(), KernelError> {
        self.set::<NET_SET_BACKEND, File>("NET_SET_BACKEND", file(index, fd))
    }

    fn set<const REQUEST: Opcode, T>(
        &self,
        request: &'static str,
        value: T,
    ) -> Result<(), KernelError> {
        // SAFETY: each request stands above together with the type that the kernel reads for it, and follows no pointer at once: the
        // addresses of a ring are checked against the memory table when the worker uses them.
        unsafe { ioctl(&self.file, Setter::<REQUEST, T>::new(value)) }
            .map_err(|errno| refused(request, errno))
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn state(index: u16, number: u32) -> State {
    State {
        index: index.into(),
        number,
    }
}

fn file(index: u16, fd: Option<BorrowedFd<'_>>) -> File {
    File {
        index: index.into(),
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
    }
}

fn refused(request: &'static str, errno: Errno) -> KernelError {
    KernelError::Request {
        request,
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of `linux/vhost.h`.
    #[test]
    fn ioctl_numbers() {
        assert_eq!(GET_FEATURES, 0x8008_af00);
        assert_eq!(SET_FEATURES, 0x4008_af00);
        assert_eq!(SET_OWNER, 0x0000_af01);
        assert_eq!(SET_MEM_TABLE, 0x4008_af03);
        assert_eq!(SET_VRING_NUM, 0x4008_af10);
        assert_eq!(SET_VRING_ADDR, 0x4028_af11);
        assert_eq!(GET_VRING_BASE, 0xc008_af12);
        assert_eq!(SET_VRING_KICK, 0x4008_af20);
        assert_eq!(NET_SET_BACKEND, 0x4008_af30);
        assert_eq!(SET_FORK_FROM_OWNER, 0x4001_af84);
        assert_eq!(NEW_WORKER, 0x8004_af08);
        assert_eq!(ATTACH_VRING_WORKER, 0x4008_af15);
        assert_eq!(GET_BACKEND_FEATURES, 0x8008_af26);
    }

    /// The table is `struct vhost_memory` for any number of regions.
    #[test]
    fn memory_tables() {
        assert_eq!(memory_table(&[]), [0]);
        let region = KernelRegion {
            guest_addr: 1,
            size: 2,
            user_addr: 3,
            flags: 0,
        };
        assert_eq!(memory_table(&[region; 2]), [2, 1, 2, 3, 0, 1, 2, 3, 0]);
        assert_eq!(memory_table(&[region; 509]).len(), 1 + 4 * 509);
    }

    /// What is not there is told with what to do; what is no vhost device is refused.
    #[test]
    fn devices_that_are_none() {
        let error = Kernel::open("/dev/no-vhost-net", Workers::Kernel).unwrap_err();
        assert_eq!(error.code(), "ERR_VRING_NO_SUCH_PATH");
        let error = Kernel::open("/dev/null", Workers::Process).unwrap_err();
        assert_eq!(error.code(), "ERR_VRING_VHOST_KERNEL");
    }
}
