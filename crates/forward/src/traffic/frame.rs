//! Generated packets: what stands in their headers, and how one is written into a buffer.

use std::net::IpAddr;
use std::sync::LazyLock;

use vring_mem::copy::copy;

use super::signature::{self, Signature};
use crate::ForwardError;
use crate::inet::{checksum, sum};

/// Longest packet: what a port's MTU of 9728 makes with a header and a tag.
pub const MAX_FRAME: usize = 9728 + 14 + 4;
/// Headers, tag and signature of any packet fit in so many bytes: what changes from packet to packet is put together there.
const HEAD: usize = 128;
/// The bytes behind a signature: byte `n` is the low byte of `n`.
pub(super) static PATTERN: LazyLock<[u8; MAX_FRAME]> =
    LazyLock::new(|| std::array::from_fn(|n| n.to_le_bytes()[0]));

/// What is in an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A datagram.
    Udp,
    /// A segment with ACK set, that belongs to no connection.
    Tcp,
    /// An echo request; the source port is its identifier, the destination port its number.
    Icmp,
}

/// Which field counts up from flow to flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vary {
    /// The source port.
    SrcPort,
    /// The destination port.
    DstPort,
    /// The last two bytes of the source address.
    SrcIp,
    /// The last two bytes of the destination address.
    DstIp,
}

/// The headers of generated packets. Both IP addresses are of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSpec {
    /// Source Ethernet address.
    pub src_mac: [u8; 6],
    /// Destination Ethernet address.
    pub dst_mac: [u8; 6],
    /// A tag (802.1Q) with that number, 0 to 4095.
    pub vlan: Option<u16>,
    /// Source IP address.
    pub src: IpAddr,
    /// Destination IP address.
    pub dst: IpAddr,
    /// What is in the IP packet.
    pub protocol: Protocol,
    /// Source port of the first flow.
    pub src_port: u16,
    /// Destination port of the first flow.
    pub dst_port: u16,
    /// What makes flows differ.
    pub vary: Vary,
}

/// A packet of one length, ready to be copied. What differs between packets is left out of its sums.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    head: [u8; HEAD],
    len: usize,
    signature_at: usize,
    /// The field that counts flows, and its value in flow 0.
    vary_at: usize,
    vary_from: u16,
    /// IPv4's checksum and the sum behind it without the field that counts; none for IPv6.
    ip: Option<(usize, u32)>,
    /// The same for layer 4. The sum has all of the payload but the signature.
    l4: (usize, u32),
}

/// Whether the field that counts flows is in the sum of the IP header, and of layer 4: that has the addresses in its pseudo header.
fn varies_ip(vary: Vary) -> bool {
    matches!(vary, Vary::SrcIp | Vary::DstIp)
}

impl Frame {
    /// A packet of `len` bytes without check sequence.
    pub(super) fn new(spec: &FrameSpec, len: usize) -> Result<Self, ForwardError> {
        let mut headers = Headers::new(spec)?;
        let signature_at = headers.bytes.len();
        let min = (signature_at + signature::BYTES).max(60);
        if !(min..=MAX_FRAME).contains(&len) {
            return Err(ForwardError::Range {
                what: "bytes of a packet",
                min,
                max: MAX_FRAME,
                got: len,
            });
        }
        headers.set_lengths(len);
        let (vary_at, vary_from) = headers.take_vary(spec.vary);
        let ip = headers
            .ip_checksum_at
            .map(|at| (at, sum(&headers.bytes[headers.ip_at..headers.l4_at])));
        let payload = &PATTERN[..len - signature_at - signature::BYTES];
        let l4_sum = headers.pseudo_header(spec, len - headers.l4_at)
            + sum(&headers.bytes[headers.l4_at..])
            + sum(payload);
        let mut head = [0; HEAD];
        head[..signature_at].copy_from_slice(&headers.bytes);
        let shown = len.min(HEAD) - signature_at - signature::BYTES;
        head[signature_at + signature::BYTES..][..shown].copy_from_slice(&payload[..shown]);
        // An echo's checksum does not cover the addresses.
        Ok(Self {
            head,
            len,
            signature_at,
            vary_at,
            vary_from,
            ip,
            l4: (headers.l4_checksum_at, l4_sum),
        })
    }

