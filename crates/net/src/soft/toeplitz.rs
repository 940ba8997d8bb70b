//! Receive-side scaling: the hash of a packet (5.1.6.4.3), by the algorithm named after Toeplitz matrices.

use super::headers::{Headers, Ip, TCP, UDP};

/// Bytes of the key.
pub const KEY: usize = 40;
/// Longest input: two IPv6 addresses and two ports. The key covers it with a 32-bit window for each bit.
const INPUT: usize = KEY - 4;

bitflags::bitflags! {
    /// What packets are hashed by: `VIRTIO_NET_RSS_HASH_TYPE_*`, the bits of `supported_hash_types`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct HashTypes: u32 {
        /// Addresses of IPv4.
        const IPV4 = 1 << 0;
        /// Addresses and ports of TCP over IPv4.
        const TCP4 = 1 << 1;
        /// Addresses and ports of UDP over IPv4.
        const UDP4 = 1 << 2;
        /// Addresses of IPv6.
        const IPV6 = 1 << 3;
        /// Addresses and ports of TCP over IPv6.
        const TCP6 = 1 << 4;
        /// Addresses and ports of UDP over IPv6.
        const UDP6 = 1 << 5;
        /// Addresses of IPv6, also those in extension headers. Not done in software.
        const IPV6_EX = 1 << 6;
        /// The same with the ports of TCP. Not done in software.
        const TCP6_EX = 1 << 7;
        /// The same with the ports of UDP. Not done in software.
        const UDP6_EX = 1 << 8;
    }
}

impl HashTypes {
    /// Those that are done in software.
    pub const SOFT: Self = Self::from_bits_retain(0x3f);
}

/// What a hash was computed of: `VIRTIO_NET_HASH_REPORT_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum HashReport {
    /// Of nothing: there is no hash.
    None = 0,
    /// [`HashTypes::IPV4`].
    Ipv4 = 1,
    /// [`HashTypes::TCP4`].
    Tcp4 = 2,
    /// [`HashTypes::UDP4`].
    Udp4 = 3,
    /// [`HashTypes::IPV6`].
    Ipv6 = 4,
    /// [`HashTypes::TCP6`].
    Tcp6 = 5,
    /// [`HashTypes::UDP6`].
    Udp6 = 6,
}

/// How packets are hashed, and spread over queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RssConfig {
    /// The key.
    pub key: [u8; KEY],
    /// The queue for each value of the hash's low 7 bits.
    pub table: [u16; 128],
    /// What packets are hashed by.
    pub types: HashTypes,
}

impl RssConfig {
    /// The key that the description of the algorithm computes its examples with.
    pub const KEY: [u8; KEY] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// All types that software does, spread evenly over that many queues.
    #[must_use]
    pub fn even(queues: u16) -> Self {
        let mut table = [0; 128];
        for (entry, queue) in table.iter_mut().zip((0..queues.max(1)).cycle()) {
            *entry = queue;
        }
        Self {
            key: Self::KEY,
            table,
            types: HashTypes::SOFT,
        }
    }

    /// The queue for packets with that hash.
    #[must_use]
    pub fn queue(&self, hash: u32) -> u16 {
        self.table[hash as usize % self.table.len()]
    }
}

/// The hash of a key, made ready: what each half of each byte of the input adds.
#[derive(Debug, Clone)]
pub struct Toeplitz {
    halves: Box<[[u32; 16]; 2 * INPUT]>,
}

impl Toeplitz {
    /// For this key.
    #[must_use]
    pub fn new(key: &[u8; KEY]) -> Self {
        let mut halves = Box::new([[0; 16]; 2 * INPUT]);
        for (nth, half) in halves.iter_mut().enumerate() {
            let bits: [u32; 4] = std::array::from_fn(|bit| window(key, 4 * nth + bit));
            for (value, sum) in half.iter_mut().enumerate() {
                // The first bit of the input is the highest.
                *sum = (0..4)
                    .filter(|bit| value & (8 >> bit) != 0)
                    .fold(0, |sum, bit| sum ^ bits[bit]);
            }
        }
        Self { halves }
    }

    /// The hash of the input, of whose bytes those behind the 36th do not count.
    #[must_use]
    pub fn hash(&self, input: &[u8]) -> u32 {
        self.sum(0, input)
    }

    fn sum(&self, at: usize, input: &[u8]) -> u32 {
        let halves = self.halves.as_chunks::<2>().0;
        halves[at..]
            .iter()
            .zip(input)
            .fold(0, |sum, ([high, low], &byte)| {
                sum ^ high[usize::from(byte >> 4)] ^ low[usize::from(byte & 15)]
            })
    }

