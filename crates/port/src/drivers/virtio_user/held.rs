//! The rings that the port's queues have, for one back end after the other.
//!
//! Where a back end records what is in flight, in memory that we keep, rings outlive it. They stand still while there is none: the next one is
//! told where the last one stood, finds in the record what that one had taken, and every buffer comes back once. Without a record nobody
//! could tell what a back end had taken that is gone: each gets new rings.

use vring_net::Features;
use vring_vhost::{Frontend, Inflight, ProtocolFeatures, VhostError};

use super::rings::Rings;
use crate::PortError;
use crate::port::Shared;

/// See the module.
pub(super) struct Held {
    pub(super) rings: Rings,
    record: Option<Inflight>,
}

impl Held {
    /// New rings, which get a record when the back end is asked for one.
    pub(super) fn new(rings: Rings, shared: &Shared) -> Result<Self, PortError> {
        rings.attach(shared)?;
        Ok(Self {
            rings,
            record: None,
        })
    }

    /// Whether another back end can go on with them.
    pub(super) fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    /// Where each ring goes on with a back end that agreed on these features; `None` if it cannot go on with them. The queues stand still.
    pub(super) fn bases(
        &self,
        features: Features,
        frontend: &Frontend,
        shared: &Shared,
    ) -> Option<Vec<u32>> {
        let fits = self.is_recorded() && has_inflight(frontend);
        let same = fits && self.rings.features() == features;
        same.then(|| self.rings.bases(shared)).flatten()
    }

    /// Passes the record, which before the first start of the rings is a new one. The features have been set.
    pub(super) fn pass_record(&mut self, frontend: &mut Frontend) -> Result<(), VhostError> {
        if !has_inflight(frontend) {
            return Ok(());
        }
        if self.record.is_none() {
            let count = u16::try_from(self.rings.rings.len()).unwrap_or(u16::MAX);
            self.record = frontend.get_inflight_fd(count, self.rings.largest())?;
        }
        match &self.record {
            Some(record) => frontend.set_inflight_fd(record),
            None => Ok(()),
        }
    }
}

fn has_inflight(frontend: &Frontend) -> bool {
    let protocol = frontend.protocol_features();
    protocol.contains(ProtocolFeatures::INFLIGHT_SHMFD)
}
