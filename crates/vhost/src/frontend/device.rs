//! Requests about the device as a whole: its configuration space and the log of what it writes.

use std::os::fd::BorrowedFd;

use zerocopy::{FromBytes, IntoBytes};

use super::{Expect, Frontend};
use crate::error::VhostError;
use crate::message::{ConfigSpace, LogArea, MAX_CONFIG, ProtocolFeatures, Request};

impl Frontend {
    /// Reads `size` bytes of the device configuration space (protocol feature `CONFIG`).
    ///
    /// # Errors
    /// [`VhostError::Rejected`] if the device has not these bytes, [`VhostError::BadValue`] for more than 256.
    pub fn get_config(&mut self, offset: u32, size: u32) -> Result<Vec<u8>, VhostError> {
        let request = Request::GET_CONFIG;
        let head = ConfigSpace {
            offset,
            size,
            flags: 0,
        };
        let mut payload = head.as_bytes().to_vec();
        payload.resize(payload.len() + checked_size(request, size)?, 0);
        let sizes = [payload.len(), size_of::<ConfigSpace>()];
        let reply = self.exchange(request, &payload, &[], Expect::Payload(&sizes))?;
        let bad = || VhostError::Rejected { request, answer: 0 };
        let (said, bytes) = ConfigSpace::read_from_prefix(&reply.payload).map_err(|_| bad())?;
        if (said.offset, said.size) != (offset, size) || bytes.len() != size as usize {
            return Err(bad());
        }
        Ok(bytes.to_vec())
    }

    /// Writes to the device configuration space (protocol feature `CONFIG`): as the driver, or to restore after a migration also what a
    /// driver cannot write.
    ///
    /// # Errors
    /// [`VhostError::BadValue`] for more than 256 bytes.
    pub fn set_config(
        &mut self,
        offset: u32,
        bytes: &[u8],
        restore: bool,
    ) -> Result<(), VhostError> {
        let request = Request::SET_CONFIG;
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        checked_size(request, size)?;
        let head = ConfigSpace {
            offset,
            size,
            flags: restore.into(),
        };
        self.tell(request, &[head.as_bytes(), bytes].concat(), &[])
    }

    /// Passes the log of dirtied pages (protocol feature `LOG_SHMFD`): `size` bytes from `offset` in `fd`, which stays ours. Marks are made
    /// while `F_LOG_ALL` is among the features.
    pub fn set_log_base(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: u64,
        size: u64,
    ) -> Result<(), VhostError> {
        let request = Request::SET_LOG_BASE;
        let area = LogArea { size, offset };
        // Back ends answer with nothing, with a number, or with what they were told; with this protocol feature they all answer.
        let sizes = [0, size_of::<u64>(), size_of::<LogArea>()];
        let reply = self.exchange(request, area.as_bytes(), &[fd], Expect::Payload(&sizes))?;
        match u64::read_from_bytes(&reply.payload) {
            Ok(answer) if answer != 0 => Err(VhostError::Rejected { request, answer }),
            _ => Ok(()),
        }
    }

    /// Passes the descriptor by which the back end tells of new marks in the log (protocol feature `LOG_SHMFD`).
    pub fn set_log_fd(&mut self, fd: BorrowedFd<'_>) -> Result<(), VhostError> {
        self.tell(Request::SET_LOG_FD, &[], &[fd])
    }

    /// Whether a protocol feature was agreed on.
    pub(super) fn has(&self, feature: ProtocolFeatures) -> bool {
        self.protocol.contains(feature)
    }
}

fn checked_size(request: Request, size: u32) -> Result<usize, VhostError> {
    usize::try_from(size)
        .ok()
        .filter(|size| (1..=MAX_CONFIG).contains(size))
        .ok_or_else(|| VhostError::BadValue {
            request,
            reason: format!("expected 1 to {MAX_CONFIG} bytes of configuration space, got {size}"),
        })
}
