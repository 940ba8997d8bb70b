//! Transmitting to a capture.
//!
//! The packets of a burst are put together in memory of ours and are in the file when the burst was accepted: nothing waits to be flushed, and
//! what is counted as sent is what a reader of the file finds. Each packet has the time at which its burst was sent.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_file::pcap::PcapHeader;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapResult, TsResolution};
use vring_mem::{Burst, Mempool};
use vring_net::{Counters, DropReason, ETH_HEADER, Tally};
use vring_ring::RingFault;

use super::MAX_PACKET;
use crate::port::Shared;
use crate::queue::{Mode, Path, TxPath};
use crate::{EventQueue, PortError, PortEvent};

/// Bytes that are written at once at most, and the longest packet fits with what stands around it.
const BATCH: usize = 256 * 1024;
/// Most bytes around a packet.
const FRAME: usize = 36;
const SNAPLEN: u32 = 65535;
const ENHANCED_PACKET: u32 = 6;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Microseconds, in this machine's byte order: what all tools read.
    Pcap,
    /// One section, one interface, nanoseconds.
    PcapNg,
}

impl Format {
    /// By the name of the file.
    pub(super) fn of(path: &str) -> Self {
        if path.ends_with(".pcapng") {
            Self::PcapNg
        } else {
            Self::Pcap
        }
    }

    fn header(self, port: &str) -> PcapResult<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Self::Pcap => {
                let header = PcapHeader {
                    endianness: Endianness::native(),
                    ts_resolution: TsResolution::MicroSecond,
                    datalink: DataLink::ETHERNET,
                    snaplen: SNAPLEN,
                    ..Default::default()
                };
                header.write_to(&mut out)?;
            }
            Self::PcapNg => {
                let section = SectionHeaderBlock {
                    endianness: Endianness::native(),
                    options: vec![SectionHeaderOption::UserApplication("vring".into())],
                    ..Default::default()
                };
                let mut writer = PcapNgWriter::with_section_header(&mut out, section)?;
                writer.write_pcapng_block(InterfaceDescriptionBlock {
                    linktype: DataLink::ETHERNET,
                    snaplen: SNAPLEN,
                    options: vec![
                        InterfaceDescriptionOption::IfName(port.into()),
                        InterfaceDescriptionOption::IfTsResol(9),
                    ],
                })?;
            }
        }
        Ok(out)
    }
}

/// See the module.
pub(super) struct PcapTx {
    pool: Arc<Mempool>,
    events: Arc<EventQueue>,
    path: String,
    format: Format,
    file: File,
    /// Where the file's last whole record ends.
    good: u64,
    /// Holds a piece of a record behind `good` that could not be taken back: nothing can follow it.
    spoilt: bool,
    told: bool,
    batch: Vec<u8>,
    /// What is in the batch.
    packets: usize,
    bytes: u64,
}

impl PcapTx {
    pub(super) fn new(
        shared: &Shared,
        file: File,
        path: &str,
        format: Format,
    ) -> Result<Self, PortError> {
        let mut this = Self {
            pool: shared.pool.clone(),
            events: shared.events.clone(),
            path: path.to_owned(),
            format,
            file,
            good: 0,
            spoilt: false,
            told: false,
            batch: Vec::with_capacity(BATCH),
            packets: 0,
            bytes: 0,
        };
        let failed = |e| PortError::system(format!("writing {path}"), e);
        let header = format.header(&shared.name);
        this.batch = header.map_err(|e| failed(io::Error::other(e)))?;
        this.batch.reserve(BATCH);
        this.write().map_err(failed)?;
        this.batch.clear();
        Ok(this)
    }

    /// Writes the batch, whole or not at all.
    fn write(&mut self) -> io::Result<()> {
        if self.spoilt {
            return Err(io::Error::other("the file ends within a record"));
        }
        match self.file.write_all(&self.batch) {
            Ok(()) => {
                self.good += self.batch.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.spoilt = self.take_back().is_err();
                Err(error)
            }
        }
    }

    /// Cuts off what was written of a batch that did not fit.
    fn take_back(&mut self) -> io::Result<()> {
        if self.file.metadata()?.is_file() {
            self.file.set_len(self.good)?;
            self.file.seek(SeekFrom::Start(self.good))?;
        }
        Ok(())
    }

    /// Writes the batch and counts what is in it.
    fn flush(&mut self, tally: &mut Tally, counters: &Counters) {
        if self.packets == 0 {
            return;
        }
        match self.write() {
            Ok(()) => {
                tally.packets += self.packets;
                tally.bytes += self.bytes;
            }
            Err(error) => {
                tally.refused += self.packets;
                counters.drop(DropReason::TxWriteFailed, self.packets as u64);
                self.tell(error);
            }
        }
        self.batch.clear();
        (self.packets, self.bytes) = (0, 0);
    }

