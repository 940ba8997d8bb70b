//! Front ends that break the protocol, one class of known vulnerability after the other. In every case the back end ends the
//! connection with the named error, or refuses and goes on where the peer asked for an acknowledgement.
#![allow(missing_docs)]

mod common;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use common::{
    BIT_30, Event, Memory, Served, USER, VERSION_1, answer, config, event, memfd, request, send,
};
use vring_vhost::message::{
    Header, MemoryRegion, MemoryTable, SingleRegion, VringAddr, VringState,
};
use vring_vhost::{ProtocolFeatures, Request};
use zerocopy::IntoBytes;

const PLAIN: u32 = 1;
const NEED_REPLY: u32 = 9;

/// Sends one bad message on a fresh connection and returns the code of the error that ended it.
fn ends(number: Request, payload: &[u8], fds: &[BorrowedFd<'_>]) -> &'static str {
    let (served, socket) = Served::new(config());
    negotiate(&socket, ProtocolFeatures::IMPLEMENTED);
    request(&socket, number as u32, PLAIN, payload, fds);
    let log = served.log.clone();
    let code = served.ended().code();
    assert_eq!(log.take().last(), Some(&Event::Disconnected(code)));
    code
}

/// Sends one bad message that wants an acknowledgement: it must be refused, and the connection must go on.
fn refused(socket: &mut UnixStream, number: Request, payload: &[u8], fds: &[BorrowedFd<'_>]) {
    request(socket, number as u32, NEED_REPLY, payload, fds);
    let (header, reply) = answer(socket);
    assert_eq!((header.request, header.flags), (number as u32, 5));
    assert_ne!(reply, 0u64.as_bytes(), "{number} was accepted");
}

fn accepted(socket: &mut UnixStream, number: Request, payload: &[u8], fds: &[BorrowedFd<'_>]) {
    request(socket, number as u32, NEED_REPLY, payload, fds);
    assert_eq!(answer(socket).1, 0u64.as_bytes(), "{number} was refused");
}

fn negotiate(socket: &UnixStream, protocol: ProtocolFeatures) {
    let set = |number: Request, value: u64| {
        request(socket, number as u32, PLAIN, value.as_bytes(), &[]);
    };
    set(Request::SET_PROTOCOL_FEATURES, protocol.bits());
    set(Request::SET_FEATURES, VERSION_1 | BIT_30);
}

fn connected() -> (Served, UnixStream) {
    let (served, socket) = Served::new(config());
    negotiate(&socket, ProtocolFeatures::IMPLEMENTED);
    (served, socket)
}

fn state(index: u32, num: u32) -> [u8; 8] {
    VringState { index, num }.as_bytes().try_into().unwrap()
}

fn table(count: u32, regions: &[MemoryRegion]) -> Vec<u8> {
    let mut bytes = MemoryTable { count, padding: 0 }.as_bytes().to_vec();
    for region in regions {
        bytes.extend_from_slice(region.as_bytes());
    }
    bytes
}

fn region(guest_addr: u64, user_addr: u64, size: u64, mmap_offset: u64) -> MemoryRegion {
    MemoryRegion {
        guest_addr,
        size,
        user_addr,
        mmap_offset,
    }
}

fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// CVE-2019-14818: a message carries exactly the descriptors that its kind has.
#[test]
fn surplus_and_missing_descriptors_end_the_connection() {
    let fd = event();
    let one = [fd.as_fd()];
    let two = [fd.as_fd(), fd.as_fd()];
    const FDS: &str = "ERR_VRING_VHOST_FDS";
    assert_eq!(ends(Request::GET_FEATURES, &[], &one), FDS);
    assert_eq!(ends(Request::SET_OWNER, &[], &one), FDS);
    assert_eq!(ends(Request::SET_VRING_NUM, &state(0, 256), &one), FDS);
    assert_eq!(ends(Request::SET_VRING_KICK, &[0; 8], &[]), FDS);
    assert_eq!(ends(Request::SET_VRING_KICK, &[0; 8], &two), FDS);
    assert_eq!(
        ends(Request::SET_VRING_CALL, 0x100u64.as_bytes(), &one),
        FDS
    );
    let memory = Memory::new(1);
    let payload = table(1, &[memory.wire()]);
    assert_eq!(ends(Request::SET_MEM_TABLE, &payload, &[]), FDS);
    assert_eq!(ends(Request::SET_MEM_TABLE, &payload, &two), FDS);
    let single = SingleRegion {
        padding: 0,
        region: memory.wire(),
    };
    assert_eq!(ends(Request::ADD_MEM_REG, single.as_bytes(), &[]), FDS);
    assert_eq!(ends(Request::ADD_MEM_REG, single.as_bytes(), &two), FDS);
    assert_eq!(ends(Request::REM_MEM_REG, single.as_bytes(), &two), FDS);
    let nine = [fd.as_fd(); 9];
    assert_eq!(ends(Request::SET_MEM_TABLE, &payload, &nine), FDS);
    assert_eq!(
        ends(Request::SET_MEM_TABLE, &payload, &[fd.as_fd(); 30]),
        FDS
    );
}

/// Payloads have exactly the length of their kind, and a length is not believed before it is checked.
#[test]
fn wrong_sizes_end_the_connection() {
    const SIZE: &str = "ERR_VRING_VHOST_SIZE";
    assert_eq!(ends(Request::GET_FEATURES, &[0; 8], &[]), SIZE);
    assert_eq!(ends(Request::SET_FEATURES, &[0; 7], &[]), SIZE);
    assert_eq!(ends(Request::SET_FEATURES, &[0; 9], &[]), SIZE);
    assert_eq!(ends(Request::SET_VRING_ADDR, &[0; 39], &[]), SIZE);
    assert_eq!(ends(Request::SET_MEM_TABLE, &[0; 4], &[]), SIZE);
    assert_eq!(ends(Request::SEND_RARP, &[0; 6], &[]), SIZE);
    let fd = memfd(4096);
    let two_said_one_sent = table(2, &[region(0, 0, 4096, 0)]);
    assert_eq!(
        ends(Request::SET_MEM_TABLE, &two_said_one_sent, &[fd.as_fd()]),
        SIZE
    );

    let (served, socket) = Served::new(config());
    let header = Header {
        request: 2,
        flags: PLAIN,
        size: u32::MAX,
    };
    send(&socket, header, &[0; 64], &[]).unwrap();
    assert_eq!(served.ended().code(), SIZE);
}

/// Another version, or a reply where a request is due.
#[test]
fn wrong_headers_end_the_connection() {
    for flags in [0, 2, 3, 5, u32::MAX] {
        let (served, socket) = Served::new(config());
        request(&socket, 1, flags, &[], &[]);
        assert_eq!(served.ended().code(), "ERR_VRING_VHOST_HEADER");
    }
}

/// Requests that nobody offered: refused where an acknowledgement was asked for, else the end.
#[test]
fn unknown_requests() {
    for number in [0, 23, 26, 27, 28, 33, 41, 42, 43, 255, u32::MAX] {
        let (served, mut socket) = connected();
        request(&socket, number, NEED_REPLY, &[1; 100], &[event().as_fd()]);
        assert_eq!(answer(&mut socket).1, 1u64.as_bytes());
        request(&socket, number, PLAIN, &[1; 100], &[]);
        assert_eq!(served.ended().code(), "ERR_VRING_VHOST_REQUEST");
    }
}

/// A request whose protocol feature was not agreed on is refused, whatever was offered.
#[test]
fn requests_need_their_protocol_feature() {
    let (served, mut socket) = Served::new(config());
    negotiate(&socket, ProtocolFeatures::REPLY_ACK);
    refused(&mut socket, Request::NET_SET_MTU, 1500u64.as_bytes(), &[]);
    refused(&mut socket, Request::RESET_DEVICE, &[], &[]);
    refused(&mut socket, Request::SET_STATUS, 1u64.as_bytes(), &[]);
    request(&socket, Request::GET_QUEUE_NUM as u32, PLAIN, &[], &[]);
    assert_eq!(served.ended().code(), "ERR_VRING_VHOST_NOT_NEGOTIATED");
}

/// CVE-2020-10723, CVE-2011-2512: an index is checked before it is narrowed, and there is no negative one.
#[test]
fn bad_indexes_are_refused() {
    let (served, mut socket) = connected();
    for index in [4, 255, 256, 0x1_0000, 0x8000_0000, u32::MAX] {
        refused(&mut socket, Request::SET_VRING_NUM, &state(index, 256), &[]);
        refused(&mut socket, Request::SET_VRING_BASE, &state(index, 0), &[]);
        refused(
            &mut socket,
            Request::SET_VRING_ENABLE,
            &state(index, 1),
            &[],
        );
        let addr = VringAddr {
            index,
            flags: 0,
            desc: USER,
            used: USER,
            avail: USER,
            log: 0,
        };
        refused(&mut socket, Request::SET_VRING_ADDR, addr.as_bytes(), &[]);
    }
    let fd = event();
    for value in [4u64, 0xff, 0x200, 0x1_0000_0000, 1 << 63] {
        for number in [
            Request::SET_VRING_KICK,
            Request::SET_VRING_CALL,
            Request::SET_VRING_ERR,
        ] {
            refused(&mut socket, number, value.as_bytes(), &[fd.as_fd()]);
        }
    }
    request(
        &socket,
        Request::GET_VRING_BASE as u32,
        NEED_REPLY,
        &state(4, 0),
        &[],
    );
    assert_eq!(served.ended().code(), "ERR_VRING_VHOST_VALUE");
}

/// Impossible values of otherwise good messages.
#[test]
fn bad_values_are_refused() {
    let (served, mut socket) = connected();
    for size in [0, 32769, 0x1_0000, u32::MAX] {
        refused(&mut socket, Request::SET_VRING_NUM, &state(0, size), &[]);
    }
    refused(&mut socket, Request::SET_VRING_ENABLE, &state(0, 2), &[]);
    refused(&mut socket, Request::SET_STATUS, 0x100u64.as_bytes(), &[]);
    refused(
        &mut socket,
        Request::NET_SET_MTU,
        0x1_0000u64.as_bytes(),
        &[],
    );
    refused(&mut socket, Request::SET_FEATURES, u64::MAX.as_bytes(), &[]);
    refused(
        &mut socket,
        Request::SET_PROTOCOL_FEATURES,
        u64::MAX.as_bytes(),
        &[],
    );
    drop(socket);
    assert!(served.ended().is_disconnect());
}

/// CVE-2022-0669: telling a ring's size or descriptors again and again holds nothing but the last. (The test in fds.rs counts.)
#[test]
fn repeated_ring_setup_is_harmless() {
    let (served, mut socket) = connected();
    for _ in 0..1000 {
        accepted(&mut socket, Request::SET_VRING_NUM, &state(0, 256), &[]);
        accepted(
            &mut socket,
            Request::SET_VRING_CALL,
            &[0; 8],
            &[event().as_fd()],
        );
        accepted(
            &mut socket,
            Request::SET_VRING_KICK,
            &[0; 8],
            &[event().as_fd()],
        );
    }
    drop(socket);
    served.ended();
}

/// CVE-2018-1059, CVE-2020-10722: regions that overflow, overlap, or reach past their file.
#[test]
fn impossible_memory_is_refused() {
    let (served, mut socket) = connected();
    let fd = memfd(0x10000);
    let mut add = |region: MemoryRegion| {
        let payload = SingleRegion { padding: 0, region };
        refused(
            &mut socket,
            Request::ADD_MEM_REG,
            payload.as_bytes(),
            &[fd.as_fd()],
        );
        refused(
            &mut socket,
            Request::SET_MEM_TABLE,
            &table(1, &[region]),
            &[fd.as_fd()],
        );
    };
    add(region(0, 0, 0, 0));
    add(region(u64::MAX - 1, 0, 4096, 0));
    add(region(0, u64::MAX - 1, 4096, 0));
    add(region(0, 0, 4096, u64::MAX - 1));
    add(region(0, 0, 4096, 0xf001));
    add(region(0, 0, u64::MAX, 0));
    let (read, _write) = rustix::pipe::pipe().unwrap();
    let payload = table(1, &[region(0, 0, 4096, 0)]);
    refused(
        &mut socket,
        Request::SET_MEM_TABLE,
        &payload,
        &[read.as_fd()],
    );
    let two = [memfd(8192), memfd(8192)];
    let guest_overlap = table(
        2,
        &[region(0, 0, 8192, 0), region(4096, 0x10_0000, 8192, 0)],
    );
    refused(
        &mut socket,
        Request::SET_MEM_TABLE,
        &guest_overlap,
        &borrow(&two),
    );
    let user_overlap = table(
        2,
        &[region(0, 0, 8192, 0), region(0x10_0000, 4096, 8192, 0)],
    );
    refused(
        &mut socket,
        Request::SET_MEM_TABLE,
        &user_overlap,
        &borrow(&two),
    );
    refused(&mut socket, Request::SET_MEM_TABLE, &table(9, &[]), &[]);
    refused(
        &mut socket,
        Request::SET_MEM_TABLE,
        &table(u32::MAX, &[]),
        &[],
    );
    let unknown = SingleRegion {
        padding: 0,
        region: region(0, 0, 4096, 0),
    };
    refused(&mut socket, Request::REM_MEM_REG, unknown.as_bytes(), &[]);
    drop(socket);
    served.ended();
}

/// CVE-2018-1059: every area of a ring lies wholly inside one region, aligned; otherwise the ring does not start.
#[test]
fn rings_out_of_range_do_not_start() {
    let (served, mut socket) = connected();
    let memory = Memory::new(1);
    let end = USER + memory.size;
    accepted(
        &mut socket,
        Request::SET_MEM_TABLE,
        &table(1, &[memory.wire()]),
        &[memory.fd.as_fd()],
    );
    accepted(&mut socket, Request::SET_VRING_NUM, &state(0, 256), &[]);
    accepted(
        &mut socket,
        Request::SET_VRING_KICK,
        0x100u64.as_bytes(),
        &[],
    );
    let mut bad = |desc, avail, used| {
        let addr = VringAddr {
            index: 0,
            flags: 0,
            desc,
            used,
            avail,
            log: 0,
        };
        refused(&mut socket, Request::SET_VRING_ADDR, addr.as_bytes(), &[]);
    };
    bad(0, USER, USER);
    bad(USER - 16, USER, USER);
    bad(end - 16 * 255, USER, USER);
    bad(USER, end - 2 * 256, USER);
    bad(USER, USER, end - 8 * 256);
    bad(USER + 8, USER, USER);
    bad(USER, USER + 1, USER);
    bad(USER, USER, USER + 2);
    bad(u64::MAX - 15, USER, USER);
    // The last ring that fits does start, and one that was complete but of an impossible size does not.
    let fits = VringAddr {
        index: 0,
        flags: 0,
        desc: end - 16 * 256,
        used: end - (4 + 8 * 256),
        avail: end - (4 + 2 * 256),
        log: 0,
    };
    accepted(&mut socket, Request::SET_VRING_ADDR, fits.as_bytes(), &[]);
    accepted(&mut socket, Request::SET_VRING_NUM, &state(0, 255), &[]);
    refused(&mut socket, Request::SET_VRING_ADDR, fits.as_bytes(), &[]);
    refused(
        &mut socket,
        Request::SET_VRING_BASE,
        &state(0, 0x1_0000),
        &[],
    );
    let started = |event: &&Event| matches!(event, Event::Start { .. });
    assert_eq!(served.log.take().iter().filter(started).count(), 1);
    drop(socket);
    served.ended();
}

/// A message of which only a part comes, in one piece or byte by byte.
#[test]
fn partial_messages() {
    let (served, mut socket) = connected();
    for byte in [1u32, 1, 0].as_bytes() {
        rustix::net::send(&socket, &[*byte], rustix::net::SendFlags::empty()).unwrap();
    }
    assert_eq!(answer(&mut socket).0.request, 1);
    rustix::net::send(&socket, &[2, 0, 0], rustix::net::SendFlags::empty()).unwrap();
    drop(socket);
    assert!(served.ended().is_disconnect());
}

/// Whoever connects and leaves without a byte is not reported.
#[test]
fn probes_are_not_connections() {
    let (served, socket) = Served::new(config());
    drop(socket);
    let log = served.log.clone();
    assert!(served.ended().is_disconnect());
    assert_eq!(log.take(), []);
}
