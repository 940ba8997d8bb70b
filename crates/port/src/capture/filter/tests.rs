//! Programs by libpcap (`tcpdump -y EN10MB -ddd …`), and programs that nobody should run.

use proptest::prelude::*;

use super::*;

/// `tcp dst port 80`.
const PORT_80: &str = "16 40 0 0 12 21 0 4 34525 48 0 0 20 21 0 11 6 40 0 0 56 21 8 9 80 21 0 8 2048 48 0 0 23 21 0 6 6 40 0 0 20 69 4 0 8191 177 0 0 14 72 0 0 16 21 0 1 80 6 0 0 262144 6 0 0 0";

fn tcp4(port: u16, options: usize, fragment: u16) -> Vec<u8> {
    let mut packet = vec![0; 12];
    packet.extend([8, 0, 0x45 + u8::try_from(options).unwrap(), 0, 0, 40, 0, 0]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(vec![0; options * 4]);
    packet.extend([0x30, 0x39]);
    packet.extend(port.to_be_bytes());
    packet.resize(60 + options * 4, 0);
    packet
}

#[test]
fn a_program_of_libpcap_takes_what_its_expression_says() {
    let filter = Filter::parse(PORT_80).unwrap();
    let takes = |packet: &[u8]| filter.run(packet, 60) > 0;
    assert!(takes(&tcp4(80, 0, 0)) && takes(&tcp4(80, 3, 0)));
    assert!(!takes(&tcp4(81, 0, 0)) && !takes(&tcp4(80, 0, 1)));
    let mut udp = tcp4(80, 0, 0);
    udp[23] = 17;
    assert!(!takes(&udp));
    assert!(
        !takes(&tcp4(80, 0, 0)[..30]),
        "the port is not in what was captured"
    );
}

#[test]
fn the_length_is_that_of_the_packet_not_of_what_was_captured() {
    // `greater 100`
    let filter = Filter::parse("4 128 0 0 0 53 0 1 100 6 0 0 262144 6 0 0 0").unwrap();
    assert_eq!(
        [filter.run(&[0; 60], 60), filter.run(&[0; 60], 100)],
        [0, 262_144]
    );
}

#[test]
fn programs_that_are_none_are_refused_with_the_reason() {
    for (text, reason) in [
        (
            "",
            "the end of the text in the place of the number of instructions",
        ),
        ("0", "0 instructions"),
        ("1 6 0 0", "the end of the text in the place of k"),
        ("1 6 0 0 x", "something else than a number for k"),
        ("1 40 0 0 12", "a program without an end"),
        (
            "2 21 0 1 5 6 0 0 0",
            "a jump over 1 instructions in instruction 0",
        ),
        (
            "2 5 0 0 4294967295 6 0 0 0",
            "a jump over 4294967295 instructions in instruction 0",
        ),
        ("2 2 0 0 16 6 0 0 0", "scratch word 16 in instruction 0"),
        ("2 52 0 0 0 6 0 0 0", "a division by 0 in instruction 0"),
        ("2 100 0 0 32 6 0 0 0", "a shift by 32 in instruction 0"),
        (
            "2 255 0 0 0 6 0 0 0",
            "the unknown code 0xff in instruction 0",
        ),
    ] {
        let error = Filter::parse(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn whatever_is_accepted_ends_and_reads_nothing_else(
        program in proptest::collection::vec((0u16..0x100, 0u8..4, 0u8..4, prop_oneof![0u32..40, any::<u32>()]), 1..40),
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let lines: Vec<String> = program.iter().map(|(code, jt, jf, k)| format!("{code} {jt} {jf} {k}")).collect();
        let text = format!("{} {} 6 0 0 7", lines.len() + 1, lines.join(" "));
        if let Ok(filter) = Filter::parse(&text) {
            let _ends = filter.run(&bytes, 100);
        }
    }
}
