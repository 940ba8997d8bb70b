//! Each of our ends against the other end of the rust-vmm `vhost` crate, which nobody here wrote.
#![allow(missing_docs)]

mod common;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use ::vhost::vhost_user::message::{
    FrontendReq, VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags,
    VhostUserHeaderFlag, VhostUserInflight, VhostUserLog, VhostUserMemoryRegion,
    VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use ::vhost::vhost_user::{
    BackendReqHandler, Error, Frontend as PeerFrontend, GpuBackend, Result as PeerResult,
    VhostUserBackendReqHandlerMut, VhostUserFrontend,
};
use ::vhost::{
    VhostBackend, VhostUserDirtyLogRegion, VhostUserMemoryRegionBase, VhostUserMemoryRegionInfo,
    VringConfigData,
};
use common::{BIT_30, CONFIG, Event, Memory, Served, VERSION_1, config, event, memfd};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;
use vring_vhost::{Frontend, ProtocolFeatures, Request};

/// Our request numbers and protocol feature bits are those that rust-vmm has under the same names.
#[test]
fn numbers_agree_with_rust_vmm() {
    for request in Request::ALL {
        let theirs = FrontendReq::try_from(*request as u32).unwrap();
        assert_eq!(format!("{theirs:?}"), request.to_string());
        assert_eq!(Request::from_number(*request as u32), Some(*request));
    }
    for (name, ours) in ProtocolFeatures::all().iter_names() {
        let name = name.trim_start_matches("NET_");
        let theirs = VhostUserProtocolFeatures::from_name(name).unwrap();
        assert_eq!(theirs.bits(), ours.bits(), "{name}");
    }
}

/// A whole session driven by the rust-vmm front end, once with a memory table and once slot by slot; the ring addresses
/// are those of a real mapping.
#[test]
fn serves_the_rust_vmm_front_end() {
    for slots in [false, true] {
        let (served, socket) = Served::new(config());
        let mut peer = PeerFrontend::from_stream(socket, 4);
        assert_eq!(peer.get_features().unwrap() & BIT_30, BIT_30);
        peer.set_features(VERSION_1 | BIT_30).unwrap();
        let offered = peer.get_protocol_features().unwrap();
        assert!(offered.contains(
            VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
        ));
        peer.set_protocol_features(offered).unwrap();
        peer.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        assert_eq!(peer.get_queue_num().unwrap(), 2);
        peer.set_owner().unwrap();
        let size = 0x40000;
        let file = FileOffset::new(File::from(memfd(size)), 0);
        let ranges = [(
            GuestAddress(0x1000),
            usize::try_from(size).unwrap(),
            Some(file),
        )];
        let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges_with_files(&ranges).unwrap();
        let region = memory.find_region(GuestAddress(0x1000)).unwrap();
        let info = VhostUserMemoryRegionInfo::from_guest_region(region).unwrap();
        if slots {
            assert_eq!(peer.get_max_mem_slots().unwrap(), 509);
            peer.add_mem_region(&info).unwrap();
        } else {
            peer.set_mem_table(&[info]).unwrap();
        }
        peer.set_vring_num(0, 128).unwrap();
        peer.set_vring_base(0, 0).unwrap();
        let ring = VringConfigData {
            queue_max_size: 128,
            queue_size: 128,
            flags: 0,
            desc_table_addr: info.userspace_addr,
            avail_ring_addr: info.userspace_addr + 0x1000,
            used_ring_addr: info.userspace_addr + 0x2000,
            log_addr: None,
        };
        peer.set_vring_addr(0, &ring).unwrap();
        let (kick, call) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        peer.set_vring_call(0, &call).unwrap();
        peer.set_vring_err(0, &call).unwrap();
        peer.set_vring_kick(0, &kick).unwrap();
        assert!(
            peer.set_vring_num(1, 100).is_ok(),
            "a size is judged when the ring is whole"
        );
        assert!(peer.set_vring_base(1, 7).is_ok());
        peer.set_vring_enable(0, true).unwrap();
        assert_eq!(peer.get_vring_base(0).unwrap(), 0);
        if slots {
            peer.remove_mem_region(&info).unwrap();
            assert!(peer.remove_mem_region(&info).is_err());
        }
        let space = vec![0; CONFIG.len()];
        let (_, bytes) = peer
            .get_config(0, 12, VhostUserConfigFlags::empty(), &space)
            .unwrap();
        assert_eq!(bytes, CONFIG);
        peer.set_config(2, VhostUserConfigFlags::empty(), &[7])
            .unwrap();
        let log = memfd(4096);
        let region = VhostUserDirtyLogRegion {
            mmap_size: 4000,
            mmap_offset: 96,
            mmap_handle: log.as_raw_fd(),
        };
        peer.set_log_base(0, Some(region)).unwrap();
        peer.set_log_fd(kick.as_raw_fd()).unwrap();
        let wanted = VhostUserInflight::new(0, 0, 2, 128);
        let (inflight, file) = peer.get_inflight_fd(&wanted).unwrap();
        assert_eq!((inflight.num_queues, inflight.queue_size), (2, 128));
        assert_eq!(inflight.mmap_size, 2 * 2112);
        peer.set_inflight_fd(&inflight, file.as_raw_fd()).unwrap();
        peer.reset_device().unwrap();
        drop(peer);
        let log = served.log.clone();
        assert!(served.ended().is_disconnect());
        assert_eq!(
            log.take(),
            [
                Event::Connected,
                Event::Features(VERSION_1),
                Event::Start {
                    index: 0,
                    size: 128,
                    base: 0,
                    enabled: false
                },
                Event::Enabled(0, true),
                Event::Stop(0),
                Event::Config(2, vec![7], false),
                Event::Reset,
                Event::Disconnected("ERR_VRING_DISCONNECTED"),
            ]
        );
    }
}

/// What the rust-vmm back end understood of what we sent.
#[derive(Default)]
struct Device {
    seen: Vec<String>,
}

impl Device {
    fn note(&mut self, what: impl Into<String>) -> PeerResult<()> {
        self.seen.push(what.into());
        Ok(())
    }
}

impl VhostUserBackendReqHandlerMut for Device {
    fn set_owner(&mut self) -> PeerResult<()> {
        self.note("owner")
    }
    fn reset_owner(&mut self) -> PeerResult<()> {
        Err(Error::InvalidOperation("unused"))
    }
    fn reset_device(&mut self) -> PeerResult<()> {
        self.note("reset")
    }
    fn get_features(&mut self) -> PeerResult<u64> {
        Ok(VERSION_1 | BIT_30)
    }
    fn set_features(&mut self, features: u64) -> PeerResult<()> {
        self.note(format!("features {features:#x}"))
    }
    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> PeerResult<Option<Vec<VhostUserMemoryRegionBase>>> {
        for (region, file) in regions.iter().zip(&files) {
            let (guest, size) = (region.guest_phys_addr, region.memory_size);
            let length = file.metadata().unwrap().len();
            self.note(format!("table {guest:#x} {size:#x} {length:#x}"))?;
        }
        Ok(None)
    }
    fn set_vring_num(&mut self, index: u32, num: u32) -> PeerResult<()> {
        self.note(format!("num {index} {num}"))
    }
    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> PeerResult<()> {
        self.note(format!(
            "addr {index} {descriptor:#x} {available:#x} {used:#x}"
        ))
    }
    fn set_vring_base(&mut self, index: u32, base: u32) -> PeerResult<()> {
        self.note(format!("base {index} {base:#x}"))
    }
    fn get_vring_base(&mut self, index: u32) -> PeerResult<VhostUserVringState> {
        Ok(VhostUserVringState::new(index, 0x8001_8002))
    }
    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> PeerResult<()> {
        self.note(format!("kick {index} {}", fd.is_some()))
    }
    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> PeerResult<()> {
        self.note(format!("call {index} {}", fd.is_some()))
    }
    fn set_vring_err(&mut self, index: u8, fd: Option<File>) -> PeerResult<()> {
        self.note(format!("err {index} {}", fd.is_some()))
    }
    fn get_protocol_features(&mut self) -> PeerResult<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::RESET_DEVICE)
    }
    fn set_protocol_features(&mut self, features: u64) -> PeerResult<()> {
        self.note(format!("protocol {features:#x}"))
    }
    fn get_queue_num(&mut self) -> PeerResult<u64> {
        Ok(3)
    }
    fn set_vring_enable(&mut self, index: u32, enable: bool) -> PeerResult<()> {
        self.note(format!("enable {index} {enable}"))
    }
    fn get_config(&mut self, at: u32, n: u32, _: VhostUserConfigFlags) -> PeerResult<Vec<u8>> {
        self.note(format!("read {at} {n}"))?;
        Ok(CONFIG[at as usize..][..n as usize].to_vec())
    }
    fn set_config(&mut self, at: u32, bytes: &[u8], _: VhostUserConfigFlags) -> PeerResult<()> {
        self.note(format!("write {at} {bytes:?}"))
    }
    fn set_backend_req_fd(&mut self, _: ::vhost::vhost_user::Backend) {
        self.seen.push("channel".into());
    }
    fn set_gpu_socket(&mut self, _: GpuBackend) -> PeerResult<()> {
        Err(Error::InvalidOperation("unused"))
    }
    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> PeerResult<File> {
        Err(Error::InvalidOperation("unused"))
    }
    fn get_inflight_fd(&mut self, of: &VhostUserInflight) -> PeerResult<(VhostUserInflight, File)> {
        let (queues, size) = (of.num_queues, of.queue_size);
        self.note(format!("records {queues} {size}"))?;
        let made = VhostUserInflight::new(9000, 16, queues, size);
        Ok((made, File::from(memfd(16384))))
    }
    fn set_inflight_fd(&mut self, of: &VhostUserInflight, file: File) -> PeerResult<()> {
        let (size, offset, queues, descs) =
            (of.mmap_size, of.mmap_offset, of.num_queues, of.queue_size);
        let length = file.metadata().unwrap().len();
        self.note(format!("record {size} {offset} {queues} {descs} {length}"))
    }
    fn get_max_mem_slots(&mut self) -> PeerResult<u64> {
        Ok(2)
    }
    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> PeerResult<Option<VhostUserMemoryRegionBase>> {
        let (guest, length) = (region.guest_phys_addr, file.metadata().unwrap().len());
        self.note(format!("add {guest:#x} {length:#x}"))?;
        Ok(None)
    }
    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> PeerResult<()> {
        let guest = region.guest_phys_addr;
        self.note(format!("remove {guest:#x}"))
    }
    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> PeerResult<Option<File>> {
        Err(Error::InvalidOperation("unused"))
    }
    fn check_device_state(&mut self) -> PeerResult<()> {
        Err(Error::InvalidOperation("unused"))
    }
    fn get_shmem_config(&mut self) -> PeerResult<VhostUserShMemConfig> {
        Err(Error::InvalidOperation("unused"))
    }
    fn set_log_base(&mut self, log: &VhostUserLog, file: File) -> PeerResult<()> {
        let (size, offset) = (log.mmap_size, log.mmap_offset);
        let length = file.metadata().unwrap().len();
        self.note(format!("log {size} {offset} {length}"))
    }
}

