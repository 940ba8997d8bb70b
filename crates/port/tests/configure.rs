//! What is changed while a port is open counts at once, and costs no packet.

use std::sync::Arc;

use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{
    DescStatus, Device, Halt, Offloads, Owner, Port, PortConfig, PortError, RxOffloads, open,
};

fn pool() -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count: 1024,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap()
}

fn config(pool: &Arc<Mempool>, queues: u16) -> PortConfig {
    PortConfig {
        pool: pool.clone(),
        rx_queues: queues,
        tx_queues: queues,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        offloads: Offloads::NONE,
    }
}

/// A port that receives on each queue what it sends there.
fn looped(name: &str, pool: &Arc<Mempool>, queues: u16) -> Port {
    let device = Device::parse(&format!("net_ring_{name},size=64")).unwrap();
    open(&device, &config(pool, queues)).unwrap()
}

/// Offers `count` packets of 60 bytes; how many were taken.
fn send(port: &Port, queue: usize, count: usize, who: Owner) -> usize {
    let mut burst = Burst::new(32);
    let mut addrs = vec![0; count];
    assert_eq!(port.pool().alloc_bulk(&mut addrs), count);
    for addr in addrs {
        assert!(burst.push(addr, 60, 0));
    }
    let sent = port.tx_queues()[queue].burst(who, &mut burst).unwrap();
    port.pool().free_burst(&mut burst);
    sent
}

fn receive(port: &Port, queue: usize, who: Owner) -> usize {
    let mut burst = Burst::new(32);
    let got = port.rx_queues()[queue].burst(who, &mut burst).unwrap();
    assert_eq!(got, burst.len());
    port.pool().free_burst(&mut burst);
    got
}

/// A stopped queue moves nothing and loses nothing; the other queues do not notice.
#[test]
fn a_stopped_queue_keeps_what_it_has() {
    let pool = pool();
    let port = looped("stop", &pool, 2);
    let who = Owner::new();
    assert_eq!(send(&port, 0, 10, who), 10);
    port.set_rx_queue(0, false).unwrap();
    assert_eq!(receive(&port, 0, who), 0);
    assert_eq!(port.rx_queues()[0].info().halts, Halt::QUEUE);
    assert_eq!(send(&port, 1, 5, who), 5);
    assert_eq!(receive(&port, 1, who), 5);
    port.set_tx_queue(0, false).unwrap();
    assert_eq!(send(&port, 0, 1, who), 0);
    port.set_rx_queue(0, true).unwrap();
    assert_eq!(receive(&port, 0, who), 10);
    port.set_tx_queue(0, true).unwrap();
    assert_eq!(send(&port, 0, 1, who), 1);
    assert_eq!(receive(&port, 0, who), 1);
    port.close();
    assert_eq!(pool.free_count(), 1024);
}

/// What stands in a stopped queue goes back to the mempool with the port, under a name.
#[test]
fn closing_a_stopped_port_frees_its_packets() {
    let pool = pool();
    let port = looped("close", &pool, 1);
    assert_eq!(send(&port, 0, 7, Owner::new()), 7);
    port.stop().unwrap();
    port.close();
    assert_eq!(pool.free_count(), 1024);
    assert_eq!(port.rx_queues()[0].stats().drops["rx_unread"], 7);
    assert!(matches!(port.start(), Err(PortError::Closed { .. })));
}

/// A link that was set down is down whatever the peer does, and nothing moves; set up again, all goes on.
#[test]
fn link_down_is_seen_and_moves_nothing() {
    let pool = pool();
    let port = looped("link", &pool, 1);
    let who = Owner::new();
    let events = || port.events().drain().len();
    assert!(port.link().up);
    let _opened = events();
    assert_eq!(send(&port, 0, 3, who), 3);
    port.set_link(false).unwrap();
    assert!(!port.link().up);
    assert_eq!(events(), 1);
    assert_eq!((send(&port, 0, 1, who), receive(&port, 0, who)), (0, 0));
    // Stopped besides: both reasons must go before packets pass.
    port.stop().unwrap();
    port.set_link(true).unwrap();
    assert!(!port.link().up);
    assert_eq!((events(), receive(&port, 0, who)), (0, 0));
    port.start().unwrap();
    assert!(port.link().up);
    assert_eq!((events(), receive(&port, 0, who)), (1, 3));
}

