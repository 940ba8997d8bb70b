//! Front ends that send anything at all.
#![allow(missing_docs)]

mod common;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use common::{BIT_30, Memory, PACKED, Served, USER, VERSION_1, config, request, send};
use proptest::prelude::*;
use vring_vhost::message::{Header, MemoryTable, VringState};
use vring_vhost::{ProtocolFeatures, Request};
use zerocopy::IntoBytes;

const PLAIN: u32 = 1;
const NEED_REPLY: u32 = 9;

fn connected() -> (Served, UnixStream) {
    let (served, socket) = Served::new(config());
    let all = ProtocolFeatures::IMPLEMENTED.bits();
    request(
        &socket,
        Request::SET_PROTOCOL_FEATURES as u32,
        PLAIN,
        all.as_bytes(),
        &[],
    );
    let features = VERSION_1 | BIT_30;
    request(
        &socket,
        Request::SET_FEATURES as u32,
        PLAIN,
        features.as_bytes(),
        &[],
    );
    (served, socket)
}

fn table() -> Vec<u8> {
    let table = MemoryTable {
        count: 1,
        padding: 0,
    };
    [table.as_bytes(), Memory::new(1).wire().as_bytes()].concat()
}

/// Any message of a session, more often nearly right than not.
fn any_message() -> impl Strategy<Value = (u32, u32, Vec<u8>, usize)> {
    let number = prop_oneof![
        20 => prop::sample::select(Request::ALL).prop_map(|request| request as u32),
        1 => 0u32..64,
    ];
    let small = prop_oneof![
        0u64..6,
        Just(256),
        Just(VERSION_1 | BIT_30),
        Just(PACKED),
        any::<u64>()
    ];
    let address = (0u64..0x40000).prop_map(|at| USER + (at & !0xf));
    let word = prop_oneof![3 => small, 1 => address];
    let payload = prop_oneof![
        8 => prop::collection::vec(word, 0..6)
            .prop_map(|words| words.iter().flat_map(|word| word.to_ne_bytes()).collect()),
        2 => (0u32..5, 0u32..300).prop_map(|(index, num)| VringState { index, num }.as_bytes().to_vec()),
        2 => Just(table()),
        1 => prop::collection::vec(any::<u8>(), 0..80),
    ];
    let flags = prop_oneof![8 => Just(PLAIN), 16 => Just(NEED_REPLY), 1 => any::<u32>()];
    (
        number,
        flags,
        payload,
        prop_oneof![4 => Just(0usize), 4 => Just(1), 1 => 2usize..10],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No sequence of messages makes the back end panic or hang, or breaks the handler's contract (which the recorder checks).
    #[test]
    fn any_sequence_of_messages(messages in prop::collection::vec(any_message(), 1..30)) {
        let (served, socket) = connected();
        let memory = Memory::new(1);
        let fds = [memory.fd.as_fd(); 10];
        for (number, flags, payload, count) in &messages {
            let header = Header { request: *number, flags: *flags, size: u32::try_from(payload.len()).unwrap() };
            if send(&socket, header, payload, &fds[..*count]).is_err() {
                break;
            }
        }
        drop(socket);
        served.ended();
    }

    /// Nor does any sequence of bytes.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (served, socket) = Served::new(config());
        let _ = rustix::net::send(&socket, &bytes, rustix::net::SendFlags::NOSIGNAL);
        drop(socket);
        served.ended();
    }
}