    /// The hash of a packet by the most that `types` has for it. `head` begins with the packet.
    pub(super) fn of_packet(
        &self,
        head: &[u8],
        headers: &Headers,
        types: HashTypes,
    ) -> Option<(u32, HashReport)> {
        let (addresses, report) = match headers.ip {
            Ip::V4 => (headers.ip_at + 12..headers.ip_at + 20, HashReport::Ipv4),
            Ip::V6 => (headers.ip_at + 8..headers.ip_at + 40, HashReport::Ipv6),
        };
        let (of_ports, report_ports) = match (headers.ip, headers.protocol) {
            (Ip::V4, TCP) => (HashTypes::TCP4, HashReport::Tcp4),
            (Ip::V4, UDP) => (HashTypes::UDP4, HashReport::Udp4),
            (Ip::V6, TCP) => (HashTypes::TCP6, HashReport::Tcp6),
            (Ip::V6, UDP) => (HashTypes::UDP6, HashReport::Udp6),
            _ => (HashTypes::empty(), report),
        };
        let of_addresses = match headers.ip {
            Ip::V4 => HashTypes::IPV4,
            Ip::V6 => HashTypes::IPV6,
        };
        let addresses = head.get(addresses)?;
        let ports = head.get(headers.l4_at..headers.l4_at + 4);
        if types.intersects(of_ports)
            && !headers.fragment
            && let Some(ports) = ports
        {
            let hash = self.sum(0, addresses) ^ self.sum(addresses.len(), ports);
            return Some((hash, report_ports));
        }
        types
            .contains(of_addresses)
            .then(|| (self.sum(0, addresses), report))
    }
}

/// The 32 bits of the key from `bit` on.
fn window(key: &[u8; KEY], bit: usize) -> u32 {
    let at = bit / 8;
    let mut bytes = [0; 8];
    let n = (KEY - at).min(8);
    bytes[..n].copy_from_slice(&key[at..at + n]);
    ((u64::from_be_bytes(bytes) << (bit % 8)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// Destination, its port, source, its port, hash of the addresses, hash with the ports: the examples that the algorithm is published with.
    const KNOWN: [(&str, u16, &str, u16, u32, u32); 8] = [
        (
            "161.142.100.80",
            1766,
            "66.9.149.187",
            2794,
            0x323e_8fc2,
            0x51cc_c178,
        ),
        (
            "65.69.140.83",
            4739,
            "199.92.111.2",
            14230,
            0xd718_262a,
            0xc626_b0ea,
        ),
        (
            "12.22.207.184",
            38024,
            "24.19.198.95",
            12898,
            0xd2d0_a5de,
            0x5c2b_394a,
        ),
        (
            "209.142.163.6",
            2217,
            "38.27.205.30",
            48228,
            0x8298_9176,
            0xafc7_327f,
        ),
        (
            "202.188.127.2",
            1303,
            "153.39.163.191",
            44251,
            0x5d18_09c5,
            0x10e8_28a2,
        ),
        (
            "3ffe:2501:200:3::1",
            1766,
            "3ffe:2501:200:1fff::7",
            2794,
            0x2cc1_8cd5,
            0x4020_7d3d,
        ),
        (
            "ff02::1",
            4739,
            "3ffe:501:8::260:97ff:fe40:efab",
            14230,
            0x0f0c_461c,
            0xdde5_1bbf,
        ),
        (
            "fe80::200:f8ff:fe21:67cf",
            38024,
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    fn octets(text: &str) -> Vec<u8> {
        match text.parse().expect("an address") {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        }
    }

    /// The published examples come out.
    #[test]
    fn known_hashes() {
        let toeplitz = Toeplitz::new(&RssConfig::KEY);
        for (dst, dst_port, src, src_port, of_addresses, of_ports) in KNOWN {
            let mut input = [octets(src), octets(dst)].concat();
            assert_eq!(toeplitz.hash(&input), of_addresses, "{src} {dst}");
            input.extend(src_port.to_be_bytes());
            input.extend(dst_port.to_be_bytes());
            assert_eq!(toeplitz.hash(&input), of_ports, "{src} {dst}");
        }
    }

    /// Every queue gets its share of the table.
    #[test]
    fn tables_are_even() {
        let rss = RssConfig::even(3);
        let counts: Vec<_> = (0..3)
            .map(|queue| rss.table.iter().filter(|&&q| q == queue).count())
            .collect();
        assert_eq!(counts, [43, 43, 42]);
        assert_eq!(rss.queue(0xffff_ff81), 1);
        assert_eq!(RssConfig::even(0).queue(7), 0);
    }
}
