//! Our front end against our back end.
#![allow(missing_docs)]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use common::{
    BIT_30, EVENT_IDX, Event, FEATURES, LOG_ALL, Log, Memory, PACKED, Recorder, Served, VERSION_1,
    config, event, raise, socket_path,
};
use vring_vhost::{
    BackendConfig, BackendServer, Endpoint, Frontend, ProtocolFeatures, SocketRole, VhostError,
};

/// The order of QEMU and DPDK: negotiate, own, share memory, enable, then ring by ring.
fn bring_up(front: &mut Frontend, memory: &Memory, rings: u8) {
    let offered = front.get_features().unwrap();
    assert_eq!(offered, FEATURES | LOG_ALL | BIT_30);
    let protocol = front.get_protocol_features().unwrap();
    assert_eq!(protocol, ProtocolFeatures::IMPLEMENTED);
    front.set_protocol_features(protocol).unwrap();
    assert_eq!(front.get_queue_num().unwrap(), 2);
    front.set_owner().unwrap();
    front.set_features(VERSION_1 | EVENT_IDX | BIT_30).unwrap();
    front.share_memory(&[memory.region()]).unwrap();
    for ring in 0..rings {
        start_ring(front, ring);
    }
}

fn start_ring(front: &mut Frontend, ring: u8) {
    let (kick, call) = (event(), event());
    let index = u16::from(ring);
    front.set_vring_call(ring, Some(call.as_fd())).unwrap();
    front.set_vring_num(index, 256).unwrap();
    front.set_vring_base(index, 0).unwrap();
    front
        .set_vring_addr(index, Memory::addresses(index))
        .unwrap();
    front.set_vring_kick(ring, Some(kick.as_fd())).unwrap();
    front.set_vring_enable(index, true).unwrap();
}

fn start(index: u16, base: u32, enabled: bool) -> Event {
    Event::Start {
        index,
        size: 256,
        base,
        enabled,
    }
}

/// Rings start when they are complete, pass packets when they are enabled, and stop where they were.
#[test]
fn starts_enables_and_stops_rings() {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    let memory = Memory::new(4);
    bring_up(&mut front, &memory, 2);
    assert_eq!(
        served.log.take(),
        [
            Event::Connected,
            Event::Features(VERSION_1 | EVENT_IDX),
            start(0, 0, false),
            Event::Enabled(0, true),
            start(1, 0, false),
            Event::Enabled(1, true),
        ]
    );
    memory.set_avail(1, 77);
    assert_eq!(front.get_vring_base(1).unwrap(), 77);
    assert_eq!(
        front.get_vring_base(1).unwrap(),
        77,
        "stopped rings keep it"
    );
    front.set_vring_base(1, 77).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(1)], "it needs a kick again");
    front.set_vring_kick(1, None).unwrap();
    assert_eq!(served.log.take(), [start(1, 77, true)]);
    front.set_vring_call(1, None).unwrap();
    front.set_vring_kick(1, Some(event().as_fd())).unwrap();
    front.set_vring_enable(1, false).unwrap();
    assert_eq!(
        served.log.take(),
        [
            Event::Call(1, false),
            Event::Kick(1, true),
            Event::Enabled(1, false)
        ]
    );
    front.check_alive().unwrap();
    drop(front);
    let log = served.log.clone();
    assert!(served.ended().is_disconnect());
    assert_eq!(
        log.take(),
        [
            Event::Stop(0),
            Event::Stop(1),
            Event::Disconnected("ERR_VRING_DISCONNECTED")
        ]
    );
}

/// QEMU before 8.0 adds and removes each region once for each queue pair: rings run on until the last copy is taken away.
#[test]
fn a_region_may_be_added_once_for_each_queue_pair() {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    let memory = Memory::new(4);
    bring_up(&mut front, &memory, 1);
    served.log.take();
    for _ in 0..2 {
        front.add_mem_region(&memory.region()).unwrap();
    }
    for _ in 0..2 {
        front.remove_mem_region(&memory.region()).unwrap();
    }
    assert_eq!(served.log.take(), []);
    front.remove_mem_region(&memory.region()).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0)]);
    assert!(front.remove_mem_region(&memory.region()).is_err());

    front.add_mem_region(&memory.region()).unwrap();
    front.add_mem_region(&memory.region()).unwrap();
    front.set_mem_table(&[memory.region()]).unwrap();
    served.log.take();
    front.remove_mem_region(&memory.region()).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0)]);
    // Part of a region, or the same at another place of its file, is no copy.
    front.add_mem_region(&memory.region()).unwrap();
    let mut other = memory.region();
    other.size -= 4096;
    assert!(front.add_mem_region(&other).is_err());
}

