//! Where the checksum of layer 4 is, for packets of which only that is said: it was left to somebody else.

use super::headers::{TCP, UDP, parse};

/// The `csum` word of a TCP or UDP packet over IP, from its first bytes; `len` is the length of all of it. `None` for what has no such
/// checksum, or has not all of it.
#[must_use]
pub fn partial_checksum(head: &[u8], len: usize) -> Option<u32> {
    let headers = parse(head, len)?;
    let offset = match headers.protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    if headers.fragment || headers.l4_at + offset + 2 > headers.end? {
        return None;
    }
    let start = u32::try_from(headers.l4_at).ok()?;
    Some(start | u32::try_from(offset).ok()? << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, fragment: u8, payload: u8) -> Vec<u8> {
        let mut packet = vec![0; 12];
        packet.extend([
            0x08,
            0x00,
            0x45,
            0,
            0,
            20 + payload,
            0,
            0,
            fragment,
            0,
            64,
            protocol,
        ]);
        packet.resize(14 + 20 + usize::from(payload), 0);
        packet
    }

    /// TCP and UDP are found where they are; what is neither, a piece, or too short has none.
    #[test]
    fn finds_the_checksum() {
        let word = |packet: &[u8]| partial_checksum(packet, packet.len());
        assert_eq!(word(&ipv4(TCP, 0, 20)), Some(34 | 16 << 16));
        assert_eq!(word(&ipv4(UDP, 0, 8)), Some(34 | 6 << 16));
        assert_eq!(word(&ipv4(1, 0, 8)), None);
        assert_eq!(word(&ipv4(UDP, 0x20, 8)), None);
        assert_eq!(word(&ipv4(UDP, 0, 7)), None);
        assert_eq!(word(&[0; 60]), None);
    }
}