    #[cold]
    fn tell(&mut self, error: io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            let what = format!("writing {} behind byte {}", self.path, self.good);
            let error = PortError::system(what, error);
            self.events.push(PortEvent::Error(error));
        }
    }

    /// Adds a packet to the batch, in which there is room.
    fn add(&mut self, addr: u32, len: u32, flags: u32, time: Duration) -> Result<(), DropReason> {
        let begin = self.batch.len();
        self.header(len, time);
        let mut left = len as usize;
        let Ok(segments) = self.pool.segments(addr, len, flags) else {
            self.batch.truncate(begin);
            return Err(DropReason::TxBadPacket);
        };
        for segment in segments {
            let (at, some) = (self.batch.len(), segment.len as usize);
            // Checked by `segments`, and once more because a script on another thread may change the links meanwhile.
            if some > left || !self.pool.checked(segment.addr, segment.len, 0) {
                self.batch.truncate(begin);
                return Err(DropReason::TxBadPacket);
            }
            self.batch.reserve(some);
            // SAFETY: the segment lies in the mempool; `reserve` made room for it behind `at`, in private memory, and all of it is written
            // before the length says so.
            unsafe {
                let to = self.batch.as_mut_ptr().add(at);
                vring_mem::copy::copy(to, self.pool.ptr(segment.addr), some);
                self.batch.set_len(at + some);
            }
            left -= some;
        }
        if left > 0 {
            self.batch.truncate(begin);
            return Err(DropReason::TxBadPacket);
        }
        self.trailer(begin, len);
        self.packets += 1;
        self.bytes += u64::from(len);
        Ok(())
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.batch.extend_from_slice(&word.to_ne_bytes());
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the formats have 32 bits for seconds, and nanoseconds in two halves"
    )]
    fn header(&mut self, len: u32, time: Duration) {
        match self.format {
            Format::Pcap => self.words(&[time.as_secs() as u32, time.subsec_micros(), len, len]),
            Format::PcapNg => {
                let nanos = time.as_nanos() as u64;
                let whole = block_size(len);
                let (high, low) = ((nanos >> 32) as u32, nanos as u32);
                self.words(&[ENHANCED_PACKET, whole, 0, high, low, len, len]);
            }
        }
    }

    fn trailer(&mut self, begin: usize, len: u32) {
        if self.format == Format::PcapNg {
            let whole = block_size(len);
            self.batch.resize(begin + whole as usize - 4, 0);
            self.words(&[whole]);
        }
    }
}

/// Bytes of an enhanced packet block without options.
fn block_size(len: u32) -> u32 {
    32 + len.next_multiple_of(4)
}

impl Path for PcapTx {
    fn mode(&self) -> Mode {
        match self.format {
            Format::Pcap => Mode::new("pcap", "the file's name does not end in .pcapng"),
            Format::PcapNg => Mode::new("pcapng", "the file's name ends so"),
        }
    }
}

impl TxPath for PcapTx {
    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let mut tally = Tally::default();
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = time.unwrap_or_default();
        let (addrs, lens, flags) = burst.packets();
        for i in 0..addrs.len() {
            let len = lens[i];
            if self.batch.len() + FRAME + (len as usize).min(MAX_PACKET) > BATCH {
                self.flush(&mut tally, counters);
            }
            let added = if len < ETH_HEADER {
                Err(DropReason::TxBadPacket)
            } else if len as usize > MAX_PACKET {
                Err(DropReason::TxTooBig)
            } else {
                self.add(addrs[i], len, flags[i], time)
            };
            if let Err(reason) = added {
                tally.refused += 1;
                counters.drop(reason, 1);
            }
        }
        self.flush(&mut tally, counters);
        self.pool.free_burst(burst);
        Ok(tally)
    }
}

/// Transmits to nowhere, and says so.
#[derive(Debug)]
pub(super) struct NoFile {
    pool: Arc<Mempool>,
}

impl NoFile {
    pub(super) fn new(pool: &Arc<Mempool>) -> Self {
        Self { pool: pool.clone() }
    }
}

impl Path for NoFile {
    fn mode(&self) -> Mode {
        Mode::new("drop", "there is no tx_pcap=")
    }
}

impl TxPath for NoFile {
    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let refused = burst.len();
        counters.drop(DropReason::TxNoFile, refused as u64);
        self.pool.free_burst(burst);
        Ok(Tally {
            refused,
            ..Default::default()
        })
    }
}
