//! Rings behind an IOMMU: translations told, asked for and taken back.
#![allow(missing_docs)]

mod common;

use std::os::fd::AsFd;
use std::sync::Arc;

use common::{BIT_30, Event, GUEST, Log, Memory, Recorder, Served, USER, VERSION_1, config, event};
use rustix::event::{PollFd, PollFlags, poll};
use vring_vhost::message::F_ACCESS_PLATFORM;
use vring_vhost::{
    ACCESS_READ, ACCESS_WRITE, Backend, BackendConfig, BackendRequest, BackendRequests, Frontend,
    IotlbMiss, ProtocolFeatures, VhostError, VringAddresses,
};

const RW: u8 = ACCESS_READ | ACCESS_WRITE;
/// Where the guest's IOMMU shows the memory.
const IOVA: u64 = 0x10_0000_0000;
const PAGE: u64 = 4096;

struct Link {
    served: Served,
    front: Frontend,
    asked: BackendRequests,
    memory: Memory,
}

fn iommu_config() -> BackendConfig {
    BackendConfig {
        features: common::FEATURES | F_ACCESS_PLATFORM,
        ..config()
    }
}

fn addresses(ring: u16) -> VringAddresses {
    let at = Memory::addresses(ring);
    VringAddresses {
        desc: at.desc - USER + IOVA,
        avail: at.avail - USER + IOVA,
        used: at.used - USER + IOVA,
        log: None,
    }
}

impl Link {
    fn new(features: u64) -> Self {
        let (served, socket) = Served::new(iommu_config());
        let mut front = Frontend::new(socket.into());
        front
            .set_protocol_features(ProtocolFeatures::IMPLEMENTED)
            .unwrap();
        front
            .set_features(VERSION_1 | BIT_30 | F_ACCESS_PLATFORM | features)
            .unwrap();
        let asked = front.open_backend_channel().unwrap();
        let memory = Memory::new(2);
        front.share_memory(&[memory.region()]).unwrap();
        served.log.take();
        Self {
            served,
            front,
            asked,
            memory,
        }
    }

    /// A ring of 256 descriptors, which needs translations to run.
    fn ring(&mut self, ring: u8) {
        self.front.set_vring_num(ring.into(), 256).unwrap();
        self.front
            .set_vring_addr(ring.into(), addresses(ring.into()))
            .unwrap();
        self.front.set_vring_kick(ring, None).unwrap();
    }

    /// Waits for the next miss.
    fn miss(&mut self) -> IotlbMiss {
        loop {
            let mut fds = [PollFd::new(&self.asked, PollFlags::IN)];
            poll(&mut fds, None).unwrap();
            if let Some(BackendRequest::IotlbMiss(miss)) = self.asked.take().unwrap() {
                return miss;
            }
        }
    }

    fn tell(&mut self, iova: u64, size: u64, access: u8) {
        self.front
            .iotlb_update(iova, size, iova - IOVA + USER, access)
            .unwrap();
    }

    /// Answers misses with the page that is asked for until nothing is asked for any more: as the ring runs.
    fn serve_until_running(&mut self) -> Vec<(u64, u8)> {
        let mut all = Vec::new();
        loop {
            let miss = self.miss();
            all.push((miss.iova, miss.access));
            self.tell(miss.iova, PAGE, miss.access);
            self.asked.answer(miss, true).unwrap();
            // A request without an effect: whatever was told before is taken in when it is answered.
            self.front.get_features().unwrap();
            if self
                .served
                .log
                .take()
                .iter()
                .any(|event| matches!(event, Event::Start { .. }))
            {
                return all;
            }
        }
    }
}

/// A ring asks for each page of its areas with the access that it needs, and starts when it has them all.
#[test]
fn rings_ask_for_their_areas() {
    let mut link = Link::new(0);
    link.ring(0);
    let at = addresses(0);
    assert_eq!(link.served.log.take(), [], "it waits");
    let mut asked = link.serve_until_running();
    asked.sort_unstable();
    assert_eq!(
        asked,
        [
            (at.desc, ACCESS_READ),
            (at.avail, ACCESS_READ),
            (at.used, RW)
        ],
        "pages of a ring of 256 descriptors"
    );
    assert_eq!(link.front.get_vring_base(0).unwrap(), 0);
}

