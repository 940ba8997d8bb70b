//! Indirect tables that a driver wrote, as far as they are alike in both formats (2.7.5.3, 2.8.7).

use vring_mem::guest::{Access, GuestMemory};

use crate::{Desc, DescFlags, RingFault, RingFeatures};

/// Most descriptors of an indirect table. The specification allows as many as the ring has; drivers with small rings use more, so the bound is
/// a fixed one.
const MAX_INDIRECT: u32 = 1024;

/// How many descriptors the table has that `table` points to.
pub(crate) fn table_len(table: Desc, features: RingFeatures) -> Result<u32, RingFault> {
    let count = table.len / 16;
    let whole = table.len.is_multiple_of(16) && (1..=MAX_INDIRECT).contains(&count);
    if !features.indirect || !whole || table.flags.contains(DescFlags::NEXT) {
        return Err(RingFault::Indirect { len: table.len });
    }
    Ok(count)
}

/// Reads a descriptor of the table by `load`, which gets 16 readable, aligned bytes. Tables do not nest.
#[inline]
pub(crate) fn table_desc(
    table: Desc,
    index: u16,
    memory: &GuestMemory,
    load: impl FnOnce(*mut u64) -> Desc,
) -> Result<Desc, RingFault> {
    let addr = table.addr.wrapping_add(16 * u64::from(index));
    let at = memory
        .translate(addr, 16, Access::READ)
        .ok_or_else(|| RingFault::no_memory(memory, addr, 16, Access::READ))?;
    if !at.cast::<u64>().is_aligned() {
        return Err(RingFault::Address { addr, len: 16 });
    }
    let desc = load(at.as_ptr().cast());
    if desc.flags.contains(DescFlags::INDIRECT) {
        return Err(RingFault::Indirect { len: desc.len });
    }
    Ok(desc)
}
