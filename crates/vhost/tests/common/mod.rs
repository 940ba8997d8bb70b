//! What the tests of this crate share: a handler that records what it is told, a back end on a thread, and a front end that
//! can send any bytes.
#![allow(dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vring_mem::guest::GuestMemory;
use vring_vhost::message::{Header, MemoryRegion};
use vring_vhost::{Backend, BackendConfig, BackendHandler, Notifier, ProtocolFeatures, VhostError};
use vring_vhost::{FrontendRegion, VringAddresses, VringConfig};
use zerocopy::{FromBytes, IntoBytes};

pub const VERSION_1: u64 = 1 << 32;
pub const EVENT_IDX: u64 = 1 << 29;
pub const PACKED: u64 = 1 << 34;
pub const BIT_30: u64 = 1 << 30;
pub const LOG_ALL: u64 = 1 << 26;
pub const FEATURES: u64 = VERSION_1 | EVENT_IDX | PACKED;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Connected,
    Disconnected(&'static str),
    Features(u64),
    Start {
        index: u16,
        size: u16,
        base: u32,
        enabled: bool,
    },
    Stop(u16),
    Call(u16, bool),
    Kick(u16, bool),
    Enabled(u16, bool),
    /// Running rings got another map, with so many stretches that may be read.
    Translated(usize),
    Status(u8),
    Mtu(u16),
    Rarp([u8; 6]),
    Config(u32, Vec<u8>, bool),
    Reset,
}

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    /// What happened since it was last asked.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn add(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// A device without a data path. It checks that the calls keep their contract, and when a ring is stopped it says that it was
/// at the ring's avail index, which it reads from the shared memory.
#[derive(Default)]
pub struct Recorder {
    pub log: Log,
    pub running: BTreeMap<u16, VringConfig>,
}

impl Recorder {
    pub fn new(log: &Log) -> Self {
        Self {
            log: log.clone(),
            running: BTreeMap::new(),
        }
    }
}

impl BackendHandler for Recorder {
    fn connected(&mut self) {
        assert!(self.running.is_empty());
        self.log.add(Event::Connected);
    }

    fn disconnected(&mut self, why: &VhostError) {
        assert!(self.running.is_empty(), "a ring runs after the connection");
        self.log.add(Event::Disconnected(why.code()));
    }

    fn features_acked(&mut self, features: u64) {
        assert_eq!(features & BIT_30, 0);
        self.log.add(Event::Features(features));
    }

    fn start_queue(&mut self, config: VringConfig) -> Result<(), String> {
        let VringConfig {
            index,
            size,
            base,
            enabled,
            ..
        } = config;
        self.log.add(Event::Start {
            index,
            size,
            base,
            enabled,
        });
        if let Some((log, at)) = config.memory.log().zip(config.log) {
            // As a device does that uses a buffer.
            log.mark(at.used, 4);
            log.tell();
        }
        assert!(self.running.insert(index, config).is_none());
        Ok(())
    }

    fn stop_queue(&mut self, index: u16) -> u32 {
        let ring = self.running.remove(&index).expect("a running ring");
        self.log.add(Event::Stop(index));
        // SAFETY: the avail area was checked to be inside `ring.memory`, which `ring` holds.
        let at = unsafe { ring.avail.cast::<u16>().add(1).as_ptr().read_volatile() };
        if ring.features & PACKED != 0 {
            ring.base
        } else {
            at.into()
        }
    }

    fn set_call(&mut self, index: u16, call: Option<Arc<OwnedFd>>) {
        assert!(self.running.contains_key(&index));
        self.log.add(Event::Call(index, call.is_some()));
    }

    fn set_kick(&mut self, index: u16, kick: Option<Arc<OwnedFd>>) {
        assert!(self.running.contains_key(&index));
        self.log.add(Event::Kick(index, kick.is_some()));
    }

    fn set_enabled(&mut self, index: u16, on: bool) {
        assert!(self.running.contains_key(&index));
        self.log.add(Event::Enabled(index, on));
    }

    fn set_memory(&mut self, memory: &Arc<GuestMemory>) {
        for ring in self.running.values_mut() {
            ring.memory = memory.clone();
        }
        if !self.running.is_empty() {
            self.log.add(Event::Translated(memory.stretches()));
        }
    }

    fn status(&mut self, status: u8) {
        self.log.add(Event::Status(status));
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), String> {
        if mtu < 68 {
            return Err(format!("expected an MTU of at least 68, got {mtu}"));
        }
        self.log.add(Event::Mtu(mtu));
        Ok(())
    }

    fn rarp(&mut self, mac: [u8; 6]) {
        self.log.add(Event::Rarp(mac));
    }

