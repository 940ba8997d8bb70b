//! What can go wrong with an lcore.

use std::io;

use vring_port::PortError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The lcore runs already.
    #[error("expected an lcore that is stopped, but {name} is running; stop it first")]
    Running {
        /// The lcore.
        name: String,
    },
    /// The thread cannot run on that processor.
    #[error("expected a processor that this process may run on, got {cpu} ({source})")]
    Cpu {
        /// What came.
        cpu: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The engine needs a queue that the stream has not.
    #[error("engine {engine}: expected a stream with {what}")]
    Stream {
        /// The engine.
        engine: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// The two queues of a stream have different mempools.
    #[error("expected both queues of a stream on one mempool, got '{rx}' and '{tx}'")]
    Mempools {
        /// Of the receive queue.
        rx: String,
        /// Of the transmit queue.
        tx: String,
    },
    /// The two addresses of a generated packet are of different versions.
    #[error("expected two addresses of one version of IP, got {src} and {dst}")]
    Addresses {
        /// Source.
        src: std::net::IpAddr,
        /// Destination.
        dst: std::net::IpAddr,
    },
    /// Packets that are made have no times of their own.
    #[error("expected a recording to be played at its own pace, got none")]
    Recording,
    /// An option is out of range.
    #[error("expected {what} from {min} to {max}, got {got}")]
    Range {
        /// The option.
        what: &'static str,
        /// Lowest.
        min: usize,
        /// Highest.
        max: usize,
        /// What came.
        got: usize,
    },
    /// A queue.
    #[error(transparent)]
    Port(#[from] PortError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl ForwardError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Running { .. } => "ERR_VRING_LCORE_RUNNING",
            Self::Cpu { .. } => "ERR_VRING_CPU",
            Self::Stream { .. } => "ERR_VRING_STREAM",
            Self::Mempools { .. } => "ERR_VRING_WRONG_MEMPOOL",
            Self::Addresses { .. } | Self::Recording => "ERR_VRING_INVALID_ARGUMENT",
            Self::Range { .. } => "ERR_VRING_OUT_OF_RANGE",
            Self::Port(source) => source.code(),
            Self::Thread(_) => "ERR_VRING_SYSTEM",
        }
    }
}
