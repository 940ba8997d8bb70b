//! The traffic generator.

use std::net::IpAddr;
use std::sync::Arc;

use napi::bindgen_prelude::ClassInstance;
use napi_derive::napi;
use vring_forward::traffic::{
    FrameSpec, Protocol, Rate, Received, Sent, Size, TrafficOptions, Vary,
};
use vring_forward::{Stream, Traffic};
use vring_port::Recording;

use crate::error::{Result, coded, failure};
use crate::lcore::{LcoreHandle, mac, narrow, rx_of, tx_of, whole};
use crate::queue::QueueHandle;

/// So many packets of a size.
#[napi(object)]
pub struct SizeRequest {
    /// Bytes without check sequence.
    pub bytes: f64,
    /// Of all weights together.
    pub weight: f64,
}

/// What each sender sends. What is left out has the value of the Rust default.
#[napi(object)]
pub struct TrafficRequest {
    /// Sizes and how many of each.
    pub sizes: Option<Vec<SizeRequest>>,
    /// Flows that take turns.
    pub flows: Option<f64>,
    /// Packets a second.
    pub pps: Option<f64>,
    /// Bits a second on an Ethernet, if not packets.
    pub bps: Option<f64>,
    /// The path of a capture whose packets are sent instead.
    pub recording: Option<String>,
    /// How often it is sent.
    pub loops: Option<f64>,
    /// At its own pace, so many times as fast.
    pub speed: Option<f64>,
    /// Packets of a burst.
    pub burst: Option<f64>,
    /// Packets after which a sender ends.
    pub limit: Option<f64>,
    /// Nanoseconds after which it ends.
    pub duration: Option<f64>,
}

/// The headers of a sender's packets.
#[napi(object)]
pub struct FrameRequest {
    /// Source Ethernet address.
    pub src_mac: Vec<u8>,
    /// Destination Ethernet address.
    pub dst_mac: Vec<u8>,
    /// VLAN.
    pub vlan: Option<f64>,
    /// Source address.
    pub src_ip: String,
    /// Destination address.
    pub dst_ip: String,
    /// udp, tcp or icmp.
    pub protocol: String,
    /// Source port.
    pub src_port: f64,
    /// Destination port.
    pub dst_port: f64,
    /// src-port, dst-port, src-ip or dst-ip.
    pub vary: String,
}

/// Where a sender sends, or the checker receives.
#[napi(object, object_to_js = false)]
pub struct TrafficStreamRequest<'env> {
    /// Received from here.
    #[napi(ts_type = "QueueHandle")]
    pub rx: Option<ClassInstance<'env, QueueHandle>>,
    /// Sent to here.
    #[napi(ts_type = "QueueHandle")]
    pub tx: Option<ClassInstance<'env, QueueHandle>>,
    /// What is sent.
    pub frame: Option<FrameRequest>,
}

/// What a sender has done.
#[napi(object)]
pub struct SentReport {
    /// Packets that the transmit queue took.
    pub packets: f64,
    /// Their bytes.
    pub bytes: f64,
    /// Packets that could not be sent in time.
    pub late: f64,
    /// Nanoseconds from the first packet to the last.
    pub nanoseconds: f64,
}

/// Nanoseconds on the way.
#[napi(object)]
pub struct LatencyReport {
    /// Shortest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Longest.
    pub max: f64,
    /// Smoothed change from packet to packet.
    pub jitter: f64,
    /// Half of the packets took no longer.
    pub p50: f64,
    /// 90 of 100 took no longer.
    pub p90: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// 999 of 1000 took no longer.
    pub p999: f64,
}

