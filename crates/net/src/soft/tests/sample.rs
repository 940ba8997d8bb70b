//! Random packets that are right, and what must be found in them.

use etherparse::ip_number::{TCP, UDP};
use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6Header,
    Ipv6RawExtHeader, NetHeaders, PacketBuilder, PacketHeaders, TcpHeader, TransportHeader,
    UdpHeader,
};
use proptest::prelude::*;
use vring_mem::burst::flags;

/// What a packet is made of.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) v6: bool,
    pub(super) tcp: bool,
    /// A tag in the packet.
    pub(super) tagged: bool,
    /// IPv4 options in words of 32 bits, or bytes of IPv6's hop-by-hop options in words of 64.
    pub(super) options: u8,
    pub(super) tcp_options: u8,
    pub(super) tcp_flags: u8,
    pub(super) sequence: u32,
    pub(super) payload: Vec<u8>,
}

impl std::fmt::Debug for Sample {
    /// Without the payload, which nobody reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            v6,
            tcp,
            tagged,
            options,
            tcp_options,
            ..
        } = self;
        write!(
            f,
            "v6 {v6} tcp {tcp} tagged {tagged} options {options} {tcp_options} payload {}",
            self.payload.len()
        )
    }
}

pub(super) fn sample(payload: std::ops::Range<usize>) -> impl Strategy<Value = Sample> {
    let kinds = (any::<bool>(), any::<bool>(), any::<bool>());
    let options = (0..=10u8, 0..=10u8);
    let bytes = proptest::collection::vec(any::<u8>(), 1..50);
    (kinds, options, any::<u8>(), any::<u32>(), payload, bytes).prop_map(
        |((v6, tcp, tagged), (options, tcp_options), tcp_flags, sequence, len, bytes)| Sample {
            v6,
            tcp,
            tagged,
            options,
            tcp_options,
            tcp_flags,
            sequence,
            // Of a period that no block or segment has.
            payload: bytes.iter().copied().cycle().take(len).collect(),
        },
    )
}

impl Sample {
    /// The packet, with right checksums.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let step = if self.tagged {
            ethernet
                .single_vlan(5u16.try_into().expect("12 bits"))
                .ip(self.ip())
        } else {
            ethernet.ip(self.ip())
        };
        let mut bytes = Vec::new();
        let written = if self.tcp {
            step.tcp_header(self.tcp_header())
                .write(&mut bytes, &self.payload)
        } else {
            step.udp(1111, 2222).write(&mut bytes, &self.payload)
        };
        written.expect("a vector grows");
        bytes
    }

    fn ip(&self) -> IpHeaders {
        let protocol = if self.tcp { TCP } else { UDP };
        if self.v6 {
            let mut header = Ipv6Header {
                next_header: protocol,
                hop_limit: 9,
                source: [0x20; 16],
                destination: [0xfe; 16],
                ..Ipv6Header::default()
            };
            let mut extensions = Ipv6Extensions::default();
            if self.options > 0 {
                header.next_header = IpNumber(0);
                let payload = vec![0; usize::from(self.options) * 8 - 2];
                extensions.hop_by_hop_options =
                    Some(Ipv6RawExtHeader::new_raw(protocol, &payload).expect("a right length"));
            }
            return IpHeaders::Ipv6(header, extensions);
        }
        let mut header = Ipv4Header::new(0, 64, protocol, [10, 0, 0, 1], [10, 9, 8, 7])
            .expect("an empty packet fits");
        header.identification = 0xfffe;
        let options = vec![1; usize::from(self.options) * 4];
        header.options = Ipv4Options::try_from(&options[..]).expect("at most 40 bytes");
        IpHeaders::Ipv4(header, Ipv4Extensions::default())
    }

    fn tcp_header(&self) -> TcpHeader {
        let mut tcp = TcpHeader::new(1111, 2222, self.sequence, 4096);
        tcp.set_options_raw(&vec![1; usize::from(self.tcp_options) * 4])
            .expect("at most 40 bytes");
        let flag = |bit: u8| self.tcp_flags & (1 << bit) != 0;
        (tcp.fin, tcp.syn, tcp.rst, tcp.psh) = (flag(0), flag(1), flag(2), flag(3));
        (tcp.ack, tcp.urg, tcp.ece, tcp.cwr) = (flag(4), flag(5), flag(6), flag(7));
        tcp
    }

    /// Where layer 4 begins.
    pub(super) fn l4_at(&self) -> usize {
        let l2 = if self.tagged { 18 } else { 14 };
        l2 + if self.v6 {
            40 + 8 * usize::from(self.options)
        } else {
            20 + 4 * usize::from(self.options)
        }
    }

    /// Where in layer 4 the checksum stands.
    pub(super) fn checksum_offset(&self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    /// The `csum` word.
    pub(super) fn csum(&self) -> u32 {
        u32::try_from(self.l4_at() | self.checksum_offset() << 16).expect("small")
    }

    /// The way to cut it, apart from UFO.
    pub(super) fn gso(&self) -> u32 {
        match (self.tcp, self.v6) {
            (true, false) => flags::GSO_TCP4,
            (true, true) => flags::GSO_TCP6,
            _ => flags::GSO_UDP_L4,
        }
    }

    /// The packet with the sum of its pseudo header for a checksum.
    pub(super) fn partial(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        let at = self.l4_at() + self.checksum_offset();
        let l4_len = bytes.len() - self.l4_at();
        let protocol = if self.tcp { 6 } else { 17 };
        let ip_at = if self.tagged { 18 } else { 14 };
        let addresses = if self.v6 {
            &bytes[ip_at + 8..ip_at + 40]
        } else {
            &bytes[ip_at + 12..ip_at + 20]
        };
        let mut sum = protocol + l4_len;
        for pair in addresses.chunks(2) {
            sum += usize::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        bytes[at..at + 2].copy_from_slice(&u16::try_from(sum).expect("folded").to_be_bytes());
        bytes
    }
}

/// What `etherparse` found in a packet whose checksums are right.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) vlan: Option<u16>,
    /// Identification of IPv4.
    pub(super) id: u16,
    pub(super) tcp: Option<TcpHeader>,
    pub(super) payload: Vec<u8>,
}

