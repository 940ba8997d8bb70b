//! How an engine runs.

use std::net::Ipv4Addr;
use std::time::Duration;

/// What the transmit queue did not take is offered to it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How long to wait before each time.
    pub delay: Duration,
    /// So many times.
    pub times: u32,
}

/// The packets that txonly and `tx_first` send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Bytes of each segment.
    pub segments: Vec<u32>,
    /// Each packet has a random number of the segments, at least one.
    pub random_split: bool,
    /// Source and destination.
    pub ip: (Ipv4Addr, Ipv4Addr),
    /// Ports of UDP, source and destination.
    pub udp: (u16, u16),
    /// txonly: so many flows, which differ in their source address; 1: as `ip` says.
    pub flows: u16,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            segments: vec![64],
            random_split: false,
            // RFC 2544's network for tests, and the discard port.
            ip: (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)),
            udp: (9, 9),
            flows: 1,
        }
    }
}

/// What makes the noisy engine noisy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noise {
    /// Packets that wait before they are sent; 0: none.
    pub buffer: usize,
    /// Those that wait are sent when none came for so long; zero: they are not.
    pub flush: Duration,
    /// MiB of memory that is looked up in.
    pub memory: usize,
    /// Random writes for each packet.
    pub writes: u32,
    /// Random reads for each packet.
    pub reads: u32,
    /// Random reads, each followed by a write, for each packet.
    pub reads_writes: u32,
}

/// What is measured besides packets. Each costs something at every burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measure {
    /// How many packets the bursts have.
    pub bursts: bool,
    /// Processor cycles of turns that moved something.
    pub cycles: bool,
    /// How long packets are between the two queues.
    pub latency: bool,
}

/// How an engine runs.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Packets of a burst, 1 to 512.
    pub burst: usize,
    /// What txonly and `first_bursts` send.
    pub template: Template,
    /// The lcore ends by itself when its streams have together received (txonly, flowgen: sent) that many packets.
    pub limit: Option<u64>,
    /// Bursts of generated packets that each stream sends before it begins (`start tx_first N`).
    pub first_bursts: u32,
    /// For what a transmit queue does not take at once; `None`: that is freed.
    pub retry: Option<Retry>,
    /// flowgen: how many flows.
    pub flowgen_flows: u32,
    /// flowgen: so many packets that are alike follow each.
    pub flowgen_clones: u32,
    /// What the noisy engine does.
    pub noise: Noise,
    /// What is measured.
    pub measure: Measure,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            burst: 32,
            template: Template::default(),
            limit: None,
            first_bursts: 0,
            retry: None,
            flowgen_flows: 1024,
            flowgen_clones: 0,
            noise: Noise::default(),
            measure: Measure::default(),
        }
    }
}
