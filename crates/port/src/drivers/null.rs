//! `net_null`: receives packets of zeros without end, transmits to nowhere. What remains is the cost of everything else.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::{Burst, Mempool};
use vring_net::{Counters, Tally};
use vring_ring::RingFault;

use super::{MAX_QUEUES, Opened, check_queues, random_mac};
use crate::port::{Driver, Shared};
use crate::queue::{Mode, Path, RxPath, TxPath};
use crate::{Device, LinkStatus, PortConfig, PortInfo};

struct Null {
    mac: [u8; 6],
    size: u32,
}

pub(super) fn open(device: &Device, config: &PortConfig) -> Opened {
    check_queues(device, config, MAX_QUEUES, MAX_QUEUES, 0)?;
    let room = config.pool.data_room() as usize;
    let size = device.number("size", 64, 14, room)?;
    let copy = device.switch("copy", false)?;
    let no_rx = device.switch("no-rx", false)?;
    let shared = Shared::new(&device.name, config)?;
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let path = NullPath {
        pool: config.pool.clone(),
        size,
        copy,
    };
    if !no_rx {
        shared
            .rx
            .iter()
            .for_each(|queue| queue.attach(Box::new(path.clone()), None));
    }
    shared
        .tx
        .iter()
        .for_each(|queue| queue.attach(Box::new(path.clone()), None));
    shared.set_link(LinkStatus::UP);
    Ok((
        shared,
        Box::new(Null {
            mac: random_mac(),
            size,
        }),
    ))
}

impl Driver for Null {
    fn info(&self) -> PortInfo {
        PortInfo {
            driver: "net_null",
            max_rx_queues: MAX_QUEUES,
            max_tx_queues: MAX_QUEUES,
            details: [("size", self.size.to_string())].into(),
            ..Default::default()
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn close(&self) {}
}

#[derive(Debug, Clone)]
struct NullPath {
    pool: Arc<Mempool>,
    size: u32,
    copy: bool,
}

impl Path for NullPath {
    fn mode(&self) -> Mode {
        if self.copy {
            Mode::new("bytes", "copy=1: the bytes of a packet are written")
        } else {
            Mode::new("addresses", "copy=0: the bytes of a packet are left alone")
        }
    }
}

impl RxPath for NullPath {
    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let first = burst.len();
        let (addrs, lens, flags) = burst.arrays_mut();
        let got = self.pool.alloc_bulk(&mut addrs[first..]);
        if got == 0 && first < addrs.len() {
            counters.no_buffer();
        }
        let end = first + got;
        if self.copy {
            for &addr in &addrs[first..end] {
                // SAFETY: a fresh buffer has room for `size` bytes, which open compared; it is ours.
                unsafe { self.pool.ptr(addr).write_bytes(0, self.size as usize) };
            }
        }
        lens[first..end].fill(self.size);
        flags[first..end].fill(0);
        burst.set_len(end);
        Ok(Tally {
            packets: got,
            bytes: got as u64 * u64::from(self.size),
            ..Default::default()
        })
    }

    /// There is always something to receive.
    fn want_wake(&mut self, _on: bool) -> bool {
        true
    }
}

impl TxPath for NullPath {
    /// Whatever a packet asks for, nobody will see whether it was done.
    fn takes(&self) -> u32 {
        flags::META
    }

    fn tx(&mut self, burst: &mut Burst, _counters: &Counters) -> Result<Tally, RingFault> {
        let (_, lens, _) = burst.packets();
        let bytes = lens.iter().map(|&len| u64::from(len)).sum();
        let packets = burst.len();
        self.pool.free_burst(burst);
        Ok(Tally {
            packets,
            bytes,
            ..Default::default()
        })
    }
}
