//! Against the kernel of this machine, each test in a network namespace of its own.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};

use super::*;

mod receive;

/// Runs a test in a new network namespace, on a thread that ends with it. Visibly skipped without the rights to make one.
fn in_namespace(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = || {
            // SAFETY: the network namespace only: memory and files of the process stay shared.
            if let Err(errno) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
                eprintln!("SKIPPED: needs root to make a network namespace ({errno})");
                return;
            }
            test();
        };
        std::thread::Builder::new()
            .spawn_scoped(scope, run)
            .unwrap();
    });
}

fn config(name: &str, queues: u16) -> TapConfig {
    TapConfig {
        name: name.into(),
        queues,
        header: Some(12),
        namespace: Namespace::own(),
    }
}

fn veth(netlink: &mut Netlink, name: &str, peer: &str) -> (Link, Link) {
    let mut other = LinkMessage::default();
    other.attributes = vec![LinkAttribute::IfName(peer.into())];
    let data = InfoData::Veth(InfoVeth::Peer(other));
    let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)];
    let link = netlink.add(name, info, None).unwrap();
    (link, netlink.link(peer).unwrap())
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A tap is made, found, changed as asked, and gone with its last file.
#[test]
fn tap_lives_as_long_as_its_files() {
    in_namespace(|| {
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        let tap = Tap::open(&config("tap%d", 1)).unwrap();
        assert_eq!((tap.name(), tap.existed()), ("tap0", false));
        let index = tap.index();
        netlink.set_mac(index, [2, 0, 0, 0, 0, 9]).unwrap();
        netlink.set_mtu(index, 9000).unwrap();
        netlink
            .add_address(index, "10.1.2.3".parse().unwrap(), 24)
            .unwrap();
        netlink.set_up(index, true).unwrap();
        netlink.set_promiscuous(index, true).unwrap();
        netlink.set_all_multicast(index, true).unwrap();
        let link = netlink.link("tap0").unwrap();
        assert_eq!(
            (link.mac, link.mtu, link.kind.as_str()),
            ([2, 0, 0, 0, 0, 9], 9000, "tun")
        );
        assert!(link.up && link.running && link.promiscuous && link.all_multicast);
        set_carrier(tap.queues()[0].as_fd(), false).unwrap();
        assert!(!netlink.link("tap0").unwrap().running);
        drop(tap);
        assert_eq!(netlink.find("tap0").unwrap(), None);
    });
}

/// A persistent tap is still there, and is attached to again by its name.
#[test]
fn persistent_tap_stays() {
    in_namespace(|| {
        let tap = Tap::open(&config("keep", 4)).unwrap();
        tap.set_persistent(true).unwrap();
        tap.set_owner(65534).unwrap();
        tap.enable_queue(3, false).unwrap();
        tap.enable_queue(3, true).unwrap();
        assert!(tap.enable_queue(4, true).is_err());
        drop(tap);
        // One queue of a device for several will do.
        let tap = Tap::open(&config("keep", 1)).unwrap();
        assert!(tap.existed());
        tap.set_persistent(false).unwrap();
    });
}

/// Offloads that the kernel knows are taken; without checksums there are none.
#[test]
fn offloads_are_negotiated() {
    in_namespace(|| {
        let tap = Tap::open(&config("tap0", 1)).unwrap();
        let all = Offloads {
            checksum: true,
            tso4: true,
            tso6: true,
            ecn: true,
            ufo: true,
            uso: true,
        };
        let taken = set_offloads(tap.queues()[0].as_fd(), all).unwrap();
        assert_eq!(Offloads { uso: true, ..taken }, all);
        assert_eq!(
            set_offloads(tap.queues()[0].as_fd(), Offloads::default()).unwrap(),
            Offloads::default()
        );
    });
}

/// Each wrong name has an error of its own that says what to do.
#[test]
fn names_that_cannot_be_opened() {
    in_namespace(|| {
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        let code = |name: &str, queues| Tap::open(&config(name, queues)).unwrap_err().code();
        let _one = Tap::open(&config("one", 1)).unwrap();
        netlink.add_bridge("br0").unwrap();
        assert_eq!(code("one", 1), "ERR_VRING_DEVICE_IN_USE");
        assert_eq!(code("one", 2), "ERR_VRING_DEVICE_KIND");
        assert_eq!(code("br0", 1), "ERR_VRING_DEVICE_KIND");
        assert_eq!(code("a name with spaces", 1), "ERR_VRING_DEVICE_NAME");
        assert_eq!(
            netlink.link("none").unwrap_err().code(),
            "ERR_VRING_NO_SUCH_DEVICE"
        );
        assert_eq!(
            PacketSocket::open(&Namespace::own(), "none")
                .unwrap_err()
                .code(),
            "ERR_VRING_NO_SUCH_DEVICE"
        );
        assert_eq!(
            Macvtap::open(&Namespace::own(), "br0", 1, 12)
                .unwrap_err()
                .code(),
            "ERR_VRING_DEVICE_KIND"
        );
        assert_eq!(
            Namespace::open("no-such-namespace").unwrap_err().code(),
            "ERR_VRING_NO_NAMESPACE"
        );
        assert_eq!(
            Namespace::open("/dev/null").unwrap_err().code(),
            "ERR_VRING_NO_NAMESPACE"
        );
    });
}

