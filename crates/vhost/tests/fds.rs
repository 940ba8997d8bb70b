//! Descriptors do not leak, whatever comes. This file holds one test, because other tests in its process would disturb the
//! count.
#![allow(missing_docs)]

mod common;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use common::{
    BIT_30, Event, Log, Memory, Recorder, VERSION_1, config, event, memfd, request, send,
};
use vring_vhost::message::{Header, MemoryTable};
use vring_vhost::{Backend, ProtocolFeatures, Request};
use zerocopy::IntoBytes;

const MESSAGES: usize = 100_000;

/// xorshift: the same sequence in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A payload that fits the request three times out of four, and the number of descriptors that goes with it.
fn message(random: &mut Random, memory: &Memory, request: u32) -> (Vec<u8>, usize) {
    let index = random.below(5);
    let fit = match Request::from_number(request).filter(|_| random.below(4) > 0) {
        Some(Request::SET_MEM_TABLE) => {
            let table = MemoryTable {
                count: 1,
                padding: 0,
            };
            ([table.as_bytes(), memory.wire().as_bytes()].concat(), 1)
        }
        Some(Request::ADD_MEM_REG | Request::REM_MEM_REG) => {
            ([0u64.as_bytes(), memory.wire().as_bytes()].concat(), 1)
        }
        Some(Request::SET_VRING_KICK | Request::SET_VRING_CALL | Request::SET_VRING_ERR) => {
            (index.to_ne_bytes().to_vec(), 1)
        }
        Some(Request::SET_VRING_ADDR) => {
            let at = Memory::addresses(0);
            (
                [index, at.desc, at.used, at.avail, 0].as_bytes().to_vec(),
                0,
            )
        }
        Some(Request::SET_LOG_BASE) => {
            let area = [random.pick(&[1, 16, 4096, 0x40000]), random.pick(&[0, 1])];
            (area.as_bytes().to_vec(), 1)
        }
        Some(Request::GET_INFLIGHT_FD | Request::SET_INFLIGHT_FD) => {
            let queues = random.pick(&[1, 2, 4]) | random.pick(&[8u64, 256]) << 16;
            let fd = usize::from(request == Request::SET_INFLIGHT_FD as u32);
            ([0x2_0000, 0, queues].as_bytes().to_vec(), fd)
        }
        Some(Request::SET_LOG_FD | Request::SET_BACKEND_REQ_FD) => (Vec::new(), 1),
        Some(Request::GET_CONFIG | Request::SET_CONFIG) => {
            let head = [u32::try_from(index).unwrap(), 4, 0, 7];
            (head.as_bytes().to_vec(), 0)
        }
        Some(Request::SET_FEATURES) => {
            ((VERSION_1 | BIT_30 | index << 26).to_ne_bytes().to_vec(), 0)
        }
        Some(Request::SET_VRING_NUM) => ((index | 256 << 32).to_ne_bytes().to_vec(), 0),
        _ => {
            let words: Vec<u64> = (0..random.below(6)).map(|_| random.next()).collect();
            (words.as_bytes().to_vec(), 0)
        }
    };
    match random.below(8) {
        0 => (fit.0, usize::try_from(random.below(13)).unwrap()),
        _ => fit,
    }
}

/// What it takes to have ring 0 running, so that what follows meets one that does.
fn start_ring(socket: &UnixStream, memory: &Memory) {
    let at = Memory::addresses(0);
    let table = MemoryTable {
        count: 1,
        padding: 0,
    };
    let table = [table.as_bytes(), memory.wire().as_bytes()].concat();
    let fd = [memory.fd.as_fd()];
    let address = [0, at.desc, at.used, at.avail, 0];
    request(socket, Request::SET_MEM_TABLE as u32, 1, &table, &fd);
    request(
        socket,
        Request::SET_VRING_NUM as u32,
        1,
        (256u64 << 32).as_bytes(),
        &[],
    );
    request(
        socket,
        Request::SET_VRING_ADDR as u32,
        1,
        address.as_bytes(),
        &[],
    );
    request(
        socket,
        Request::SET_VRING_KICK as u32,
        1,
        0u64.as_bytes(),
        &fd,
    );
}

/// 100 000 malformed and well-formed messages with 0 to 12 descriptors each, over many connections: afterwards exactly as many
/// descriptors are open as before.
#[test]
fn descriptors_do_not_leak() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let memory = Memory::new(1);
    let stop = event();
    let log = Log::default();
    let owned: [OwnedFd; 3] = [event(), memfd(16), memfd(0x40000)];
    let kinds = [
        memory.fd.as_fd(),
        owned[0].as_fd(),
        owned[1].as_fd(),
        owned[2].as_fd(),
    ];
    let mut backend = Backend::new(config(), Recorder::new(&log)).unwrap();
    let requests: Vec<u32> = Request::ALL
        .iter()
        .map(|request| *request as u32)
        .chain([0, 22, 31, 41, 42, 99])
        .collect();
    let before = open_descriptors();
    let mut started = 0;
    let mut sent = 0;
    while sent < MESSAGES {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let all = ProtocolFeatures::IMPLEMENTED.bits();
        let header = |request, flags, size| Header {
            request,
            flags,
            size,
        };
        send(&theirs, header(16, 1, 8), all.as_bytes(), &[]).unwrap();
        if random.below(2) == 0 {
            start_ring(&theirs, &memory);
        }
        for _ in 0..random.below(40) {
            let number = random.pick(&requests);
            let (payload, count) = message(&mut random, &memory, number);
            let fds: Vec<BorrowedFd<'_>> = (0..count).map(|_| random.pick(&kinds)).collect();
            let length = u32::try_from(payload.len()).unwrap();
            let size = random.pick(&[length, length, length, length, length, 8, 40, length + 1]);
            let flags = random.pick(&[1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0, 5]);
            let message = header(number, flags, size);
            if send(&theirs, message, &payload, &fds).is_err() {
                break;
            }
            sent += 1;
        }
        // The front end leaves with everything sent, so the back end reads it all and returns: one thread is enough.
        rustix::net::shutdown(&theirs, rustix::net::Shutdown::Write).unwrap();
        backend.serve(&OwnedFd::from(ours), stop.as_fd());
        let is_start = |event: &&Event| matches!(event, Event::Start { .. });
        started += log.take().iter().filter(is_start).count();
    }
    assert_eq!(open_descriptors(), before);
    assert!(
        started > 100,
        "the messages were not too bad to start rings: {started}"
    );
}
