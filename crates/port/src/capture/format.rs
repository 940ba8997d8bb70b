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

/// Options of a block.
#[derive(Default)]
struct Options(Vec<u8>);

impl Options {
    fn with(mut self, code: u16, value: &[u8]) -> Self {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        #[expect(clippy::cast_possible_truncation, reason = "cut to 16 bits")]
        let len = value.len() as u16;
        self.0.extend(code.to_ne_bytes());
        self.0.extend(len.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn end(self) -> Vec<u8> {
        self.with(0, &[]).0
    }
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[&[u8]]) {
    let len: usize = body.iter().map(|part| part.len()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a packet and some options")]
    let whole = (12 + len.next_multiple_of(4)) as u32;
    out.extend(kind.to_ne_bytes());
    out.extend(whole.to_ne_bytes());
    for part in body {
        out.extend_from_slice(part);
    }
    out.resize(out.len() + len.next_multiple_of(4) - len, 0);
    out.extend(whole.to_ne_bytes());
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
    // Byte order, version 1.0, a section of unknown length; shb_userappl.
    let head = [
        0x1A2B_3C4Du32.to_ne_bytes(),
        [1u16.to_ne_bytes(), 0u16.to_ne_bytes()]
            .concat()
            .try_into()
            .unwrap_or_default(),
    ];
    let options = Options::default().with(4, b"vring dumpcap").end();
    block(
        &mut out,
        SECTION_HEADER,
        &[head.as_flattened(), &u64::MAX.to_ne_bytes(), &options],
    );
    for name in interfaces {
        // if_name, if_tsresol in nanoseconds, if_filter: a libpcap expression.
        let mut options = Options::default().with(2, name.as_bytes()).with(9, &[9]);
        if !filter.is_empty() {
            options = options.with(11, &[&[0], filter.as_bytes()].concat());
        }
        let link = u32::from(DataLink::ETHERNET).to_ne_bytes();
        block(
            &mut out,
            INTERFACE,
            &[&link, &snaplen.to_ne_bytes(), &options.end()],
        );
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
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_ne_bytes()).collect() };
    if format == CaptureFormat::Pcap {
        let rest = (time % 1_000_000_000) as u32;
        out.extend(words(&[seconds, rest, captured, len]));
        out.extend_from_slice(bytes);
        return;
    }
    // epb_flags, epb_queue.
    let mut options = Options::default().with(2, &(direction as u32).to_ne_bytes());
    options = options.with(6, &u32::from(queue).to_ne_bytes());
    let padding = &[0; 4][..bytes.len().next_multiple_of(4) - bytes.len()];
    let head = words(&[interface, high, low, captured, len]);
    block(
        out,
        ENHANCED_PACKET,
        &[&head, bytes, padding, &options.end()],
    );
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
        let head = [interface as u32, (now >> 32) as u32, now as u32].map(u32::to_ne_bytes);
        // isb_ifrecv, isb_ifdrop, isb_filteraccept.
        let options = Options::default()
            .with(4, &totals.received.to_ne_bytes())
            .with(5, &totals.dropped.to_ne_bytes())
            .with(6, &totals.accepted.to_ne_bytes())
            .end();
        block(&mut out, STATISTICS, &[head.as_flattened(), &options]);
    }
    out
}