/// What the checker has seen.
#[napi(object)]
pub struct ReceivedReport {
    /// All packets.
    pub packets: f64,
    /// Their bytes.
    pub bytes: f64,
    /// Ours, whole, for the first time.
    pub unique: f64,
    /// Of these, after a newer one.
    pub reordered: f64,
    /// Again.
    pub duplicated: f64,
    /// Too late to be told from a double.
    pub stale: f64,
    /// Not what was sent.
    pub damaged: f64,
    /// Not ours.
    pub foreign: f64,
    /// The latency of all but the damaged.
    pub latency: LatencyReport,
    /// The first ranges that are missing: flow, first, last.
    pub missing: Vec<Vec<f64>>,
    /// The first doubles: flow, sequence number.
    pub duplicates: Vec<Vec<f64>>,
    /// The first that came late: flow, sequence number.
    pub late: Vec<Vec<f64>>,
}

/// What a run has done.
#[napi(object)]
pub struct TrafficReport {
    /// In the order in which they ended.
    pub sent: Vec<SentReport>,
    /// When the checker has ended.
    pub received: Option<ReceivedReport>,
}

/// A run.
#[napi]
pub struct TrafficHandle {
    traffic: Arc<Traffic>,
}

fn optional<T>(value: Option<f64>, read: impl FnOnce(f64) -> Result<T>) -> Result<Option<T>> {
    value.map(read).transpose()
}

fn options(request: &TrafficRequest) -> Result<TrafficOptions> {
    let default = TrafficOptions::default();
    let size = |size: &SizeRequest| -> Result<Size> {
        Ok(Size {
            bytes: narrow("size", size.bytes)?,
            weight: narrow("weight", size.weight)?,
        })
    };
    let sizes = request
        .sizes
        .as_ref()
        .map(|sizes| sizes.iter().map(size).collect())
        .transpose()?;
    let recording = request
        .recording
        .as_deref()
        .map(Recording::load)
        .transpose()
        .map_err(coded)?;
    let limit = match (request.limit, request.loops, &recording) {
        (None, Some(loops), Some(recording)) => {
            Some(whole("loops", loops)?.saturating_mul(recording.len() as u64))
        }
        (limit, ..) => optional(limit, |limit| whole("limit", limit))?,
    };
    Ok(TrafficOptions {
        sizes: sizes.unwrap_or(default.sizes),
        flows: optional(request.flows, |flows| narrow("flows", flows))?.unwrap_or(default.flows),
        recording: recording.map(Arc::new),
        rate: request
            .pps
            .map(Rate::Packets)
            .or(request.bps.map(Rate::Bits))
            .or(request.speed.map(Rate::Recorded)),
        burst: optional(request.burst, |burst| narrow("burst", burst))?.unwrap_or(default.burst),
        limit,
        duration: optional(request.duration, |duration| whole("duration", duration))?,
    })
}

fn word<T: Copy>(what: &str, words: &[(&str, T)], got: &str) -> Result<T> {
    words
        .iter()
        .find(|(word, _)| *word == got)
        .map(|&(_, value)| value)
        .ok_or_else(|| {
            let known: Vec<_> = words.iter().map(|&(word, _)| word).collect();
            failure(
                "ERR_VRING_INVALID_ARGUMENT",
                format!(
                    "expected {what} to be one of {}, got '{got}'",
                    known.join(", ")
                ),
            )
        })
}

fn frame(request: &FrameRequest) -> Result<FrameSpec> {
    let ip = |what: &str, text: &str| {
        text.parse::<IpAddr>().map_err(|_| {
            failure(
                "ERR_VRING_INVALID_ARGUMENT",
                format!("expected {what} to be an IP address, got '{text}'"),
            )
        })
    };
    let protocols = [
        ("udp", Protocol::Udp),
        ("tcp", Protocol::Tcp),
        ("icmp", Protocol::Icmp),
    ];
    let fields = [
        ("src-port", Vary::SrcPort),
        ("dst-port", Vary::DstPort),
        ("src-ip", Vary::SrcIp),
        ("dst-ip", Vary::DstIp),
    ];
    Ok(FrameSpec {
        src_mac: mac(&request.src_mac)?,
        dst_mac: mac(&request.dst_mac)?,
        vlan: optional(request.vlan, |vlan| narrow("vlan", vlan))?,
        src: ip("srcIp", &request.src_ip)?,
        dst: ip("dstIp", &request.dst_ip)?,
        protocol: word("protocol", &protocols, &request.protocol)?,
        src_port: narrow("srcPort", request.src_port)?,
        dst_port: narrow("dstPort", request.dst_port)?,
        vary: word("vary", &fields, &request.vary)?,
    })
}

