//! Checks that messages of several kinds share.

use std::os::fd::OwnedFd;

use crate::error::VhostError;
use crate::message::Request;

pub(super) fn expect_fds(
    request: Request,
    fds: &[OwnedFd],
    expected: usize,
) -> Result<(), VhostError> {
    if fds.len() == expected {
        return Ok(());
    }
    Err(VhostError::FdCount {
        request,
        expected,
        got: fds.len(),
    })
}

pub(super) fn narrow<T: TryFrom<u64>>(
    request: Request,
    what: &str,
    value: u64,
) -> Result<T, VhostError> {
    T::try_from(value).map_err(|_| VhostError::BadValue {
        request,
        reason: format!(
            "expected a {what} of {} bits, got {value:#x}",
            8 * size_of::<T>()
        ),
    })
}
