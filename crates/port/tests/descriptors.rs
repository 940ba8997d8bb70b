//! What a port keeps of the process: in a program of its own, for nothing else to open descriptors meanwhile.

use vring_mem::{Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, PortConfig, open};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A port that is closed has no descriptor left, though somebody holds on to it: a collector may take its time. (`net_ring` has its rings as long,
/// which its peer may have too.)
#[test]
fn closed_ports_keep_none() {
    let pool = Mempool::new(&MempoolConfig {
        count: 2048,
        pages: Pages::Base,
        ..MempoolConfig::default()
    });
    let config = PortConfig {
        pool: pool.unwrap(),
        rx_queues: 2,
        tx_queues: 2,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        offloads: Offloads::NONE,
    };
    let socket = std::env::temp_dir().join(format!("vring-closed-{}", std::process::id()));
    let path = socket.display();
    let devices = [
        "net_null70".to_owned(),
        format!("net_vhost70,iface={path},queues=2"),
        format!("net_virtio_user70,path={path},queues=2"),
    ];
    let before = descriptors();
    let mut closed = Vec::new();
    for device in devices {
        let port = open(&Device::parse(&device).unwrap(), &config).unwrap();
        assert!(descriptors() > before, "{device}");
        assert!(port.rx_queues()[0].wake_fd().is_ok());
        port.close();
        assert_eq!(descriptors(), before, "{device}");
        assert_eq!(
            port.rx_queues()[0].wake_fd().err().unwrap().code(),
            "ERR_VRING_CLOSED"
        );
        closed.push(port);
    }
}
