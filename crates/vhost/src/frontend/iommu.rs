//! Tells a back end of an IOMMU's translations (`VIRTIO_F_ACCESS_PLATFORM`).

use zerocopy::IntoBytes;

use super::Frontend;
use crate::error::VhostError;
use crate::message::{IotlbMessage, Request, iotlb};

/// The device may read.
pub const ACCESS_READ: u8 = 1;
/// The device may write.
pub const ACCESS_WRITE: u8 = 2;

impl Frontend {
    /// Tells that `size` bytes from the I/O virtual address `iova` on are those at `user_addr` of this process, which were shared, and what the
    /// back end may do there ([`ACCESS_READ`], [`ACCESS_WRITE`]).
    pub fn iotlb_update(
        &mut self,
        iova: u64,
        size: u64,
        user_addr: u64,
        access: u8,
    ) -> Result<(), VhostError> {
        self.tell_iotlb(IotlbMessage {
            iova,
            size,
            user_addr,
            access,
            kind: iotlb::UPDATE,
            padding: [0; 6],
        })
    }

    /// Takes back what was told of any of `size` bytes from `iova` on. With `REPLY_ACK`, the back end uses none of it any more when this returns.
    pub fn iotlb_invalidate(&mut self, iova: u64, size: u64) -> Result<(), VhostError> {
        self.tell_iotlb(IotlbMessage {
            iova,
            size,
            user_addr: 0,
            access: 0,
            kind: iotlb::INVALIDATE,
            padding: [0; 6],
        })
    }

    fn tell_iotlb(&mut self, message: IotlbMessage) -> Result<(), VhostError> {
        self.tell(Request::IOTLB_MSG, message.as_bytes(), &[])
    }
}
