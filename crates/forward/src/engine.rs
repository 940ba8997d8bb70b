//! The engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vring_mem::burst::MAX_BURST;
use vring_mem::{Burst, Mempool};
use vring_port::{Owner, PortError, RxQueue, TxQueue};

use crate::ForwardError;
use crate::lcore::Work;
use crate::stats::{Counters, add};
use crate::template::Template;

/// What is done to a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Sends it on as it is.
    Io,
    /// Swaps source and destination addresses and sends it on.
    MacSwap,
    /// Counts it and lets go of it.
    RxOnly,
    /// Receives nothing and sends packets of its own.
    TxOnly,
}

impl Engine {
    /// Its name in testpmd.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::MacSwap => "macswap",
            Self::RxOnly => "rxonly",
            Self::TxOnly => "txonly",
        }
    }

    /// The engine of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Io, Self::MacSwap, Self::RxOnly, Self::TxOnly]
            .into_iter()
            .find(|engine| engine.name() == name)
    }

    fn needs(self) -> (bool, bool) {
        (self != Self::TxOnly, self != Self::RxOnly)
    }
}

/// Where packets come from and go to.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// Received from here.
    pub rx: Option<Arc<RxQueue>>,
    /// Sent to here.
    pub tx: Option<Arc<TxQueue>>,
    /// Source address of generated packets: that of the port they are sent on.
    pub src: [u8; 6],
    /// Destination address of generated packets.
    pub dst: [u8; 6],
}

/// How an engine runs.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Packets of a burst, 1 to 512.
    pub burst: usize,
    /// Bytes of each segment of a generated packet.
    pub txpkts: Vec<u32>,
    /// The lcore ends by itself when its streams have together received (txonly: sent) that many packets.
    pub limit: Option<u64>,
    /// Bursts of generated packets that each stream sends before it begins (`start tx_first N`).
    pub first_bursts: u32,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            burst: 32,
            txpkts: vec![64],
            limit: None,
            first_bursts: 0,
        }
    }
}

/// Empty turns after which a thread that is not pinned lets others run.
const IDLE_TURNS: u32 = 64;

/// An engine with its options, checked.
#[derive(Debug)]
pub(crate) struct Run {
    engine: Engine,
    streams: Vec<Stream>,
    burst: usize,
    limit: u64,
    first_bursts: u32,
    /// One for each stream that generates.
    templates: Vec<Option<Template>>,
}

impl Run {
    pub(crate) fn new(
        engine: Engine,
        streams: Vec<Stream>,
        options: &EngineOptions,
    ) -> Result<Self, ForwardError> {
        if !(1..=MAX_BURST).contains(&options.burst) {
            return Err(ForwardError::Range {
                what: "burst",
                min: 1,
                max: MAX_BURST,
                got: options.burst,
            });
        }
        let (rx, tx) = engine.needs();
        for stream in &streams {
            let missing = |what| {
                Err(ForwardError::Stream {
                    engine: engine.name(),
                    what,
                })
            };
            if rx && stream.rx.is_none() {
                return missing("a receive queue");
            }
            if tx && stream.tx.is_none() {
                return missing("a transmit queue");
            }
            if let (true, true, Some(rx), Some(tx)) = (rx, tx, &stream.rx, &stream.tx)
                && rx.pool().id() != tx.pool().id()
            {
                return Err(ForwardError::Mempools {
                    rx: rx.pool().name().into(),
                    tx: tx.pool().name().into(),
                });
            }
        }
        let generates = engine == Engine::TxOnly || options.first_bursts > 0;
        let template = |stream: &Stream| match &stream.tx {
            Some(tx) if generates => {
                Template::new(&options.txpkts, tx.pool(), stream.src, stream.dst).map(Some)
            }
            _ => Ok(None),
        };
        let templates = streams.iter().map(template).collect::<Result<_, _>>()?;
        Ok(Self {
            engine,
            streams,
            burst: options.burst,
            limit: options.limit.unwrap_or(u64::MAX),
            first_bursts: options.first_bursts,
            templates,
        })
    }

