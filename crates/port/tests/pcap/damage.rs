//! Captures that are cut, damaged or unusual.

use pcap_file::{DataLink, Endianness};
use proptest::prelude::*;

use crate::every_format;
use crate::rig::{Dir, packets, pcapng, pool, port, receive, told, try_port};

/// A file that ends within its last record: what came before is there, the rest is counted once and told once, with file and position.
#[test]
fn ends_early() {
    let (dir, pool, all) = (Dir::new(), pool(64), packets(&[60, 1514, 61]));
    for (name, content) in every_format(&all) {
        // 61 bytes and what stands around them; the last block's end is padding and its length.
        let (last, unneeded) = if name.ends_with("ng") {
            (96, 7)
        } else {
            (77, 0)
        };
        for missing in [1, unneeded + 1, 20, 61, last - 5, last - 1] {
            let path = dir.file(name, &content[..content.len() - missing]);
            let begins = content.len() - last;
            for infinite in ["0", "1"] {
                let args = [("rx_pcap", &*path), ("infinite_rx", infinite)];
                let port = port(&pool, &args);
                let queue = &port.rx_queues()[0];
                if infinite == "0" {
                    // A packet is never given whose record is not whole, even if its own bytes are.
                    assert_eq!(receive(&port), all[..2], "{name} without {missing}");
                } else {
                    let mut burst = vring_mem::Burst::new(7);
                    assert_eq!(
                        queue.burst(vring_port::Owner::new(), &mut burst).unwrap(),
                        7
                    );
                    pool.free_burst(&mut burst);
                }
                assert_eq!(
                    queue.stats().drops["rx_truncated"],
                    1,
                    "{name} without {missing}"
                );
                let told = told(&port);
                assert_eq!(
                    told,
                    [format!(
                        "ERR_VRING_CAPTURE {path}: expected a whole record, got the end of the file within the record at byte {begins}"
                    )]
                );
            }
        }
        assert_eq!(pool.free_count(), 64);
    }
}

/// An oversized record that is not there in full is the end, not something to step over.
#[test]
fn giant_beyond_the_end() {
    let (dir, pool, all) = (Dir::new(), pool(64), packets(&[60, 70000]));
    for (name, content) in every_format(&all) {
        let port = port(
            &pool,
            &[("rx_pcap", &dir.file(name, &content[..content.len() - 9]))],
        );
        assert_eq!(receive(&port), all[..1]);
        let drops = port.rx_queues()[0].stats().drops;
        assert_eq!(
            (drops["rx_truncated"], drops.len(), told(&port).len()),
            (1, 1, 1),
            "{name}"
        );
    }
}

fn block(order: Endianness, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let size = u32::try_from(body.len() + 12).unwrap();
    let word = |word: u32| match order {
        Endianness::Big => word.to_be_bytes(),
        Endianness::Little => word.to_le_bytes(),
    };
    [&word(kind)[..], &word(size), &body, &word(size)].concat()
}

/// Simple and obsolete packet blocks, unknown blocks, options that nobody understands, and a second section of the other byte order.
#[test]
fn unusual_blocks() {
    let (dir, pool, all) = (Dir::new(), pool(64), packets(&[60, 61, 62, 63]));
    let little = Endianness::Little;
    // Ethernet, at most 61 bytes, with an if_tzone of 4 bytes.
    let interface = [1, 0, 0, 0, 61, 0, 0, 0, 10, 0, 4, 0, 9, 9, 9, 9, 0, 0, 0, 0];
    let simple = |data: &[u8]| block(little, 3, &[&[99, 0, 0, 0], data].concat());
    let old = [
        &[0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 62, 0, 0, 0, 62, 0, 0, 0],
        &all[2][..],
    ]
    .concat();
    let comment = [
        &[0; 12],
        &[60, 0, 0, 0, 60, 0, 0, 0][..],
        &all[0],
        &[1, 0, 2, 0, 0xFF, 0xFE, 0, 0],
    ]
    .concat();
    let content = [
        block(
            little,
            0x0A0D_0D0A,
            &[
                0x4D, 0x3C, 0x2B, 0x1A, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
            ],
        ),
        block(little, 0x0BAD_CAFE, &[0; 300_000]),
        block(little, 1, &interface),
        block(little, 6, &comment),
        simple(&all[1]),
        block(little, 5, &[1]),
        block(little, 2, &old),
        pcapng(Endianness::Big, &[DataLink::ETHERNET], &all[3..]),
    ]
    .concat();
    let port = port(&pool, &[("rx_pcap", &dir.file("x.pcapng", &content))]);
    assert_eq!(receive(&port), all);
    assert_eq!(told(&port), [""; 0]);
}

