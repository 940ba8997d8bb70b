//! The record of what is in flight: made by one back end, kept by the front end, taken up by another.
#![allow(missing_docs)]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use common::{
    BIT_30, Event, Memory, PACKED, Served, VERSION_1, answer, config, event, memfd, request,
};
use vring_vhost::message::InflightArea;
use vring_vhost::{Frontend, ProtocolFeatures, Request, VhostError};
use zerocopy::{FromBytes, IntoBytes};

const REPLY: u32 = 5;

fn connected(features: u64) -> (Served, Frontend) {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    let all = ProtocolFeatures::IMPLEMENTED;
    front.set_protocol_features(all).unwrap();
    front.set_features(features | BIT_30).unwrap();
    served.log.take();
    (served, front)
}

fn start(front: &mut Frontend, memory: &Memory, ring: u16, size: u32, base: u32) {
    front.share_memory(&[memory.region()]).unwrap();
    front.set_vring_num(ring, size).unwrap();
    front.set_vring_base(ring, base).unwrap();
    let at = Memory::addresses(ring);
    front.set_vring_addr(ring, at).unwrap();
    let ring = u8::try_from(ring).unwrap();
    front.set_vring_kick(ring, None).unwrap();
}

fn bases(served: &Served) -> Vec<u32> {
    let events = served.log.take().into_iter();
    let starts = events.filter_map(|event| match event {
        Event::Start { base, .. } => Some(base),
        _ => None,
    });
    starts.collect()
}

/// Writes into a record as a device does, in the words of the specification.
fn write_u16(fd: &OwnedFd, at: u64, value: u16) {
    rustix::io::pwrite(fd, &value.to_ne_bytes(), at).unwrap();
}

/// A new record says nothing, so that rings begin where the front end says. One that another back end left says where a packed ring goes on,
/// whatever the front end says; started again in the same session, the ring is where the front end says, since it was stopped in order.
#[test]
fn a_record_says_where_a_packed_ring_goes_on() {
    let memory = Memory::new(2);
    let (served, mut front) = connected(VERSION_1 | PACKED);
    let record = front.get_inflight_fd(2, 256).unwrap().unwrap();
    front.set_inflight_fd(&record).unwrap();
    start(&mut front, &memory, 1, 256, 0x8000_8000);
    assert_eq!(bases(&served), [0x8000_8000]);
    drop(front);
    served.ended();

    // What a back end wrote that is gone: the second of two records, whose first is 32 bytes and 32 for each descriptor.
    let at = (32u64 + 32 * 256).next_multiple_of(64);
    let fd = record.as_fd().try_clone_to_owned().unwrap();
    for (offset, value) in [(16, 77), (18, 77), (20, 0x0101), (10, 256), (8, 1)] {
        write_u16(&fd, at + offset, value);
    }
    let (served, mut front) = connected(VERSION_1 | PACKED);
    front.set_inflight_fd(&record).unwrap();
    start(&mut front, &memory, 1, 256, 0x8000_8000);
    assert_eq!(bases(&served), [0x804d_804d]);
    assert_eq!(front.get_vring_base(1).unwrap(), 0x804d_804d);
    front.set_vring_base(1, 0x8003_8003).unwrap();
    front.set_vring_kick(1, None).unwrap();
    assert_eq!(bases(&served), [0x8003_8003]);
    drop(front);
    served.ended();
}

/// Rings that run are stopped, and start again with the record.
#[test]
fn a_record_may_come_while_rings_run() {
    let memory = Memory::new(1);
    let (served, mut front) = connected(VERSION_1);
    let record = front.get_inflight_fd(1, 256).unwrap().unwrap();
    start(&mut front, &memory, 0, 256, 0);
    served.log.take();
    front.set_inflight_fd(&record).unwrap();
    let events = served.log.take();
    assert!(
        matches!(events[..], [Event::Stop(0), Event::Start { .. }]),
        "{events:?}"
    );
    drop(front);
    served.ended();
}

