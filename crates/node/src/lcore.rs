//! Native threads that forward.

use std::sync::Arc;
use std::time::Duration;

use napi::Env;
use napi::bindgen_prelude::ClassInstance;
use napi_derive::napi;
use rustix::thread::CpuSet;
use vring_forward::{
    Engine, EngineOptions, ForwardError, LatencyStats, Lcore, Measure, Noise, PacketTemplate,
    Retry, Stream,
};
use vring_net::soft::{Layer4, Renew};
use vring_port::{RxQueue, TxQueue};

use crate::error::{Result, coded, failure};
use crate::isolate;
use crate::poll::Waiter;
use crate::queue::{AnyQueue, QueueHandle};

/// An engine and how it runs. What is left out has the value of the Rust default.
#[napi(object)]
#[derive(Default)]
pub struct EngineRequest {
    /// Its name in testpmd.
    pub engine: String,
    /// Packets of a burst.
    pub burst: Option<f64>,
    /// Bytes of each segment of a generated packet.
    pub txpkts: Option<Vec<f64>>,
    /// A random number of them.
    pub random_split: Option<bool>,
    /// Source and destination of generated packets, four bytes each.
    pub ip: Option<Vec<u8>>,
    /// Ports of UDP of generated packets, source and destination.
    pub udp: Option<Vec<f64>>,
    /// Flows of txonly.
    pub flows: Option<f64>,
    /// Packets after which it ends.
    pub limit: Option<f64>,
    /// Bursts of generated packets before the loop.
    pub first_bursts: Option<f64>,
    /// Microseconds before each retry, and how many of them.
    pub retry: Option<Vec<f64>>,
    /// Flows of flowgen.
    pub flowgen_flows: Option<f64>,
    /// Packets that are alike, besides the first.
    pub flowgen_clones: Option<f64>,
    /// Of noisy: packets, milliseconds, MiB, writes, reads, reads and writes.
    pub noise: Option<Vec<f64>>,
    /// `bursts`, `cycles`, `latency`.
    pub measure: Option<Vec<String>>,
}

impl EngineRequest {
    fn options(self) -> Result<EngineOptions> {
        let mut options = EngineOptions::default();
        if let Some(burst) = self.burst {
            options.burst = narrow("burst", burst)?;
        }
        if let Some(limit) = self.limit {
            options.limit = Some(whole("limit", limit)?);
        }
        if let Some(bursts) = self.first_bursts {
            options.first_bursts = narrow("firstBursts", bursts)?;
        }
        if let Some(retry) = &self.retry {
            let [delay, times] = numbers("retry", retry)?;
            options.retry = Some(Retry {
                delay: Duration::from_micros(delay),
                times: u32::try_from(times).unwrap_or(u32::MAX),
            });
        }
        if let Some(flows) = self.flowgen_flows {
            options.flowgen_flows = narrow("flowgenFlows", flows)?;
        }
        if let Some(clones) = self.flowgen_clones {
            options.flowgen_clones = narrow("flowgenClones", clones)?;
        }
        if let Some(noise) = &self.noise {
            options.noise = noise_of(noise)?;
        }
        let measure = self.measure.as_deref().unwrap_or_default();
        let wants = |name: &str| measure.iter().any(|one| one == name);
        options.measure = Measure {
            bursts: wants("bursts"),
            cycles: wants("cycles"),
            latency: wants("latency"),
        };
        options.template = self.template()?;
        Ok(options)
    }

    fn template(self) -> Result<PacketTemplate> {
        let mut template = PacketTemplate::default();
        if let Some(txpkts) = self.txpkts {
            template.segments = txpkts
                .into_iter()
                .map(|len| narrow("txpkts", len))
                .collect::<Result<_>>()?;
        }
        if let Some(ip) = self.ip {
            let bytes = <[u8; 8]>::try_from(ip).map_err(|_| {
                failure(
                    "ERR_VRING_INVALID_ARGUMENT",
                    "expected two addresses of IPv4",
                )
            })?;
            let [a, b, c, d, e, f, g, h] = bytes;
            template.ip = ([a, b, c, d].into(), [e, f, g, h].into());
        }
        if let Some(udp) = self.udp {
            let [src, dst] = udp[..] else {
                return Err(failure("ERR_VRING_INVALID_ARGUMENT", "expected two ports"));
            };
            template.udp = (narrow("udp", src)?, narrow("udp", dst)?);
        }
        if let Some(flows) = self.flows {
            template.flows = narrow("flows", flows)?;
        }
        template.random_split = self.random_split.unwrap_or(false);
        Ok(template)
    }
}

/// As many whole numbers as there are places for.
fn numbers<const N: usize>(what: &str, values: &[f64]) -> Result<[u64; N]> {
    let values = values.iter().map(|&value| whole(what, value));
    let values = values.collect::<Result<Vec<_>>>()?;
    <[u64; N]>::try_from(values).map_err(|_| {
        failure(
            "ERR_VRING_INVALID_ARGUMENT",
            format!("expected {N} numbers for {what}"),
        )
    })
}