/// The rust-vmm back end understands every request of ours that it knows, with the values that we meant.
#[test]
fn drives_the_rust_vmm_back_end() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let device = Arc::new(Mutex::new(Device::default()));
    let mut peer = BackendReqHandler::from_stream(theirs, device.clone());
    let thread = std::thread::spawn(move || while peer.handle_request().is_ok() {});
    let mut front = Frontend::new(ours.into());
    let memory = Memory::new(1);
    assert_eq!(front.get_features().unwrap(), VERSION_1 | BIT_30);
    front.set_features(VERSION_1 | BIT_30).unwrap();
    let protocol = front.get_protocol_features().unwrap();
    assert!(protocol.contains(ProtocolFeatures::REPLY_ACK | ProtocolFeatures::MQ));
    front.set_protocol_features(protocol).unwrap();
    assert_eq!(front.get_queue_num().unwrap(), 3);
    front.set_owner().unwrap();
    front.share_memory(&[memory.region()]).unwrap();
    front.remove_mem_region(&memory.region()).unwrap();
    front.set_mem_table(&[memory.region()]).unwrap();
    front.set_vring_num(1, 256).unwrap();
    front.set_vring_base(1, 0x8001_0002).unwrap();
    front.set_vring_addr(1, Memory::addresses(0)).unwrap();
    let fd = event();
    front.set_vring_call(1, Some(fd.as_fd())).unwrap();
    front.set_vring_err(1, Some(fd.as_fd())).unwrap();
    front.set_vring_kick(1, None).unwrap();
    front.set_vring_enable(1, true).unwrap();
    assert_eq!(front.get_vring_base(1).unwrap(), 0x8001_8002);
    assert_eq!(front.get_config(6, 4).unwrap(), &CONFIG[6..10]);
    front.set_config(3, &[1, 2], false).unwrap();
    let log = memfd(4096);
    front.set_log_base(log.as_fd(), 96, 4000).unwrap();
    let record = front.get_inflight_fd(2, 256).unwrap().unwrap();
    front.set_inflight_fd(&record).unwrap();
    let _channel = front.open_backend_channel().unwrap();
    front.reset_device().unwrap();
    front.check_alive().unwrap();
    drop(front);
    thread.join().unwrap();
    assert_eq!(
        device.lock().unwrap().seen,
        [
            "features 0x140000000",
            "protocol 0xb22b",
            "owner",
            "add 0x40000000 0x30000",
            "remove 0x40000000",
            "table 0x40000000 0x30000 0x30000",
            "num 1 256",
            "base 1 0x80010002",
            "addr 1 0x7f0000000000 0x7f0000010000 0x7f0000020000",
            "call 1 true",
            "err 1 true",
            "kick 1 false",
            "enable 1 true",
            "read 6 4",
            "write 3 [1, 2]",
            "log 4000 96 4096",
            "records 2 256",
            "record 9000 16 2 256 16384",
            "channel",
            "reset",
        ]
    );
}
