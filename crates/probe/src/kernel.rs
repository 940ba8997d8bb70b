//! Network devices of the kernel's, vhost, and barriers.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{MembarrierCommand, membarrier as barrier};
use vring_netdev::{Namespace, NetdevError, Tap, TapConfig};
use vring_vhost::{Kernel, KernelError, Workers};

use crate::{Found, Verdict};

const VHOST_NET: &str = "/dev/vhost-net";
const TUN: &str = "/dev/net/tun";
const TUN_FEATURES: Opcode = opcode::read::<u32>(b'T', 207);

pub(crate) fn vhost_net() -> Found {
    let opened = Kernel::open(VHOST_NET, Workers::Kernel).and_then(|vhost| vhost.features());
    match opened {
        Ok(features) => Found::works(format!("open {VHOST_NET}"), features),
        Err(KernelError::NoDevice { path }) => Found::refused(format!("open {path}"), Errno::NOENT),
        Err(KernelError::Permission { path }) => {
            Found::refused(format!("open {path}"), Errno::ACCESS)
        }
        Err(KernelError::Request { request, source }) => {
            Found::error(format!("{request} on {VHOST_NET}"), &source)
        }
        Err(error) => Found {
            verdict: Verdict::Failed,
            step: error.to_string(),
            errno: None,
            value: 0,
        },
    }
}

pub(crate) fn tun() -> Found {
    let file = match rustix::fs::open(TUN, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(errno) => return Found::refused(format!("open {TUN}"), errno),
    };
    // SAFETY: the kernel writes one unsigned int.
    match unsafe { ioctl(&file, Getter::<TUN_FEATURES, u32>::new()) } {
        Ok(flags) => Found::works(format!("open {TUN}"), flags.into()),
        Err(errno) => Found::refused(format!("TUNGETFEATURES on {TUN}"), errno),
    }
}

pub(crate) fn new_tap() -> Found {
    let step = "make a tap";
    let config = TapConfig {
        name: "vringprobe%d".into(),
        queues: 1,
        header: Some(12),
        namespace: Namespace::own(),
    };
    match Tap::open(&config) {
        Ok(_gone_at_once) => Found::works(step, 0),
        Err(NetdevError::NotPermitted { .. }) => Found::refused(step, Errno::PERM),
        Err(NetdevError::NoDriver { .. }) => Found::refused(step, Errno::NODEV),
        Err(NetdevError::System { source, .. }) => Found::error(step, &source),
        Err(error) => Found {
            verdict: Verdict::Failed,
            step: error.to_string(),
            errno: None,
            value: 0,
        },
    }
}

pub(crate) fn packet_socket() -> Found {
    let step = "socket(AF_PACKET, SOCK_RAW)";
    // Protocol 0: it receives nothing.
    let opened = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    );
    match opened {
        Ok(_) => Found::works(step, 0),
        Err(errno) => Found::refused(step, errno),
    }
}

pub(crate) fn membarrier() -> Found {
    let step = "membarrier(REGISTER_PRIVATE_EXPEDITED)";
    match barrier(MembarrierCommand::RegisterPrivateExpedited) {
        Ok(()) => Found::works(step, 0),
        Err(errno) => Found::refused(step, errno),
    }
}