/// Looks into a packet, and compares all checksums. With `partial`, that of layer 4 is the pseudo header's sum: it is completed before.
pub(super) fn look(bytes: &[u8], partial: Option<u32>) -> Found {
    let mut bytes = bytes.to_vec();
    if let Some(csum) = partial {
        complete(&mut bytes, csum);
    }
    let headers = PacketHeaders::from_ethernet_slice(&bytes).expect("headers that can be read");
    let net = headers.net.expect("IP");
    let payload = headers.payload.slice().to_vec();
    let id = match &net {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            ip.identification
        }
        _ => 0,
    };
    let right = match headers.transport.as_ref().expect("layer 4") {
        TransportHeader::Tcp(tcp) => tcp.checksum == tcp_checksum(tcp, &net, &payload),
        TransportHeader::Udp(udp) => udp.checksum == udp_checksum(udp, &net, &payload),
        _ => false,
    };
    assert!(right, "a wrong checksum");
    let vlan = (bytes[12..14] == [0x81, 0]).then(|| u16::from_be_bytes([bytes[14], bytes[15]]));
    Found {
        vlan,
        id,
        tcp: headers.transport.and_then(TransportHeader::tcp),
        payload,
    }
}

fn tcp_checksum(tcp: &TcpHeader, net: &NetHeaders, payload: &[u8]) -> u16 {
    match net {
        NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(ip, payload),
        NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, payload),
        NetHeaders::Arp(_) => unreachable!("IP was built"),
    }
    .expect("a payload that fits")
}

fn udp_checksum(udp: &UdpHeader, net: &NetHeaders, payload: &[u8]) -> u16 {
    match net {
        NetHeaders::Ipv4(ip, _) => udp.calc_checksum_ipv4(ip, payload),
        NetHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(ip, payload),
        NetHeaders::Arp(_) => unreachable!("IP was built"),
    }
    .expect("a payload that fits")
}

/// Completes a partial checksum, word by word.
pub(super) fn complete(bytes: &mut [u8], csum: u32) {
    let (start, offset) = ((csum & 0xffff) as usize, (csum >> 16) as usize);
    let mut sum = 0u32;
    for pair in bytes[start..].chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = match !u16::try_from(sum).expect("folded") {
        0 => 0xffff,
        checksum => checksum,
    };
    bytes[start + offset..start + offset + 2].copy_from_slice(&checksum.to_be_bytes());
}
