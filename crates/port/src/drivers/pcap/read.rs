//! Reading captures, a piece at a time: classic pcap in both byte orders with micro- or nanoseconds, and pcapng.
//!
//! Records are framed here, so that one that cannot be a packet is stepped over without being read; of the options only an interface's clock
//! is looked at.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use pcap_file::pcap::PcapHeader;
use pcap_file::{DataLink, Endianness};
use rustix::fs::OFlags;

use super::clock::Clock;
use super::{MAX_PACKET, describe, identity, open_file};
use crate::PortError;

/// Bytes read at once. More than any record that is delivered.
const WINDOW: usize = 256 * 1024;
const PCAP_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

// Block types of pcapng.
const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Bytes of a block around its body.
const BLOCK_FRAME: usize = 12;

/// A packet that stands in the capture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    /// Bytes that were captured of it.
    pub(super) len: usize,
    /// What it begins with.
    pub(super) link: DataLink,
    /// When it came, in nanoseconds; 0 where the capture does not say.
    pub(super) time: u64,
    /// Where they begin, from the record's first byte.
    data: usize,
    /// Bytes of the whole record.
    whole: u64,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: DataLink,
    /// 0 for no limit.
    snaplen: u32,
    clock: Clock,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Pcap(Interface),
    PcapNg,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Capture {
    path: String,
    window: Window,
    format: Format,
    order: Endianness,
    /// Of the section that we are in.
    interfaces: Vec<Interface>,
}

impl Capture {
    /// Opens a capture of Ethernet packets.
    pub(super) fn open(path: &str) -> Result<Self, PortError> {
        let file = open_file(path, OFlags::RDONLY)?;
        if !identity(&file, path)?.regular {
            let kind = file.metadata().map(|meta| meta.file_type());
            return Err(PortError::Capture {
                path: path.to_owned(),
                expected: "a capture file",
                got: kind.map_or("a device", describe).into(),
            });
        }
        let mut capture = Self {
            path: path.to_owned(),
            window: Window::new(file),
            format: Format::PcapNg,
            order: Endianness::native(),
            interfaces: Vec::new(),
        };
        capture.read_header()?;
        capture.restart();
        Ok(capture)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.window.file
    }

    /// Where the next record begins, in bytes from the beginning of the file.
    pub(super) fn offset(&self) -> u64 {
        self.window.offset
    }

    /// To the first record again.
    pub(super) fn restart(&mut self) {
        self.window.clear(match self.format {
            Format::Pcap(_) => PCAP_HEADER as u64,
            Format::PcapNg => 0,
        });
    }