    /// One burst of one stream; how many packets count towards the limit.
    #[inline]
    fn turn(
        &self,
        stream: &Stream,
        template: Option<&Template>,
        counters: &Counters,
        owner: Owner,
        burst: &mut Burst,
        left: u64,
    ) -> Result<usize, PortError> {
        if self.engine == Engine::TxOnly {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.burst);
            return generate(stream, template, counters, owner, burst, wanted);
        }
        let Some(rx) = &stream.rx else { return Ok(0) };
        let received = rx.burst(owner, burst)?;
        if received == 0 {
            return Ok(0);
        }
        add(&counters.rx, received);
        match (self.engine, &stream.tx) {
            (Engine::RxOnly, _) | (_, None) => rx.pool().free_burst(burst),
            (engine, Some(tx)) => {
                if engine == Engine::MacSwap {
                    swap_macs(rx.pool(), burst);
                }
                send(tx, counters, owner, burst)?;
            }
        }
        Ok(received)
    }
}

impl Work for Run {
    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Polls until it is told to stop, a limit is reached or a port is closed. A thread that shares its processor gives it away when
    /// there is nothing to do: its peer may be the one that waits for it.
    fn run(self: Box<Self>, counters: &[Counters], owner: Owner, stop: &AtomicBool, shares: bool) {
        let mut burst = Burst::new(self.burst);
        let mut left = self.limit;
        for _ in 0..self.first_bursts {
            for ((stream, counters), template) in
                self.streams.iter().zip(counters).zip(&self.templates)
            {
                // A port that was closed shows again in the loop below, which ends then.
                let _closed = generate(
                    stream,
                    template.as_ref(),
                    counters,
                    owner,
                    &mut burst,
                    self.burst,
                );
            }
        }
        let mut idle = 0;
        while left > 0 && !stop.load(Ordering::Relaxed) {
            let before = left;
            for ((stream, counters), template) in
                self.streams.iter().zip(counters).zip(&self.templates)
            {
                match self.turn(stream, template.as_ref(), counters, owner, &mut burst, left) {
                    Ok(moved) => left = left.saturating_sub(moved as u64),
                    Err(error) => {
                        tracing::warn!(%error, "an lcore ends");
                        return;
                    }
                }
            }
            idle = if left == before { idle + 1 } else { 0 };
            if shares && idle >= IDLE_TURNS {
                idle = 0;
                std::thread::yield_now();
            }
        }
        for stream in &self.streams {
            if let Some(tx) = &stream.tx {
                let _closed = tx.reclaim(owner);
            }
        }
    }
}

/// Sends a burst of packets of our own, as far as there are buffers.
#[inline]
fn generate(
    stream: &Stream,
    template: Option<&Template>,
    counters: &Counters,
    owner: Owner,
    burst: &mut Burst,
    wanted: usize,
) -> Result<usize, PortError> {
    let (Some(tx), Some(template)) = (&stream.tx, template) else {
        return Ok(0);
    };
    template.fill(tx.pool(), burst, wanted);
    send(tx, counters, owner, burst)
}

/// Sends a burst; what the queue does not take is freed and counted, as testpmd does.
#[inline]
fn send(
    tx: &TxQueue,
    counters: &Counters,
    owner: Owner,
    burst: &mut Burst,
) -> Result<usize, PortError> {
    let result = tx.burst(owner, burst);
    if let Ok(sent) = result {
        add(&counters.tx, sent);
    }
    if !burst.is_empty() {
        add(&counters.dropped, burst.len());
        tx.pool().free_burst(burst);
    }
    result
}

/// Swaps the two addresses of each packet.
#[inline]
fn swap_macs(pool: &Mempool, burst: &Burst) {
    for &addr in burst.packets().0 {
        // A burst that was just received holds packets of at least an Ethernet header, each inside its buffer.
        let at = pool.ptr(addr);
        // SAFETY: 12 bytes inside the buffer, which is the burst's; the peer may write to it, hence no reference.
        unsafe {
            let head = at.cast::<u64>().read_unaligned();
            let tail = at.add(8).cast::<u32>().read_unaligned();
            // Bytes 0..6 destination, 6..12 source: as one 96-bit number, rotated by half.
            let all = u128::from(head) | u128::from(tail) << 64;
            let swapped = (all >> 48) | (all & 0xffff_ffff_ffff) << 48;
            #[expect(clippy::cast_possible_truncation, reason = "takes the number apart")]
            let (head, tail) = (swapped as u64, (swapped >> 64) as u32);
            at.cast::<u64>().write_unaligned(head);
            at.add(8).cast::<u32>().write_unaligned(tail);
        }
    }
}
