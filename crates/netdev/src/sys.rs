//! The requests to the kernel that have no safe wrapper elsewhere: ioctls of `/dev/net/tun`, options of packet sockets.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Getter, IntegerSetter, Opcode, Setter, ioctl, opcode};

use crate::NetdevError;

/// Bytes of a device name with its zero.
const NAME_SIZE: usize = 16;

/// The kernel's `struct ifreq`, as far as the tap driver uses it: a name and flags.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct InterfaceRequest {
    name: [u8; NAME_SIZE],
    pub(crate) flags: u16,
    rest: [u8; 22],
}

impl InterfaceRequest {
    /// An empty name lets the kernel choose one; `%d` in it is a number of the kernel's choice.
    pub(crate) fn new(name: &str, flags: u16) -> Result<Self, NetdevError> {
        let bad = name.len() >= NAME_SIZE
            || name
                .bytes()
                .any(|b| b == 0 || b == b'/' || b.is_ascii_whitespace());
        if bad {
            return Err(NetdevError::BadName { got: name.into() });
        }
        let mut request = Self {
            name: [0; NAME_SIZE],
            flags,
            rest: [0; 22],
        };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    pub(crate) fn name(&self) -> String {
        let end = self.name.iter().position(|&b| b == 0);
        String::from_utf8_lossy(&self.name[..end.unwrap_or(NAME_SIZE)]).into_owned()
    }
}

const SET_IFF: Opcode = opcode::write::<c_int>(b'T', 202);
const GET_IFF: Opcode = opcode::read::<u32>(b'T', 210);
pub(crate) const SET_PERSIST: Opcode = opcode::write::<c_int>(b'T', 203);
pub(crate) const SET_OWNER: Opcode = opcode::write::<c_int>(b'T', 204);
pub(crate) const SET_OFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const SET_TX_FILTER: Opcode = opcode::write::<u32>(b'T', 209);
const ATTACH_FILTER: Opcode = opcode::write::<libc::sock_fprog>(b'T', 213);
const DETACH_FILTER: Opcode = opcode::write::<libc::sock_fprog>(b'T', 214);
const SET_HEADER_SIZE: Opcode = opcode::write::<c_int>(b'T', 216);
const SET_QUEUE: Opcode = opcode::write::<c_int>(b'T', 217);
const SET_HEADER_LE: Opcode = opcode::write::<c_int>(b'T', 220);
/// `TUNGETDEVNETNS`, from Linux 5.7 on.
const GET_NAMESPACE: Opcode = opcode::none(b'T', 227);
/// `SIOCSIFHWADDR`, which the files of taps and macvtaps know too.
const SET_ADDRESS: Opcode = opcode::none(0x89, 0x24);
const SET_CARRIER: Opcode = opcode::write::<c_int>(b'T', 226);

/// `TUNSETIFF`: attaches the file to a device, which is made if there is none of that name.
pub(crate) fn set_interface(
    fd: BorrowedFd<'_>,
    request: InterfaceRequest,
) -> Result<InterfaceRequest, Errno> {
    let mut request = request;
    // SAFETY: the kernel reads and writes one `struct ifreq`, whose size and layout InterfaceRequest has.
    unsafe {
        ioctl(
            fd,
            rustix::ioctl::Updater::<SET_IFF, InterfaceRequest>::new(&mut request),
        )
    }?;
    Ok(request)
}

/// `TUNGETIFF`: the device that the file is attached to.
pub(crate) fn get_interface(fd: BorrowedFd<'_>) -> Result<InterfaceRequest, Errno> {
    // SAFETY: the kernel writes one `struct ifreq`; every bit pattern is one.
    unsafe { ioctl(fd, Getter::<GET_IFF, InterfaceRequest>::new()) }
}

/// `TUNSETQUEUE`: attaches or detaches one queue of a multi-queue device.
pub(crate) fn set_queue(fd: BorrowedFd<'_>, request: InterfaceRequest) -> Result<(), Errno> {
    // SAFETY: the kernel reads one `struct ifreq`.
    unsafe { ioctl(fd, Setter::<SET_QUEUE, InterfaceRequest>::new(request)) }
}

/// `TUNSETVNETHDRSZ` and `TUNSETVNETLE`: how long headers are, and that they are little-endian, as those of virtio 1 are everywhere.
pub(crate) fn set_header(fd: BorrowedFd<'_>, size: c_int) -> Result<(), Errno> {
    // SAFETY: the kernel reads one int.
    unsafe { ioctl(fd, Setter::<SET_HEADER_SIZE, c_int>::new(size)) }?;
    // SAFETY: likewise.
    unsafe { ioctl(fd, Setter::<SET_HEADER_LE, c_int>::new(1)) }
}

/// `TUNSETTXFILTER`: `filter` is the kernel's `struct tun_filter`, flags and count and then the addresses.
pub(crate) fn set_tx_filter(fd: BorrowedFd<'_>, filter: &[u8]) -> Result<(), Errno> {
    debug_assert!(filter.len() >= 4);
    // SAFETY: the kernel reads four bytes, and then six for each of the addresses that they say there are: `tap::filter_bytes` makes both.
    let result = unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::Ioctl::from(SET_TX_FILTER),
            filter.as_ptr(),
        )
    };
    // It gives the number of addresses that are compared whole.
    if result < 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

