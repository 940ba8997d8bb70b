//! What a back end that does not know our memory by its own addresses asks us (`VIRTIO_F_ACCESS_PLATFORM`).
//!
//! I/O virtual addresses are those of this process, as DPDK's are with `--iova-mode=va`: what is shared is translated to itself, all of a region at
//! once, and nothing is ever taken back while the session lasts.

use std::os::fd::{AsFd, BorrowedFd};

use vring_vhost::{
    ACCESS_READ, ACCESS_WRITE, BackendRequest, BackendRequests, Frontend, ProtocolFeatures,
    VhostError,
};

/// See the module.
pub(super) struct Iommu {
    channel: BackendRequests,
    /// First address and bytes of the pool's and of the rings' region.
    shared: [(u64, u64); 2],
}

impl Iommu {
    /// Without these a back end cannot ask.
    pub(super) const NEEDS: ProtocolFeatures =
        ProtocolFeatures::BACKEND_REQ.union(ProtocolFeatures::REPLY_ACK);

    pub(super) fn new(channel: BackendRequests, shared: [(u64, u64); 2]) -> Self {
        Self { channel, shared }
    }

    /// Readable when the back end asks.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Answers what was asked. An address that is not shared has no translation.
    pub(super) fn serve(&self, frontend: &mut Frontend) -> Result<(), VhostError> {
        while let Some(request) = self.channel.take()? {
            let BackendRequest::IotlbMiss(miss) = request else {
                continue;
            };
            let of = |&(at, size): &(u64, u64)| miss.iova.wrapping_sub(at) < size;
            let found = self.shared.iter().copied().find(of);
            if let Some((at, size)) = found {
                frontend.iotlb_update(at, size, at, ACCESS_READ | ACCESS_WRITE)?;
            }
            self.channel.answer(miss, found.is_some())?;
        }
        Ok(())
    }
}