/// Fewer queues are used at once, and more again, as many as there were at first; what is in the ring of an unused one stays.
#[test]
fn the_number_of_queues_changes_while_open() {
    let pool = pool();
    let port = looped("queues", &pool, 3);
    let who = Owner::new();
    assert_eq!(send(&port, 2, 4, who), 4);
    port.set_queues(1, 2).unwrap();
    assert_eq!(port.used_queues(), (1, 2));
    assert_eq!(receive(&port, 2, who), 0);
    assert_eq!(send(&port, 1, 4, who), 4);
    // Stopped by itself, a queue does not start because it is used again.
    port.set_rx_queue(1, false).unwrap();
    port.set_queues(3, 3).unwrap();
    assert_eq!((receive(&port, 1, who), receive(&port, 2, who)), (0, 4));
    port.set_rx_queue(1, true).unwrap();
    assert_eq!(receive(&port, 1, who), 4);
    for (rx, tx) in [(0, 1), (1, 0), (4, 1), (1, 4)] {
        let error = port.set_queues(rx, tx).unwrap_err();
        assert!(matches!(error, PortError::ActiveQueues { .. }), "{error}");
    }
    assert_eq!(port.used_queues(), (3, 3));
}

/// Descriptors and counts tell what stands in a ring, also while it is stopped; beyond the ring there is nothing.
#[test]
fn descriptors_tell_what_stands_in_the_ring() {
    let pool = pool();
    let port = looped("desc", &pool, 1);
    let (rx, tx) = (&port.rx_queues()[0], &port.tx_queues()[0]);
    assert_eq!(send(&port, 0, 3, Owner::new()), 3);
    for _ in 0..2 {
        assert_eq!((rx.used_count().unwrap(), tx.used_count().unwrap()), (3, 3));
        assert_eq!(rx.desc_status(2).unwrap(), DescStatus::Done);
        assert_eq!(rx.desc_status(3).unwrap(), DescStatus::Available);
        assert_eq!(tx.desc_status(60).unwrap(), DescStatus::Done);
        assert_eq!(tx.desc_status(61).unwrap(), DescStatus::Available);
        let beyond = rx.desc_status(64).unwrap_err();
        assert!(matches!(
            beyond,
            PortError::NoDescriptor {
                size: 64,
                got: 64,
                ..
            }
        ));
        assert_eq!(rx.info().size, 64);
        assert_eq!(rx.info().mode.unwrap().name, "addresses");
        port.stop().unwrap();
    }
}

/// A driver without rings says so instead of making descriptors up.
#[test]
fn no_ring_no_descriptors() {
    let pool = pool();
    let device = Device::parse("net_null_desc").unwrap();
    let port = open(&device, &config(&pool, 1)).unwrap();
    assert_eq!(port.rx_queues()[0].info().size, 0);
    assert!(matches!(
        port.rx_queues()[0].desc_status(0),
        Err(PortError::NoDescriptor { size: 0, .. })
    ));
    assert!(matches!(
        port.rx_queues()[0].used_count(),
        Err(PortError::NotSupported { .. })
    ));
}

/// The MTU has its range, and what is refused changes nothing.
#[test]
fn mtu_is_checked() {
    let pool = pool();
    let port = looped("mtu", &pool, 1);
    port.set_mtu(9000).unwrap();
    for bad in [0, 67, 9729, u16::MAX] {
        assert!(matches!(port.set_mtu(bad), Err(PortError::Mtu { .. })));
    }
    assert_eq!(port.mtu(), 9000);
    port.close();
    assert!(matches!(port.set_mtu(1500), Err(PortError::Closed { .. })));
}

/// An offload that nobody does is refused when the port is opened.
#[test]
fn offloads_that_nobody_does_are_refused() {
    let pool = pool();
    let device = Device::parse("net_null_offload").unwrap();
    let mut config = config(&pool, 1);
    config.offloads.rx = RxOffloads::SCATTER;
    open(&device, &config).unwrap();
    config.offloads.rx = RxOffloads::LRO;
    let error = open(&device, &config).unwrap_err();
    assert_eq!(error.code(), "ERR_VRING_NOT_SUPPORTED");
    assert!(error.to_string().contains("rx lro"), "{error}");
}
