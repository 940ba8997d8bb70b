use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};

use super::*;
use crate::soft::testing;

/// A TCP packet over IPv4 whose checksum is partial.
fn tcp4(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1000, 2000, 0xffff_fff0, 1024)
        .psh()
        .fin()
        .ack(7);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).expect("a vector grows");
    bytes
}

/// Cut packets hold the payload in order, with right headers and checksums; FIN and PSH are the last one's.
#[test]
fn cuts_tcp4() {
    let pool = testing::pool(64, 2048 + 128);
    let payload: Vec<u8> = (0..3001u32).map(|i| (i % 251) as u8).collect();
    let mut packet = testing::packet(&pool, &tcp4(&payload), &[20, 1, 500]);
    packet.flags |= flags::GSO_TCP4 | flags::CSUM_PARTIAL;
    packet.csum = 34 | 16 << 16;
    packet.gso = 1000 | 54 << 16;
    let mut cutter = Cutter::new(&pool, packet, 0).expect("a packet that can be cut");
    let mut got: Vec<u8> = Vec::new();
    while let Next::Piece(piece) = cutter.next(&pool, 0) {
        let bytes = testing::bytes(&pool, &piece);
        let headers = PacketHeaders::from_ethernet_slice(&bytes).expect("a packet");
        let Some(NetHeaders::Ipv4(ip, _)) = headers.net else {
            panic!("not IPv4");
        };
        let Some(TransportHeader::Tcp(tcp)) = headers.transport else {
            panic!("not TCP");
        };
        let data = headers.payload.slice();
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!(Ok(tcp.checksum), tcp.calc_checksum_ipv4(&ip, data));
        assert_eq!(
            tcp.sequence_number,
            0xffff_fff0u32.wrapping_add(u32::try_from(got.len()).expect("small"))
        );
        got.extend(data);
        assert_eq!((tcp.fin, tcp.psh), (got.len() == 3001, got.len() == 3001));
        pool.free_packet(piece.addr, piece.flags);
    }
    assert_eq!(got, payload);
    let packet = cutter.into_packet();
    pool.free_packet(packet.addr, packet.flags);
    assert_eq!(pool.free_count(), 64);
}
