//! Where memory of this process is in the machine's, by `/proc/self/pagemap` (the kernel's `admin-guide/mm/pagemap.rst`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use vring_mem::{Pages, Region};
use vring_ring::PageTable;

use crate::{Mapping, PciAddress, PciError};

/// Bytes of the pages that the file counts in.
const PAGE: u64 = 4096;
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// Where a device without an IOMMU finds the region. Hugepages stay where they are; ordinary pages may move at any time.
pub(crate) fn physical(address: PciAddress, region: &Region) -> Result<Mapping, PciError> {
    let pages = region.pages();
    if matches!(pages, Pages::Auto | Pages::Base) {
        return Err(PciError::NoHugepages { address });
    }
    let path = "/proc/self/pagemap";
    let failed = |source| PciError::file(path, source);
    let file = File::open(path).map_err(failed)?;
    let frames: Arc<[u64]> = (0..region.len())
        .step_by(pages.size())
        .map(|offset| {
            let mut entry = [0; 8];
            let virtual_page = (region.base() as u64 + offset as u64) / PAGE;
            file.read_exact_at(&mut entry, 8 * virtual_page)
                .map_err(failed)?;
            let entry = u64::from_le_bytes(entry);
            // Who may not know is told of frame 0.
            match entry & FRAME {
                frame if entry & PRESENT != 0 && frame != 0 => Ok(frame * PAGE),
                _ => Err(PciError::NoPhysical { address }),
            }
        })
        .collect::<Result<_, _>>()?;
    let size = pages.size() as u64;
    let is_linear = frames.windows(2).all(|pair| pair[1] == pair[0] + size);
    Ok(if is_linear {
        Mapping::Linear(frames[0])
    } else {
        Mapping::Paged(PageTable::new(frames, pages.size().trailing_zeros()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ordinary pages are refused with what to do; of hugepages, each is told to a process that may know.
    #[test]
    fn hugepages_only() {
        let address = "0000:00:03.0".parse().unwrap();
        let region = Region::create("vring-test", 8192, Pages::Base).unwrap();
        let error = physical(address, &region).unwrap_err();
        assert_eq!(error.code(), "ERR_VRING_NO_HUGEPAGES");
        assert!(
            error.to_string().contains("vring hugepages --setup"),
            "{error}"
        );
    }
}
