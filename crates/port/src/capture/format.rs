//! Captured packets as the bytes of a file.

use pcap_file::pcap::PcapHeader;
use pcap_file::{DataLink, Endianness, TsResolution};

use super::ring::Record;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureFormat {
    /// Interfaces, directions, queues, and at the end what was dropped; nanoseconds.
    PcapNg,
    /// Nanoseconds too; nothing of the rest has a place in it.
    Pcap,
}

/// The direction of a packet, as `epb_flags` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    In = 1,
    Out = 2,
}

/// The end of an interface's story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) received: u64,
    pub(super) accepted: u64,
    pub(super) dropped: u64,
}

/// A block at the end of the bytes, under construction.
struct Block<'a> {
    out: &'a mut Vec<u8>,
    begin: usize,
}

impl<'a> Block<'a> {
    fn new(out: &'a mut Vec<u8>, kind: u32) -> Self {
        let begin = out.len();
        // Its length, once it is known, comes behind its kind.
        Self { out, begin }.words(&[kind, 0])
    }

    fn words(self, words: &[u32]) -> Self {
        for word in words {
            self.out.extend_from_slice(&word.to_ne_bytes());
        }
        self
    }

    /// Bytes, padded to whole words.
    fn bytes(self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        let end = self.begin + (self.out.len() - self.begin).next_multiple_of(4);
        self.out.resize(end, 0);
        self
    }

    fn option(self, code: u16, value: &[u8]) -> Self {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        #[expect(clippy::cast_possible_truncation, reason = "cut to 16 bits")]
        let len = value.len() as u16;
        self.out.extend_from_slice(&code.to_ne_bytes());
        self.out.extend_from_slice(&len.to_ne_bytes());
        self.bytes(value)
    }

    /// Ends the options, and the block.
    fn end(self) {
        let Self { out, begin } = self.option(0, &[]);
        #[expect(clippy::cast_possible_truncation, reason = "a packet and some options")]
        let whole = ((out.len() - begin + 4) as u32).to_ne_bytes();
        out[begin + 4..begin + 8].copy_from_slice(&whole);
        out.extend_from_slice(&whole);
    }
}

/// What a file begins with.
pub(super) fn begin(
    format: CaptureFormat,
    interfaces: &[String],
    snaplen: u32,
    filter: &str,
) -> Vec<u8> {
    let mut out = Vec::new();
    if format == CaptureFormat::Pcap {
        let header = PcapHeader {
            endianness: Endianness::native(),
            ts_resolution: TsResolution::NanoSecond,
            datalink: DataLink::ETHERNET,
            snaplen,
            ..Default::default()
        };
        // Writing to memory does not fail.
        let _written = header.write_to(&mut out);
        return out;
    }
    // Byte order, version 1.0 in two halves, a section of unknown length; shb_userappl.
    let head = [0x1A2B_3C4D, 1, u32::MAX, u32::MAX];
    let section = Block::new(&mut out, SECTION_HEADER).words(&head);
    section.option(4, b"vring dumpcap").end();
    for name in interfaces {
        // if_name, if_tsresol in nanoseconds, if_filter: a libpcap expression.
        let mut block = Block::new(&mut out, INTERFACE)
            .words(&[DataLink::ETHERNET.into(), snaplen])
            .option(2, name.as_bytes())
            .option(9, &[9]);
        if !filter.is_empty() {
            block = block.option(11, &[&[0], filter.as_bytes()].concat());
        }
        block.end();
    }
    out
}

/// Appends a packet.
pub(super) fn packet(
    out: &mut Vec<u8>,
    format: CaptureFormat,
    interface: u32,
    queue: u16,
    direction: Direction,
    record: &Record<'_>,
) {
    let Record { len, time, bytes } = *record;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a packet's length; seconds until 2106; halves of a number"
    )]
    let (captured, seconds, high, low) = (
        bytes.len() as u32,
        (time / 1_000_000_000) as u32,
        (time >> 32) as u32,
        time as u32,
    );
    if format == CaptureFormat::Pcap {
        let rest = (time % 1_000_000_000) as u32;
        for word in [seconds, rest, captured, len] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(bytes);
        return;
    }
    // epb_flags, epb_queue.
    Block::new(out, ENHANCED_PACKET)
        .words(&[interface, high, low, captured, len])
        .bytes(bytes)
        .option(2, &(direction as u32).to_ne_bytes())
        .option(6, &u32::from(queue).to_ne_bytes())
        .end();
}

/// What a file ends with.
pub(super) fn end(format: CaptureFormat, now: u64, totals: &[Totals]) -> Vec<u8> {
    let mut out = Vec::new();
    if format == CaptureFormat::Pcap {
        return out;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "halves of a number, and of interfaces there are few"
    )]
    for (interface, totals) in totals.iter().enumerate() {
        // isb_ifrecv, isb_ifdrop, isb_filteraccept.
        Block::new(&mut out, STATISTICS)
            .words(&[interface as u32, (now >> 32) as u32, now as u32])
            .option(4, &totals.received.to_ne_bytes())
            .option(5, &totals.dropped.to_ne_bytes())
            .option(6, &totals.accepted.to_ne_bytes())
            .end();
    }
    out
}