/// A tap is made in another namespace; the thread that asks stays where it is.
#[test]
fn opens_in_another_namespace() {
    in_namespace(|| {
        let (name, ready) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            // SAFETY: as in in_namespace.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            let thread = rustix::thread::gettid().as_raw_nonzero();
            name.send(format!("/proc/self/task/{thread}/ns/net"))
                .unwrap();
            let _until_dropped = wait.recv();
        });
        let namespace = Namespace::open(&ready.recv().unwrap()).unwrap();
        drop(done);
        other.join().unwrap();
        let tap = Tap::open(&TapConfig {
            namespace: namespace.clone(),
            ..config("far0", 1)
        })
        .unwrap();
        assert_eq!(
            Netlink::open(&Namespace::own())
                .unwrap()
                .find("far0")
                .unwrap(),
            None
        );
        let mut there = Netlink::open(&namespace).unwrap();
        assert_eq!(there.link("far0").unwrap().index, tap.index());
    });
}

/// Whatever happens to a link is told: made, changed, switched, deleted.
#[test]
fn monitor_tells_changes() {
    in_namespace(|| {
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        let mut monitor = LinkMonitor::open(&Namespace::own()).unwrap();
        assert_eq!(monitor.take().unwrap(), []);
        let tap = Tap::open(&config("tap0", 1)).unwrap();
        let index = tap.index();
        netlink.set_mtu(index, 1400).unwrap();
        netlink.set_up(index, true).unwrap();
        let mut fds = [PollFd::new(&monitor, PollFlags::IN)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        let changes = monitor.take().unwrap();
        assert!(changes.iter().any(|change| matches!(change, LinkChange::Now(link) if link.index == index && link.mtu == 1400)));
        assert!(changes.iter().any(
            |change| matches!(change, LinkChange::Now(link) if link.index == index && link.running)
        ));
        netlink.delete(index).unwrap();
        assert!(
            monitor
                .take()
                .unwrap()
                .contains(&LinkChange::Gone { index })
        );
    });
}

/// A bridge gets and loses a port; leaving it is not taken for the end of the device.
#[test]
fn bridge_ports() {
    in_namespace(|| {
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        let bridge = netlink.add_bridge("br0").unwrap();
        let tap = Tap::open(&config("tap0", 1)).unwrap();
        let mut monitor = LinkMonitor::open(&Namespace::own()).unwrap();
        netlink.set_master(tap.index(), Some(bridge.index)).unwrap();
        assert_eq!(netlink.link("tap0").unwrap().master, Some(bridge.index));
        netlink.set_master(tap.index(), None).unwrap();
        assert_eq!(netlink.link("tap0").unwrap().master, None);
        assert!(
            monitor
                .take()
                .unwrap()
                .iter()
                .all(|change| matches!(change, LinkChange::Now(_)))
        );
    });
}

/// A descriptor of the caller's is what it says, or is refused with what it is.
#[test]
fn given_descriptors_are_checked() {
    in_namespace(|| {
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        let (left, _) = veth(&mut netlink, "v0", "v1");
        let tap = Tap::open(&config("tap0", 1)).unwrap();
        let expected = Given::Tap {
            name: "tap0".into(),
            header: true,
        };
        assert_eq!(check_given(tap.queues()[0].as_fd()).unwrap(), expected);
        let socket = PacketSocket::open(&Namespace::own(), "v0").unwrap();
        assert!(
            check_given(socket.as_fd())
                .unwrap_err()
                .to_string()
                .contains("bound to no device")
        );
        socket.bind().unwrap();
        assert_eq!(
            check_given(socket.as_fd()).unwrap(),
            Given::Packet { index: left.index }
        );
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(
            check_given(file.as_fd()).unwrap_err().code(),
            "ERR_VRING_DESCRIPTOR_KIND"
        );
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(
            check_given(stream.as_fd())
                .unwrap_err()
                .to_string()
                .contains("another family")
        );
    });
}

/// What goes into one end of a veth comes out of a packet socket on the other, once, and what it sends goes back.
#[test]
fn packet_sockets_carry_frames() {
    in_namespace(|| {
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        let (left, right) = veth(&mut netlink, "v0", "v1");
        // A socket that is bound while its device is off begins with an error.
        for link in [&left, &right] {
            netlink.set_up(link.index, true).unwrap();
        }
        let ends = ["v0", "v1"].map(|name| {
            let socket = PacketSocket::open(&Namespace::own(), name).unwrap();
            socket.ignore_outgoing().unwrap();
            socket.bypass_qdisc().unwrap();
            socket.bind().unwrap();
            socket
        });
        let mut frame = [0u8; 60];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        for (from, to) in [(0, 1), (1, 0)] {
            frame[20] = u8::try_from(from).unwrap();
            rustix::io::write(&ends[from], &frame).unwrap();
            let mut got = [0u8; 128];
            // The kernel's own neighbour discovery may come first.
            loop {
                let mut fds = [PollFd::new(&ends[to], PollFlags::IN)];
                poll(&mut fds, None).unwrap();
                let len = rustix::io::read(&ends[to], &mut got).unwrap();
                if got[..len] == frame {
                    break;
                }
            }
            assert_eq!(ends[from].take_drops().unwrap(), 0);
        }
    });
}

/// A fanout group takes sockets of the same device, and refuses another rule.
#[test]
fn fanout_groups() {
    in_namespace(|| {
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        veth(&mut netlink, "v0", "v1");
        let open = || {
            let socket = PacketSocket::open(&Namespace::own(), "v0").unwrap();
            socket.bind().unwrap();
            socket
        };
        let sockets = [open(), open()];
        sockets
            .iter()
            .for_each(|socket| socket.join(7, Fanout::Hash).unwrap());
        assert!(open().join(7, Fanout::RoundRobin).is_err());
    });
}

/// Opening and failing to open leave no descriptor behind. Alone in its process: the others open some meanwhile.
#[test]
fn no_descriptor_is_left() {
    if std::env::var_os("VRING_ALONE").is_none() {
        let itself = std::env::current_exe().unwrap();
        let status = std::process::Command::new(itself)
            .args(["tests::no_descriptor_is_left", "--exact", "--nocapture"])
            .env("VRING_ALONE", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    in_namespace(|| {
        let before = descriptors();
        for _ in 0..50 {
            let tap = Tap::open(&config("tap0", 4)).unwrap();
            assert!(Tap::open(&config("tap0", 1)).is_ok());
            assert!(Tap::open(&config("lo", 2)).is_err());
            assert!(PacketSocket::open(&Namespace::own(), "gone").is_err());
            let monitor = LinkMonitor::open(&Namespace::own()).unwrap();
            drop((tap, monitor));
        }
        assert_eq!(descriptors(), before);
    });
}

/// A macvtap that takes a tap over: what the tap's user sends to any address comes out of its file, and the other way round. The tap is promiscuous
/// meanwhile, without the flag of `ip link`; the macvtap goes with it.
#[test]
fn macvtap_takes_a_tap_over() {
    in_namespace(|| {
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        let tap = Tap::open(&TapConfig {
            header: None,
            ..config("vEth0", 1)
        })
        .unwrap();
        netlink.set_up(tap.index(), true).unwrap();
        assert!(!netlink.link("vEth0").unwrap().promiscuous);
        let mut monitor = LinkMonitor::open(&Namespace::own()).unwrap();
        let link = Macvtap::take_over(&mut netlink, "vEth0-vm", tap.index()).unwrap();
        assert_eq!(link.lower, Some(tap.index()));
        assert!(netlink.link("vEth0").unwrap().promiscuous);
        let told = |change: &LinkChange| matches!(change, LinkChange::Now(link) if link.name == "vEth0" && link.promiscuous);
        assert!(monitor.take().unwrap().iter().any(told));
        assert!(Macvtap::take_over(&mut netlink, "twice", tap.index()).is_err());

        let file = &Macvtap::open(&Namespace::own(), "vEth0-vm", 1, 10)
            .unwrap()
            .into_queues()[0];
        let mut frame = [7u8; 60];
        for to in [[2, 0, 0, 0, 0, 9], [0x33, 0x33, 0, 0, 0, 1], [0xff; 6]] {
            frame[..6].copy_from_slice(&to);
            rustix::io::write(&tap.queues()[0], &frame).unwrap();
            let got = read_frame(file, 10);
            assert_eq!(got, frame);
        }
        let mut with_header = [0u8; 70];
        with_header[10..].copy_from_slice(&frame);
        rustix::io::write(file, &with_header).unwrap();
        assert_eq!(read_frame(&tap.queues()[0], 0), frame);
        let counters = netlink.link("vEth0").unwrap().counters;
        assert_eq!((counters.rx_packets, counters.tx_packets), (3, 1));
        drop(tap);
        assert_eq!(netlink.find("vEth0-vm").unwrap(), None);
    });
}

/// The next frame, without its header, when it is there.
fn read_frame(file: &std::os::fd::OwnedFd, header: usize) -> Vec<u8> {
    poll(&mut [PollFd::new(file, PollFlags::IN)], None).unwrap();
    let mut bytes = [0; 256];
    let len = rustix::io::read(file, &mut bytes[..]).unwrap();
    bytes[header..len].to_vec()
}
