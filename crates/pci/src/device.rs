//! A device that this process has.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags};
use vring_mem::Region;
use vring_mem::guest::SharedFile;

use crate::irq::{Interrupts, Line};
use crate::lock::{lock, user_of};
use crate::pagemap::physical;
use crate::registers::{FileRegisters, Mapped, Ports};
use crate::sysfs::Resource;
use crate::vfio::Vfio;
use crate::{Access, Mapping, PciAddress, PciError, Registers, Sysfs, Window};

/// `PCI_COMMAND`: the device answers at its ports, in its memory, and may reach ours.
const COMMAND: u64 = 4;
const ENABLE: u16 = 0b111;
const BUS_MASTER: u16 = 0b100;
/// Bytes of a configuration space that every device has.
const CONFIG_SIZE: u64 = 256;

/// See the module. While it is there, no other process that keeps to the rules has the device. Dropping it takes away the device's right to reach
/// memory, before the memory that was mapped for it goes.
#[derive(Debug)]
pub struct Device {
    address: PciAddress,
    access: Access,
    config: Window,
    bus: Bus,
    interrupts: Interrupts,
    /// Readable when the kernel wants the device back.
    wanted_back: Option<OwnedFd>,
    /// What the device may reach, and where it finds it.
    mapped: Mutex<Vec<(Arc<Region>, Mapping)>>,
    /// Locked.
    _lock: Arc<OwnedFd>,
}

#[derive(Debug)]
enum Bus {
    /// The device's folder.
    Sysfs(PathBuf),
    Vfio(Arc<Vfio>),
}

impl Device {
    /// Takes the device at `address` for this process. It may do what it did before until it is reset.
    ///
    /// # Errors
    /// [`PciError::NoDevice`], [`PciError::Kind`], [`PciError::Bound`], [`PciError::InUse`], [`PciError::Vfio`], [`PciError::Permission`].
    pub fn open(sysfs: &Sysfs, address: PciAddress) -> Result<Self, PciError> {
        let found = sysfs.find(address)?;
        if !found.is_virtio_net() {
            return Err(PciError::Kind {
                address,
                vendor: found.vendor,
                device: found.device,
            });
        }
        if let Access::Kernel(driver) = found.access {
            return Err(PciError::Bound { address, driver });
        }
        let path = found.path.join("config");
        let file = Arc::new(open(&path)?);
        lock(&file, &path).map_err(|pid| PciError::InUse { address, pid })?;
        let registers = FileRegisters {
            fd: file.clone(),
            offset: 0,
        };
        let config = Window::new(Arc::new(registers), CONFIG_SIZE);
        let (config, bus, interrupts, wanted_back) = match found.access {
            Access::Vfio => by_vfio(address, &found.path)?,
            Access::Uio => by_uio(address, found.path, config)?,
            _ => {
                // No driver has switched it on. Where the kernel thinks that it is on already, that is as good.
                let _on = fs::write(found.path.join("enable"), "1");
                (config, Bus::Sysfs(found.path), Interrupts::Polled, None)
            }
        };
        Ok(Self {
            address,
            access: found.access,
            config,
            bus,
            interrupts,
            wanted_back,
            mapped: Mutex::default(),
            _lock: file,
        })
    }

    /// Lets the device answer, and reach memory. To be called when it is reset.
    pub fn enable(&self) {
        let command = self.config.read16(COMMAND);
        self.config.write16(COMMAND, command | ENABLE);
    }

    /// Lets the device answer at its registers, and no more.
    pub fn enable_registers(&self) {
        let command = self.config.read16(COMMAND);
        self.config
            .write16(COMMAND, (command | ENABLE) & !BUS_MASTER);
    }

