//! VFIO: the kernel gives a device to a process, with an IOMMU that keeps it to the memory that was mapped for it (`linux/vfio.h`).
//!
//! When the process ends, however it does, the kernel resets the device and takes the mappings back before the memory can become somebody
//! else's. In the mode without an IOMMU it does neither of the latter.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use vring_mem::Region;
use vring_mem::guest::SharedFile;

use crate::lock::user_of;
use crate::registers::{FileRegisters, Mapped};
use crate::{PciAddress, PciError, Registers, Window};

/// `VFIO_TYPE` and `VFIO_BASE`: the requests are plain numbers without sizes.
const fn request(number: u64) -> u64 {
    (b';' as u64) << 8 | (100 + number)
}

const GET_API_VERSION: u64 = request(0);
const SET_IOMMU: u64 = request(2);
const GROUP_GET_STATUS: u64 = request(3);
const GROUP_SET_CONTAINER: u64 = request(4);
const GROUP_GET_DEVICE_FD: u64 = request(6);
const DEVICE_GET_REGION_INFO: u64 = request(8);
const DEVICE_GET_IRQ_INFO: u64 = request(9);
const DEVICE_SET_IRQS: u64 = request(10);
const IOMMU_GET_INFO: u64 = request(12);
const IOMMU_MAP_DMA: u64 = request(13);

const TYPE1V2: u64 = 3;
const NOIOMMU: u64 = 8;

/// Indexes of interrupts: the line, MSI-X, and "give the device back".
const INTX: u32 = 0;
const MSIX: u32 = 2;
const REQUEST: u32 = 4;
/// The configuration space's index among the regions; the BARs come before it.
const CONFIG_REGION: u32 = 7;
/// Least and most address that is ours to choose, where the IOMMU does not say.
const ANY_RANGE: (u64, u64) = (0x20_0000, (1 << 39) - 1);

/// A device that VFIO gave to this process, with its container.
#[derive(Debug)]
pub(crate) struct Vfio {
    address: PciAddress,
    container: OwnedFd,
    /// Held for as long as the device is.
    _group: OwnedFd,
    device: Arc<OwnedFd>,
    /// Whether there is an IOMMU: the ranges of addresses that it knows.
    iommu: Option<Vec<(u64, u64)>>,
    mapped: Mutex<Vec<(u64, u64)>>,
}

/// `vfio_region_info` without what may follow it.
#[repr(C)]
#[derive(Debug, Default)]
struct RegionInfo {
    argsz: u32,
    flags: u32,
    index: u32,
    cap_offset: u32,
    size: u64,
    offset: u64,
}

#[repr(C)]
#[derive(Debug, Default)]
struct IrqInfo {
    argsz: u32,
    flags: u32,
    index: u32,
    count: u32,
}

#[repr(C)]
#[derive(Debug)]
struct MapDma {
    argsz: u32,
    flags: u32,
    vaddr: u64,
    iova: u64,
    size: u64,
}

/// One request of VFIO's, with a pointer or a number.
fn vfio(fd: &OwnedFd, request: u64, argument: u64) -> Result<i32, Errno> {
    // SAFETY: each caller passes the structure that its request is documented to take, with the size in its first word, or a number; the
    // kernel writes no further than that size says.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, argument) };
    if result < 0 {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    } else {
        Ok(result)
    }
}

/// The same with a structure, which the kernel may write.
fn vfio_with<T>(fd: &OwnedFd, request: u64, argument: &mut T) -> Result<i32, Errno> {
    vfio(fd, request, std::ptr::from_mut(argument) as u64)
}