/// Packets of interfaces that are not Ethernet are dropped, counted, and told of once.
#[test]
fn mixed_interfaces() {
    let (dir, pool, all) = (Dir::new(), pool(64), packets(&[60, 61, 62, 63]));
    let links = [DataLink::ETHERNET, DataLink::LINUX_SLL];
    let content = pcapng(Endianness::Big, &links, &all);
    let port = port(&pool, &[("rx_pcap", &dir.file("x.pcapng", &content))]);
    assert_eq!(receive(&port), [all[0].clone(), all[2].clone()]);
    assert_eq!(port.rx_queues()[0].stats().drops["rx_truncated"], 2);
    let told = told(&port);
    assert!(
        told.len() == 1 && told[0].contains("LINUX_SLL (link type 113) at byte "),
        "{told:?}"
    );
}

/// Blocks that contradict themselves end the capture, and say where.
#[test]
fn contradictions() {
    let (dir, pool, all) = (Dir::new(), pool(64), packets(&[60]));
    let good = pcapng(Endianness::Little, &[DataLink::ETHERNET], &all);
    let at = good.len();
    let damaged = [
        (
            vec![6, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0],
            "a block of 13 bytes",
        ),
        (
            vec![9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0],
            "a block of 8 bytes",
        ),
        (
            block(Endianness::Little, 6, &[0; 16]),
            "a block of 28 bytes",
        ),
        (block(Endianness::Little, 1, &[1, 0]), "a block of 16 bytes"),
        (
            block(Endianness::Little, 6, &[5; 24]),
            "a packet of 84215045 bytes in a smaller block",
        ),
        (
            block(Endianness::Little, 6, &[[5; 12], [0; 12]].concat()),
            "a packet of the undescribed interface 84215045",
        ),
    ];
    for (bytes, what) in damaged {
        let path = dir.file("x.pcapng", &[&good[..], &bytes].concat());
        let port = port(&pool, &[("rx_pcap", &path)]);
        assert_eq!(receive(&port), all);
        assert_eq!(port.rx_queues()[0].stats().drops["rx_truncated"], 1);
        let expected =
            format!("ERR_VRING_CAPTURE {path}: expected a whole record, got {what} at byte {at}");
        assert_eq!(told(&port), [expected]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in a file: nothing panics, the end comes, at most two errors are told, no buffer is lost.
    #[test]
    fn any_damage(
        format in 0usize..6,
        changes in prop::collection::vec((0usize..4000, any::<u8>()), 0..12),
        length in 0usize..4000,
    ) {
        let (dir, pool) = (Dir::new(), pool(64));
        let (name, mut content) = every_format(&packets(&[60, 1514, 14, 2100])).swap_remove(format);
        for (at, byte) in changes {
            let at = at % content.len();
            content[at] = byte;
        }
        content.truncate(length.max(content.len() / 2));
        if let Ok(port) = try_port(&pool, &[("rx_pcap", &dir.file(name, &content))], (1, 0)) {
            receive(&port);
            prop_assert!(told(&port).len() <= 2);
        }
        prop_assert_eq!(pool.free_count(), 64);
    }
}