    /// Takes the device's right to reach memory away.
    pub fn disable(&self) {
        let command = self.config.read16(COMMAND);
        if command != u16::MAX {
            self.config.write16(COMMAND, command & !BUS_MASTER);
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> PciAddress {
        self.address
    }

    /// How this process reaches it.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether an IOMMU stands between the device and memory.
    #[must_use]
    pub fn has_iommu(&self) -> bool {
        matches!(&self.bus, Bus::Vfio(vfio) if vfio.has_iommu())
    }

    /// Its configuration space.
    #[must_use]
    pub fn config(&self) -> &Window {
        &self.config
    }

    /// How it wakes us.
    #[must_use]
    pub fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// Gives each vector of MSI-X its eventfd, where there are vectors; none switches them off.
    ///
    /// # Errors
    /// [`PciError::System`].
    pub fn set_vectors(&self, fds: &[BorrowedFd<'_>]) -> Result<(), PciError> {
        match &self.bus {
            Bus::Vfio(vfio) => vfio.set_vectors(fds),
            Bus::Sysfs(_) => Ok(()),
        }
    }

    /// Readable when the kernel wants the device back; where nobody says so, the registers say that it is gone.
    #[must_use]
    pub fn wanted_back(&self) -> Option<BorrowedFd<'_>> {
        self.wanted_back.as_ref().map(AsFd::as_fd)
    }

    /// Whether it does not answer any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.config.read16(0) == u16::MAX
    }

    /// The registers behind a base address register.
    ///
    /// # Errors
    /// [`PciError::Broken`]: there is none; or the kernel does not give it.
    pub fn bar(&self, bar: u8) -> Result<Window, PciError> {
        let window = match &self.bus {
            Bus::Vfio(vfio) if bar < 6 => vfio.region(bar)?,
            Bus::Sysfs(path) if bar < 6 => self.sysfs_bar(path, bar)?,
            _ => Window::new(Arc::new(NoRegisters), 0),
        };
        if window.is_empty() {
            return Err(PciError::Broken {
                address: self.address,
                expected: format!("registers at BAR {bar}"),
                got: "that it has none there".into(),
            });
        }
        Ok(window)
    }

    fn sysfs_bar(&self, path: &Path, bar: u8) -> Result<Window, PciError> {
        let Some(resource) = Resource::read(path, bar) else {
            return Ok(Window::new(Arc::new(NoRegisters), 0));
        };
        let path = path.join(format!("resource{bar}"));
        let fd = open(&path)?;
        let registers: Arc<dyn Registers> = if resource.is_ports {
            let base = u16::try_from(resource.start).map_err(|_| PciError::Broken {
                address: self.address,
                expected: "ports below 65536".into(),
                got: format!("{:#x}", resource.start),
            })?;
            let file = FileRegisters {
                fd: Arc::new(fd),
                offset: 0,
            };
            Arc::new(Ports { base, file })
        } else {
            let len = usize::try_from(resource.len).unwrap_or(usize::MAX);
            let mapping =
                SharedFile::map_device(&fd, 0, len).map_err(|error| PciError::System {
                    what: path.display().to_string(),
                    source: std::io::Error::other(error),
                })?;
            Arc::new(Mapped(mapping))
        };
        Ok(Window::new(registers, resource.len))
    }

    /// Lets the device reach a region, which stays mapped for as long as the device is ours.
    ///
    /// # Errors
    /// [`PciError::NoHugepages`], [`PciError::NoPhysical`], [`PciError::Vfio`].
    pub fn map(&self, region: &Arc<Region>) -> Result<Mapping, PciError> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, mapping)) = mapped.iter().find(|(known, _)| Arc::ptr_eq(known, region)) {
            return Ok(mapping.clone());
        }
        let mapping = match &self.bus {
            Bus::Vfio(vfio) if vfio.has_iommu() => Mapping::Linear(vfio.map(region)?),
            _ => physical(self.address, region)?,
        };
        mapped.push((region.clone(), mapping.clone()));
        Ok(mapping)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.disable();
    }
}

/// What taking a device by one of the ways gives.
type Taken = Result<(Window, Bus, Interrupts, Option<OwnedFd>), PciError>;

fn by_vfio(address: PciAddress, path: &Path) -> Taken {
    let vfio = Arc::new(Vfio::open(address, path)?);
    let config = vfio.config()?;
    let interrupts = match vfio.vectors() {
        0 if vfio.has_line() => {
            let fd = Arc::new(eventfd()?);
            vfio.set_line(fd.as_fd())?;
            Interrupts::Line(Line::vfio(fd, vfio.clone()))
        }
        0 => Interrupts::Polled,
        vectors => Interrupts::Vectors(vectors),
    };
    let wanted_back = eventfd()?;
    vfio.set_request(wanted_back.as_fd())?;
    Ok((config, Bus::Vfio(vfio), interrupts, Some(wanted_back)))
}

fn by_uio(address: PciAddress, path: PathBuf, config: Window) -> Taken {
    let names = fs::read_dir(path.join("uio"))
        .map_err(|source| PciError::file(path.join("uio").display().to_string(), source))?;
    let name = names
        .flatten()
        .find_map(|entry| entry.file_name().into_string().ok())
        .ok_or(PciError::NoDevice { address })?;
    let file = Path::new("/dev").join(name);
    if let Some(pid) = user_of(&file) {
        return Err(PciError::InUse { address, pid });
    }
    let fd = Arc::new(last(open(&file)?));
    let interrupts = Interrupts::Line(Line::uio(fd, config.clone()));
    Ok((config, Bus::Sysfs(path), interrupts, None))
}

/// The same file under the highest number that there is. When UIO's file is closed, the kernel takes the device's right to reach memory away; of a
/// process that was killed, the file that is closed last is let go of first (`task_work_run`), so this one goes before the memory does.
fn last(fd: OwnedFd) -> OwnedFd {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = most.and_then(|most| i32::try_from(most).ok());
    let from = most.unwrap_or(1024).saturating_sub(64);
    rustix::io::fcntl_dupfd_cloexec(&fd, from).unwrap_or(fd)
}

/// A BAR that is none.
struct NoRegisters;

impl Registers for NoRegisters {
    fn read(&self, _at: u64, _size: usize) -> u32 {
        u32::MAX
    }

    fn write(&self, _at: u64, _size: usize, _value: u32) {}
}

fn open(path: &Path) -> Result<OwnedFd, PciError> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| PciError::file(path.display().to_string(), errno))
}

fn eventfd() -> Result<OwnedFd, PciError> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| PciError::file("eventfd", errno))
}
