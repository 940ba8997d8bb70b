//! The vhost-user back end against a front end that sends anything, descriptors included.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use vring_vhost::{Backend, BackendConfig, BackendHandler, ProtocolFeatures, VringConfig};

use crate::bytes::Bytes;

/// Bytes of the file that the front end shares.
const SHARED: u64 = 0x2_0000;
/// What the front end's messages fit into, so that sending never waits for the back end.
const MOST: usize = 16 * 1024;

/// Holds the handler's contract against the back end: what runs is started once and stopped once.
#[derive(Default)]
struct Rings {
    running: BTreeMap<u16, VringConfig>,
    started: usize,
}

impl BackendHandler for Rings {
    fn start_queue(&mut self, config: VringConfig) -> Result<(), String> {
        // The areas are readable: the first and the last byte of the descriptors.
        let last = 16 * usize::from(config.size) - 1;
        for at in [0, last] {
            // SAFETY: the back end promises the whole area; the mapping is held by `config.memory`.
            let _byte = unsafe { config.desc.add(at).read_volatile() };
        }
        self.started += 1;
        let known = self.running.insert(config.index, config);
        assert!(known.is_none(), "a running ring was started");
        Ok(())
    }

    fn stop_queue(&mut self, index: u16) -> u32 {
        self.running.remove(&index).expect("a running ring").base
    }

    fn set_call(&mut self, index: u16, _call: Option<Arc<OwnedFd>>) {
        assert!(self.running.contains_key(&index), "a running ring");
    }

    fn set_kick(&mut self, index: u16, _kick: Option<Arc<OwnedFd>>) {
        assert!(self.running.contains_key(&index), "a running ring");
    }

    fn set_enabled(&mut self, index: u16, _on: bool) {
        assert!(self.running.contains_key(&index), "a running ring");
    }
}

/// Sends one message: its number, flags and payload from the bytes, its length true or not, and some descriptors.
fn send(socket: &OwnedFd, bytes: &mut Bytes<'_>, fds: &[BorrowedFd<'_>; 2]) -> Option<usize> {
    let number = u32::from(bytes.u8());
    let shape = bytes.u8();
    let flags: u32 = if shape & 1 == 1 { 9 } else { 1 };
    let len = usize::from(bytes.u8() % 128);
    let payload = bytes.take(len);
    let size = if shape & 2 == 2 {
        bytes.u32()
    } else {
        u32::try_from(payload.len()).ok()?
    };
    let mut message = Vec::with_capacity(12 + payload.len());
    for word in [number, flags, size] {
        message.extend_from_slice(&word.to_ne_bytes());
    }
    message.extend_from_slice(payload);
    let count = usize::from(shape >> 4);
    let passed: Vec<BorrowedFd<'_>> = (0..count)
        .map(|nth| fds[usize::from(nth > 0 && shape & 4 == 4)])
        .collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if count > 0 {
        control.push(SendAncillaryMessage::ScmRights(&passed));
    }
    let parts = [std::io::IoSlice::new(&message)];
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &parts, &mut control, flags).ok()
}

/// A front end of these bytes, and our back end at the other end of its socket.
pub fn vhost_user(data: &[u8]) {
    let _any_number = starts(data);
}

/// The same; how many rings it got started.
pub(crate) fn starts(data: &[u8]) -> usize {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let (front, back) = socketpair(family, kind, SocketFlags::CLOEXEC, None).expect("socketpair");
    let memory = memfd_create("vring-fuzz", MemfdFlags::CLOEXEC).expect("memfd_create");
    ftruncate(&memory, SHARED).expect("ftruncate");
    let event = eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd");
    let stop = eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd");
    let mut bytes = Bytes::new(data);
    let mut sent = 0;
    while !bytes.is_empty() && sent < MOST {
        let Some(len) = send(&front, &mut bytes, &[memory.as_fd(), event.as_fd()]) else {
            break;
        };
        sent += len;
    }
    // The back end reads what is there, and then the end. Its answers fit the socket's buffer.
    rustix::net::shutdown(&front, rustix::net::Shutdown::Write).expect("shutdown");
    let config = BackendConfig {
        features: u64::MAX,
        protocol_features: ProtocolFeatures::IMPLEMENTED,
        max_queues: 4,
    };
    let mut backend = Backend::new(config, Rings::default()).expect("a back end");
    let _why = backend.serve(&back, stop.as_fd());
    assert!(
        backend.handler().running.is_empty(),
        "all rings are stopped"
    );
    backend.handler().started
}