/// The device of a packed ring writes descriptors too.
#[test]
fn packed_rings_write_descriptors() {
    let mut link = Link::new(common::PACKED);
    link.ring(0);
    let asked = link.serve_until_running();
    assert!(asked.contains(&(addresses(0).desc, RW)), "{asked:?}");
}

/// A ring whose pages lie apart in memory is none, and its front end is told where it can be.
#[test]
fn areas_must_be_in_one_piece() {
    let mut link = Link::new(0);
    link.front.set_vring_num(0, 512).unwrap();
    link.front.set_vring_addr(0, addresses(0)).unwrap();
    let at = addresses(0);
    for (iova, size) in [(at.desc, PAGE), (at.avail, PAGE), (at.used, 2 * PAGE)] {
        link.tell(iova, size, RW);
    }
    let elsewhere = USER + 0x8000;
    link.front
        .iotlb_update(at.desc + PAGE, PAGE, elsewhere, RW)
        .unwrap();
    link.front.set_vring_kick(0, None).unwrap();
    link.front.get_features().unwrap();
    assert_eq!(link.served.log.take(), [], "it does not run");
}

/// What is taken back is not used any more when that is acknowledged: the ring in it is stopped, others only get another map.
#[test]
fn invalidation_takes_effect_before_it_is_acknowledged() {
    let mut link = Link::new(0);
    let size = link.memory.size;
    link.tell(IOVA, size / 2, RW);
    link.tell(IOVA + size / 2, size / 2, RW);
    link.ring(0);
    link.ring(1);
    link.front.get_features().unwrap();
    let started = |event: &Event| matches!(event, Event::Start { .. });
    assert_eq!(
        link.served.log.take().iter().filter(|e| started(e)).count(),
        2
    );
    link.memory.set_avail(1, 7);
    link.front.iotlb_invalidate(addresses(1).used, 1).unwrap();
    assert_eq!(
        link.served.log.take(),
        [Event::Stop(1), Event::Translated(1)],
        "one entry of the two is left"
    );
    let miss = link.miss();
    link.tell(IOVA + size / 2, size / 2, RW);
    link.asked.answer(miss, true).unwrap();
    link.front.get_features().unwrap();
    let events = link.served.log.take();
    assert!(
        matches!(
            events[..],
            [
                Event::Translated(1),
                Event::Start {
                    index: 1,
                    base: 7,
                    ..
                }
            ]
        ),
        "{events:?}"
    );
}

/// Translations that come together make one map, for which running rings do not stop.
#[test]
fn updates_do_not_stop_rings() {
    let mut link = Link::new(0);
    let at = addresses(0);
    link.tell(at.desc, 3 * 0x10000, RW);
    link.ring(0);
    link.front.get_features().unwrap();
    link.served.log.take();
    for page in 0..8 {
        link.tell(IOVA + 0x3_0000 + page * PAGE, PAGE, RW);
    }
    link.front.get_features().unwrap();
    let events = link.served.log.take();
    assert!(
        !events.is_empty()
            && events
                .iter()
                .all(|event| matches!(event, Event::Translated(_))),
        "{events:?}"
    );
    link.tell(IOVA + 0x3_0000, PAGE, RW);
    link.front.get_features().unwrap();
    assert_eq!(link.served.log.take(), [], "that was known");
}

/// Once no ring is left, what was told is forgotten: nobody tells a stopped device of what is taken back.
#[test]
fn a_stopped_device_forgets() {
    let mut link = Link::new(0);
    link.tell(IOVA, link.memory.size, RW);
    link.ring(0);
    link.ring(1);
    link.front.get_features().unwrap();
    link.front.get_vring_base(0).unwrap();
    link.front.set_vring_kick(0, None).unwrap();
    link.front.get_features().unwrap();
    let events = link.served.log.take();
    assert!(
        matches!(events.last(), Some(Event::Start { index: 0, .. })),
        "one alone does not: {events:?}"
    );
    link.front.get_vring_base(0).unwrap();
    link.front.get_vring_base(1).unwrap();
    link.served.log.take();
    link.ring(0);
    assert_eq!(link.served.log.take(), []);
    assert_eq!(link.serve_until_running().len(), 3);
}

