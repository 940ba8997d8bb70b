//! Queues: the two functions of the data path, and all that is needed around them.

use std::rc::Rc;
use std::sync::{Arc, Weak};

use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use vring_mem::Mempool;
use vring_net::DropReason;
use vring_port::{
    DescStatus, Halt, KIND_NAMES, Owner, PortError, QueueStats, RxPath, RxQueue, Ticket, TxPath,
    TxQueue,
};

use crate::error::{Error, Result, coded, failure};
use crate::hot::{self, Callable, Outcome};
use crate::isolate::{self, Isolate};
use crate::mempool::MempoolHandle;
use crate::poll::Waiter;
use crate::{burst, token};

/// A queue of either direction.
#[derive(Clone)]
pub enum AnyQueue {
    /// Receives.
    Rx(Arc<RxQueue>),
    /// Transmits.
    Tx(Arc<TxQueue>),
}

/// Runs an expression on either.
macro_rules! either {
    ($any:expr, $queue:ident => $result:expr) => {
        match $any {
            AnyQueue::Rx($queue) => $result,
            AnyQueue::Tx($queue) => $result,
        }
    };
}

impl AnyQueue {
    /// Gives it up for another thread, if `from` has it or nobody.
    pub fn hand_over(&self, from: Owner) -> Result<AnyTicket> {
        match self {
            Self::Rx(queue) => queue.hand_over(from).map(AnyTicket::Rx),
            Self::Tx(queue) => queue.hand_over(from).map(AnyTicket::Tx),
        }
        .map_err(coded)
    }

    /// Gives it up, if `who` has it.
    pub fn release(&self, who: Owner) {
        either!(self, queue => queue.release(who));
    }

    /// Whether its port was closed.
    pub fn is_closed(&self) -> bool {
        either!(self, queue => queue.is_closed())
    }

    /// Whether it is a receive queue.
    pub fn receives(&self) -> bool {
        matches!(self, Self::Rx(_))
    }

    /// Whether it is that very queue.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rx(one), Self::Rx(two)) => Arc::ptr_eq(one, two),
            (Self::Tx(one), Self::Tx(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }

    /// A reference that does not keep it.
    pub fn downgrade(&self) -> WeakQueue {
        match self {
            Self::Rx(queue) => WeakQueue::Rx(Arc::downgrade(queue)),
            Self::Tx(queue) => WeakQueue::Tx(Arc::downgrade(queue)),
        }
    }

    fn pool(&self) -> &Arc<Mempool> {
        either!(self, queue => queue.pool())
    }

    fn stats(&self) -> QueueStats {
        either!(self, queue => queue.stats())
    }
}

/// A queue of either direction on its way to another thread.
pub enum AnyTicket {
    /// Receives.
    Rx(Ticket<dyn RxPath>),
    /// Transmits.
    Tx(Ticket<dyn TxPath>),
}

impl AnyTicket {
    /// The queue.
    pub fn queue(&self) -> AnyQueue {
        match self {
            Self::Rx(ticket) => AnyQueue::Rx(ticket.queue().clone()),
            Self::Tx(ticket) => AnyQueue::Tx(ticket.queue().clone()),
        }
    }

    /// Makes `to` its one user.
    pub fn take(self, to: Owner) -> Result<()> {
        match self {
            Self::Rx(ticket) => ticket.take(to),
            Self::Tx(ticket) => ticket.take(to),
        }
        .map_err(coded)
    }
}

/// A queue that may be gone.
pub enum WeakQueue {
    /// Receives.
    Rx(Weak<RxQueue>),
    /// Transmits.
    Tx(Weak<TxQueue>),
}

impl WeakQueue {
    /// The queue, if it is still there.
    pub fn upgrade(&self) -> Option<AnyQueue> {
        match self {
            Self::Rx(queue) => queue.upgrade().map(AnyQueue::Rx),
            Self::Tx(queue) => queue.upgrade().map(AnyQueue::Tx),
        }
    }
}

/// A queue's function of the data path, bound to the queue and to this isolate.
struct Poll<Q> {
    queue: Arc<Q>,
    owner: Owner,
    pool_id: u64,
}

#[cold]
fn wrong_pool(queue: &str, expected: &Mempool, got: &Mempool) -> Box<Error> {
    let (expected, got) = (expected.name().to_owned(), got.name().to_owned());
    boxed(PortError::WrongMempool {
        queue: queue.to_owned(),
        expected,
        got,
    })
}

#[cold]
fn boxed(error: PortError) -> Box<Error> {
    Box::new(coded(error))
}

/// Receiving and sending look the same from here: a burst goes in, a count comes out.
macro_rules! callable {
    ($queue:ty, $name:literal) => {
        impl Callable for Poll<$queue> {
            const NAME: &'static str = $name;

            #[inline(always)]
            fn call(&self, handle: u32, _: u32) -> Outcome<u32> {
                burst::with(handle, self.owner, |burst, held| {
                    if held.pool_id != self.pool_id {
                        return Err(wrong_pool(
                            self.queue.label(),
                            self.queue.pool(),
                            &held.pool,
                        ));
                    }
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "at most the burst's capacity"
                    )]
                    self.queue
                        .burst(self.owner, burst)
                        .map(|count| count as u32)
                        .map_err(boxed)
                })
            }
        }
    };
}

