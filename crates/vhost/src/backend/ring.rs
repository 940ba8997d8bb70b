//! What the front end has told about one ring, and whether that makes a usable one.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use vring_mem::guest::{Access, GuestMemory, LOG_PAGE, RingLog};
use vring_ring::inflight::Record;

use super::VringConfig;
use crate::message::{
    F_ACCESS_PLATFORM, F_EVENT_IDX, F_PROTOCOL_FEATURES, F_RING_PACKED, MAX_VRING_SIZE,
    VRING_F_LOG, VringAddr,
};

/// Whether, and how, the driver wakes the device. A ring without any is not started.
#[derive(Debug, Default)]
pub(super) enum Kick {
    /// Not told yet, or taken back by a stop.
    #[default]
    Unset,
    /// The ring is to be polled.
    Poll,
    /// By this descriptor.
    Fd(Arc<OwnedFd>),
}

impl Kick {
    pub fn new(fd: Option<Arc<OwnedFd>>) -> Self {
        fd.map_or(Self::Poll, Self::Fd)
    }

    pub fn fd(&self) -> Option<Arc<OwnedFd>> {
        match self {
            Self::Fd(fd) => Some(fd.clone()),
            Self::Unset | Self::Poll => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Descriptors; 0 until told.
    pub size: u32,
    pub addr: Option<VringAddr>,
    pub base: u32,
    pub kick: Kick,
    pub call: Option<Arc<OwnedFd>>,
    /// Held for the driver's sake; a broken ring is reported to our own user.
    pub err: Option<OwnedFd>,
    pub enabled: bool,
    /// Whether the handler has it.
    pub running: bool,
    /// A record was passed since the ring ran last: another back end may have left something there.
    pub take_up: bool,
    /// Where its areas are behind an IOMMU, while it runs or waits for their translation.
    areas: [(u64, u64); 3],
}

/// Length and alignment of the three areas of a ring.
struct Layout {
    desc: (u64, u64),
    avail: (u64, u64),
    used: (u64, u64),
}

impl Layout {
    /// virtio 1.x, 2.7 (split) and 2.8 (packed). A legacy split ring without event index ends right after its last entry.
    fn new(size: u64, features: u64) -> Self {
        if features & F_RING_PACKED != 0 {
            return Self {
                desc: (16 * size, 16),
                avail: (4, 4),
                used: (4, 4),
            };
        }
        let event = if features & F_EVENT_IDX != 0 { 2 } else { 0 };
        Self {
            desc: (16 * size, 16),
            avail: (4 + 2 * size + event, 2),
            used: (4 + 8 * size + event, 4),
        }
    }
}

impl Ring {
    /// Whether everything that a ring needs was told.
    pub fn is_complete(&self) -> bool {
        self.size != 0 && self.addr.is_some() && !matches!(self.kick, Kick::Unset)
    }

    /// Without agreed protocol features there is no message to enable a ring: it is enabled as it starts.
    pub fn is_enabled(&self, features: u64) -> bool {
        self.enabled || features & F_PROTOCOL_FEATURES == 0
    }

    /// Whether any byte of a range of I/O virtual addresses belongs to the ring.
    pub fn uses(&self, first: u64, end: u64) -> bool {
        self.areas
            .iter()
            .any(|&(at, len)| len > 0 && at < end && first < at.saturating_add(len))
    }

    /// Behind an IOMMU, a ring can only run once all of its areas are translated. Asks for what is missing; false if anything is. A size that
    /// no ring has, and addresses that were not told, are for [`Ring::locate`] to refuse.
    pub fn is_translated(&mut self, features: u64, memory: &GuestMemory) -> bool {
        let Some(addr) = self.addr.filter(|_| self.size <= MAX_VRING_SIZE) else {
            return true;
        };
        let layout = Layout::new(self.size.into(), features);
        let areas = [
            (addr.desc, layout.desc, writes_desc(features)),
            (addr.avail, layout.avail, Access::READ),
            (addr.used, layout.used, Access::all()),
        ];
        self.areas = areas.map(|(at, (len, _), _)| (at, len));
        let mut all = true;
        for (at, (len, _), access) in areas {
            for one in access.iter() {
                if memory.translate(at, len, one).is_none() {
                    all = false;
                    // All of it that is missing, and whole pages: an area of pieces that lie apart stays missing, see locate.
                    want_all(memory, at, len, access, one);
                }
            }
        }
        all
    }

    /// The ring in terms of this process, or why it is none.
    pub fn locate(
        &self,
        index: u16,
        features: u64,
        memory: &Arc<GuestMemory>,
        record: Option<Record>,
    ) -> Result<VringConfig, String> {
        let packed = features & F_RING_PACKED != 0;
        let size = u16::try_from(self.size)
            .ok()
            .filter(|_| (1..=MAX_VRING_SIZE).contains(&self.size))
            .ok_or_else(|| format!("ring {index}: size {} is out of range", self.size))?;
        if !packed && !size.is_power_of_two() {
            return Err(format!(
                "ring {index}: expected a power of two as size of a split ring, got {size}"
            ));
        }
        if !packed && self.base > u32::from(u16::MAX) {
            return Err(format!(
                "ring {index}: expected a 16-bit base for a split ring, got {:#x}",
                self.base
            ));
        }
        let addr = self
            .addr
            .ok_or_else(|| format!("ring {index}: no addresses"))?;
        let layout = Layout::new(size.into(), features);
        let iommu = features & F_ACCESS_PLATFORM != 0;
        let area = |what, at, (len, align)| {
            let found = if iommu {
                memory.translate(at, len, Access::READ)
            } else {
                memory.translate_user(at, len)
            };
            check_area(found, index, what, at, len, align)
        };
        let (desc, avail, used) = (
            area("descriptor area", addr.desc, layout.desc)?,
            area("driver area", addr.avail, layout.avail)?,
            area("device area", addr.used, layout.used)?,
        );
        Ok(VringConfig {
            index,
            size,
            desc,
            avail,
            used,
            base: self.base,
            record,
            features: features & !F_PROTOCOL_FEATURES,
            enabled: self.is_enabled(features),
            memory: memory.clone(),
            log: ring_log(&addr, memory, [desc, avail, used]),
            kick: self.kick.fd(),
            call: self.call.clone(),
        })
    }
}

/// The device of a packed ring writes descriptors.
fn writes_desc(features: u64) -> Access {
    if features & F_RING_PACKED != 0 {
        Access::all()
    } else {
        Access::READ
    }
}

/// Asks for an area, whose bytes may be known for one access and not for the other.
fn want_all(memory: &GuestMemory, at: u64, len: u64, access: Access, missing: Access) {
    let Some(misses) = memory.misses() else {
        return;
    };
    let end = at.saturating_add(len);
    let mut page = at;
    while page < end {
        page = match memory.region_of(page, missing) {
            Some(view) => view.end,
            None => {
                misses.want(page, access);
                (page | (LOG_PAGE - 1)).saturating_add(1)
            }
        };
    }
}

/// Where the ring is logged, if that is asked for. The message tells the place of the used ring, or of a packed ring's event word; that of
/// the descriptors, which the device of a packed ring writes, follows from the memory map. Behind an IOMMU the message tells an I/O virtual
/// address, so both follow.
fn ring_log(
    addr: &VringAddr,
    memory: &GuestMemory,
    [desc, avail, used]: [NonNull<u8>; 3],
) -> Option<RingLog> {
    let iommu = memory.misses().is_some();
    let place = |at: NonNull<u8>| memory.guest_address_of(at.as_ptr()).unwrap_or(u64::MAX);
    (memory.log().is_some() && addr.flags & VRING_F_LOG != 0).then(|| RingLog {
        desc: place(desc),
        avail: place(avail),
        used: if iommu { place(used) } else { addr.log },
    })
}

fn check_area(
    found: Option<NonNull<u8>>,
    index: u16,
    what: &str,
    addr: u64,
    len: u64,
    align: u64,
) -> Result<NonNull<u8>, String> {
    let at = found.ok_or_else(|| {
        format!(
            "ring {index}: expected the {what} inside one shared region, got {len} bytes at {addr:#x}"
        )
    })?;
    // What counts is where it is here: that is where it is accessed as whole words.
    if !(at.as_ptr() as u64).is_multiple_of(align) {
        return Err(format!(
            "ring {index}: expected the {what} aligned to {align}, got {addr:#x}"
        ));
    }
    Ok(at)
}
