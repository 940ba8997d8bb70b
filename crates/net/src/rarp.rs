//! The announcement of a station that moved: a reverse ARP request of its own (RFC 903), from which switches learn where it is.

/// A whole Ethernet frame, as short as they get.
#[must_use]
pub fn rarp_request(mac: [u8; 6]) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&0x8035u16.to_be_bytes());
    // Ethernet, IPv4, their lengths; 3 is "request reverse". Addresses of IP stay zero: who asks does not know them.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 3]);
    frame[22..28].copy_from_slice(&mac);
    frame[32..38].copy_from_slice(&mac);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::EtherType;

    /// It is what RFC 903 says, to everybody, from the station itself.
    #[test]
    fn is_a_reverse_request() {
        let mac = [2, 1, 2, 3, 4, 5];
        let frame = rarp_request(mac);
        let (header, rest) = etherparse::Ethernet2Header::from_slice(&frame).unwrap();
        assert_eq!((header.destination, header.source), ([0xff; 6], mac));
        assert_eq!(header.ether_type, EtherType(0x8035));
        let arp = etherparse::ArpPacketSlice::from_slice(rest).unwrap();
        assert_eq!(arp.operation().0, 3);
        assert_eq!(
            (arp.sender_hw_addr(), arp.target_hw_addr()),
            (&mac[..], &mac[..])
        );
    }
}
