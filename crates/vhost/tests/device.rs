//! What is about the device as a whole: the log of dirtied pages, the configuration space, and requests of the back end.
#![allow(missing_docs)]

mod common;

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use common::{
    BIT_30, CONFIG, Event, GUEST, LOG_ALL, Memory, Served, VERSION_1, answer, config, event, memfd,
    request,
};
use rustix::event::{PollFd, PollFlags, poll};
use vring_vhost::message::{ConfigSpace, LogArea, backend};
use vring_vhost::{BackendRequest, Frontend, ProtocolFeatures, Request, VhostError};
use zerocopy::IntoBytes;

/// A connection with everything agreed on and ring 0 running, its used ring to be logged at `log`.
fn running(memory: &Memory, log: Option<u64>) -> (Served, Frontend) {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    front
        .set_protocol_features(ProtocolFeatures::IMPLEMENTED)
        .unwrap();
    front.set_features(VERSION_1 | BIT_30).unwrap();
    front.share_memory(&[memory.region()]).unwrap();
    let mut at = Memory::addresses(0);
    at.log = log;
    front.set_vring_num(0, 256).unwrap();
    front.set_vring_addr(0, at).unwrap();
    front.set_vring_kick(0, None).unwrap();
    served.log.take();
    (served, front)
}

fn marked(log: impl AsFd) -> Vec<u64> {
    let mut bytes = [0; 4096];
    let len = rustix::io::pread(log, &mut bytes, 0).unwrap();
    let pages = (0..8 * len as u64).filter(|page| {
        let byte = bytes[usize::try_from(page / 8).unwrap()];
        byte & 1 << (page % 8) != 0
    });
    pages.collect()
}

fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&rustix::time::Timespec::default())).unwrap() > 0
}

/// Marks are made while LOG_ALL is taken, in the log that was passed last, from its offset on; running rings are switched over.
#[test]
fn the_log_is_switched_on_and_off_while_rings_run() {
    let memory = Memory::new(1);
    let (served, mut front) = running(&memory, Some(7 * 4096));
    let (first, second, told) = (memfd(64), memfd(128), event());
    front.set_log_base(first.as_fd(), 0, 64).unwrap();
    front.set_log_fd(told.as_fd()).unwrap();
    assert_eq!(served.log.take(), [], "a log alone changes nothing");
    front.set_features(VERSION_1 | BIT_30 | LOG_ALL).unwrap();
    assert_eq!(marked(&first), [7]);
    assert!(is_readable(&told));
    front.set_log_base(second.as_fd(), 64, 64).unwrap();
    assert_eq!(marked(&first), [7]);
    assert_eq!(marked(&second), [64 * 8 + 7]);
    rustix::fs::ftruncate(&first, 0).unwrap();
    rustix::fs::ftruncate(&first, 64).unwrap();
    front.set_features(VERSION_1 | BIT_30).unwrap();
    front.set_log_base(first.as_fd(), 0, 64).unwrap();
    front.set_vring_addr(0, Memory::addresses(0)).unwrap();
    front.set_features(VERSION_1 | BIT_30 | LOG_ALL).unwrap();
    assert_eq!(marked(&first), [], "VHOST_VRING_F_LOG was not set");
    let starts = |event: &&Event| matches!(event, Event::Start { .. });
    assert_eq!(served.log.take().iter().filter(starts).count(), 5);
    drop(front);
    served.ended();
}

/// CVE-2020-10722: a log that its file does not hold is refused, and the one before stays.
#[test]
fn impossible_logs_are_refused() {
    let memory = Memory::new(1);
    let (served, mut front) = running(&memory, Some(GUEST));
    let fd = memfd(4096);
    for (offset, size) in [
        (0, 0),
        (0, 4097),
        (1, 4096),
        (4096, 1),
        (u64::MAX, 2),
        (u64::MAX, u64::MAX),
        (0, u64::MAX),
    ] {
        let error = front.set_log_base(fd.as_fd(), offset, size).unwrap_err();
        // The front end does not ask for an acknowledgement here, so that a refusal is the end.
        assert!(error.is_disconnect(), "{error}");
        (_, front) = running(&memory, Some(GUEST));
    }
    drop((front, served));
    let (read, _write) = rustix::pipe::pipe().unwrap();
    let (served, mut front) = running(&memory, None);
    assert!(
        front
            .set_log_base(read.as_fd(), 0, 4096)
            .unwrap_err()
            .is_disconnect()
    );
    assert_eq!(served.ended().code(), "ERR_VRING_MEMORY_NOT_A_FILE");
}

