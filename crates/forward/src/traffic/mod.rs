//! The traffic generator, and the checker of what comes back.
//!
//! Each sender makes packets of given sizes, flows and rate that bear a [signature](signature); a checker tells from it which packets were
//! lost, came twice, in another order or damaged, and how long each was on its way. Senders and checker of a run share a [`Traffic`]; they
//! run on one lcore or on several, one checker in all, since the packets of a flow must be seen by one.

mod checker;
mod frame;
mod sender;
mod sequence;
mod signature;
mod source;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use vring_mem::Burst;
use vring_mem::burst::MAX_BURST;
use vring_port::{Owner, PortError, Recording, RxQueue};

use crate::lcore::{Idle, Work};
use crate::stats::{Counters, add};
use crate::{ForwardError, Stream};
pub use checker::{Name, Received};
pub use frame::{FrameSpec, MAX_FRAME, Protocol, Vary};
use sender::Sender;
pub use sender::Sent;

/// How many packets of a size among how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Bytes without check sequence, 60 to [`MAX_FRAME`].
    pub bytes: usize,
    /// So many of all weights together.
    pub weight: usize,
}

/// How fast a sender sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Packets a second.
    Packets(f64),
    /// Bits a second on an Ethernet: with preamble, check sequence and gap, 24 bytes a packet.
    Bits(f64),
    /// As the packets of the recording came, so many times as fast.
    Recorded(f64),
}

/// What each sender sends.
#[derive(Debug, Clone)]
pub struct TrafficOptions {
    /// Sizes, which follow each other as evenly as their weights allow.
    pub sizes: Vec<Size>,
    /// Flows of each sender, which take turns: 1 to 65535, all senders together.
    pub flows: u16,
    /// Packets to send instead, over and over: they bear no signature, so that the checker can only count them.
    pub recording: Option<Arc<Recording>>,
    /// None: as fast as the queue takes them.
    pub rate: Option<Rate>,
    /// Packets of a burst, 1 to 512.
    pub burst: usize,
    /// Ends after so many packets of each sender.
    pub limit: Option<u64>,
    /// Ends after so many nanoseconds.
    pub duration: Option<u64>,
}

impl Default for TrafficOptions {
    fn default() -> Self {
        Self {
            sizes: vec![Size {
                bytes: 60,
                weight: 1,
            }],
            flows: 1,
            recording: None,
            rate: None,
            burst: 32,
            limit: None,
            duration: None,
        }
    }
}

/// One run: see the module. What it did stands in it when its lcores have ended.
#[derive(Debug)]
pub struct Traffic {
    options: TrafficOptions,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    flows: u32,
    sent: Vec<Sent>,
    received: Option<Received>,
}

impl Traffic {
    /// A run whose clock starts now.
    ///
    /// # Errors
    /// [`ForwardError::Range`].
    pub fn new(options: TrafficOptions) -> Result<Arc<Self>, ForwardError> {
        let range = |what, min, max, got| {
            Err(ForwardError::Range {
                what,
                min,
                max,
                got,
            })
        };
        if !(1..=MAX_BURST).contains(&options.burst) {
            return range("burst", 1, MAX_BURST, options.burst);
        }
        if options.flows == 0 {
            return range("flows", 1, u16::MAX.into(), 0);
        }
        let rate = match options.rate {
            None => 1.0,
            Some(Rate::Packets(n) | Rate::Bits(n) | Rate::Recorded(n)) => n,
        };
        if !(rate.is_finite() && rate > 0.0) {
            return range("a rate", 1, usize::MAX, 0);
        }
        if matches!(options.rate, Some(Rate::Recorded(_))) && options.recording.is_none() {
            return Err(ForwardError::Recording);
        }
        Ok(Arc::new(Self {
            options,
            start: Instant::now(),
            state: Mutex::default(),
        }))
    }

