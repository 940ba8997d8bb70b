//! Ports: one contract, one file a driver.
//!
//! A [`Port`] has receive and transmit queues, a link, statistics and events. A driver makes it, brings its queues up and down as its
//! peer comes and goes, and takes them away when it is closed; the queues themselves do not know which driver they belong to.

mod capture;
mod devargs;
mod drivers;
mod error;
mod event;
mod lock;
mod offload;
mod owner;
mod port;
mod queue;

pub use capture::{
    Capture, CaptureFormat, CaptureOptions, CaptureSource, CaptureStats, CapturedQueue, Filter,
    MAX_SNAPLEN,
};
pub use devargs::{DRIVERS, DevargInfo, Device, DriverInfo};
pub use drivers::{Recording, open};
pub use error::PortError;
pub use event::{EventQueue, LinkStatus, PortEvent};
pub use offload::{OffloadInfo, Offloads, RxOffloads, TxOffloads};
pub use owner::{Owner, Ticket};
pub use port::{AppliedBy, MAX_ADDRESSES, MAX_MTU, MIN_MTU, Port, PortConfig, PortInfo, RxParts};
pub use queue::{
    DescStatus, Halt, KIND_NAMES, KINDS, Mode, Path, Queue, QueueInfo, QueueStats, RxPath, RxQueue,
    Side, Sleep, TxPath, TxQueue,
};