callable!(RxQueue, "rxBurst");
callable!(TxQueue, "txBurst");

/// A queue's counters since the last reset.
#[napi(object)]
pub struct QueueCounters {
    /// Packets.
    pub packets: f64,
    /// Bytes.
    pub bytes: f64,
    /// Times that no buffer was free.
    pub nombuf: f64,
    /// Notifications sent to the peer.
    pub notifications: f64,
    /// Notifications that came from the peer.
    pub notified: f64,
    /// Pages whose translation had to be asked for.
    pub iotlb_misses: f64,
    /// Drops by name.
    pub drops: Vec<(String, f64)>,
    /// Packets by size and kind of address, in the order of `packetKinds`.
    pub kinds: Vec<f64>,
}

/// The names of what packets are counted by: sizes and kinds of addresses.
#[napi(catch_unwind)]
pub fn packet_kinds() -> Vec<&'static str> {
    KIND_NAMES.to_vec()
}

/// The names of all drops.
#[napi(catch_unwind)]
pub fn drop_names() -> Vec<&'static str> {
    DropReason::ALL.map(DropReason::name).to_vec()
}

/// What a queue is now.
#[napi(object)]
pub struct QueueFacts {
    /// Descriptors of its ring, 0 where there is none.
    pub size: u32,
    /// How it moves packets; none while it is not attached.
    pub mode: Option<String>,
    /// Why so.
    pub why: Option<String>,
    /// It was stopped by itself.
    pub stopped: bool,
    /// It stands still, for whatever reason.
    pub still: bool,
}

/// A queue, for one isolate.
#[napi]
pub struct QueueHandle {
    queue: AnyQueue,
    isolate: Rc<Isolate>,
}

impl QueueHandle {
    /// A handle of this isolate on a queue.
    pub fn of(env: &Env, queue: AnyQueue) -> Result<Self> {
        let isolate = isolate::current(env)?;
        isolate.uses(&queue);
        Ok(Self { queue, isolate })
    }

    /// The queue.
    pub fn queue(&self) -> &AnyQueue {
        &self.queue
    }

    fn receiving(&self) -> Result<&Arc<RxQueue>> {
        match &self.queue {
            AnyQueue::Rx(queue) => Ok(queue),
            AnyQueue::Tx(_) => Err(failure("ERR_VRING_INTERNAL", "expected a receive queue")),
        }
    }
}

