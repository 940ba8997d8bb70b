//! What a packet's first bytes say: where its headers are.

/// A tag of one customer (802.1Q).
pub(super) const VLAN: u16 = 0x8100;
/// A provider's tag (802.1ad), and what was used before it had a number.
const OUTER_VLANS: [u16; 2] = [0x88a8, 0x9100];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Bytes of the two Ethernet addresses.
pub(super) const ADDRESSES: usize = 12;
/// Bytes of a VLAN tag.
pub(super) const TAG: usize = 4;
/// Most tags that are walked over.
const MAX_TAGS: usize = 4;

/// Protocol numbers.
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// Bytes that are looked at for headers. What does not fit is a packet of which nothing is known.
pub(super) const HEAD: usize = 256;

/// The version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// Where the headers of an IP packet are. What is said here lies inside the bytes that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Which version.
    pub ip: Ip,
    /// Where the IP header begins.
    pub ip_at: usize,
    /// What follows the IP header and its extensions.
    pub protocol: u8,
    /// Where that begins: may be the end of the bytes looked at.
    pub l4_at: usize,
    /// Where the byte is that says `protocol`.
    pub protocol_at: usize,
    /// Where the IP packet ends, if its length fits the packet.
    pub end: Option<usize>,
    /// It is a piece of an IP packet.
    pub fragment: bool,
    /// A routing header with stops left: the last destination, which the pseudo header is made of, is not the IP header's.
    pub rerouted: bool,
}

/// The number of two bytes in network order.
pub(super) fn be16(head: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(
        head.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// The VLAN tag right behind the addresses.
pub(super) fn vlan_tag(head: &[u8]) -> Option<u16> {
    if be16(head, ADDRESSES)? == VLAN {
        be16(head, ADDRESSES + 2)
    } else {
        None
    }
}

/// Finds the headers in a packet's first bytes; `len` is the length of all of it. `None` when it is not IP, or not right.
#[must_use]
pub fn parse(head: &[u8], len: usize) -> Option<Headers> {
    let mut at = ADDRESSES;
    for _ in 0..MAX_TAGS {
        let ether_type = be16(head, at)?;
        if ether_type != VLAN && !OUTER_VLANS.contains(&ether_type) {
            break;
        }
        at += TAG;
    }
    match be16(head, at)? {
        IPV4 => parse_v4(head, at + 2, len),
        IPV6 => parse_v6(head, at + 2, len),
        _ => None,
    }
}

fn parse_v4(head: &[u8], ip_at: usize, len: usize) -> Option<Headers> {
    let header: &[u8; 20] = head.get(ip_at..)?.first_chunk()?;
    let l4_at = ip_at + usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || l4_at < ip_at + 20 || l4_at > head.len() {
        return None;
    }
    let end = ip_at + usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    Some(Headers {
        ip: Ip::V4,
        ip_at,
        protocol: header[9],
        l4_at,
        protocol_at: ip_at + 9,
        end: (l4_at..=len).contains(&end).then_some(end),
        fragment,
        rerouted: false,
    })
}

fn parse_v6(head: &[u8], ip_at: usize, len: usize) -> Option<Headers> {
    let header: &[u8; 40] = head.get(ip_at..)?.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let end = ip_at + 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut headers = Headers {
        ip: Ip::V6,
        ip_at,
        protocol: header[6],
        l4_at: ip_at + 40,
        protocol_at: ip_at + 6,
        end: None,
        fragment: false,
        rerouted: false,
    };
    while !headers.fragment && is_extension(headers.protocol) {
        let at = headers.l4_at;
        let &[next, extra, kind, left] = head.get(at..)?.first_chunk()?;
        match headers.protocol {
            FRAGMENT => {
                headers.fragment = u16::from_be_bytes([kind, left]) & 0xfff9 != 0;
                headers.l4_at += 8;
            }
            AUTHENTICATION => headers.l4_at += (usize::from(extra) + 2) * 4,
            _ => headers.l4_at += (usize::from(extra) + 1) * 8,
        }
        headers.rerouted |= headers.protocol == ROUTING && left != 0;
        (headers.protocol, headers.protocol_at) = (next, at);
        // Each round goes on by 8 bytes at least: this ends.
        if headers.l4_at > head.len() {
            return None;
        }
    }
    headers.end = (headers.l4_at..=len).contains(&end).then_some(end);
    Some(headers)
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// The extension that makes a packet a fragment (RFC 8200, 4.5).
pub(super) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

fn is_extension(protocol: u8) -> bool {
    [
        HOP_BY_HOP,
        ROUTING,
        FRAGMENT,
        AUTHENTICATION,
        DESTINATION,
        MOBILITY,
    ]
    .contains(&protocol)
}