/// What makes no sense is refused, and changes nothing.
#[test]
fn hostile_translations() {
    let mut link = Link::new(0);
    let size = link.memory.size;
    let mut refused = |iova, size, user, access| {
        let error = link
            .front
            .iotlb_update(iova, size, user, access)
            .unwrap_err();
        assert!(matches!(error, VhostError::Rejected { .. }), "{error}");
    };
    refused(IOVA, 0, USER, RW);
    refused(IOVA, size + 1, USER, RW);
    refused(u64::MAX, 2, USER, RW);
    refused(IOVA, PAGE, GUEST, RW);
    refused(IOVA, PAGE, u64::MAX, RW);
    refused(IOVA, PAGE, USER, 0);
    refused(IOVA, PAGE, USER, 4);
    link.front.iotlb_invalidate(0, 0).unwrap();
    link.front.iotlb_invalidate(u64::MAX, u64::MAX).unwrap();
    // A flood of entries is taken, and costs no more than the cache has.
    for page in 0..5000 {
        link.front
            .iotlb_update(page * PAGE, PAGE, USER, RW)
            .unwrap();
    }
    link.ring(0);
    assert_eq!(link.serve_until_running().len(), 3);
}

/// Without the feature there are no translations.
#[test]
fn translations_need_the_feature() {
    let (served, socket) = Served::new(iommu_config());
    let mut front = Frontend::new(socket.into());
    front
        .set_protocol_features(ProtocolFeatures::IMPLEMENTED)
        .unwrap();
    front.set_features(VERSION_1 | BIT_30).unwrap();
    let memory = Memory::new(1);
    front.share_memory(&[memory.region()]).unwrap();
    assert!(front.iotlb_update(IOVA, PAGE, USER, RW).is_err());
    drop(front);
    served.ended();
}

/// A front end that closes its channel, or never answers on it, stops neither the session nor other rings.
#[test]
fn silence_on_the_channel_is_survived() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (log, stop) = (Log::default(), Arc::new(event()));
    let mut backend = Backend::new(iommu_config(), Recorder::new(&log)).unwrap();
    let thread = std::thread::spawn(move || backend.serve(&theirs.into(), stop.as_fd()));
    let mut front = Frontend::new(ours.into());
    front
        .set_protocol_features(ProtocolFeatures::IMPLEMENTED)
        .unwrap();
    front
        .set_features(VERSION_1 | BIT_30 | F_ACCESS_PLATFORM)
        .unwrap();
    let asked = front.open_backend_channel().unwrap();
    let memory = Memory::new(2);
    front.share_memory(&[memory.region()]).unwrap();
    for ring in 0..2u8 {
        // More pages than can wait for an answer.
        front.set_vring_num(ring.into(), 4096).unwrap();
        front
            .set_vring_addr(ring.into(), addresses(ring.into()))
            .unwrap();
        front.set_vring_kick(ring, None).unwrap();
        front.set_vring_enable(ring.into(), true).unwrap();
    }
    front.get_features().unwrap();
    drop(asked);
    front.iotlb_update(IOVA, memory.size, USER, RW).unwrap();
    front.get_features().unwrap();
    let starts = log
        .take()
        .iter()
        .filter(|event| matches!(event, Event::Start { .. }))
        .count();
    assert_eq!(starts, 2);
    drop(front);
    assert!(thread.join().unwrap().is_disconnect());
}

/// What was told allows what it allows: a ring is not started where its device may only read.
#[test]
fn a_ring_needs_its_permissions() {
    let mut link = Link::new(0);
    link.tell(IOVA, link.memory.size, ACCESS_READ);
    link.ring(0);
    let miss = link.miss();
    assert_eq!((miss.iova, miss.access), (addresses(0).used, RW));
    link.asked.answer(miss, false).unwrap();
    link.front.get_features().unwrap();
    assert_eq!(link.served.log.take(), []);
    link.tell(IOVA, link.memory.size, ACCESS_WRITE);
    link.front.get_features().unwrap();
    assert!(matches!(
        link.served.log.take()[..],
        [Event::Start { index: 0, .. }]
    ));
}
