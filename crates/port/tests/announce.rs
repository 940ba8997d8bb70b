//! A guest that moved is announced: what a front end asks of a `net_vhost` port by `SEND_RARP`, the application receives.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_net::rarp_request;
use vring_peer::{Ram, RawRing};
use vring_port::{Device, Offloads, Owner, PortConfig, PortEvent, open};
use vring_vhost::{Frontend, FrontendRegion, ProtocolFeatures, VringAddresses, socket};

const SIZE: u16 = 8;
const REGION: (u64, u64) = (0x1_0000, 0x2_0000);
const RINGS: [u64; 2] = [0x1_0000, 0x1_8000];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "timed out");
        std::thread::yield_now();
    }
}

/// Starts both rings, and gives their memory and their descriptors.
fn start_rings(front: &mut Frontend) -> (Ram, Vec<std::os::fd::OwnedFd>) {
    let ram = Ram::new(&[REGION]);
    front.set_owner().unwrap();
    front.get_features().unwrap();
    front.get_protocol_features().unwrap();
    let protocol = ProtocolFeatures::REPLY_ACK | ProtocolFeatures::RARP;
    front.set_protocol_features(protocol).unwrap();
    front.set_features(1 << 32 | 1 << 30).unwrap();
    let region = FrontendRegion {
        guest_addr: REGION.0,
        user_addr: REGION.0,
        size: REGION.1,
        mmap_offset: 0,
        fd: ram.file(0),
    };
    front.set_mem_table(&[region]).unwrap();
    let mut kicks = Vec::new();
    for (index, at) in (0..2).zip(RINGS) {
        let [desc, avail, used] = RawRing::areas(at, SIZE);
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        front.set_vring_num(index, SIZE.into()).unwrap();
        front.set_vring_base(index, 0).unwrap();
        let areas = VringAddresses {
            desc,
            avail,
            used,
            log: None,
        };
        front.set_vring_addr(index, areas).unwrap();
        let number = u8::try_from(index).unwrap();
        front.set_vring_kick(number, Some(kick.as_fd())).unwrap();
        front.set_vring_enable(index, true).unwrap();
        kicks.push(kick);
    }
    (ram, kicks)
}

/// One announcement is one RARP, first in the next burst; it wakes who sleeps, keeps who is about to from sleeping, and is told as an event. One
/// that nobody receives before the peer goes is a drop with a name.
#[test]
fn a_moved_guest_is_announced() {
    let path = std::env::temp_dir().join(format!("vring-announce-{}", std::process::id()));
    let pool = Mempool::new(&MempoolConfig {
        count: 64,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap();
    let config = PortConfig {
        pool: pool.clone(),
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        offloads: Offloads::NONE,
    };
    let device = format!("net_vhost_announce,iface={}", path.display());
    let port = open(&Device::parse(&device).unwrap(), &config).unwrap();
    let mut front = Frontend::new(socket::dial(&path).unwrap());
    let (_ram, _kicks) = start_rings(&mut front);
    until(|| port.link().up);

    let (owner, queue) = (Owner::new(), &port.rx_queues()[0]);
    assert!(!queue.arm(owner).unwrap());
    front.send_rarp(MAC).unwrap();
    let sleep = queue.wake_fd().unwrap();
    let limit = rustix::time::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&*sleep, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
    until(|| queue.arm(owner).unwrap());
    let mut burst = Burst::new(4);
    assert_eq!(queue.burst(owner, &mut burst).unwrap(), 1);
    let (addrs, lens, _) = burst.packets();
    // SAFETY: a received packet of that length.
    let frame = unsafe { std::slice::from_raw_parts(pool.ptr(addrs[0]), lens[0] as usize) };
    assert_eq!(frame, rarp_request(MAC));
    pool.free_burst(&mut burst);
    assert_eq!(queue.burst(owner, &mut burst).unwrap(), 0);
    assert_eq!((queue.stats().packets, queue.stats().bytes), (1, 60));
    let told = |event: &PortEvent| matches!(event, PortEvent::Rarp(mac) if *mac == MAC);
    let mut seen = false;
    until(|| {
        seen |= port.events().drain().iter().any(told);
        seen
    });

    for _ in 0..10 {
        front.send_rarp(MAC).unwrap();
    }
    // An answer to this comes after those were taken.
    front.get_features().unwrap();
    drop(front);
    // The link is down from the first ring on that stops; this queue's may be the second.
    until(|| !port.link().up && queue.info().mode.is_none());
    assert_eq!(queue.burst(owner, &mut burst).unwrap(), 0);
    assert_eq!(queue.stats().drops.get("rx_unread"), Some(&4));
    queue.release(owner);
    port.close();
    pool.flush_thread_cache();
    assert_eq!(pool.free_count(), 64);
}