/// `TUNATTACHFILTER`, or `TUNDETACHFILTER` without a program: for all queues of a tap.
pub(crate) fn set_tap_program(
    fd: BorrowedFd<'_>,
    program: Option<&[libc::sock_filter]>,
) -> Result<(), Errno> {
    let request = if program.is_some() {
        ATTACH_FILTER
    } else {
        DETACH_FILTER
    };
    let program = program_of(program.unwrap_or_default());
    // SAFETY: the kernel reads one `struct sock_fprog`, and copies the instructions that it tells of, which outlive the call.
    check(unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::Ioctl::from(request),
            &raw const program,
        )
    })
}

/// `SO_ATTACH_FILTER`, or `SO_DETACH_FILTER` without a program.
pub(crate) fn set_socket_program(
    fd: BorrowedFd<'_>,
    program: Option<&[libc::sock_filter]>,
) -> Result<(), Errno> {
    let option = if program.is_some() {
        libc::SO_ATTACH_FILTER
    } else {
        libc::SO_DETACH_FILTER
    };
    let program = program_of(program.unwrap_or_default());
    let size = libc::socklen_t::try_from(size_of_val(&program)).unwrap_or(0);
    // SAFETY: as in `set_tap_program`.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const program).cast::<c_void>(),
            size,
        )
    })
}

/// Only read by the kernel.
fn program_of(instructions: &[libc::sock_filter]) -> libc::sock_fprog {
    libc::sock_fprog {
        len: u16::try_from(instructions.len()).unwrap_or(0),
        filter: instructions.as_ptr().cast_mut(),
    }
}

/// The Ethernet address of the device that the file is of. It needs no capability, as netlink would.
pub(crate) fn set_address(fd: BorrowedFd<'_>, mac: [u8; 6]) -> Result<(), Errno> {
    // In the place of flags there is a `struct sockaddr` of family ARPHRD_ETHER.
    let mut request = InterfaceRequest {
        name: [0; NAME_SIZE],
        flags: 1,
        rest: [0; 22],
    };
    request.rest[..6].copy_from_slice(&mac);
    // SAFETY: the kernel reads one `struct ifreq`.
    unsafe { ioctl(fd, Setter::<SET_ADDRESS, InterfaceRequest>::new(request)) }
}

/// The network namespace that a tap's device is in now.
pub(crate) fn namespace_of(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: no argument; it gives a new descriptor.
    let namespace = unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(GET_NAMESPACE)) };
    if namespace < 0 {
        return Err(last_error());
    }
    // SAFETY: the kernel has just made it, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(namespace) })
}

/// `TUNSETCARRIER`: whether the kernel's side has a link.
pub(crate) fn set_carrier(fd: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    // SAFETY: the kernel reads one int.
    unsafe { ioctl(fd, Setter::<SET_CARRIER, c_int>::new(on.into())) }
}

/// A request of the tap driver that takes a plain number.
pub(crate) fn set_number<const REQUEST: Opcode>(
    fd: BorrowedFd<'_>,
    value: usize,
) -> Result<(), Errno> {
    // SAFETY: only for the requests above, which take their argument as a number and follow no pointer.
    unsafe { ioctl(fd, IntegerSetter::<REQUEST>::new_usize(value)) }
}

/// A descriptor of our own for what `fd` refers to.
pub(crate) fn duplicate(fd: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: a number that is no open descriptor is an error, and nothing else is looked at.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(last_error());
    }
    // SAFETY: the kernel has just made it, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Sets a socket option of level `SOL_PACKET`.
pub(crate) fn set_packet_option<T: Copy>(
    fd: BorrowedFd<'_>,
    option: c_int,
    value: T,
) -> Result<(), Errno> {
    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the kernel reads `size` bytes of a plain value that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const value).cast::<c_void>(),
            size,
        )
    };
    check(result)
}

/// The kernel's `struct tpacket_stats_v3`: packets, drops, freezes; it counts from zero after each look.
pub(crate) fn packet_statistics(fd: BorrowedFd<'_>) -> Result<[u32; 3], Errno> {
    let mut stats = [0u32; 3];
    let mut size = libc::socklen_t::try_from(size_of_val(&stats)).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            stats.as_mut_ptr().cast::<c_void>(),
            &raw mut size,
        )
    };
    check(result)?;
    Ok(stats)
}

/// Binds a packet socket to a device, for all protocols or, to send only, for none.
pub(crate) fn bind_packet(fd: &OwnedFd, index: u32, receives: bool) -> Result<(), Errno> {
    let mut address = packet_address(index)?;
    if !receives {
        address.sll_protocol = 0;
    }
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: the kernel reads one sockaddr_ll.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) };
    check(result)
}

/// The device that a packet socket is bound to, 0 for none.
pub(crate) fn bound_index(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut address = packet_address(0)?;
    let mut size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes of a sockaddr_ll.
    let result = unsafe {
        libc::getsockname(
            fd.as_fd().as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut size,
        )
    };
    check(result)?;
    Ok(u32::try_from(address.sll_ifindex).unwrap_or(0))
}

fn packet_address(index: u32) -> Result<libc::sockaddr_ll, Errno> {
    let protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or(3).to_be();
    Ok(libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or(17),
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(index).map_err(|_| Errno::NODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    })
}

fn check(result: c_int) -> Result<(), Errno> {
    if result == 0 {
        return Ok(());
    }
    Err(last_error())
}

pub(crate) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
