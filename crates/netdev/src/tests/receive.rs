//! What a device hands on: filters of taps, memberships, addresses.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::*;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 9];
const ALL: [u8; 6] = [0xff; 6];

/// A tap without headers that is on, and a socket whose frames come out of its file.
fn tap_and_socket() -> (OwnedFd, PacketSocket) {
    let mut config = config("tap0", 1);
    config.header = None;
    let tap = Tap::open(&config).unwrap();
    Netlink::open(&Namespace::own())
        .unwrap()
        .set_up(tap.index(), true)
        .unwrap();
    let socket = PacketSocket::open(&Namespace::own(), "tap0").unwrap();
    socket.bypass_qdisc().unwrap();
    socket.bind().unwrap();
    (tap.into_queues().remove(0), socket)
}

fn frame(to: [u8; 6], rest: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &OTHER, rest].concat();
    frame.resize(60, 0);
    frame
}

/// Which of the frames come out of the tap. What the kernel sends by itself (IPv6) is not ours.
fn pass(file: &OwnedFd, socket: &PacketSocket, frames: &[Vec<u8>]) -> Vec<bool> {
    let mut got = Vec::new();
    for frame in frames {
        match rustix::io::write(socket, frame) {
            // The tap says that it dropped the frame.
            Ok(_) | Err(Errno::NOBUFS) => (),
            Err(errno) => panic!("{errno}"),
        }
    }
    let mut buffer = [0u8; 2048];
    loop {
        match rustix::io::read(file, &mut buffer) {
            Ok(len) => got.push(buffer[..len].to_vec()),
            Err(Errno::AGAIN) => break,
            Err(errno) => panic!("{errno}"),
        }
    }
    frames.iter().map(|frame| got.contains(frame)).collect()
}

/// A tap hands on frames to the addresses that it was told, exactly while they are few; groups as they were asked for.
#[test]
fn taps_filter_addresses() {
    in_namespace(|| {
        let (file, socket) = tap_and_socket();
        let kind = [0x88, 0xb5];
        let frames = [OWN, OTHER, GROUP, ALL].map(|to| frame(to, &kind));
        let through = || pass(&file, &socket, &frames);
        assert_eq!(through(), [true; 4]);
        let filter =
            |addresses: Option<&[_]>, all| set_address_filter(file.as_fd(), addresses, all);
        assert!(filter(Some(&[ALL, OWN]), false).unwrap());
        assert_eq!(through(), [true, false, false, true]);
        assert!(filter(Some(&[ALL, GROUP, OWN]), false).unwrap());
        assert_eq!(through(), [true, false, true, true]);
        assert!(filter(Some(&[ALL, OWN]), true).unwrap());
        assert_eq!(through(), [true, false, true, true]);

        let groups: Vec<_> = (0..20).map(|n| [1, 0, 0x5e, 0, 1, n]).collect();
        let many = [&groups[..], &[ALL, GROUP, OWN]].concat();
        assert!(!filter(Some(&many), false).unwrap(), "groups are hashed");
        assert_eq!(through(), [true, false, true, true]);
        let stations: Vec<_> = (3..20).map(|n| [2, 0, 0, 0, 0, n]).collect();
        let many = [&stations[..], &[ALL, OWN]].concat();
        assert!(!filter(Some(&many), false).unwrap(), "too many stations");
        assert_eq!(through(), [true; 4]);
        assert!(filter(Some(&[ALL, OWN]), false).unwrap());
        assert!(!filter(None, false).unwrap());
        assert_eq!(through(), [true; 4]);
    });
}

/// A tap and a packet socket hand on frames of the VLANs that they were told, and those without a tag.
#[test]
fn vlan_filters() {
    in_namespace(|| {
        let (file, socket) = tap_and_socket();
        let tagged = |id| frame(ALL, &[0x81, 0, 0, id, 0x88, 0xb5]);
        let frames = [frame(ALL, &[0x88, 0xb5]), tagged(0), tagged(5), tagged(6)];
        let program = vlan_program([5]).unwrap();
        assert_eq!(pass(&file, &socket, &frames), [true; 4]);
        Program::set_on_tap(Some(&program), file.as_fd()).unwrap();
        assert_eq!(pass(&file, &socket, &frames), [true, true, true, false]);
        Program::set_on_tap(None, file.as_fd()).unwrap();
        assert_eq!(pass(&file, &socket, &frames), [true; 4]);

        // The other way: what is written to the tap comes to the socket, whose tag the kernel keeps beside the frame.
        Program::set_on_socket(None, socket.as_fd()).unwrap();
        Program::set_on_socket(Some(&program), socket.as_fd()).unwrap();
        for frame in &frames {
            rustix::io::write(&file, frame).unwrap();
        }
        let mut count = 0;
        while rustix::io::read(&socket, &mut [0u8; 128]).is_ok() {
            count += 1;
        }
        assert_eq!(count, 3);
    });
}

/// Groups that a port wants are the device's as long as they are wanted; a set that cannot be had changes nothing.
#[test]
fn memberships() {
    in_namespace(|| {
        let (_file, socket) = tap_and_socket();
        let groups = || std::fs::read_to_string("/proc/thread-self/net/dev_mcast").unwrap();
        let shown = "01005e000009";
        let mut memberships = Memberships::open(&Namespace::own(), socket.index()).unwrap();
        let wanted = BTreeSet::from([Membership::Group(GROUP), Membership::AllMulticast]);
        memberships.set(&wanted).unwrap();
        assert!(groups().contains(shown));
        memberships
            .set(&BTreeSet::from([Membership::Promiscuous]))
            .unwrap();
        assert!(!groups().contains(shown));
        memberships.set(&wanted).unwrap();
        drop(memberships);
        assert!(!groups().contains(shown));

        let mut nowhere = Memberships::open(&Namespace::own(), 9999).unwrap();
        assert!(nowhere.set(&wanted).is_err());
        nowhere.set(&BTreeSet::new()).unwrap();
    });
}

/// The address of a tap is set by its file, and where it is can be asked of it.
#[test]
fn address_and_place() {
    in_namespace(|| {
        let (file, _socket) = tap_and_socket();
        set_address(file.as_fd(), OWN).unwrap();
        let mut netlink = Netlink::open(&Namespace::own()).unwrap();
        let link = netlink.link("tap0").unwrap();
        assert_eq!(link.mac, OWN);
        let (namespace, name) = place_of(file.as_fd()).unwrap();
        assert_eq!(
            (namespace.to_string(), name),
            ("without a name".into(), "tap0".into())
        );
        assert_eq!(
            Netlink::open(&namespace).unwrap().link("tap0").unwrap(),
            link
        );
        netlink.delete(link.index).unwrap();
        assert!(place_of(file.as_fd()).is_none());
    });
}

/// A packet socket has headers of the length that was asked for, or none: kernels before 6.6 have but one length.
#[test]
fn packet_headers() {
    in_namespace(|| {
        let (file, socket) = tap_and_socket();
        let has = set_packet_header(socket.as_fd(), 12).unwrap();
        rustix::io::write(&file, &frame(ALL, &[0x88, 0xb5])).unwrap();
        let mut buffer = [0u8; 128];
        let len = rustix::io::read(&socket, &mut buffer).unwrap();
        assert_eq!(len, if has { 72 } else { 60 });
        assert!(set_packet_header(socket.as_fd(), 10).unwrap());
        rustix::io::write(&file, &frame(ALL, &[0x88, 0xb5])).unwrap();
        assert_eq!(rustix::io::read(&socket, &mut buffer).unwrap(), 70);
    });
}
