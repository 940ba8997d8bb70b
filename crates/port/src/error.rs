//! What can go wrong with a port.

use std::io;

use vring_mem::MemError;
use vring_netdev::NetdevError;
use vring_pci::PciError;
use vring_ring::RingFault;
use vring_vhost::{KernelError, VhostError};

/// A failure to open or use a port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// No such driver.
    #[error("expected a device of one of the drivers {known}, got '{got}'{hint}")]
    UnknownDriver {
        /// What came.
        got: String,
        /// The drivers.
        known: String,
        /// The nearest one, as a sentence, or nothing.
        hint: String,
    },
    /// A device argument that its driver does not know.
    #[error("{driver} does not know the argument '{got}'{hint}; it knows {known}")]
    UnknownDevarg {
        /// The driver.
        driver: &'static str,
        /// What came.
        got: String,
        /// What it knows.
        known: String,
        /// The nearest one, as a sentence, or nothing.
        hint: String,
    },
    /// A device argument has a value that it cannot have.
    #[error("{driver}: expected {key} to be {expected}, got '{got}'")]
    BadDevarg {
        /// The driver.
        driver: &'static str,
        /// The argument.
        key: String,
        /// What it can be.
        expected: String,
        /// What came.
        got: String,
    },
    /// A device argument is missing.
    #[error("{driver}: expected the argument {key} ({help}), got none")]
    MissingDevarg {
        /// The driver.
        driver: &'static str,
        /// The argument.
        key: &'static str,
        /// What it is for.
        help: &'static str,
    },
    /// More queues than the device has, or none.
    #[error(
        "{name}: expected 1 to {max} {what}, got {got}; the device argument queues= sets how many there are"
    )]
    Queues {
        /// The port.
        name: String,
        /// Receive or transmit queues.
        what: &'static str,
        /// Most.
        max: u16,
        /// What came.
        got: u16,
    },
    /// No such offload.
    #[error("expected {what} offloads of {known}, got '{got}'")]
    UnknownOffload {
        /// Receive or transmit.
        what: &'static str,
        /// What came.
        got: String,
        /// What there is.
        known: String,
    },
    /// Neither the device nor the software can do it.
    #[error("{name}: {what} is not supported: {why}")]
    NotSupported {
        /// The port.
        name: String,
        /// What was asked for.
        what: String,
        /// Why not, and what to do.
        why: String,
    },
    /// More queues than the port was opened with, or none.
    #[error("{name}: expected 1 to {max} {what}, as many as the port was opened with, got {got}")]
    ActiveQueues {
        /// The port.
        name: String,
        /// Receive or transmit queues.
        what: &'static str,
        /// Most.
        max: usize,
        /// What came.
        got: u16,
    },
    /// An Ethernet address that cannot be used so, or one too many.
    #[error("{name}: expected {expected}, got {got}")]
    Address {
        /// The port.
        name: String,
        /// What it can be.
        expected: String,
        /// What came.
        got: String,
    },
    /// No such queue.
    #[error("{name}: expected a {what} queue below {count}, got {got}")]
    NoQueue {
        /// The port.
        name: String,
        /// Receive or transmit.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// What came.
        got: u16,
    },
    /// The ring has no such descriptor.
    #[error("{queue}: expected a descriptor below {size}, got {got}")]
    NoDescriptor {
        /// The queue.
        queue: String,
        /// Descriptors.
        size: u32,
        /// What came.
        got: u32,
    },
    /// A ring cannot have that many descriptors.
    #[error("{name}: expected a queue size that is {expected}, got {got}")]
    QueueSize {
        /// The port.
        name: String,
        /// What a ring of this kind can have.
        expected: &'static str,
        /// What came.
        got: usize,
    },
    /// The MTU is out of range or does not fit the mempool.
    #[error("{name}: expected an MTU from 68 to {max}, got {got}")]
    Mtu {
        /// The port.
        name: String,
        /// Most.
        max: u32,
        /// What came.
        got: u32,
    },
    /// Another thread has the queue.
    #[error(
        "{queue} is in use by another thread; a queue has one thread: stop that lcore, or hand the queue over"
    )]
    QueueBusy {
        /// The queue.
        queue: String,
    },
    /// The port was closed.
    #[error("{name} is closed; open the port again")]
    Closed {
        /// The port or queue.
        name: String,
    },
    /// A burst holds packets of another mempool than the queue's.
    #[error(
        "expected a burst of mempool '{expected}', which {queue} was opened with, got one of '{got}'"
    )]
    WrongMempool {
        /// The queue.
        queue: String,
        /// Its pool.
        expected: String,
        /// The burst's.
        got: String,
    },
    /// A name that another port has.
    #[error(
        "expected a device name that is not in use, got '{name}'; number the devices, as in {name}1"
    )]
    NameInUse {
        /// The name.
        name: String,
    },
    /// A peer broke the rules of the ring.
    #[error("{queue}: {fault}; the queue is stopped until the peer starts it anew")]
    Fault {
        /// The queue.
        queue: String,
        /// What it did.
        fault: RingFault,
    },
    /// The peer does not have what this port needs, or broke the rules.
    #[error("{name}: {what}")]
    Peer {
        /// The port.
        name: String,
        /// What it lacks or did.
        what: String,
        /// The stable code of the cause.
        code: &'static str,
    },
    /// vhost-user failed.
    #[error("{name}: {source}")]
    Vhost {
        /// The port.
        name: String,
        /// What happened.
        source: VhostError,
    },
    /// vhost in the kernel failed.
    #[error("{name}: {source}")]
    Kernel {
        /// The port.
        name: String,
        /// What happened.
        source: KernelError,
    },
    /// A device on the PCI bus cannot be used.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// A network device of the kernel's cannot be used.
    #[error("{name}: {source}")]
    Netdev {
        /// The port.
        name: String,
        /// What happened.
        source: NetdevError,
    },
    /// The kernel's device is gone, or the kernel does not serve it any more.
    #[error("{name}: {what}")]
    DeviceLost {
        /// The port.
        name: String,
        /// What happened, and what to do.
        what: String,
    },
    /// A capture file cannot be read or written.
    #[error("{path}: expected {expected}, got {got}")]
    Capture {
        /// The file.
        path: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A filter that is no program.
    #[error("expected a filter as tcpdump -ddd prints it, got {got}")]
    Filter {
        /// What is wrong with it.
        got: String,
    },
    /// Memory.
    #[error(transparent)]
    Memory(#[from] MemError),
    /// A system call failed.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl PortError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownDriver { .. } => "ERR_VRING_UNKNOWN_DRIVER",
            Self::UnknownDevarg { .. } => "ERR_VRING_UNKNOWN_DEVARG",
            Self::BadDevarg { .. } => "ERR_VRING_BAD_DEVARG",
            Self::MissingDevarg { .. } => "ERR_VRING_MISSING_DEVARG",
            Self::Queues { .. }
            | Self::ActiveQueues { .. }
            | Self::NoQueue { .. }
            | Self::NoDescriptor { .. }
            | Self::Address { .. }
            | Self::Mtu { .. } => "ERR_VRING_OUT_OF_RANGE",
            Self::UnknownOffload { .. } => "ERR_VRING_OFFLOAD",
            Self::NotSupported { .. } => "ERR_VRING_NOT_SUPPORTED",
            Self::QueueSize { .. } => "ERR_VRING_QUEUE_SIZE",
            Self::QueueBusy { .. } => "ERR_VRING_QUEUE_BUSY",
            Self::Closed { .. } => "ERR_VRING_CLOSED",
            Self::WrongMempool { .. } => "ERR_VRING_WRONG_MEMPOOL",
            Self::NameInUse { .. } => "ERR_VRING_NAME_IN_USE",
            Self::Fault { fault, .. } => fault.code(),
            Self::Peer { code, .. } => code,
            Self::Vhost { source, .. } => source.code(),
            Self::Kernel { source, .. } => source.code(),
            Self::Pci(source) => source.code(),
            Self::Netdev { source, .. } => source.code(),
            Self::DeviceLost { .. } => "ERR_VRING_DEVICE_LOST",
            Self::Capture { .. } => "ERR_VRING_CAPTURE",
            Self::Filter { .. } => "ERR_VRING_FILTER",
            Self::Memory(source) => source.code(),
            Self::System { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "ERR_VRING_NO_SUCH_PATH",
                io::ErrorKind::PermissionDenied => "ERR_VRING_PERMISSION",
                _ => "ERR_VRING_SYSTEM",
            },
        }
    }

    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            what: what.into(),
            source: source.into(),
        }
    }
}