#[napi]
impl QueueHandle {
    /// The function of the data path: `(burst) => count`.
    #[napi(catch_unwind, ts_return_type = "(burst: number) => number")]
    pub fn burst_function<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let (owner, pool_id) = (self.isolate.owner, self.queue.pool().id());
        either!(&self.queue, queue => hot::bind(env, Poll { queue: queue.clone(), owner, pool_id }))
    }

    /// `port rx queue 0`, for messages.
    #[napi(catch_unwind)]
    pub fn label(&self) -> String {
        either!(&self.queue, queue => queue.label().to_owned())
    }

    /// Its number among its port's.
    #[napi(catch_unwind)]
    pub fn index(&self) -> u32 {
        u32::from(either!(&self.queue, queue => queue.index()))
    }

    /// The mempool of its packets.
    #[napi(catch_unwind)]
    pub fn pool(&self) -> MempoolHandle {
        MempoolHandle::of(self.queue.pool().clone())
    }

    /// Whether its port was closed.
    #[napi(catch_unwind)]
    pub fn closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// What it is now.
    #[napi(catch_unwind)]
    pub fn info(&self) -> QueueFacts {
        let info = either!(&self.queue, queue => queue.info());
        let (mode, why) = info.mode.map(|mode| (mode.name, mode.why)).unzip();
        QueueFacts {
            size: info.size,
            mode,
            why,
            stopped: info.halts.contains(Halt::QUEUE),
            still: !info.halts.is_empty(),
        }
    }

    /// What a descriptor is doing: `available`, `done` or `unavail`.
    #[napi(catch_unwind)]
    pub fn desc_status(&self, offset: u32) -> Result<&'static str> {
        let status = either!(&self.queue, queue => queue.desc_status(offset)).map_err(coded)?;
        Ok(match status {
            DescStatus::Available => "available",
            DescStatus::Done => "done",
            DescStatus::Unavailable => "unavail",
        })
    }

    /// Packets that wait in its ring.
    #[napi(catch_unwind)]
    pub fn used_count(&self) -> Result<u32> {
        either!(&self.queue, queue => queue.used_count()).map_err(coded)
    }

    /// Makes this thread its user, or says who is.
    #[napi(catch_unwind)]
    pub fn claim(&self) -> Result<()> {
        either!(&self.queue, queue => queue.claim(self.isolate.owner)).map_err(coded)
    }

    /// Gives it up.
    #[napi(catch_unwind)]
    pub fn release(&self) {
        self.queue.release(self.isolate.owner);
    }

    /// Before sleeping on the waiter: true when packets came in meanwhile.
    #[napi(catch_unwind)]
    pub fn arm(&self) -> Result<bool> {
        self.receiving()?.arm(self.isolate.owner).map_err(coded)
    }

    /// After sleeping.
    #[napi(catch_unwind)]
    pub fn disarm(&self) -> Result<()> {
        self.receiving()?.disarm(self.isolate.owner).map_err(coded)
    }

    /// Whether nothing will ever come again.
    #[napi(catch_unwind)]
    pub fn finished(&self) -> Result<bool> {
        self.receiving()?
            .finished(self.isolate.owner)
            .map_err(coded)
    }

    /// Wakes when polling is worth while.
    #[napi(catch_unwind)]
    pub fn waiter(&self, env: Env) -> Result<Waiter> {
        Waiter::of(&env, self.receiving()?.wake_fd().map_err(coded)?)
    }

    /// Counts packets that were received here and neither sent nor freed. For the one that has the queue.
    #[napi(catch_unwind)]
    pub fn count_unhandled(&self, packets: u32) -> Result<()> {
        self.receiving()?.claim(self.isolate.owner).map_err(coded)?;
        self.receiving()?
            .count_drop(DropReason::RxUnhandled, u64::from(packets));
        Ok(())
    }

    /// Gives back the buffers of packets that are through.
    #[napi(catch_unwind)]
    pub fn reclaim(&self) -> Result<()> {
        match &self.queue {
            AnyQueue::Tx(queue) => queue.reclaim(self.isolate.owner).map_err(coded),
            AnyQueue::Rx(_) => Ok(()),
        }
    }

    /// Counters since the last reset.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> QueueCounters {
        let stats = self.queue.stats();
        let drops = stats
            .drops
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count as f64))
            .collect();
        QueueCounters {
            packets: stats.packets as f64,
            bytes: stats.bytes as f64,
            nombuf: stats.nombuf as f64,
            notifications: stats.notifications as f64,
            notified: stats.notified as f64,
            iotlb_misses: stats.iotlb_misses as f64,
            drops,
            kinds: stats.kinds.map(|n| n as f64).to_vec(),
        }
    }

    /// Counts from zero again.
    #[napi(catch_unwind)]
    pub fn reset_stats(&self) {
        either!(&self.queue, queue => queue.reset_stats());
    }

    /// Counts packets by size and kind of address from now on, or no longer.
    #[napi(catch_unwind)]
    pub fn count_kinds(&self, on: bool) {
        either!(&self.queue, queue => queue.count_kinds(on));
    }

    /// Gives it to a token, whose number this is.
    #[napi(catch_unwind)]
    pub fn hand_over(&self) -> Result<u32> {
        token::hand_over(&self.queue, self.isolate.owner)
    }
}

/// Takes the queue of a token for this isolate.
#[napi(catch_unwind)]
pub fn adopt_queue(env: Env, token: u32, receives: bool) -> Result<QueueHandle> {
    let queue = token::adopt(token, receives, isolate::current(&env)?.owner)?;
    QueueHandle::of(&env, queue)
}
