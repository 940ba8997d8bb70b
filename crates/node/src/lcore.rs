//! Native threads that forward.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::ClassInstance;
use napi_derive::napi;
use rustix::thread::CpuSet;
use vring_forward::{Engine, EngineOptions, ForwardError, Lcore, Stream};
use vring_port::{RxQueue, TxQueue};

use crate::error::{Result, coded, failure};
use crate::isolate;
use crate::poll::Waiter;
use crate::queue::{AnyQueue, QueueHandle};

/// An engine and how it runs. What is left out has the value of the Rust default.
#[napi(object)]
pub struct EngineRequest {
    /// Its name in testpmd.
    pub engine: String,
    /// Packets of a burst.
    pub burst: Option<f64>,
    /// Bytes of each segment of a generated packet.
    pub txpkts: Option<Vec<f64>>,
    /// Packets after which it ends.
    pub limit: Option<f64>,
    /// Bursts of generated packets before the loop.
    pub first_bursts: Option<f64>,
}

/// Where packets come from and go to.
#[napi(object, object_to_js = false)]
pub struct StreamRequest<'env> {
    /// Received from here.
    #[napi(ts_type = "QueueHandle")]
    pub rx: Option<ClassInstance<'env, QueueHandle>>,
    /// Sent to here.
    #[napi(ts_type = "QueueHandle")]
    pub tx: Option<ClassInstance<'env, QueueHandle>>,
    /// Source address of generated packets.
    pub src: Vec<u8>,
    /// Their destination address.
    pub dst: Vec<u8>,
}

type Handle<'env> = Option<ClassInstance<'env, QueueHandle>>;

/// The receive queue of a handle.
pub(crate) fn rx_of(handle: &Handle<'_>) -> Option<Arc<RxQueue>> {
    match handle.as_ref()?.queue() {
        AnyQueue::Rx(queue) => Some(queue.clone()),
        AnyQueue::Tx(_) => None,
    }
}

/// The transmit queue of a handle.
pub(crate) fn tx_of(handle: &Handle<'_>) -> Option<Arc<TxQueue>> {
    match handle.as_ref()?.queue() {
        AnyQueue::Tx(queue) => Some(queue.clone()),
        AnyQueue::Rx(_) => None,
    }
}

/// An Ethernet address.
pub(crate) fn mac(bytes: &[u8]) -> Result<[u8; 6]> {
    <[u8; 6]>::try_from(bytes).map_err(|_| {
        failure(
            "ERR_VRING_INVALID_ARGUMENT",
            "expected an Ethernet address of 6 bytes",
        )
    })
}

impl StreamRequest<'_> {
    fn stream(&self) -> Result<Stream> {
        Ok(Stream {
            rx: rx_of(&self.rx),
            tx: tx_of(&self.tx),
            src: mac(&self.src)?,
            dst: mac(&self.dst)?,
        })
    }
}

/// What a stream has done.
#[napi(object)]
pub struct StreamCounters {
    /// Packets received.
    pub rx: f64,
    /// Packets sent.
    pub tx: f64,
    /// Packets that the transmit queue did not take.
    pub dropped: f64,
}

/// An lcore.
#[napi]
pub struct LcoreHandle {
    lcore: Arc<Lcore>,
}

/// A number that counts.
pub(crate) fn whole(what: &str, value: f64) -> Result<u64> {
    if value.fract() == 0.0 && (0.0..9.007_199_254_740_992e15).contains(&value) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked right before"
        )]
        return Ok(value as u64);
    }
    Err(failure(
        "ERR_VRING_OUT_OF_RANGE",
        format!("expected {what} to be a whole number, got {value}"),
    ))
}

/// One that fits.
pub(crate) fn narrow<T: TryFrom<u64>>(what: &str, value: f64) -> Result<T> {
    T::try_from(whole(what, value)?).map_err(|_| {
        failure(
            "ERR_VRING_OUT_OF_RANGE",
            format!("expected a smaller {what}, got {value}"),
        )
    })
}

/// Makes an lcore.
#[napi(catch_unwind)]
pub fn create_lcore(env: Env, name: String, cpu: Option<f64>) -> Result<LcoreHandle> {
    let cpu = cpu.map(|cpu| narrow("cpu", cpu)).transpose()?;
    let lcore = Arc::new(Lcore::new(&name, cpu).map_err(coded)?);
    isolate::current(&env)?.made(&lcore);
    Ok(LcoreHandle { lcore })
}

/// Pins the calling thread to a processor. For Workers that stand for an lcore.
#[napi(catch_unwind)]
pub fn pin_thread(cpu: f64) -> Result<()> {
    let cpu = narrow("cpu", cpu)?;
    let refused = |errno: rustix::io::Errno| {
        coded(ForwardError::Cpu {
            cpu,
            source: errno.into(),
        })
    };
    if cpu >= CpuSet::MAX_CPU {
        return Err(refused(rustix::io::Errno::INVAL));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).map_err(refused)
}

impl LcoreHandle {
    pub(crate) fn lcore(&self) -> &Lcore {
        &self.lcore
    }
}

#[napi]
impl LcoreHandle {
    /// Starts an engine on the streams.
    #[napi(catch_unwind)]
    pub fn start(&self, request: EngineRequest, streams: Vec<StreamRequest<'_>>) -> Result<()> {
        let engine = Engine::from_name(&request.engine).ok_or_else(|| {
            let message = format!(
                "expected an engine of io, macswap, rxonly, txonly, got '{}'",
                request.engine
            );
            failure("ERR_VRING_UNKNOWN_ENGINE", message)
        })?;
        let mut options = EngineOptions::default();
        if let Some(burst) = request.burst {
            options.burst = narrow("burst", burst)?;
        }
        if let Some(txpkts) = request.txpkts {
            options.txpkts = txpkts
                .into_iter()
                .map(|len| narrow("txpkts", len))
                .collect::<Result<_>>()?;
        }
        if let Some(limit) = request.limit {
            options.limit = Some(whole("limit", limit)?);
        }
        if let Some(bursts) = request.first_bursts {
            options.first_bursts = narrow("firstBursts", bursts)?;
        }
        let streams = streams
            .iter()
            .map(StreamRequest::stream)
            .collect::<Result<_>>()?;
        self.lcore.start(engine, streams, &options).map_err(coded)
    }

    /// Whether an engine runs.
    #[napi(catch_unwind)]
    pub fn running(&self) -> bool {
        self.lcore.is_running()
    }

    /// Asks the engine to end; the waiter tells when it has.
    #[napi(catch_unwind)]
    pub fn request_stop(&self) {
        self.lcore.request_stop();
    }

    /// After the waiter told: lets go of the thread, whose buffers are in the mempool then.
    #[napi(catch_unwind)]
    pub fn join(&self) {
        self.lcore.wait();
    }

    /// Wakes when the engine has ended.
    #[napi(catch_unwind)]
    pub fn waiter(&self, env: Env) -> Result<Waiter> {
        Waiter::new(&env, self.lcore.done_fd())
    }

    /// What each stream has done since the start.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> Vec<StreamCounters> {
        let counters = self.lcore.stats().into_iter().map(|stream| StreamCounters {
            rx: stream.rx as f64,
            tx: stream.tx as f64,
            dropped: stream.dropped as f64,
        });
        counters.collect()
    }
}