    /// Bytes of it.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first bytes of a packet of the flow that is `flow` behind the first, complete with signature and checksums.
    #[inline]
    fn head(&self, flow: u16, covers: Covers, signature: Signature) -> [u8; HEAD] {
        let mut head = self.head;
        let field = self.vary_from.wrapping_add(flow);
        head[self.vary_at..self.vary_at + 2].copy_from_slice(&field.to_be_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_FRAME")]
        let marks = signature.encode((self.len - self.signature_at) as u32);
        head[self.signature_at..self.signature_at + signature::BYTES].copy_from_slice(&marks);
        if let Some((at, base)) = self.ip {
            let sum = base + if covers.ip { u32::from(field) } else { 0 };
            head[at..at + 2].copy_from_slice(&checksum(sum).to_be_bytes());
        }
        let (at, base) = self.l4;
        let l4 = base + sum(&marks) + if covers.l4 { u32::from(field) } else { 0 };
        let written = match checksum(l4) {
            // To UDP, 0 is "none" (RFC 768); the other zero is as good to all.
            0 => 0xffff,
            n => n,
        };
        head[at..at + 2].copy_from_slice(&written.to_be_bytes());
        head
    }

    /// Writes a packet into a buffer of at least its length.
    ///
    /// # Safety
    /// `at` is writable for [`Frame::len`] bytes.
    #[inline]
    pub(super) unsafe fn write(
        &self,
        at: *mut u8,
        flow: u16,
        covers: Covers,
        signature: Signature,
    ) {
        let head = self.head(flow, covers, signature);
        let short = self.len.min(HEAD);
        // SAFETY: the caller's promise, and `short` is at most the array's length.
        unsafe { copy(at, head.as_ptr(), short) };
        if self.len > HEAD {
            let behind = HEAD - self.signature_at - signature::BYTES;
            // SAFETY: as above; the pattern is as long as the longest packet.
            unsafe { copy(at.add(HEAD), PATTERN[behind..].as_ptr(), self.len - HEAD) };
        }
    }

    /// A whole packet: for those that do not fit one buffer.
    pub(super) fn bytes(&self, flow: u16, covers: Covers, signature: Signature) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        // SAFETY: the vector is that long.
        unsafe { self.write(bytes.as_mut_ptr(), flow, covers, signature) };
        bytes
    }
}

/// Which checksums the field that counts flows is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covers {
    ip: bool,
    l4: bool,
}

impl Covers {
    pub(super) fn of(spec: &FrameSpec) -> Self {
        let ip = varies_ip(spec.vary);
        let pseudo = !(spec.protocol == Protocol::Icmp && spec.src.is_ipv4());
        Self {
            ip,
            l4: !ip || pseudo,
        }
    }
}

/// Headers under construction: lengths and checksums are zero.
struct Headers {
    bytes: Vec<u8>,
    ip_at: usize,
    l4_at: usize,
    ip_checksum_at: Option<usize>,
    l4_checksum_at: usize,
    /// Where IP's length is, and how many bytes of the packet it does not count.
    ip_len: (usize, usize),
    udp_len_at: Option<usize>,
}