/// The driver reads the device's bytes and writes its own; what lies outside is refused at both ends.
#[test]
fn the_configuration_space_is_read_and_written() {
    let memory = Memory::new(1);
    let (served, mut front) = running(&memory, None);
    assert_eq!(front.get_config(0, 12).unwrap(), CONFIG);
    assert_eq!(front.get_config(6, 3).unwrap(), &CONFIG[6..9]);
    for (offset, size) in [(0, 13), (12, 1), (u32::MAX, 4)] {
        let error = front.get_config(offset, size).unwrap_err();
        assert_eq!(error.code(), "ERR_VRING_VHOST_REJECTED");
    }
    for size in [0, 257, u32::MAX] {
        assert_eq!(
            front.get_config(0, size).unwrap_err().code(),
            "ERR_VRING_VHOST_VALUE"
        );
    }
    front.set_config(4, &[1, 2], false).unwrap();
    front.set_config(0, &[3], true).unwrap();
    assert_eq!(
        served.log.take(),
        [
            Event::Config(4, vec![1, 2], false),
            Event::Config(0, vec![3], true)
        ]
    );
    assert_eq!(
        front.set_config(11, &[0; 2], false).unwrap_err().code(),
        "ERR_VRING_VHOST_REJECTED"
    );
    front.check_alive().unwrap();
    drop(front);
    served.ended();
}

/// Changes of the configuration come through the channel of the back end, are acknowledged, and come again after a new channel.
#[test]
fn changes_of_the_configuration_are_told() {
    let memory = Memory::new(1);
    let (served, mut front) = running(&memory, None);
    served.notifier.config_changed();
    let wait = |requests: &vring_vhost::BackendRequests| {
        poll(&mut [PollFd::new(requests, PollFlags::IN)], None).unwrap();
    };
    let requests = front.open_backend_channel().unwrap();
    for _ in 0..200 {
        assert_eq!(requests.take().unwrap(), None);
        served.notifier.config_changed();
        wait(&requests);
        assert_eq!(
            requests.take().unwrap(),
            Some(BackendRequest::ConfigChanged)
        );
    }
    let again = front.open_backend_channel().unwrap();
    assert!(
        requests.take().unwrap_err().is_disconnect(),
        "the old one is closed"
    );
    served.notifier.config_changed();
    wait(&again);
    assert_eq!(again.take().unwrap(), Some(BackendRequest::ConfigChanged));
    front.check_alive().unwrap();
    drop(front);
    served.ended();
    wait(&again);
    assert!(matches!(again.take(), Err(VhostError::Disconnected)));
}