    fn config(&mut self) -> Vec<u8> {
        CONFIG.to_vec()
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8], restored: bool) -> Result<(), String> {
        if offset as usize + bytes.len() > CONFIG.len() {
            return Err("expected fewer bytes".to_owned());
        }
        self.log
            .add(Event::Config(offset, bytes.to_vec(), restored));
        Ok(())
    }

    fn reset(&mut self) {
        self.log.add(Event::Reset);
    }
}

/// A device configuration space.
pub const CONFIG: &[u8] = b"vring-config";

pub fn config() -> BackendConfig {
    BackendConfig {
        features: FEATURES,
        protocol_features: ProtocolFeatures::IMPLEMENTED,
        max_queues: 4,
    }
}

pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap()
}

pub fn raise(event: &OwnedFd) {
    rustix::io::write(event, &1u64.to_ne_bytes()).unwrap();
}

pub fn memfd(len: u64) -> OwnedFd {
    let fd = memfd_create("vhost-test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, len).unwrap();
    fd
}

/// A path that no other test uses, in a folder that exists.
pub fn socket_path(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("vring-{}-{unique}-{name}", std::process::id()))
}

/// A back end that serves one connection on a thread.
pub struct Served {
    pub log: Log,
    pub notifier: Arc<Notifier>,
    thread: JoinHandle<VhostError>,
    stop: Arc<OwnedFd>,
}

impl Served {
    pub fn new(config: BackendConfig) -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = Log::default();
        let stop = Arc::new(event());
        let mut backend = Backend::new(config, Recorder::new(&log)).unwrap();
        let notifier = backend.notifier().clone();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || backend.serve(&theirs.into(), stopped.as_fd()));
        let served = Self {
            log,
            notifier,
            thread,
            stop,
        };
        (served, ours)
    }

    /// Why the connection ended; waits for it. The front end must be gone or have broken the protocol.
    pub fn ended(self) -> VhostError {
        self.thread.join().expect("the back end did not panic")
    }

    /// Ends the connection by the stop descriptor.
    pub fn stop(self) -> VhostError {
        raise(&self.stop);
        self.ended()
    }
}

/// A front end's memory: a page for descriptors, one for avail, one for used, for each of `rings` rings.
pub struct Memory {
    pub fd: OwnedFd,
    pub size: u64,
}

/// Where [`Memory`] says that it is in the front end and in the guest. No mapping is needed to claim that.
pub const USER: u64 = 0x7f00_0000_0000;
pub const GUEST: u64 = 0x4000_0000;
const AREA: u64 = 0x10000;

impl Memory {
    pub fn new(rings: u64) -> Self {
        let size = rings * 3 * AREA;
        Self {
            fd: memfd(size),
            size,
        }
    }

    pub fn region(&self) -> FrontendRegion<'_> {
        FrontendRegion {
            guest_addr: GUEST,
            user_addr: USER,
            size: self.size,
            mmap_offset: 0,
            fd: self.fd.as_fd(),
        }
    }

    pub fn wire(&self) -> MemoryRegion {
        MemoryRegion {
            guest_addr: GUEST,
            size: self.size,
            user_addr: USER,
            mmap_offset: 0,
        }
    }

    pub fn addresses(ring: u16) -> VringAddresses {
        let desc = USER + u64::from(ring) * 3 * AREA;
        VringAddresses {
            desc,
            avail: desc + AREA,
            used: desc + 2 * AREA,
            log: None,
        }
    }

    /// Writes a ring's avail index, as a driver that added buffers does.
    pub fn set_avail(&self, ring: u16, index: u16) {
        let at = Self::addresses(ring).avail - USER + 2;
        rustix::io::pwrite(&self.fd, &index.to_ne_bytes(), at).unwrap();
    }
}

/// Sends one message of any shape.
pub fn send(
    socket: impl AsFd,
    header: Header,
    payload: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    sendmsg(
        socket,
        &[IoSlice::new(header.as_bytes()), IoSlice::new(payload)],
        &mut control,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )
}

/// Sends a request with the right size in its header.
pub fn request(
    socket: &UnixStream,
    number: u32,
    flags: u32,
    payload: &[u8],
    fds: &[BorrowedFd<'_>],
) {
    let header = Header {
        request: number,
        flags,
        size: u32::try_from(payload.len()).unwrap(),
    };
    send(socket, header, payload, fds).unwrap();
}

/// The next answer.
pub fn answer(socket: &mut UnixStream) -> (Header, Vec<u8>) {
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut header = [0u8; 12];
    socket.read_exact(&mut header).unwrap();
    let header = Header::read_from_bytes(&header).unwrap();
    let mut payload = vec![0; header.size as usize];
    socket.read_exact(&mut payload).unwrap();
    (header, payload)
}