/// Makes a run.
#[napi(catch_unwind)]
pub fn create_traffic(request: TrafficRequest) -> Result<TrafficHandle> {
    let traffic = Traffic::new(options(&request)?).map_err(coded)?;
    Ok(TrafficHandle { traffic })
}

#[napi]
impl TrafficHandle {
    /// Starts a part of the run on an lcore.
    #[napi(catch_unwind)]
    pub fn start(
        &self,
        lcore: ClassInstance<'_, LcoreHandle>,
        streams: Vec<TrafficStreamRequest<'_>>,
    ) -> Result<()> {
        let stream = |request: &TrafficStreamRequest<'_>| {
            let stream = Stream {
                rx: rx_of(&request.rx),
                tx: tx_of(&request.tx),
                ..Stream::default()
            };
            Ok((stream, request.frame.as_ref().map(frame).transpose()?))
        };
        let streams = streams.iter().map(stream).collect::<Result<_>>()?;
        lcore
            .lcore()
            .start_traffic(&self.traffic, streams)
            .map_err(coded)
    }

    /// Packets after which each sender ends, if it does.
    #[napi(catch_unwind)]
    pub fn limit(&self) -> Option<f64> {
        self.traffic.options().limit.map(|limit| limit as f64)
    }

    /// What was done by the lcores that have ended.
    #[napi(catch_unwind)]
    pub fn report(&self) -> TrafficReport {
        let sent = self.traffic.sent();
        let received = self
            .traffic
            .received()
            .map(|received| received_report(&received, &sent));
        let sent = sent.iter().map(|sent| SentReport {
            packets: sent.packets as f64,
            bytes: sent.bytes as f64,
            late: sent.late as f64,
            nanoseconds: (sent.taken.1 - sent.taken.0) as f64,
        });
        TrafficReport {
            sent: sent.collect(),
            received,
        }
    }
}

fn received_report(received: &Received, sent: &[Sent]) -> ReceivedReport {
    let flows = sent.iter().flat_map(|sent| {
        (0..sent.flows)
            .map(|nth| sent.first_flow + nth)
            .map(|flow| (flow, sent.of_flow(flow)))
    });
    let missing = received.missing(flows);
    let names = |list: &[(u16, u64)]| {
        list.iter()
            .map(|&(flow, n)| vec![flow.into(), n as f64])
            .collect()
    };
    ReceivedReport {
        packets: received.packets as f64,
        bytes: received.bytes as f64,
        unique: received.unique as f64,
        reordered: received.reordered as f64,
        duplicated: received.duplicated as f64,
        stale: received.stale as f64,
        damaged: received.damaged as f64,
        foreign: received.foreign as f64,
        latency: latency(received),
        missing: missing
            .iter()
            .map(|&(flow, from, to)| vec![flow.into(), from as f64, (to - 1) as f64])
            .collect(),
        duplicates: names(&received.duplicates),
        late: names(&received.late),
    }
}

fn latency(received: &Received) -> LatencyReport {
    let all = &received.latency;
    let at = |percent| all.value_at_percentile(percent) as f64;
    LatencyReport {
        min: if all.is_empty() {
            0.0
        } else {
            all.min() as f64
        },
        mean: all.mean(),
        max: all.max() as f64,
        jitter: received.jitter,
        p50: at(50.0),
        p90: at(90.0),
        p99: at(99.0),
        p999: at(99.9),
    }
}
