//! The messages of the protocol: request numbers, header, payloads and protocol features, as the vhost-user specification
//! (QEMU, docs/interop/vhost-user.rst) lays them out. All numbers are in the machine's own byte order.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Feature bit by which a back end says that it knows protocol features at all (`VHOST_USER_F_PROTOCOL_FEATURES`). Without
/// it rings are enabled as soon as they are started.
pub const F_PROTOCOL_FEATURES: u64 = 1 << 30;
/// `VIRTIO_RING_F_EVENT_IDX`: the rings carry an event index behind their last entry.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// `VHOST_F_LOG_ALL`: pages that the device writes are marked in the log.
pub const F_LOG_ALL: u64 = 1 << 26;
/// `VIRTIO_F_ACCESS_PLATFORM`: addresses are I/O virtual and translated by the front end.
pub const F_ACCESS_PLATFORM: u64 = 1 << 33;
/// `VIRTIO_F_RING_PACKED`: the rings have the packed layout.
pub const F_RING_PACKED: u64 = 1 << 34;

/// The most descriptors that one message carries, and the most regions of a `SET_MEM_TABLE`.
pub const MAX_FDS: usize = 8;
/// The longest payload that is read at all. The longest that has a meaning here is shorter.
pub const MAX_PAYLOAD: usize = 4096;
/// The most rings that a message with an 8-bit index can name.
pub const MAX_VRINGS: u16 = 256;
/// The largest ring of virtio.
pub const MAX_VRING_SIZE: u32 = 32768;

/// Version bits of the header's flags; the only version is 1.
pub const VERSION_MASK: u32 = 0x3;
/// The only version of the protocol.
pub const VERSION: u32 = 0x1;
/// Header flag: this message answers one.
pub const FLAG_REPLY: u32 = 0x4;
/// Header flag: the front end wants an answer even where the protocol has none.
pub const FLAG_NEED_REPLY: u32 = 0x8;

/// Low bits of the payload of `SET_VRING_KICK/CALL/ERR`: the ring.
pub const VRING_INDEX_MASK: u64 = 0xff;
/// Bit of the same payload: no descriptor comes with the message, the ring is polled.
pub const VRING_NOFD: u64 = 0x100;
/// Flag of `SET_VRING_ADDR`: writes to the ring are logged too.
pub const VRING_F_LOG: u32 = 1;
/// The most bytes of device configuration space that one message carries.
pub const MAX_CONFIG: usize = 256;

bitflags! {
    /// Protocol features (`VHOST_USER_PROTOCOL_F_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ProtocolFeatures: u64 {
        /// Several queue pairs.
        const MQ = 1 << 0;
        /// The log of dirtied pages is shared memory.
        const LOG_SHMFD = 1 << 1;
        /// The back end can announce a migrated guest by a RARP broadcast.
        const RARP = 1 << 2;
        /// Any request can ask for an answer.
        const REPLY_ACK = 1 << 3;
        /// The front end tells the MTU.
        const NET_MTU = 1 << 4;
        /// A second channel for requests of the back end.
        const BACKEND_REQ = 1 << 5;
        /// Ring endianness can be set for legacy guests.
        const CROSS_ENDIAN = 1 << 6;
        /// Device configuration space by message.
        const CONFIG = 1 << 9;
        /// In-flight descriptors are tracked in shared memory.
        const INFLIGHT_SHMFD = 1 << 12;
        /// The device can be reset by message.
        const RESET_DEVICE = 1 << 13;
        /// Memory regions come and go one by one.
        const CONFIGURE_MEM_SLOTS = 1 << 15;
        /// The virtio device status is told and asked.
        const STATUS = 1 << 16;
    }
}

impl ProtocolFeatures {
    /// What this crate implements, at both ends.
    pub const IMPLEMENTED: Self = Self::MQ
        .union(Self::LOG_SHMFD)
        .union(Self::BACKEND_REQ)
        .union(Self::CONFIG)
        .union(Self::INFLIGHT_SHMFD)
        .union(Self::RARP)
        .union(Self::REPLY_ACK)
        .union(Self::NET_MTU)
        .union(Self::RESET_DEVICE)
        .union(Self::CONFIGURE_MEM_SLOTS)
        .union(Self::STATUS);
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// Requests of the front end (`VHOST_USER_*`) that this crate knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[allow(non_camel_case_types)]
        pub enum Request { $($(#[$doc])* $name = $number,)* }

        impl Request {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The request with this number, if it is one of them.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for Request {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$name => stringify!($name),)* })
            }
        }
    };
}