fn ends(number: Request, payload: &[u8], fds: &[BorrowedFd<'_>]) -> &'static str {
    let (served, socket) = Served::new(config());
    let all = ProtocolFeatures::IMPLEMENTED.bits();
    request(
        &socket,
        Request::SET_PROTOCOL_FEATURES as u32,
        1,
        all.as_bytes(),
        &[],
    );
    request(&socket, number as u32, 1, payload, fds);
    served.ended().code()
}

/// Sizes and descriptors are those of the kind, exactly.
#[test]
fn wrong_sizes_and_descriptors_end_the_connection() {
    const FDS: &str = "ERR_VRING_VHOST_FDS";
    const SIZE: &str = "ERR_VRING_VHOST_SIZE";
    let fd = memfd(4096);
    let (one, two) = ([fd.as_fd()], [fd.as_fd(), fd.as_fd()]);
    let log = LogArea { size: 8, offset: 0 };
    assert_eq!(ends(Request::SET_LOG_BASE, log.as_bytes(), &[]), FDS);
    assert_eq!(ends(Request::SET_LOG_BASE, log.as_bytes(), &two), FDS);
    assert_eq!(ends(Request::SET_LOG_BASE, &[0; 8], &one), SIZE);
    assert_eq!(ends(Request::SET_LOG_BASE, &[0; 17], &one), SIZE);
    assert_eq!(ends(Request::SET_LOG_FD, &[], &[]), FDS);
    assert_eq!(ends(Request::SET_LOG_FD, &[], &two), FDS);
    assert_eq!(ends(Request::SET_LOG_FD, &[0; 8], &one), SIZE);
    assert_eq!(ends(Request::SET_BACKEND_REQ_FD, &[], &[]), FDS);
    assert_eq!(ends(Request::SET_BACKEND_REQ_FD, &[], &two), FDS);
    assert_eq!(ends(Request::SET_BACKEND_REQ_FD, &[0; 8], &one), SIZE);
    let space = |offset, size, flags| ConfigSpace {
        offset,
        size,
        flags,
    };
    let payload = |head: ConfigSpace, len| [head.as_bytes(), &vec![0; len]].concat();
    for number in [Request::GET_CONFIG, Request::SET_CONFIG] {
        assert_eq!(ends(number, &payload(space(0, 4, 0), 4), &one), FDS);
        assert_eq!(ends(number, &payload(space(0, 4, 0), 3), &[]), SIZE);
        assert_eq!(ends(number, &payload(space(0, 257, 0), 257), &[]), SIZE);
        assert_eq!(ends(number, &payload(space(0, u32::MAX, 0), 4), &[]), SIZE);
        assert_eq!(ends(number, &[0; 11], &[]), SIZE);
    }
    assert_eq!(
        ends(Request::SET_CONFIG, &payload(space(0, 4, 2), 4), &[]),
        "ERR_VRING_VHOST_VALUE"
    );
}

/// A front end that answers on the channel what it was not asked, or hangs up there, loses the channel and not the session.
#[test]
fn broken_channels_are_closed() {
    for garbage in [
        &[0u8; 20][..],
        &[2, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[],
    ] {
        let (served, mut socket) = Served::new(config());
        let all = ProtocolFeatures::IMPLEMENTED.bits();
        request(
            &socket,
            Request::SET_PROTOCOL_FEATURES as u32,
            1,
            all.as_bytes(),
            &[],
        );
        let (ours, theirs) = UnixStream::pair().unwrap();
        request(
            &socket,
            Request::SET_BACKEND_REQ_FD as u32,
            9,
            &[],
            &[theirs.as_fd()],
        );
        assert_eq!(answer(&mut socket).1, 0u64.as_bytes());
        drop(theirs);
        std::io::Write::write_all(&mut &ours, garbage).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        // It ends by the other side closing its end, with a reset where it left something unread.
        let mut byte = [0];
        let end = std::io::Read::read(&mut &ours, &mut byte);
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        served.notifier.config_changed();
        request(&socket, Request::GET_FEATURES as u32, 1, &[], &[]);
        assert_eq!(answer(&mut socket).0.request, 1);
        drop(socket);
        assert!(served.ended().is_disconnect());
    }
}

/// A front end that never reads its channel is asked a bounded number of times, and everything else goes on.
#[test]
fn channels_that_nobody_reads_do_not_block() {
    let (served, mut socket) = Served::new(config());
    let all = ProtocolFeatures::IMPLEMENTED.bits();
    request(
        &socket,
        Request::SET_PROTOCOL_FEATURES as u32,
        1,
        all.as_bytes(),
        &[],
    );
    let (ours, theirs) = UnixStream::pair().unwrap();
    request(
        &socket,
        Request::SET_BACKEND_REQ_FD as u32,
        9,
        &[],
        &[theirs.as_fd()],
    );
    answer(&mut socket);
    drop(theirs);
    for _ in 0..1000 {
        served.notifier.config_changed();
        request(&socket, Request::GET_FEATURES as u32, 1, &[], &[]);
        answer(&mut socket);
    }
    ours.set_nonblocking(true).unwrap();
    let mut bytes = vec![0; 1 << 20];
    let len = std::io::Read::read(&mut &ours, &mut bytes).unwrap();
    assert!(len <= 64 * 12, "{len} bytes");
    assert_eq!(bytes[..4], backend::CONFIG_CHANGE_MSG.to_ne_bytes());
    drop(socket);
    served.ended();
}
