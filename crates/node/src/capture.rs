//! Captures of queues.

use std::os::fd::IntoRawFd;
use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::ClassInstance;
use napi_derive::napi;
use vring_port::{Capture, CaptureFormat, CaptureOptions, CaptureSource, CapturedQueue, Filter};

use crate::error::{Result, coded, failure};
use crate::isolate;
use crate::lcore::{narrow, whole};
use crate::queue::{AnyQueue, QueueHandle};

/// A queue, and what its port is called in the capture.
#[napi(object, object_to_js = false)]
pub struct CaptureSourceRequest<'env> {
    /// The queue.
    #[napi(ts_type = "QueueHandle")]
    pub queue: ClassInstance<'env, QueueHandle>,
    /// The name of the interface.
    pub interface: String,
}

/// How packets are captured. What is left out has the value of the Rust default.
#[napi(object)]
pub struct CaptureRequest {
    /// Bytes of a packet.
    pub snaplen: Option<f64>,
    /// A program, as tcpdump -ddd prints it.
    pub filter: Option<String>,
    /// What it was made of.
    pub expression: Option<String>,
    /// pcapng if not pcap.
    pub pcap: bool,
    /// Bytes of each queue's ring.
    pub buffer: Option<f64>,
    /// Packets after which it ends.
    pub limit: Option<f64>,
}

/// What became of the packets of a queue.
#[napi(object)]
pub struct CaptureCounters {
    /// Copied.
    pub captured: f64,
    /// Not wanted.
    pub filtered: f64,
    /// No room.
    pub dropped: f64,
}

/// A capture.
#[napi]
pub struct CaptureHandle {
    capture: Arc<Capture>,
    fd: i32,
}

fn options(request: CaptureRequest) -> Result<CaptureOptions> {
    let default = CaptureOptions::default();
    Ok(CaptureOptions {
        snaplen: request
            .snaplen
            .map(|n| narrow("snaplen", n))
            .transpose()?
            .unwrap_or(default.snaplen),
        filter: request
            .filter
            .as_deref()
            .map(Filter::parse)
            .transpose()
            .map_err(coded)?,
        expression: request.expression.unwrap_or_default(),
        format: if request.pcap {
            CaptureFormat::Pcap
        } else {
            CaptureFormat::PcapNg
        },
        buffer: request
            .buffer
            .map(|n| narrow("buffer", n))
            .transpose()?
            .unwrap_or(default.buffer),
        limit: request.limit.map(|n| whole("limit", n)).transpose()?,
    })
}

/// Begins to capture into a pipe.
#[napi(catch_unwind)]
pub fn start_capture(
    env: Env,
    sources: Vec<CaptureSourceRequest<'_>>,
    request: CaptureRequest,
) -> Result<CaptureHandle> {
    let options = options(request)?;
    let source = |source: CaptureSourceRequest<'_>| CaptureSource {
        queue: match source.queue.queue() {
            AnyQueue::Rx(queue) => CapturedQueue::Rx(queue.clone()),
            AnyQueue::Tx(queue) => CapturedQueue::Tx(queue.clone()),
        },
        interface: source.interface,
    };
    let (reader, writer) = std::io::pipe()
        .map_err(|error| failure("ERR_VRING_SYSTEM", format!("cannot make a pipe: {error}")))?;
    // More than the usual 64 KiB, where the system allows it: fewer turns of two threads a megabyte.
    let _smaller_will_do = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
    let sources = sources.into_iter().map(source).collect();
    let capture = Arc::new(Capture::start(sources, options, writer.into()).map_err(coded)?);
    isolate::current(&env)?.captures(&capture);
    Ok(CaptureHandle {
        capture,
        fd: reader.into_raw_fd(),
    })
}

#[napi]
impl CaptureHandle {
    /// The end of the pipe that is to be read, and closed by the caller.
    #[napi(catch_unwind)]
    pub fn fd(&self) -> i32 {
        self.fd
    }

    /// What became of the packets of each queue.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> Vec<CaptureCounters> {
        let counters = self
            .capture
            .stats()
            .into_iter()
            .map(|stats| CaptureCounters {
                captured: stats.captured as f64,
                filtered: stats.filtered as f64,
                dropped: stats.dropped as f64,
            });
        counters.collect()
    }

    /// Asks it to end: what was captured is still written, then the pipe ends.
    #[napi(catch_unwind)]
    pub fn request_stop(&self) {
        self.capture.request_stop();
    }

    /// Whether nothing more will be written.
    #[napi(catch_unwind)]
    pub fn ended(&self) -> bool {
        self.capture.has_ended()
    }
}