requests! {
    /// Asks for the virtio features that the device offers.
    GET_FEATURES = 1,
    /// Tells the virtio features that the driver took.
    SET_FEATURES = 2,
    /// Opens the session.
    SET_OWNER = 3,
    /// Deprecated; disables all rings.
    RESET_OWNER = 4,
    /// Replaces the memory map.
    SET_MEM_TABLE = 5,
    /// Passes the log of dirtied pages.
    SET_LOG_BASE = 6,
    /// Passes the descriptor by which the front end is told of new marks in the log.
    SET_LOG_FD = 7,
    /// Tells a ring's size.
    SET_VRING_NUM = 8,
    /// Tells a ring's addresses.
    SET_VRING_ADDR = 9,
    /// Tells where in the ring the device goes on.
    SET_VRING_BASE = 10,
    /// Stops a ring and asks where the device was.
    GET_VRING_BASE = 11,
    /// Passes the descriptor that wakes the device, and starts the ring.
    SET_VRING_KICK = 12,
    /// Passes the descriptor that wakes the driver.
    SET_VRING_CALL = 13,
    /// Passes the descriptor that tells of a broken ring.
    SET_VRING_ERR = 14,
    /// Asks for the protocol features that the back end offers.
    GET_PROTOCOL_FEATURES = 15,
    /// Tells the protocol features that the front end took.
    SET_PROTOCOL_FEATURES = 16,
    /// Asks how many queues there can be (for a net device: pairs).
    GET_QUEUE_NUM = 17,
    /// Lets a ring's packets pass, or not.
    SET_VRING_ENABLE = 18,
    /// Asks for a RARP broadcast after a migration.
    SEND_RARP = 19,
    /// Tells the MTU.
    NET_SET_MTU = 20,
    /// Passes the socket for requests of the back end.
    SET_BACKEND_REQ_FD = 21,
    /// Tells a translation of the IOMMU's, or takes some back.
    IOTLB_MSG = 22,
    /// Reads the device configuration space.
    GET_CONFIG = 24,
    /// Writes the device configuration space.
    SET_CONFIG = 25,
    /// Asks for a new record of what is in flight, in a file.
    GET_INFLIGHT_FD = 31,
    /// Passes such a record, new or left by another back end.
    SET_INFLIGHT_FD = 32,
    /// Disables all rings and resets the device.
    RESET_DEVICE = 34,
    /// Asks how many memory regions there can be.
    GET_MAX_MEM_SLOTS = 36,
    /// Adds a memory region.
    ADD_MEM_REG = 37,
    /// Removes a memory region.
    REM_MEM_REG = 38,
    /// Tells the virtio device status.
    SET_STATUS = 39,
    /// Asks for the virtio device status.
    GET_STATUS = 40,
}

impl Request {
    /// Whether the protocol itself has an answer with a payload to this request, `NEED_REPLY` or not.
    #[must_use]
    pub const fn has_reply(self) -> bool {
        matches!(
            self,
            Self::GET_FEATURES
                | Self::GET_VRING_BASE
                | Self::GET_PROTOCOL_FEATURES
                | Self::GET_QUEUE_NUM
                | Self::GET_CONFIG
                | Self::GET_INFLIGHT_FD
                | Self::GET_MAX_MEM_SLOTS
                | Self::GET_STATUS
        )
    }

    /// The protocol feature without which the request must not be sent.
    #[must_use]
    pub const fn needs(self) -> ProtocolFeatures {
        match self {
            Self::GET_QUEUE_NUM => ProtocolFeatures::MQ,
            Self::SET_LOG_BASE | Self::SET_LOG_FD => ProtocolFeatures::LOG_SHMFD,
            Self::SET_BACKEND_REQ_FD => ProtocolFeatures::BACKEND_REQ,
            Self::GET_CONFIG | Self::SET_CONFIG => ProtocolFeatures::CONFIG,
            Self::GET_INFLIGHT_FD | Self::SET_INFLIGHT_FD => ProtocolFeatures::INFLIGHT_SHMFD,
            Self::SEND_RARP => ProtocolFeatures::RARP,
            Self::NET_SET_MTU => ProtocolFeatures::NET_MTU,
            Self::RESET_DEVICE => ProtocolFeatures::RESET_DEVICE,
            Self::GET_MAX_MEM_SLOTS | Self::ADD_MEM_REG | Self::REM_MEM_REG => {
                ProtocolFeatures::CONFIGURE_MEM_SLOTS
            }
            Self::SET_STATUS | Self::GET_STATUS => ProtocolFeatures::STATUS,
            _ => ProtocolFeatures::empty(),
        }
    }
}