/// The file is ours: whoever gets it cannot take it away from the back end that maps it, and the bytes are zero.
#[test]
fn new_records_are_sealed_and_empty() {
    let (served, mut front) = connected(VERSION_1);
    let record = front.get_inflight_fd(4, 32768).unwrap().unwrap();
    let fd = record.as_fd();
    let len = rustix::fs::fstat(fd).unwrap().st_size;
    assert!(len >= 4 * (16 + 16 * 32768));
    assert!(rustix::fs::ftruncate(fd, 0).is_err());
    let mut bytes = vec![1; usize::try_from(len).unwrap()];
    rustix::io::pread(fd, &mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0));
    drop(front);
    served.ended();
}

fn area(mmap_size: u64, mmap_offset: u64, num_queues: u16, queue_size: u16) -> InflightArea {
    InflightArea {
        mmap_size,
        mmap_offset,
        num_queues,
        queue_size,
        padding: 0,
    }
}

/// CVE-2021-3839: more rings than there are, none, sizes that no ring has, files that do not hold the record, and odd places in them.
#[test]
fn impossible_records_are_refused() {
    let memory = Memory::new(1);
    let (served, mut front) = connected(VERSION_1);
    start(&mut front, &memory, 0, 256, 0);
    served.log.take();
    drop(front);
    served.ended();

    let (served, socket) = Served::new(config());
    let mut socket: UnixStream = socket;
    let set = |socket: &UnixStream, number: Request, value: u64| {
        request(socket, number as u32, 1, value.as_bytes(), &[]);
    };
    set(
        &socket,
        Request::SET_PROTOCOL_FEATURES,
        ProtocolFeatures::IMPLEMENTED.bits(),
    );
    set(&socket, Request::SET_FEATURES, VERSION_1 | BIT_30);
    let (fd, pipe) = (memfd(0x2_0000), rustix::pipe::pipe().unwrap());
    let good = area(4 * 4160, 0, 4, 256);
    let bad = [
        area(1 << 40, 0, 5, 256),
        area(1 << 40, 0, u16::MAX, 256),
        area(4160, 0, 0, 256),
        area(4160, 0, 1, 0),
        area(u64::MAX, 0, 1, 32769),
        area(u64::MAX, 0, 1, u16::MAX),
        area(4 * 4160 - 1, 0, 4, 256),
        area(0, 0, 4, 256),
        area(0x2_0001, 0, 4, 256),
        area(0x2_0000, 8, 4, 256),
        area(4 * 4160, 4, 4, 256),
        area(4 * 4160, u64::MAX - 7, 4, 256),
        area(u64::MAX, 8, 4, 256),
    ];
    let number = Request::SET_INFLIGHT_FD as u32;
    let asked = |socket: &mut UnixStream, area: &InflightArea, fd: &OwnedFd| {
        request(socket, number, 9, area.as_bytes(), &[fd.as_fd()]);
        u64::read_from_bytes(&answer(socket).1).unwrap()
    };
    for area in &bad {
        assert_ne!(asked(&mut socket, area, &fd), 0, "{area:?}");
    }
    assert_ne!(asked(&mut socket, &good, &pipe.0), 0);
    assert_eq!(asked(&mut socket, &good, &fd), 0);
    assert_eq!(
        asked(&mut socket, &area(4 * 4160, 8, 4, 256), &fd),
        0,
        "replaced"
    );
    // Each of these is the end: no file, two files, other lengths.
    drop(socket);
    served.ended();
    let ends = |number: Request, payload: &[u8], fds: usize| {
        let (served, front) = Served::new(config());
        set(
            &front,
            Request::SET_PROTOCOL_FEATURES,
            ProtocolFeatures::IMPLEMENTED.bits(),
        );
        let fds = vec![fd.as_fd(); fds];
        request(&front, number as u32, 9, payload, &fds);
        served.ended().code()
    };
    let bytes = good.as_bytes();
    assert_eq!(
        ends(Request::SET_INFLIGHT_FD, bytes, 0),
        "ERR_VRING_VHOST_FDS"
    );
    assert_eq!(
        ends(Request::SET_INFLIGHT_FD, bytes, 2),
        "ERR_VRING_VHOST_FDS"
    );
    assert_eq!(
        ends(Request::GET_INFLIGHT_FD, bytes, 1),
        "ERR_VRING_VHOST_FDS"
    );
    for size in [0, 16, 20, 23] {
        assert_eq!(
            ends(Request::SET_INFLIGHT_FD, &bytes[..size], 1),
            "ERR_VRING_VHOST_SIZE"
        );
        assert_eq!(
            ends(Request::GET_INFLIGHT_FD, &bytes[..size], 0),
            "ERR_VRING_VHOST_SIZE"
        );
    }
    for area in &bad[..6] {
        assert_eq!(
            ends(Request::GET_INFLIGHT_FD, area.as_bytes(), 0),
            "ERR_VRING_VHOST_VALUE"
        );
    }
}

