//! Keeps the back end's record of what is in flight, so that another back end can take it up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use zerocopy::{FromBytes, IntoBytes};

use super::{Expect, Frontend};
use crate::error::VhostError;
use crate::message::{InflightArea, Request};

/// A record, in a file that is only passed on: nothing here reads it.
#[derive(Debug)]
pub struct Inflight {
    area: InflightArea,
    fd: OwnedFd,
}

impl AsFd for Inflight {
    /// The file.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Frontend {
    /// Asks for a new record for that many rings, the largest of which has `size` descriptors (protocol feature `INFLIGHT_SHMFD`). After
    /// [`Frontend::set_features`], since the format of the rings decides on that of the record. `None` if the back end needs none.
    ///
    /// # Errors
    /// [`VhostError::BadValue`] if the answer is about other rings.
    pub fn get_inflight_fd(
        &mut self,
        rings: u16,
        size: u16,
    ) -> Result<Option<Inflight>, VhostError> {
        let request = Request::GET_INFLIGHT_FD;
        let asked = InflightArea {
            mmap_size: 0,
            mmap_offset: 0,
            num_queues: rings,
            queue_size: size,
            padding: 0,
        };
        let expect = Expect::Descriptor(&[size_of::<InflightArea>()]);
        let mut reply = self.exchange(request, asked.as_bytes(), &[], expect)?;
        let got = InflightArea::read_from_bytes(&reply.payload);
        let fd = reply.fds.pop();
        match (got, fd) {
            (Ok(area), None) if area.mmap_size == 0 => Ok(None),
            (Ok(area), Some(fd))
                if area.mmap_size > 0 && (area.num_queues, area.queue_size) == (rings, size) =>
            {
                Ok(Some(Inflight { area, fd }))
            }
            (got, _) => {
                self.broken = true;
                Err(VhostError::BadValue {
                    request,
                    reason: format!(
                        "expected a record of {rings} rings of {size} descriptors and its file, got {got:?}"
                    ),
                })
            }
        }
    }

    /// Passes a record before rings start: a new one, or one that another back end left for the same rings (protocol feature
    /// `INFLIGHT_SHMFD`).
    pub fn set_inflight_fd(&mut self, record: &Inflight) -> Result<(), VhostError> {
        let fds = [record.as_fd()];
        self.tell(Request::SET_INFLIGHT_FD, record.area.as_bytes(), &fds)
    }
}