/// Whatever changes under a running ring, the ring is stopped first and goes on where it was.
#[test]
fn changes_stop_running_rings_first() {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    let memory = Memory::new(4);
    bring_up(&mut front, &memory, 1);
    served.log.take();
    memory.set_avail(0, 5);

    let extra = common::memfd(4096);
    let mut more = memory.region();
    (more.guest_addr, more.user_addr, more.size) = (0, 0, 4096);
    more.fd = extra.as_fd();
    front.add_mem_region(&more).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0), start(0, 5, true)]);
    front.remove_mem_region(&more).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0), start(0, 5, true)]);

    // Without its memory the ring stays stopped; with it, it comes back by itself.
    front.remove_mem_region(&memory.region()).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0)]);
    front.add_mem_region(&memory.region()).unwrap();
    assert_eq!(served.log.take(), [start(0, 5, true)]);
    front.set_mem_table(&[memory.region(), more]).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0), start(0, 5, true)]);

    front.set_vring_addr(0, Memory::addresses(2)).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0), start(0, 5, true)]);
    front.set_vring_base(0, 9).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0), start(0, 9, true)]);
    front.set_features(VERSION_1 | BIT_30).unwrap();
    assert_eq!(
        served.log.take(),
        [
            Event::Stop(0),
            Event::Features(VERSION_1),
            start(0, 0, true)
        ]
    );
    front.set_vring_num(0, 512).unwrap();
    assert_eq!(
        served.log.take(),
        [Event::Stop(0)],
        "it waits for its areas"
    );
    drop(front);
    served.ended();
}

/// Without agreed protocol features a ring is enabled as it starts, and memory comes as one table.
#[test]
fn serves_front_ends_without_protocol_features() {
    let (served, socket) = Served::new(BackendConfig {
        protocol_features: ProtocolFeatures::empty(),
        ..config()
    });
    let mut front = Frontend::new(socket.into());
    let memory = Memory::new(1);
    assert_eq!(front.get_features().unwrap(), FEATURES);
    front.set_owner().unwrap();
    front.set_features(VERSION_1).unwrap();
    front.share_memory(&[memory.region()]).unwrap();
    front.set_vring_num(0, 256).unwrap();
    front.set_vring_base(0, 3).unwrap();
    front.set_vring_addr(0, Memory::addresses(0)).unwrap();
    front.set_vring_kick(0, None).unwrap();
    assert_eq!(front.get_vring_base(0).unwrap(), 0, "the avail index");
    assert_eq!(
        served.log.take(),
        [
            Event::Connected,
            Event::Features(VERSION_1),
            start(0, 3, true),
            Event::Stop(0)
        ]
    );
    assert!(matches!(
        front.set_status(1),
        Err(VhostError::NotNegotiated { .. })
    ));
    front.check_alive().unwrap();
    drop(front);
    served.ended();
}

/// Status, MTU, RARP and reset arrive; a reset leaves the memory map and nothing else.
#[test]
fn tells_status_mtu_rarp_and_reset() {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    let memory = Memory::new(1);
    bring_up(&mut front, &memory, 1);
    served.log.take();
    front.set_status(0x0f).unwrap();
    assert_eq!(front.get_status().unwrap(), 0x0f);
    front.net_set_mtu(1500).unwrap();
    assert_eq!(
        front.net_set_mtu(67).unwrap_err().code(),
        "ERR_VRING_VHOST_REJECTED"
    );
    front.send_rarp([2, 0, 0, 0, 0, 9]).unwrap();
    front.reset_device().unwrap();
    assert_eq!(front.get_status().unwrap(), 0);
    assert_eq!(
        served.log.take(),
        [
            Event::Status(0x0f),
            Event::Mtu(1500),
            Event::Rarp([2, 0, 0, 0, 0, 9]),
            Event::Stop(0),
            Event::Reset
        ]
    );
    start_ring(&mut front, 0);
    assert_eq!(
        served.log.take(),
        [start(0, 0, false), Event::Enabled(0, true)]
    );
    drop(front);
    served.ended();
}

/// QEMU writes status 0 first when it stops, and asks for the bases after: they must still be right.
#[test]
fn status_zero_stops_rings_and_keeps_bases() {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    let memory = Memory::new(1);
    bring_up(&mut front, &memory, 1);
    memory.set_avail(0, 1234);
    served.log.take();
    front.set_status(0).unwrap();
    assert_eq!(served.log.take(), [Event::Stop(0), Event::Status(0)]);
    assert_eq!(front.get_vring_base(0).unwrap(), 1234);
    front.set_vring_enable(0, false).unwrap();
    assert_eq!(served.log.take(), []);
    start_ring(&mut front, 0);
    assert_eq!(
        served.log.take(),
        [start(0, 0, false), Event::Enabled(0, true)]
    );
    drop(front);
    served.ended();
}