fn noise_of(values: &[f64]) -> Result<Noise> {
    let [buffer, flush, memory, writes, reads, reads_writes] = numbers("noise", values)?;
    let count = |value| u32::try_from(value).unwrap_or(u32::MAX);
    let size = |value| usize::try_from(value).unwrap_or(usize::MAX);
    Ok(Noise {
        buffer: size(buffer),
        flush: Duration::from_millis(flush),
        memory: size(memory),
        writes: count(writes),
        reads: count(reads),
        reads_writes: count(reads_writes),
    })
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
    /// What csum leaves to the queue: `udp`, `tcp`.
    pub later: Option<Vec<String>>,
    /// Payload of a TCP packet above which csum has it cut.
    pub segment: Option<f64>,
    /// Length of a packet above which csum has it cut.
    pub frame: Option<f64>,
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
            renew: self.renew()?,
        })
    }
}

impl StreamRequest<'_> {
    fn renew(&self) -> Result<Renew> {
        let later = self.later.as_deref().unwrap_or_default();
        let who = |name: &str| match later.iter().any(|one| one == name) {
            true => Layer4::Later,
            false => Layer4::Now,
        };
        Ok(Renew {
            udp: who("udp"),
            tcp: who("tcp"),
            segment: narrow("segment", self.segment.unwrap_or(0.0))?,
            frame: narrow("frame", self.frame.unwrap_or(0.0))?,
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
    /// Packets with a wrong checksum of IPv4.
    pub bad_ip: f64,
    /// Packets with a wrong checksum of layer 4.
    pub bad_l4: f64,
    /// Processor cycles.
    pub cycles: f64,
}

/// How many bursts had so many packets.
#[napi(object)]
pub struct BurstCount {
    /// Packets.
    pub packets: u32,
    /// Bursts.
    pub bursts: f64,
}

/// The bursts of a stream.
#[napi(object)]
pub struct StreamBursts {
    /// Received.
    pub rx: Vec<BurstCount>,
    /// Sent.
    pub tx: Vec<BurstCount>,
}

fn counts(spread: Vec<(usize, u64)>) -> Vec<BurstCount> {
    let count = |(packets, bursts): (usize, u64)| BurstCount {
        packets: u32::try_from(packets).unwrap_or(u32::MAX),
        bursts: bursts as f64,
    };
    spread.into_iter().map(count).collect()
}

/// How long packets were between two queues, in nanoseconds.
#[napi(object)]
pub struct LatencyFacts {
    /// Packets.
    pub samples: f64,
    /// Least.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Most.
    pub max: f64,
    /// RFC 3550's.
    pub jitter: f64,
    /// At the percentiles that were asked for.
    pub percentiles: Vec<f64>,
}

/// How long packets were on all streams of some lcores.
#[napi(catch_unwind)]
pub fn latency_of(
    lcores: Vec<ClassInstance<'_, LcoreHandle>>,
    percentiles: Vec<f64>,
) -> Option<LatencyFacts> {
    let all = lcores.iter().flat_map(|handle| handle.lcore.latency());
    let sum = all.reduce(LatencyStats::plus)?;
    let histogram = &sum.histogram;
    let at = |percentile: &f64| histogram.value_at_quantile(percentile / 100.0) as f64;
    Some(LatencyFacts {
        samples: histogram.len() as f64,
        min: histogram.min() as f64,
        mean: histogram.mean(),
        max: histogram.max() as f64,
        jitter: sum.jitter,
        percentiles: percentiles.iter().map(at).collect(),
    })
}

/// How many of the cycles that are counted there are in a second.
#[napi(catch_unwind)]
pub fn cycles_per_second() -> f64 {
    vring_forward::cycles_per_second() as f64
}

/// The names of all engines.
#[napi(catch_unwind)]
pub fn engine_names() -> Vec<&'static str> {
    Engine::ALL.map(Engine::name).to_vec()
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
            let names = Engine::ALL.map(Engine::name).join(", ");
            let message = format!("expected an engine of {names}, got '{}'", request.engine);
            failure("ERR_VRING_UNKNOWN_ENGINE", message)
        })?;
        let options = request.options()?;
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
            bad_ip: stream.bad_ip as f64,
            bad_l4: stream.bad_l4 as f64,
            cycles: stream.cycles as f64,
        });
        counters.collect()
    }

    /// How many packets each stream's bursts had; empty where that is not counted.
    #[napi(catch_unwind)]
    pub fn bursts(&self) -> Vec<StreamBursts> {
        let spreads = self.lcore.bursts().into_iter().flatten();
        let bursts = spreads.map(|spread| StreamBursts {
            rx: counts(spread.rx),
            tx: counts(spread.tx),
        });
        bursts.collect()
    }
}
