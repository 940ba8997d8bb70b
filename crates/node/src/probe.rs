//! What the kernel lets this process do, for `vring doctor`.

use napi_derive::napi;
use vring_mem::Pages;
use vring_probe::{Probe, Verdict};

use crate::error::{Result, failure};

/// What came of a probe.
#[napi(object)]
pub struct ProbeFacts {
    /// `works`, `absent`, `denied`, `busy` or `failed`.
    pub verdict: String,
    /// What was tried last.
    pub step: String,
    /// The kernel's error number.
    pub errno: Option<i32>,
    /// What it gave; a set of bits, or bytes.
    pub value: f64,
}

/// Tries something: see `vring_probe::Probe` for what there is. `argument` is a path, or a number of bytes.
#[napi(catch_unwind)]
pub fn probe(what: String, argument: Option<String>) -> Result<ProbeFacts> {
    let found = named(&what, argument.as_deref().unwrap_or_default())
        .ok_or_else(|| {
            failure(
                "ERR_VRING_INVALID_ARGUMENT",
                format!("there is no probe '{what}'"),
            )
        })?
        .run();
    let verdict = match found.verdict {
        Verdict::Works => "works",
        Verdict::Absent => "absent",
        Verdict::Denied => "denied",
        Verdict::Busy => "busy",
        Verdict::Failed => "failed",
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "feature bits of vhost end below 2^53, bytes too"
    )]
    let value = found.value as f64;
    Ok(ProbeFacts {
        verdict: verdict.to_owned(),
        step: found.step,
        errno: found.errno,
        value,
    })
}

fn named<'a>(what: &str, argument: &'a str) -> Option<Probe<'a>> {
    Some(match what {
        "vhost-net" => Probe::VhostNet,
        "tun" => Probe::Tun,
        "new-tap" => Probe::NewTap,
        "packet-socket" => Probe::PacketSocket,
        "membarrier" => Probe::Membarrier,
        "memory-4K" => Probe::Memory(Pages::Base),
        "memory-2M" => Probe::Memory(Pages::Huge2M),
        "memory-1G" => Probe::Memory(Pages::Huge1G),
        "lock" => Probe::Lock(argument.parse().ok()?),
        "physical-address" => Probe::PhysicalAddress,
        "port-io" => Probe::PortIo,
        "vfio" => Probe::Vfio,
        "vfio-group" => Probe::VfioGroup(argument),
        "open" => Probe::Open(argument),
        _ => return None,
    })
}
