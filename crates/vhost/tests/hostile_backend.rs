//! Back ends that break the protocol: our front end names the fault, closes what came, and does not use the connection again.
#![allow(missing_docs)]

mod common;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use common::{event, request, send};
use vring_vhost::message::{Header, VringState};
use vring_vhost::{Frontend, FrontendRegion, ProtocolFeatures, VhostError};
use zerocopy::IntoBytes;

const REPLY: u32 = 5;

/// The error that `ask` ends with after the back end did `answer`, which it may do before it is asked.
fn after<T: std::fmt::Debug>(
    answer: impl FnOnce(&UnixStream),
    ask: impl FnOnce(&mut Frontend) -> Result<T, VhostError>,
) -> &'static str {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut front = Frontend::new(ours.into());
    answer(&theirs);
    let code = ask(&mut front).unwrap_err().code();
    assert!(
        front.get_features().unwrap_err().is_disconnect(),
        "a broken connection was used again"
    );
    code
}

/// Answers of another request, version, direction, length, or with descriptors.
#[test]
fn bad_answers_end_the_connection() {
    let value = 7u64;
    let bytes = value.as_bytes();
    let fd = event();
    let get = |front: &mut Frontend| front.get_features();
    let answer = |number, flags, payload: &'static [u8]| {
        after(move |peer| request(peer, number, flags, payload, &[]), get)
    };
    assert_eq!(answer(2, REPLY, &[0; 8]), "ERR_VRING_VHOST_HEADER");
    assert_eq!(answer(1, 1, &[0; 8]), "ERR_VRING_VHOST_HEADER");
    assert_eq!(answer(1, 4, &[0; 8]), "ERR_VRING_VHOST_HEADER");
    assert_eq!(answer(1, REPLY, &[0; 7]), "ERR_VRING_VHOST_SIZE");
    assert_eq!(answer(1, REPLY, &[]), "ERR_VRING_VHOST_SIZE");
    let with_fd = |peer: &UnixStream| request(peer, 1, REPLY, bytes, &[fd.as_fd()]);
    assert_eq!(after(with_fd, get), "ERR_VRING_VHOST_FDS");
    let with_many = |peer: &UnixStream| request(peer, 1, REPLY, bytes, &[fd.as_fd(); 20]);
    assert_eq!(after(with_many, get), "ERR_VRING_VHOST_FDS");
    let huge = Header {
        request: 1,
        flags: REPLY,
        size: u32::MAX,
    };
    let with_size = |peer: &UnixStream| {
        send(peer, huge, bytes, &[]).unwrap();
    };
    assert_eq!(after(with_size, get), "ERR_VRING_VHOST_SIZE");
    let gone = |peer: &UnixStream| peer.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(after(gone, get), "ERR_VRING_DISCONNECTED");
}

/// A base of another ring is no answer about this one.
#[test]
fn answers_about_another_ring_are_not_taken() {
    let state = VringState { index: 3, num: 5 };
    let code = after(
        |peer| request(peer, 11, REPLY, state.as_bytes(), &[]),
        |front| front.get_vring_base(1),
    );
    assert_eq!(code, "ERR_VRING_VHOST_VALUE");
}

/// What the back end says without being asked is noticed between requests.
#[test]
fn unasked_messages_are_noticed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let front = Frontend::new(ours.into());
    front.check_alive().unwrap();
    request(&theirs, 1, REPLY, &[0; 8], &[]);
    assert_eq!(
        front.check_alive().unwrap_err().code(),
        "ERR_VRING_VHOST_HEADER"
    );
    drop(theirs);
}

/// Requests that cannot be right are not sent: the connection stays usable.
#[test]
fn impossible_requests_are_not_sent() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut front = Frontend::new(ours.into());
    let fd = event();
    let region = FrontendRegion {
        guest_addr: 0,
        user_addr: 0,
        size: 4096,
        mmap_offset: 0,
        fd: fd.as_fd(),
    };
    let code = |result: Result<(), VhostError>| result.unwrap_err().code();
    assert_eq!(
        code(front.set_mem_table(&[region; 9])),
        "ERR_VRING_VHOST_VALUE"
    );
    assert_eq!(
        code(front.add_mem_region(&region)),
        "ERR_VRING_VHOST_NOT_NEGOTIATED"
    );
    assert_eq!(
        code(front.net_set_mtu(1500)),
        "ERR_VRING_VHOST_NOT_NEGOTIATED"
    );
    front
        .set_protocol_features(ProtocolFeatures::NET_MTU)
        .unwrap();
    front.net_set_mtu(1500).unwrap();
    front.check_alive().unwrap();
    drop(theirs);
}
