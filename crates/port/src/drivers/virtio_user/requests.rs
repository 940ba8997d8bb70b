//! What a back end asks us: to read its configuration space again, and, if it does not know our memory by its own addresses
//! (`VIRTIO_F_ACCESS_PLATFORM`), for translations.
//!
//! I/O virtual addresses are those of this process, as DPDK's are with `--iova-mode=va`: what is shared is translated to itself, all of a region at
//! once, and nothing is ever taken back while the session lasts.

use std::os::fd::{AsFd, BorrowedFd};

use vring_vhost::{
    ACCESS_READ, ACCESS_WRITE, BackendRequest, BackendRequests, Frontend, ProtocolFeatures,
    VhostError,
};

/// See the module.
pub(super) struct Requests {
    channel: BackendRequests,
    /// First address and bytes of the pool's and of the rings' region.
    shared: [(u64, u64); 2],
}

impl Requests {
    /// Without these a back end cannot ask for translations.
    pub(super) const NEEDS: ProtocolFeatures =
        ProtocolFeatures::BACKEND_REQ.union(ProtocolFeatures::REPLY_ACK);

    pub(super) fn new(channel: BackendRequests, shared: [(u64, u64); 2]) -> Self {
        Self { channel, shared }
    }

    /// Readable when the back end asks.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Answers what was asked. An address that is not shared has no translation. True if the configuration space is worth reading again.
    pub(super) fn serve(&self, frontend: &mut Frontend) -> Result<bool, VhostError> {
        let mut changed = false;
        while let Some(request) = self.channel.take()? {
            let miss = match request {
                BackendRequest::ConfigChanged => {
                    changed = true;
                    continue;
                }
                BackendRequest::IotlbMiss(miss) => miss,
            };
            let of = |&(at, size): &(u64, u64)| miss.iova.wrapping_sub(at) < size;
            let found = self.shared.iter().copied().find(of);
            if let Some((at, size)) = found {
                frontend.iotlb_update(at, size, at, ACCESS_READ | ACCESS_WRITE)?;
            }
            self.channel.answer(miss, found.is_some())?;
        }
        Ok(changed)
    }
}
