//! What a device says of itself by message: `net_vhost` to front ends that ask, `net_virtio_user` of back ends that can be asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vring_mem::{Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, Port, PortConfig, open};

fn config(pool: &Arc<Mempool>, mtu: u16) -> PortConfig {
    PortConfig {
        pool: pool.clone(),
        rx_queues: 2,
        tx_queues: 2,
        rx_desc: 64,
        tx_desc: 64,
        mtu,
        offloads: Offloads::NONE,
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::yield_now();
    }
}

fn pair(name: &str, args: &str) -> (Port, Port) {
    let pool = Mempool::new(&MempoolConfig {
        count: 2048,
        pages: Pages::Base,
        ..Default::default()
    });
    let pool = pool.unwrap();
    let path = std::env::temp_dir().join(format!("vring-space-{name}-{}", std::process::id()));
    let path = path.display();
    let vhost = Device::parse(&format!("net_vhost_{name},iface={path},queues=2{args}")).unwrap();
    let virtio = Device::parse(&format!("net_virtio_user_{name},path={path},queues=2")).unwrap();
    let vhost = open(&vhost, &config(&pool, 4000)).unwrap();
    let virtio = open(&virtio, &config(&pool, 1500)).unwrap();
    until("link up", || vhost.link().up && virtio.link().up);
    (vhost, virtio)
}

fn detail(port: &Port, name: &str) -> Option<String> {
    port.info().details.get(name).cloned()
}

/// The driver's end sees the device's MTU and link, when it connects and when they change.
#[test]
fn a_driver_hears_what_the_device_says_of_itself() {
    let (vhost, virtio) = pair("told", ",config=1");
    for feature in ["STATUS", "SPEED_DUPLEX", "MTU"] {
        assert!(virtio.info().features.contains(&feature), "{feature}");
    }
    assert_eq!(virtio.link().speed, 10_000);
    assert_eq!(detail(&virtio, "device mtu").as_deref(), Some("4000"));
    assert_eq!(detail(&virtio, "device queue pairs").as_deref(), Some("2"));
    vhost.set_mtu(2000).unwrap();
    until("the new MTU", || {
        detail(&virtio, "device mtu").as_deref() == Some("2000")
    });
    for _ in 0..3 {
        vhost.set_link(false).unwrap();
        until("link down", || !virtio.link().up);
        vhost.set_link(true).unwrap();
        until("link up", || virtio.link().up);
    }
}

/// Without the argument nothing is offered that nobody could read, and the link is up while the connection is.
#[test]
fn a_device_that_is_not_to_be_asked_says_nothing() {
    let (_vhost, virtio) = pair("untold", "");
    for feature in ["STATUS", "SPEED_DUPLEX"] {
        assert!(!virtio.info().features.contains(&feature), "{feature}");
    }
    assert_eq!(detail(&virtio, "device mtu"), None);
}
