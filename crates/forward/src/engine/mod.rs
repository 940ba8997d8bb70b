//! The engines: what is done to packets between receiving and sending. One file each; see [`Mode`] for what an engine is made of.

mod csum;
mod edit;
mod five_tuple_swap;
mod flowgen;
mod icmpecho;
mod io;
mod lane;
mod mac;
mod macswap;
mod noisy;
mod options;
mod recycle_mbufs;
mod run;
mod rxonly;
mod template;
mod txonly;

use std::sync::Arc;

use vring_net::soft::Renew;
use vring_port::{PortError, RxQueue, TxQueue};

use crate::ForwardError;
use crate::lcore::Work;
use lane::Lane;
pub use options::{EngineOptions, Measure, Noise, Retry, Template as PacketTemplate};
use run::Run;

/// What is done to a burst. The names are those of testpmd's modes, and so is what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Sends it on as it is.
    Io,
    /// Sends it on with the addresses of the port that it leaves by and of that port's peer.
    Mac,
    /// Swaps source and destination addresses and sends it on.
    MacSwap,
    /// Frees what comes, and sends packets of many flows.
    FlowGen,
    /// Counts it and lets go of it.
    RxOnly,
    /// Receives nothing and sends packets of its own.
    TxOnly,
    /// Makes the checksums anew and sends it on with addresses as `Mac`.
    Csum,
    /// Answers ARP and ping, and frees all else.
    IcmpEcho,
    /// Sends it on late, after looking up what a busy network function would.
    Noisy,
    /// Swaps the addresses of layers 2, 3 and 4 and sends it on.
    FiveTupleSwap,
    /// As `Io`, with the buffers of what was sent taken back first: they are the next to receive into.
    RecycleMbufs,
}

impl Engine {
    /// All engines.
    pub const ALL: [Self; 11] = [
        Self::Io,
        Self::Mac,
        Self::MacSwap,
        Self::FlowGen,
        Self::RxOnly,
        Self::TxOnly,
        Self::Csum,
        Self::IcmpEcho,
        Self::Noisy,
        Self::FiveTupleSwap,
        Self::RecycleMbufs,
    ];

    /// Its name in testpmd.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Mac => "mac",
            Self::MacSwap => "macswap",
            Self::FlowGen => "flowgen",
            Self::RxOnly => "rxonly",
            Self::TxOnly => "txonly",
            Self::Csum => "csum",
            Self::IcmpEcho => "icmpecho",
            Self::Noisy => "noisy",
            Self::FiveTupleSwap => "5tswap",
            Self::RecycleMbufs => "recycle_mbufs",
        }
    }

    /// The engine of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Whether it needs a receive queue, and a transmit queue.
    #[must_use]
    pub fn needs(self) -> (bool, bool) {
        (self != Self::TxOnly, self != Self::RxOnly)
    }

    /// The engine at work on streams. Chosen here, once: its loop is compiled for it alone.
    pub(crate) fn work(
        self,
        streams: Vec<Stream>,
        options: &EngineOptions,
    ) -> Result<Box<dyn Work>, ForwardError> {
        match self {
            Self::Io => Run::<io::Io>::boxed(self, streams, options),
            Self::Mac => Run::<mac::Mac>::boxed(self, streams, options),
            Self::MacSwap => Run::<macswap::MacSwap>::boxed(self, streams, options),
            Self::FlowGen => Run::<flowgen::FlowGen>::boxed(self, streams, options),
            Self::RxOnly => Run::<rxonly::RxOnly>::boxed(self, streams, options),
            Self::TxOnly => Run::<txonly::TxOnly>::boxed(self, streams, options),
            Self::Csum => Run::<csum::Csum>::boxed(self, streams, options),
            Self::IcmpEcho => Run::<icmpecho::IcmpEcho>::boxed(self, streams, options),
            Self::Noisy => Run::<noisy::Noisy>::boxed(self, streams, options),
            Self::FiveTupleSwap => {
                Run::<five_tuple_swap::FiveTupleSwap>::boxed(self, streams, options)
            }
            Self::RecycleMbufs => Run::<recycle_mbufs::RecycleMbufs>::boxed(self, streams, options),
        }
    }
}

/// An engine on one stream. It is called again and again for a burst each time.
trait Mode: Sized + Send {
    /// For a stream. What it needs besides packets is made here, and nothing later.
    ///
    /// # Errors
    /// An option out of range.
    fn new(stream: &Stream, options: &EngineOptions) -> Result<Self, ForwardError>;

    /// One burst, or what there is of it; how many packets count towards a limit, of which at most `wanted` are left.
    ///
    /// # Errors
    /// A port was closed.
    fn turn(&mut self, lane: &mut Lane<'_>, wanted: usize) -> Result<usize, PortError>;

    /// Gives back what it holds.
    fn end(&mut self, lane: &mut Lane<'_>) {
        let _holds_nothing = lane;
    }
}

/// Where packets come from and go to.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// Received from here.
    pub rx: Option<Arc<RxQueue>>,
    /// Sent to here.
    pub tx: Option<Arc<TxQueue>>,
    /// Source address of packets that are made or rewritten: that of the port they are sent on.
    pub src: [u8; 6],
    /// Destination address of such packets: that of the port's peer.
    pub dst: [u8; 6],
    /// What the csum engine leaves to the transmit queue, and what that is to cut.
    pub renew: Renew,
}
