//! What a `net_virtio_user` port on vhost in the kernel says where it cannot be. Whether it works is for a guest to show, which has one.

use vring_mem::{Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, PortConfig, PortError, open};

fn refused(device: &str) -> PortError {
    let pool = Mempool::new(&MempoolConfig {
        count: 64,
        pages: Pages::Base,
        ..MempoolConfig::default()
    });
    let config = PortConfig {
        pool: pool.unwrap(),
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        offloads: Offloads::NONE,
    };
    open(&Device::parse(device).unwrap(), &config).unwrap_err()
}

/// A machine without vhost-net is told so at once, and what to do; it is not taken for a socket that may come later.
#[test]
fn no_vhost_net() {
    let error = refused("net_virtio_user40,path=/dev/vhost-that-is-not-there,iface=tap0");
    assert_eq!(error.code(), "ERR_VRING_NO_SUCH_PATH");
    assert!(error.to_string().contains("vhost_net"), "{error}");
}

/// A character device that is no vhost is refused by the kernel, under the request's name.
#[test]
fn another_device() {
    let error = refused("net_virtio_user41,path=/dev/null");
    assert_eq!(error.code(), "ERR_VRING_VHOST_KERNEL");
    assert!(error.to_string().contains("SET_OWNER"), "{error}");
}

/// Arguments of the one kind of back end are refused with the other, and wrong values say what is right.
#[test]
fn arguments() {
    for (device, part) in [
        (
            "net_virtio_user42,path=/tmp/x,iface=tap0",
            "left out where path is the socket",
        ),
        (
            "net_virtio_user42,path=/dev/null,iface=tap0,fd=0",
            "left out where fd=",
        ),
        (
            "net_virtio_user42,path=/dev/null,fd=x",
            "number of a descriptor",
        ),
        (
            "net_virtio_user42,path=/dev/null,ip=10.0.0.1",
            "like 10.0.0.1/24",
        ),
        (
            "net_virtio_user42,path=/dev/null,ip=10.0.0.1/33",
            "like 10.0.0.1/24",
        ),
        (
            "net_virtio_user42,path=/dev/null,netns=no-such",
            "network namespace",
        ),
    ] {
        let error = refused(device).to_string();
        assert!(error.contains(part), "{device}: {error}");
    }
}