const fn size_of_u32<T>() -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "of small structures")]
    {
        size_of::<T>() as u32
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

impl Vfio {
    /// Takes the device of the folder `sysfs`.
    pub(crate) fn open(address: PciAddress, sysfs: &Path) -> Result<Self, PciError> {
        let fail = |what: String| PciError::Vfio { address, what };
        let group_link = fs::read_link(sysfs.join("iommu_group")).map_err(|_| {
            fail("the device has no IOMMU group: switch the IOMMU on (intel_iommu=on), or the module's parameter enable_unsafe_noiommu_mode".into())
        })?;
        let number = group_link.file_name().unwrap_or_default().to_string_lossy();
        let (path, has_iommu) = group_path(&number);
        let group = open(&path).map_err(|errno| match errno {
            Errno::BUSY => PciError::InUse {
                address,
                pid: user_of(&path).unwrap_or_else(|| "unknown".into()),
            },
            errno => PciError::file(path.display().to_string(), errno),
        })?;
        let mut status = [8u32, 0];
        vfio_with(&group, GROUP_GET_STATUS, &mut status)
            .map_err(|errno| PciError::file("VFIO_GROUP_GET_STATUS", errno))?;
        if status[1] & 1 == 0 {
            return Err(fail(format!(
                "drivers of the kernel's have other devices of IOMMU group {number}: bind all of /sys/kernel/iommu_groups/{number}/devices to vfio-pci"
            )));
        }
        let control = Path::new("/dev/vfio/vfio");
        let container =
            open(control).map_err(|errno| PciError::file(control.display().to_string(), errno))?;
        let step = |what: &str| {
            let what = what.to_owned();
            move |errno: Errno| PciError::file(what, errno)
        };
        if vfio(&container, GET_API_VERSION, 0) != Ok(0) {
            return Err(fail(
                "expected version 0 of VFIO, the kernel has another".into(),
            ));
        }
        let mut fd = container.as_raw_fd();
        vfio_with(&group, GROUP_SET_CONTAINER, &mut fd)
            .map_err(step("VFIO_GROUP_SET_CONTAINER"))?;
        let kind = if has_iommu { TYPE1V2 } else { NOIOMMU };
        vfio(&container, SET_IOMMU, kind).map_err(|errno| {
            fail(format!(
                "the kernel gives no IOMMU for it ({errno}): load vfio_iommu_type1; a machine without interrupt remapping needs its parameter \
                 allow_unsafe_interrupts=1"
            ))
        })?;
        let mut name = address.to_string().into_bytes();
        name.push(0);
        let device = vfio(&group, GROUP_GET_DEVICE_FD, name.as_ptr() as u64)
            .map_err(step("VFIO_GROUP_GET_DEVICE_FD"))?;
        // SAFETY: a new descriptor that the kernel just made for us.
        let device = Arc::new(unsafe { OwnedFd::from_raw_fd(device) });
        let _stays_open_in_children_else =
            rustix::io::fcntl_setfd(&*device, rustix::io::FdFlags::CLOEXEC);
        let iommu = has_iommu.then(|| ranges(&container));
        Ok(Self {
            address,
            container,
            _group: group,
            device,
            iommu,
            mapped: Mutex::default(),
        })
    }

    /// Whether an IOMMU stands between the device and memory.
    pub(crate) fn has_iommu(&self) -> bool {
        self.iommu.is_some()
    }

    /// A region of the device's: a BAR by its number, or the configuration space.
    pub(crate) fn region(&self, index: u8) -> Result<Window, PciError> {
        const MMAP: u32 = 1 << 2;
        let mut info = RegionInfo {
            argsz: size_of_u32::<RegionInfo>(),
            index: index.into(),
            ..RegionInfo::default()
        };
        vfio_with(&self.device, DEVICE_GET_REGION_INFO, &mut info)
            .map_err(|errno| PciError::file("VFIO_DEVICE_GET_REGION_INFO", errno))?;
        let mapped = usize::try_from(info.size)
            .ok()
            .filter(|len| info.flags & MMAP != 0 && *len > 0)
            .and_then(|len| SharedFile::map_device(&self.device, info.offset, len).ok());
        let registers: Arc<dyn Registers> = match mapped {
            Some(mapping) => Arc::new(Mapped(mapping)),
            None => Arc::new(FileRegisters {
                fd: self.device.clone(),
                offset: info.offset,
            }),
        };
        Ok(Window::new(registers, info.size))
    }

    /// The configuration space.
    pub(crate) fn config(&self) -> Result<Window, PciError> {
        self.region(u8::try_from(CONFIG_REGION).unwrap_or(u8::MAX))
    }

    /// How many vectors of MSI-X the device has.
    pub(crate) fn vectors(&self) -> u16 {
        u16::try_from(self.irq_count(MSIX)).unwrap_or(u16::MAX)
    }

    /// Whether it has a line.
    pub(crate) fn has_line(&self) -> bool {
        self.irq_count(INTX) > 0
    }

    fn irq_count(&self, index: u32) -> u32 {
        let mut info = IrqInfo {
            argsz: size_of_u32::<IrqInfo>(),
            index,
            ..IrqInfo::default()
        };
        match vfio_with(&self.device, DEVICE_GET_IRQ_INFO, &mut info) {
            Ok(_) => info.count,
            Err(_) => 0,
        }
    }

    /// Gives each vector of MSI-X its eventfd; none switches MSI-X off.
    pub(crate) fn set_vectors(&self, fds: &[BorrowedFd<'_>]) -> Result<(), PciError> {
        self.set_irqs(MSIX, fds)
    }

    /// The eventfd of the line.
    pub(crate) fn set_line(&self, fd: BorrowedFd<'_>) -> Result<(), PciError> {
        self.set_irqs(INTX, &[fd])
    }

    /// The eventfd by which the kernel asks for the device: somebody wants to unplug it, or to bind it elsewhere.
    pub(crate) fn set_request(&self, fd: BorrowedFd<'_>) -> Result<(), PciError> {
        self.set_irqs(REQUEST, &[fd])
    }

    fn set_irqs(&self, index: u32, fds: &[BorrowedFd<'_>]) -> Result<(), PciError> {
        const NONE: u32 = 1;
        const EVENTFD: u32 = 1 << 2;
        const TRIGGER: u32 = 1 << 5;
        let data = if fds.is_empty() { NONE } else { EVENTFD };
        let count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
        let mut words = vec![20 + 4 * count, data | TRIGGER, index, 0, count];
        words.extend(fds.iter().map(|fd| fd.as_raw_fd().cast_unsigned()));
        vfio(&self.device, DEVICE_SET_IRQS, words.as_ptr() as u64)
            .map(|_| ())
            .map_err(|errno| PciError::file("VFIO_DEVICE_SET_IRQS", errno))
    }

    /// The line is masked when it fires.
    pub(crate) fn unmask_line(&self) {
        const NONE: u32 = 1;
        const UNMASK: u32 = 1 << 4;
        let words = [20u32, NONE | UNMASK, INTX, 0, 1];
        let _gone_is_seen_elsewhere = vfio(&self.device, DEVICE_SET_IRQS, words.as_ptr() as u64);
    }

    /// Maps a region for the device: at its virtual address where the IOMMU knows so many bits, else where there is room. The device's address of
    /// its first byte. The region's pages stay in memory until the container is closed.
    pub(crate) fn map(&self, region: &Region) -> Result<u64, PciError> {
        const READ_WRITE: u32 = 3;
        let (vaddr, size) = (region.base() as u64, region.len() as u64);
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = self.iommu.as_deref().unwrap_or(&[]);
        let iova = choose(ranges, &mapped, vaddr, size).ok_or_else(|| PciError::Vfio {
            address: self.address,
            what: format!("the IOMMU has no room for {size} bytes: use a smaller mempool"),
        })?;
        let mut request = MapDma {
            argsz: size_of_u32::<MapDma>(),
            flags: READ_WRITE,
            vaddr,
            iova,
            size,
        };
        vfio_with(&self.container, IOMMU_MAP_DMA, &mut request).map_err(|errno| match errno {
            Errno::NOMEM => PciError::Vfio {
                address: self.address,
                what: format!("the process may not lock {size} bytes: raise its limit (ulimit -l)"),
            },
            errno => PciError::file("VFIO_IOMMU_MAP_DMA", errno),
        })?;
        mapped.push((iova, iova + size - 1));
        Ok(iova)
    }
}

/// The group's file, and whether it has an IOMMU.
fn group_path(number: &str) -> (PathBuf, bool) {
    let unsafe_one = PathBuf::from(format!("/dev/vfio/noiommu-{number}"));
    if unsafe_one.exists() {
        (unsafe_one, false)
    } else {
        (PathBuf::from(format!("/dev/vfio/{number}")), true)
    }
}

/// Where `size` bytes can be for the device: at `wanted` if that is free, else at the first place that is.
fn choose(ranges: &[(u64, u64)], taken: &[(u64, u64)], wanted: u64, size: u64) -> Option<u64> {
    const ALIGN: u64 = 2 << 20;
    let fits = |at: u64| {
        let last = at.checked_add(size - 1)?;
        let inside = ranges.iter().any(|&(from, to)| from <= at && last <= to);
        let free = taken.iter().all(|&(from, to)| last < from || to < at);
        (inside && free).then_some(at)
    };
    let after = |&(_, to): &(u64, u64)| to.checked_add(1)?.checked_next_multiple_of(ALIGN);
    // Address 0 is left alone: too much takes it for none.
    let begins = |&(from, _): &(u64, u64)| from.max(ALIGN).checked_next_multiple_of(ALIGN);
    let places = ranges
        .iter()
        .filter_map(begins)
        .chain(taken.iter().filter_map(after));
    fits(wanted).or_else(|| places.filter_map(fits).min())
}

/// The ranges of addresses that the IOMMU knows, as the chain of capabilities behind `vfio_iommu_type1_info` tells.
fn ranges(container: &OwnedFd) -> Vec<(u64, u64)> {
    let mut bytes = vec![0u64; 512];
    bytes[0] = 4096;
    let told = vfio(container, IOMMU_GET_INFO, bytes.as_mut_ptr() as u64).is_ok();
    let bytes: Vec<u8> = bytes.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let found = if told {
        read_ranges(&bytes)
    } else {
        Vec::new()
    };
    if found.is_empty() {
        vec![ANY_RANGE]
    } else {
        found
    }
}

fn read_ranges(info: &[u8]) -> Vec<(u64, u64)> {
    const CAPABILITIES: u32 = 1 << 1;
    const IOVA_RANGES: u16 = 1;
    let u32_at = |at: usize| {
        info.get(at..)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    let u64_at = |at: usize| {
        info.get(at..)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    if u32_at(4) & CAPABILITIES == 0 {
        return Vec::new();
    }
    let mut at = u32_at(16) as usize;
    for _ in 0..16 {
        if at == 0 {
            break;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the id")]
        if u32_at(at) as u16 == IOVA_RANGES {
            let count = (u32_at(at + 8) as usize).min(64);
            let range = |nth: usize| (u64_at(at + 16 + 16 * nth), u64_at(at + 24 + 16 * nth));
            return (0..count)
                .map(range)
                .filter(|(from, to)| from < to)
                .collect();
        }
        at = u32_at(at + 4) as usize;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of `linux/vfio.h`.
    #[test]
    fn request_numbers() {
        assert_eq!(GET_API_VERSION, 0x3b64);
        assert_eq!(DEVICE_SET_IRQS, 0x3b6e);
        assert_eq!(IOMMU_MAP_DMA, 0x3b71);
        assert_eq!(size_of::<RegionInfo>(), 32);
        assert_eq!(size_of::<MapDma>(), 32);
    }

    /// A region is where it is in this process if the IOMMU has enough bits, else at the first place that is free.
    #[test]
    fn chooses_addresses() {
        let narrow = [(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)];
        let wide = [(0, 0xfedf_ffff), (0xfef0_0000, (1 << 48) - 1)];
        let va = 0x7f12_3456_7000;
        assert_eq!(choose(&wide, &[], va, 4096), Some(va));
        assert_eq!(choose(&narrow, &[], va, 4096), Some(0x20_0000));
        let taken = [(0x20_0000, 0x2f_ffff)];
        assert_eq!(choose(&narrow, &taken, va, 4096), Some(0x40_0000));
        // Not across the hole that the interrupts have.
        assert_eq!(choose(&narrow, &[], va, 1 << 32), Some(0xff00_0000));
        assert_eq!(choose(&narrow, &[], va, 1 << 40), None);
    }

    /// The kernel's answer is read as far as it goes, and no further.
    #[test]
    fn reads_ranges() {
        let mut info = vec![0; 24];
        info[4] = 2;
        info[16] = 24;
        for word in [0x1_0001u32, 0, 2, 0] {
            info.extend(word.to_ne_bytes());
        }
        for word in [0u64, 0xfedf_ffff, 0xfef0_0000, 0x7f_ffff_ffff] {
            info.extend(word.to_ne_bytes());
        }
        let expected = [(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)];
        assert_eq!(read_ranges(&info), expected);
        assert_eq!(read_ranges(&info[..50]), [(0, 0)][..0]);
        info[16] = 24;
        info[24] = 9;
        info[28] = 24;
        assert_eq!(read_ranges(&info), []);
    }
}
