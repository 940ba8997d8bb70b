//! The loop of an engine over its streams.

use std::sync::atomic::{AtomicBool, Ordering};

use vring_mem::Burst;
use vring_mem::burst::MAX_BURST;
use vring_port::{Owner, PortError};

use super::lane::Lane;
use super::txonly::TxOnly;
use super::{Engine, EngineOptions, Mode, Retry, Stream};
use crate::ForwardError;
use crate::lcore::{Idle, Work};
use crate::stats::{Counters, add, cycles};

/// An engine with its options, checked.
pub(super) struct Run<M> {
    streams: Vec<Stream>,
    /// One for each stream.
    modes: Vec<M>,
    /// Sends the first bursts: one for each stream, or none.
    first: Vec<TxOnly>,
    options: EngineOptions,
}

impl<M: Mode + 'static> Run<M> {
    pub(super) fn boxed(
        engine: Engine,
        streams: Vec<Stream>,
        options: &EngineOptions,
    ) -> Result<Box<dyn Work>, ForwardError> {
        if !(1..=MAX_BURST).contains(&options.burst) {
            return Err(ForwardError::Range {
                what: "burst",
                min: 1,
                max: MAX_BURST,
                got: options.burst,
            });
        }
        for stream in &streams {
            check(engine, stream)?;
        }
        let modes = streams.iter().map(|stream| M::new(stream, options));
        let modes = modes.collect::<Result<_, _>>()?;
        let senders = streams
            .iter()
            .filter(|stream| options.first_bursts > 0 && stream.tx.is_some());
        let first = senders.map(|stream| TxOnly::new(stream, options));
        let first = first.collect::<Result<_, _>>()?;
        Ok(Box::new(Self {
            modes,
            first,
            streams,
            options: options.clone(),
        }))
    }
}

fn check(engine: Engine, stream: &Stream) -> Result<(), ForwardError> {
    let (rx, tx) = engine.needs();
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
    match (&stream.rx, &stream.tx) {
        (Some(rx_queue), Some(tx_queue))
            if rx && tx && rx_queue.pool().id() != tx_queue.pool().id() =>
        {
            Err(ForwardError::Mempools {
                rx: rx_queue.pool().name().into(),
                tx: tx_queue.pool().name().into(),
            })
        }
        _ => Ok(()),
    }
}

impl<M: Mode> Work for Run<M> {
    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn counters(&self) -> Vec<Counters> {
        let counters = self
            .streams
            .iter()
            .map(|_| Counters::new(self.options.measure));
        counters.collect()
    }

    /// Polls until it is told to stop, a limit is reached or a port is closed. A thread that shares its processor gives it away when
    /// there is nothing to do: its peer may be the one that waits for it.
    fn run(
        mut self: Box<Self>,
        counters: &[Counters],
        owner: Owner,
        stop: &AtomicBool,
        shares: bool,
    ) {
        let mut burst = Burst::new(self.options.burst);
        let retry = self.options.retry;
        if let Err(error) = self.forward(counters, &mut burst, owner, stop, shares) {
            tracing::warn!(%error, "an lcore ends");
        }
        for ((stream, counters), mode) in self.streams.iter().zip(counters).zip(&mut self.modes) {
            mode.end(&mut lane(stream, counters, &mut burst, owner, stop, retry));
            if let Some(tx) = &stream.tx {
                let _closed = tx.reclaim(owner);
            }
        }
    }
}

impl<M: Mode> Run<M> {
    fn forward(
        &mut self,
        counters: &[Counters],
        burst: &mut Burst,
        owner: Owner,
        stop: &AtomicBool,
        shares: bool,
    ) -> Result<(), PortError> {
        let Self {
            streams,
            modes,
            first,
            options,
        } = self;
        for _ in 0..options.first_bursts {
            for ((stream, counters), first) in streams.iter().zip(counters).zip(&mut *first) {
                let mut lane = lane(stream, counters, burst, owner, stop, options.retry);
                first.turn(&mut lane, options.burst)?;
            }
        }
        let mut left = options.limit.unwrap_or(u64::MAX);
        let mut idle = Idle::new(shares);
        while left > 0 && !stop.load(Ordering::Relaxed) {
            let before = left;
            for ((stream, counters), mode) in streams.iter().zip(counters).zip(&mut *modes) {
                let wanted = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(options.burst);
                let mut lane = lane(stream, counters, burst, owner, stop, options.retry);
                let moved = if options.measure.cycles {
                    timed(mode, &mut lane, wanted)?
                } else {
                    mode.turn(&mut lane, wanted)?
                };
                left = left.saturating_sub(moved as u64);
            }
            idle.turned(left != before);
        }
        Ok(())
    }
}

/// A turn, with its cycles counted if it moved something.
#[inline(never)]
fn timed<M: Mode>(mode: &mut M, lane: &mut Lane<'_>, wanted: usize) -> Result<usize, PortError> {
    let start = cycles();
    let moved = mode.turn(lane, wanted)?;
    if moved > 0 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "64 bits on every machine that this is for"
        )]
        add(&lane.counters.cycles, cycles().wrapping_sub(start) as usize);
    }
    Ok(moved)
}

#[inline(always)]
fn lane<'a>(
    stream: &'a Stream,
    counters: &'a Counters,
    burst: &'a mut Burst,
    owner: Owner,
    stop: &'a AtomicBool,
    retry: Option<Retry>,
) -> Lane<'a> {
    Lane {
        stream,
        counters,
        burst,
        owner,
        retry,
        stop,
        came: None,
    }
}