/// A record that cannot be the ring's is refused with the ring, and the connection goes on; so is a ring that is larger than it.
#[test]
fn records_that_lie_stop_their_ring() {
    let memory = Memory::new(1);
    for (version, entries, slot) in [(2, 256, 0), (1, 255, 0), (1, 256, 300)] {
        let (served, mut front) = connected(VERSION_1 | PACKED);
        let record = front.get_inflight_fd(1, 256).unwrap().unwrap();
        let fd = record.as_fd().try_clone_to_owned().unwrap();
        for (offset, value) in [(8, version), (10, entries), (16, slot), (18, slot)] {
            write_u16(&fd, offset, value);
        }
        front.set_inflight_fd(&record).unwrap();
        front.share_memory(&[memory.region()]).unwrap();
        front.set_vring_num(0, 256).unwrap();
        front.set_vring_addr(0, Memory::addresses(0)).unwrap();
        let refused = front.set_vring_kick(0, None).unwrap_err();
        assert_eq!(refused.code(), "ERR_VRING_VHOST_REJECTED");
        assert_eq!(bases(&served), []);
        drop(front);
        served.ended();
    }
    let (served, mut front) = connected(VERSION_1);
    let record = front.get_inflight_fd(1, 128).unwrap().unwrap();
    front.set_inflight_fd(&record).unwrap();
    front.share_memory(&[memory.region()]).unwrap();
    front.set_vring_num(0, 256).unwrap();
    front.set_vring_addr(0, Memory::addresses(0)).unwrap();
    assert!(front.set_vring_kick(0, None).is_err());
    drop(front);
    served.ended();
}

/// What the front end makes of answers that are not about what it asked for: it does not use the connection again.
#[test]
fn answers_about_other_records_are_not_taken() {
    let file = event();
    let ask = |area: InflightArea, files: usize| -> Result<bool, VhostError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut front = Frontend::new(ours.into());
        front
            .set_protocol_features(ProtocolFeatures::INFLIGHT_SHMFD)
            .unwrap();
        let number = Request::GET_INFLIGHT_FD as u32;
        let files = vec![file.as_fd(); files];
        request(&theirs, number, REPLY, area.as_bytes(), &files);
        let answer = front.get_inflight_fd(2, 256);
        if answer.is_err() {
            assert!(front.get_features().unwrap_err().is_disconnect());
        }
        answer.map(|record| record.is_some())
    };
    assert!(ask(area(9000, 0, 2, 256), 1).unwrap());
    assert!(
        !ask(area(0, 0, 2, 256), 0).unwrap(),
        "the back end has none"
    );
    for (area, files) in [
        (area(9000, 0, 2, 256), 0),
        (area(0, 0, 2, 256), 1),
        (area(9000, 0, 3, 256), 1),
        (area(9000, 0, 2, 128), 1),
    ] {
        assert_eq!(
            ask(area, files).unwrap_err().code(),
            "ERR_VRING_VHOST_VALUE"
        );
    }
    let many = ask(area(9000, 0, 2, 256), 2).unwrap_err();
    assert_eq!(many.code(), "ERR_VRING_VHOST_FDS");
}