impl Headers {
    fn new(spec: &FrameSpec) -> Result<Self, ForwardError> {
        let mut bytes = [spec.dst_mac, spec.src_mac].concat();
        if let Some(vlan) = spec.vlan {
            if vlan > 4095 {
                return Err(ForwardError::Range {
                    what: "vlan",
                    min: 0,
                    max: 4095,
                    got: vlan.into(),
                });
            }
            bytes.extend([0x8100u16.to_be_bytes(), vlan.to_be_bytes()].concat());
        }
        let ip_at = bytes.len() + 2;
        let v6 = spec.src.is_ipv6();
        let number = match (spec.protocol, v6) {
            (Protocol::Udp, _) => 17,
            (Protocol::Tcp, _) => 6,
            (Protocol::Icmp, false) => 1,
            (Protocol::Icmp, true) => 58,
        };
        match (spec.src, spec.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                bytes.extend([0x08, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, number, 0, 0]);
                bytes.extend([src.octets(), dst.octets()].concat());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, number, 64]);
                bytes.extend([src.octets(), dst.octets()].concat());
            }
            _ => {
                return Err(ForwardError::Addresses {
                    src: spec.src,
                    dst: spec.dst,
                });
            }
        }
        let l4_at = bytes.len();
        let ports = [spec.src_port.to_be_bytes(), spec.dst_port.to_be_bytes()].concat();
        let checksum = match spec.protocol {
            Protocol::Udp => {
                bytes.extend([ports, vec![0; 4]].concat());
                6
            }
            Protocol::Tcp => {
                // No sequence numbers, five words of header, ACK, a full window.
                bytes
                    .extend([ports, vec![0; 8], vec![0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]].concat());
                16
            }
            Protocol::Icmp => {
                bytes.extend([if v6 { 128 } else { 8 }, 0, 0, 0]);
                bytes.extend(ports);
                2
            }
        };
        Ok(Self {
            bytes,
            ip_at,
            l4_at,
            ip_checksum_at: (!v6).then_some(ip_at + 10),
            l4_checksum_at: l4_at + checksum,
            ip_len: if v6 {
                (ip_at + 4, ip_at + 40)
            } else {
                (ip_at + 2, ip_at)
            },
            udp_len_at: (spec.protocol == Protocol::Udp).then_some(l4_at + 4),
        })
    }

    fn put(&mut self, at: usize, number: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_FRAME")]
        self.bytes[at..at + 2].copy_from_slice(&(number as u16).to_be_bytes());
    }

    fn set_lengths(&mut self, len: usize) {
        let (at, before) = self.ip_len;
        self.put(at, len - before);
        if let Some(at) = self.udp_len_at {
            self.put(at, len - self.l4_at);
        }
    }

    /// Where the field is that counts flows, and what it says now; it is zero afterwards, so that no sum has it.
    fn take_vary(&mut self, vary: Vary) -> (usize, u16) {
        let echo = self.l4_checksum_at == self.l4_at + 2;
        let (src_ip, dst_ip) = match self.ip_checksum_at {
            Some(_) => (self.ip_at + 14, self.ip_at + 18),
            None => (self.ip_at + 22, self.ip_at + 38),
        };
        let ports = if echo { self.l4_at + 4 } else { self.l4_at };
        let at = match vary {
            Vary::SrcPort => ports,
            Vary::DstPort => ports + 2,
            Vary::SrcIp => src_ip,
            Vary::DstIp => dst_ip,
        };
        let value = u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.put(at, 0);
        (at, value)
    }

    /// The sum of what layer 4 covers of the IP header (RFC 793, RFC 8200 section 8.1); nothing for an echo over IPv4.
    fn pseudo_header(&self, spec: &FrameSpec, l4_len: usize) -> u32 {
        let (number, addresses) = match (spec.protocol, spec.src.is_ipv6()) {
            (Protocol::Icmp, false) => return 0,
            (Protocol::Icmp, true) => (58, 8..40),
            (Protocol::Udp, v6) => (17, if v6 { 8..40 } else { 12..20 }),
            (Protocol::Tcp, v6) => (6, if v6 { 8..40 } else { 12..20 }),
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_FRAME")]
        let l4_len = l4_len as u32;
        sum(&self.bytes[self.ip_at..][addresses]) + number + l4_len
    }
}