    /// What an lcore is to do: with a receive queue a stream checks, with a transmit queue and a `spec` it sends.
    pub(crate) fn work(
        self: &Arc<Self>,
        streams: Vec<(Stream, Option<FrameSpec>)>,
    ) -> Result<Job, ForwardError> {
        let mut senders = Vec::new();
        for (stream, spec) in &streams {
            senders.push(match (&stream.tx, spec) {
                (Some(tx), Some(spec)) => Some(Sender::new(
                    &self.options,
                    spec,
                    tx.clone(),
                    self.reserve_flows()?,
                )?),
                _ => None,
            });
        }
        Ok(Job {
            traffic: self.clone(),
            senders,
            streams: streams.into_iter().map(|(stream, _)| stream).collect(),
        })
    }

    fn reserve_flows(&self) -> Result<u16, ForwardError> {
        let mut state = self.lock();
        let max = usize::from(u16::MAX);
        let first = u16::try_from(state.flows)
            .ok()
            .filter(|first| first.checked_add(self.options.flows).is_some());
        let Some(first) = first else {
            let got = state.flows as usize + usize::from(self.options.flows);
            return Err(ForwardError::Range {
                what: "flows of all senders",
                min: 1,
                max,
                got,
            });
        };
        state.flows += u32::from(self.options.flows);
        Ok(first)
    }

    /// What its senders send.
    #[must_use]
    pub fn options(&self) -> &TrafficOptions {
        &self.options
    }

    /// What each sender sent, of those that have ended.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    /// What the checker has seen, when it has ended.
    #[must_use]
    pub fn received(&self) -> Option<Received> {
        self.lock().received.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the start.
    #[inline]
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The part of a run that one lcore does.
#[derive(Debug)]
pub(crate) struct Job {
    traffic: Arc<Traffic>,
    streams: Vec<Stream>,
    /// One for each stream that sends.
    senders: Vec<Option<Sender>>,
}

impl Work for Job {
    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Without a receive queue it ends when the senders have sent all; with one, when it is told to: what is on its way can take its time.
    fn run(
        mut self: Box<Self>,
        counters: &[Counters],
        owner: Owner,
        stop: &AtomicBool,
        shares: bool,
    ) {
        let mut received = Received::default();
        let checks = self.streams.iter().any(|stream| stream.rx.is_some());
        let mut burst = Burst::new(MAX_BURST);
        let mut idle = Idle::new(shares);
        while !stop.load(Ordering::Relaxed) {
            let now = self.traffic.now();
            match self.turn(counters, owner, now, &mut burst, &mut received) {
                Ok(moved) => idle.turned(moved > 0),
                Err(error) => {
                    tracing::warn!(%error, "an lcore ends");
                    break;
                }
            }
            if !checks
                && self
                    .senders
                    .iter()
                    .flatten()
                    .all(|sender| sender.is_done(now))
            {
                break;
            }
        }
        let mut state = self.traffic.lock();
        for sender in self.senders.iter_mut().flatten() {
            // A port that was closed took its buffers with it.
            let _closed = sender.finish(owner);
            state.sent.push(sender.sent);
        }
        if checks {
            state.received = Some(received);
        }
    }
}

impl Job {
    /// A burst each way on each stream; how many packets moved.
    #[inline]
    fn turn(
        &mut self,
        counters: &[Counters],
        owner: Owner,
        now: u64,
        burst: &mut Burst,
        received: &mut Received,
    ) -> Result<usize, PortError> {
        let mut moved = 0;
        for ((stream, sender), counters) in self.streams.iter().zip(&mut self.senders).zip(counters)
        {
            if let Some(sender) = sender {
                let sent = sender.turn(owner, now)?;
                add(&counters.tx, sent);
                moved += sent;
            }
            if let Some(rx) = &stream.rx {
                let got = check(rx, owner, &self.traffic, burst, received)?;
                add(&counters.rx, got);
                moved += got;
            }
        }
        Ok(moved)
    }
}

#[inline]
fn check(
    rx: &RxQueue,
    owner: Owner,
    traffic: &Traffic,
    burst: &mut Burst,
    received: &mut Received,
) -> Result<usize, PortError> {
    let got = rx.burst(owner, burst)?;
    if got > 0 {
        match traffic.options.recording {
            None => received.look(rx.pool(), burst, traffic.now()),
            Some(_) => received.count(burst),
        }
        rx.pool().free_burst(burst);
    }
    Ok(got)
}