/// Requests of the back end on its own channel (`VHOST_USER_BACKEND_*`), by their numbers.
pub mod backend {
    /// A translation of the IOMMU's is missing.
    pub const IOTLB_MSG: u32 = 1;
    /// The device configuration space changed.
    pub const CONFIG_CHANGE_MSG: u32 = 2;
}

/// What every message begins with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Header {
    /// Number of the request.
    pub request: u32,
    /// Version and flags.
    pub flags: u32,
    /// Bytes of payload that follow.
    pub size: u32,
}

/// Payload of `SET_VRING_NUM/BASE/ENABLE` and `GET_VRING_BASE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VringState {
    /// The ring.
    pub index: u32,
    /// The value.
    pub num: u32,
}

/// Payload of `SET_VRING_ADDR`. Addresses are the front end's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VringAddr {
    /// The ring.
    pub index: u32,
    /// Bit 0: writes to the used ring are logged at `log`.
    pub flags: u32,
    /// Descriptor area.
    pub desc: u64,
    /// Device area (used ring).
    pub used: u64,
    /// Driver area (avail ring).
    pub avail: u64,
    /// Guest-physical address of the used ring, for the log.
    pub log: u64,
}

/// What the payload of `SET_MEM_TABLE` begins with; `count` [`MemoryRegion`]s follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryTable {
    /// Number of regions.
    pub count: u32,
    /// Unused.
    pub padding: u32,
}

/// One region of the front end's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryRegion {
    /// First guest-physical address.
    pub guest_addr: u64,
    /// Bytes.
    pub size: u64,
    /// First address in the front end.
    pub user_addr: u64,
    /// Where in the passed file it begins.
    pub mmap_offset: u64,
}

/// Payload of `ADD_MEM_REG` and `REM_MEM_REG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SingleRegion {
    /// Unused.
    pub padding: u64,
    /// The region.
    pub region: MemoryRegion,
}

/// Payload of `SET_LOG_BASE`, whose descriptor is a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LogArea {
    /// Bytes of the log.
    pub size: u64,
    /// Where it begins in the file.
    pub offset: u64,
}

/// Payload of `GET_INFLIGHT_FD` and `SET_INFLIGHT_FD`. As a structure of C it ends with padding, and so it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct InflightArea {
    /// Bytes of the records.
    pub mmap_size: u64,
    /// Where they begin in the file.
    pub mmap_offset: u64,
    /// Rings.
    pub num_queues: u16,
    /// Descriptors of the largest of them.
    pub queue_size: u16,
    /// Unused.
    pub padding: u32,
}

/// Kinds of [`IotlbMessage`] (`VHOST_IOTLB_*`).
pub mod iotlb {
    /// The back end asks for a translation.
    pub const MISS: u8 = 1;
    /// The front end tells one.
    pub const UPDATE: u8 = 2;
    /// The front end takes back all that it told of a range.
    pub const INVALIDATE: u8 = 3;
    /// The back end tells of an access that was not allowed.
    pub const ACCESS_FAIL: u8 = 4;
}

/// Payload of both `IOTLB_MSG` (`struct vhost_iotlb_msg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IotlbMessage {
    /// First I/O virtual address.
    pub iova: u64,
    /// Bytes.
    pub size: u64,
    /// Where they are in the front end.
    pub user_addr: u64,
    /// Bit 0: the device may read; bit 1: it may write.
    pub access: u8,
    /// Which of [`iotlb`].
    pub kind: u8,
    /// Unused.
    pub padding: [u8; 6],
}

/// What the payload of `GET_CONFIG` and `SET_CONFIG` begins with; `size` bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ConfigSpace {
    /// Where in the configuration space.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// 0: the driver writes; 1: a migration restores fields that the driver cannot write.
    pub flags: u32,
}