    /// The next packet's record, whole, or none at the end of the capture. It stays the next one until it is consumed.
    ///
    /// # Errors
    /// The file ends within the record, or what stands there is none, or it cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<Record>, PortError> {
        match self.format {
            Format::Pcap(interface) => self.next_record(interface),
            Format::PcapNg => self.next_block(),
        }
    }

    /// The bytes of a packet of at most [`MAX_PACKET`].
    ///
    /// # Errors
    /// The file ends within them or cannot be read.
    pub(super) fn data(&mut self, record: &Record) -> Result<&[u8], PortError> {
        debug_assert!(record.len <= MAX_PACKET);
        let end = record.data + record.len;
        if !self.has(end)? {
            return Err(self.cut());
        }
        Ok(&self.window.bytes()[record.data..end])
    }

    /// Goes on behind the record.
    pub(super) fn consume(&mut self, record: &Record) {
        self.window.skip(record.whole);
    }

    /// It is an error if the file ends within the next `count` bytes.
    fn want(&mut self, count: u64) -> Result<(), PortError> {
        match self.window.reaches(count) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.cut()),
            Err(e) => Err(self.unreadable(e)),
        }
    }

    /// Whether that many more bytes are there.
    fn has(&mut self, count: usize) -> Result<bool, PortError> {
        self.window.fill(count).map_err(|e| self.unreadable(e))
    }

    /// Whether a header of a record is there; it is an error if only a part of it is.
    fn has_header(&mut self, count: usize) -> Result<bool, PortError> {
        if self.has(count)? {
            Ok(true)
        } else if self.window.bytes().is_empty() {
            Ok(false)
        } else {
            Err(self.cut())
        }
    }

    fn read_header(&mut self) -> Result<(), PortError> {
        const EXPECTED: &str = "a pcap or pcapng capture";
        let whole = self.has(PCAP_HEADER)?;
        let bytes = self.window.bytes();
        let begins = bytes.first_chunk().copied().map(u32::from_be_bytes);
        if begins == Some(SECTION_HEADER) {
            return self.read_first_interface();
        }
        match PcapHeader::from_slice(bytes) {
            Ok((_, header)) => {
                // The upper half says whether the frames have check sequences, as libpcap reads it.
                let link = DataLink::from(u32::from(header.datalink) & 0xFFFF);
                self.order = header.endianness;
                let clock = Clock::of(header.ts_resolution);
                self.format = Format::Pcap(Interface {
                    link,
                    snaplen: 0,
                    clock,
                });
                self.expect_ethernet(link)
            }
            Err(_) => {
                let got = begin_of(bytes, whole);
                Err(self.wrong(EXPECTED, got))
            }
        }
    }

    /// Looks as far ahead as the first interface, so that a capture of something else is refused when it is opened.
    fn read_first_interface(&mut self) -> Result<(), PortError> {
        loop {
            match self.block()? {
                Some(Block::Other) if self.interfaces.is_empty() => {}
                Some(_) => break,
                None => return Ok(()),
            }
        }
        match self.interfaces.first() {
            Some(interface) => self.expect_ethernet(interface.link),
            None => Ok(()),
        }
    }

    fn expect_ethernet(&self, link: DataLink) -> Result<(), PortError> {
        if link == DataLink::ETHERNET {
            return Ok(());
        }
        let got = format!("{link:?} (link type {})", u32::from(link));
        Err(self.wrong("a capture of Ethernet packets (link type 1)", got))
    }

    fn next_record(&mut self, interface: Interface) -> Result<Option<Record>, PortError> {
        if !self.has_header(RECORD_HEADER)? {
            return Ok(None);
        }
        let len = self.u32_at(8);
        let whole = RECORD_HEADER as u64 + u64::from(len);
        self.want(whole)?;
        Ok(Some(Record {
            len: len as usize,
            link: interface.link,
            time: interface.clock.of_parts(self.u32_at(0), self.u32_at(4)),
            data: RECORD_HEADER,
            whole,
        }))
    }

    fn next_block(&mut self) -> Result<Option<Record>, PortError> {
        loop {
            match self.block()? {
                Some(Block::Packet(record)) => return Ok(Some(record)),
                Some(Block::Other) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next block: a packet stays, others are consumed.
    fn block(&mut self) -> Result<Option<Block>, PortError> {
        if !self.has_header(BLOCK_FRAME)? {
            return Ok(None);
        }
        let kind = self.u32_at(0);
        if kind == SECTION_HEADER {
            self.order = match self.window.bytes()[8..12] {
                [0x1A, 0x2B, 0x3C, 0x4D] => Endianness::Big,
                [0x4D, 0x3C, 0x2B, 0x1A] => Endianness::Little,
                _ => return Err(self.damaged("a section of no known byte order")),
            };
            self.interfaces.clear();
        }
        let size = self.u32_at(4);
        if !size.is_multiple_of(4) || (size as usize) < BLOCK_FRAME {
            return Err(self.damaged(format!("a block of {size} bytes")));
        }
        self.want(size.into())?;
        let body = size as usize - BLOCK_FRAME;
        let packet = match kind {
            INTERFACE => {
                self.want_body(body, 8)?;
                let interface = Interface {
                    link: DataLink::from(u32::from(self.u16_at(8))),
                    snaplen: self.u32_at(12),
                    clock: self.clock(body)?,
                };
                self.interfaces.push(interface);
                None
            }
            ENHANCED_PACKET => Some(self.packet(body, true)?),
            OLD_PACKET => Some(self.packet(body, false)?),
            SIMPLE_PACKET => Some(self.simple_packet(body)?),
            _ => None,
        };
        let Some((link, data, len, time)) = packet else {
            self.window.skip(size.into());
            return Ok(Some(Block::Other));
        };
        let whole = size.into();
        Ok(Some(Block::Packet(Record {
            len,
            link,
            time,
            data,
            whole,
        })))
    }

    /// What the clock of the interface counts whose block is next, with a body of so many bytes.
    fn clock(&mut self, body: usize) -> Result<Clock, PortError> {
        // Options that do not fit the window are not worth a look.
        let end = 8 + body.min(WINDOW - 8);
        if !self.has(end)? {
            return Err(self.cut());
        }
        Ok(Clock::of_options(&self.window.bytes()[16..end], self.order))
    }

    /// The link type of a packet, where it begins in its block, its length and its time.
    fn packet(&mut self, body: usize, wide: bool) -> Result<Found, PortError> {
        const FIELDS: usize = 20;
        self.want_body(body, FIELDS)?;
        let interface = if wide {
            self.u32_at(8)
        } else {
            self.u16_at(8).into()
        };
        let captured = self.u32_at(20) as usize;
        if captured > body - FIELDS {
            return Err(self.damaged(format!("a packet of {captured} bytes in a smaller block")));
        }
        let interface = self.interface(interface)?;
        let ticks = u64::from(self.u32_at(12)) << 32 | u64::from(self.u32_at(16));
        let time = interface.clock.nanoseconds(ticks);
        Ok((interface.link, 8 + FIELDS, captured, time))
    }

    /// As [`Capture::packet`]; of these the length is only known from the interface and the block.
    fn simple_packet(&mut self, body: usize) -> Result<Found, PortError> {
        self.want_body(body, 4)?;
        let interface = self.interface(0)?;
        let mut len = (self.u32_at(8) as usize).min(body - 4);
        if interface.snaplen != 0 {
            len = len.min(interface.snaplen as usize);
        }
        Ok((interface.link, 12, len, 0))
    }

    fn interface(&self, id: u32) -> Result<Interface, PortError> {
        let found = self.interfaces.get(id as usize).copied();
        found.ok_or_else(|| self.damaged(format!("a packet of the undescribed interface {id}")))
    }

    /// The body has these bytes, and they are in the window.
    fn want_body(&mut self, body: usize, fields: usize) -> Result<(), PortError> {
        if body < fields {
            return Err(self.damaged(format!("a block of {} bytes", body + BLOCK_FRAME)));
        }
        if self.has(8 + fields)? {
            Ok(())
        } else {
            Err(self.cut())
        }
    }

    fn u32_at(&self, at: usize) -> u32 {
        let bytes = self.window.bytes()[at..].first_chunk().copied();
        let bytes = bytes.unwrap_or_default();
        match self.order {
            Endianness::Big => u32::from_be_bytes(bytes),
            Endianness::Little => u32::from_le_bytes(bytes),
        }
    }

    fn u16_at(&self, at: usize) -> u16 {
        let bytes = self.window.bytes()[at..].first_chunk().copied();
        let bytes = bytes.unwrap_or_default();
        match self.order {
            Endianness::Big => u16::from_be_bytes(bytes),
            Endianness::Little => u16::from_le_bytes(bytes),
        }
    }

    fn cut(&self) -> PortError {
        let got = format!(
            "the end of the file within the record at byte {}",
            self.offset()
        );
        self.wrong("a whole record", got)
    }

    fn damaged(&self, what: impl std::fmt::Display) -> PortError {
        let got = format!("{what} at byte {}", self.offset());
        self.wrong("a whole record", got)
    }

    fn wrong(&self, expected: &'static str, got: String) -> PortError {
        PortError::Capture {
            path: self.path.clone(),
            expected,
            got,
        }
    }

    fn unreadable(&self, source: io::Error) -> PortError {
        let what = format!("reading {} at byte {}", self.path, self.offset());
        PortError::system(what, source)
    }
}

/// A packet's link type, where it begins in its block, its length and its time.
type Found = (DataLink, usize, usize, u64);

enum Block {
    Packet(Record),
    /// Consumed.
    Other,
}

/// What a file is that is no capture.
fn begin_of(bytes: &[u8], whole: bool) -> String {
    match bytes {
        [] => "an empty file".into(),
        [0x1F, 0x8B, ..] => "gzip data; unpack it first".into(),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => "zstd data; unpack it first".into(),
        _ => {
            let shown: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
            let size = if whole {
                String::new()
            } else {
                format!(" of {} bytes", bytes.len())
            };
            format!("a file{size} that begins with {}", shown.join(" "))
        }
    }
}

/// A stretch of the file.
#[derive(Debug)]
struct Window {
    file: File,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Where in the file `start` is.
    offset: u64,
}

impl Window {
    fn new(file: File) -> Self {
        Self {
            file,
            buffer: vec![0; WINDOW].into(),
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn clear(&mut self, offset: u64) {
        (self.start, self.end, self.offset) = (0, 0, offset);
    }

    /// Reads until `count` bytes, at most [`WINDOW`], are there: false when the file ends before.
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        if self.end - self.start >= count {
            return Ok(true);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < count {
            let at = self.offset + self.end as u64;
            match self.file.read_at(&mut self.buffer[self.end..], at) {
                Ok(0) => return Ok(false),
                Ok(got) => self.end += got,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Whether the file has that many more bytes.
    fn reaches(&mut self, count: u64) -> io::Result<bool> {
        match usize::try_from(count) {
            Ok(near) if near <= WINDOW => self.fill(near),
            _ => Ok(self.offset + count <= self.file.metadata()?.len()),
        }
    }

    /// Goes on `count` bytes further.
    fn skip(&mut self, count: u64) {
        match usize::try_from(count) {
            Ok(near) if near <= self.end - self.start => {
                self.start += near;
                self.offset += count;
            }
            _ => self.clear(self.offset + count),
        }
    }
}