/// A driver whose features were refused does not get to keep FEATURES_OK (virtio 1.x, 3.1.1).
#[test]
fn refused_features_clear_features_ok() {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    bring_up(&mut front, &Memory::new(1), 0);
    assert_eq!(
        front.set_features(1).unwrap_err().code(),
        "ERR_VRING_VHOST_REJECTED"
    );
    front.set_status(0x0b).unwrap();
    assert_eq!(front.get_status().unwrap(), 0x03);
    drop(front);
    served.ended();
}

/// The full 32 bits of a packed ring's base go both ways, and its size need not be a power of two.
#[test]
fn packed_rings_keep_the_whole_base() {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    let memory = Memory::new(1);
    bring_up(&mut front, &memory, 0);
    front.set_features(VERSION_1 | PACKED | BIT_30).unwrap();
    served.log.take();
    front.set_vring_num(0, 250).unwrap();
    front.set_vring_base(0, 0x8003_8004).unwrap();
    front.set_vring_addr(0, Memory::addresses(0)).unwrap();
    front.set_vring_kick(0, None).unwrap();
    assert_eq!(front.get_vring_base(0).unwrap(), 0x8003_8004);
    assert_eq!(
        served.log.take(),
        [
            Event::Start {
                index: 0,
                size: 250,
                base: 0x8003_8004,
                enabled: false
            },
            Event::Stop(0)
        ]
    );
    drop(front);
    served.ended();
}

/// A peer that never answers costs the time limit and an error that names the request; a stop ends the wait at once.
#[test]
fn silent_peers_do_not_hang_the_front_end() {
    let (silent, socket) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut front = Frontend::new(socket.into()).with_timeout(Duration::from_millis(20));
    let error = front.get_features().unwrap_err();
    assert_eq!(error.code(), "ERR_VRING_PEER_TIMEOUT");
    assert!(error.to_string().contains("GET_FEATURES"), "{error}");
    assert!(front.get_features().unwrap_err().is_disconnect());
    drop(silent);

    let (_silent, socket) = std::os::unix::net::UnixStream::pair().unwrap();
    let stop = std::sync::Arc::new(event());
    raise(&stop);
    let mut front = Frontend::new(socket.into()).with_stop(stop);
    assert!(matches!(front.get_features(), Err(VhostError::Stopped)));
}

fn server(
    role: SocketRole,
    path: &std::path::Path,
) -> (
    Log,
    std::thread::JoinHandle<VhostError>,
    std::sync::Arc<OwnedFd>,
) {
    let log = Log::default();
    let stop = std::sync::Arc::new(event());
    let server = BackendServer::open(role, path, config(), Recorder::new(&log)).unwrap();
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || server.run(&stopped).1);
    (log, thread, stop)
}

/// Over a real path, in both roles of the socket, a front end comes, goes and comes back; the stop ends the server at once and
/// removes the socket of whoever made it.
#[test]
fn reconnects_over_a_path_in_both_roles() {
    for back_role in [SocketRole::Listen, SocketRole::Dial] {
        let path = socket_path("pair");
        let front_role = match back_role {
            SocketRole::Listen => SocketRole::Dial,
            SocketRole::Dial => SocketRole::Listen,
        };
        let (log, thread, stop) = server(back_role, &path);
        let never = event();
        let endpoint = Endpoint::open(front_role, &path).unwrap();
        for _ in 0..3 {
            let socket = endpoint
                .connect(never.as_fd(), Some(Duration::from_secs(20)))
                .unwrap();
            let mut front = Frontend::new(socket);
            bring_up(&mut front, &Memory::new(2), 2);
        }
        // The last connection's end is handled before the next one is served, so one more round shows that all ended.
        let socket = endpoint
            .connect(never.as_fd(), Some(Duration::from_secs(20)))
            .unwrap();
        Frontend::new(socket).get_features().unwrap();
        let ended = log
            .take()
            .iter()
            .filter(|event| **event == Event::Disconnected("ERR_VRING_DISCONNECTED"))
            .count();
        assert!(ended >= 3, "{ended}");
        raise(&stop);
        assert!(matches!(thread.join().unwrap(), VhostError::Stopped));
        drop(endpoint);
        assert!(!path.exists());
    }
}

/// The stop also ends a server whose front end is connected and silent.
#[test]
fn stop_ends_a_live_connection() {
    let (served, socket) = Served::new(config());
    let mut front = Frontend::new(socket.into());
    bring_up(&mut front, &Memory::new(1), 1);
    let log = served.log.clone();
    log.take();
    assert!(matches!(served.stop(), VhostError::Stopped));
    assert_eq!(
        log.take(),
        [Event::Stop(0), Event::Disconnected("ERR_VRING_STOPPED")]
    );
    assert!(front.check_alive().unwrap_err().is_disconnect());
}
