//! The log of dirtied pages.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, ioctl_fionbio};
use vring_mem::guest::DirtyLog;

use super::session::{Session, expect_fds};
use crate::error::VhostError;
use crate::message::{F_LOG_ALL, LogArea, Request};
use crate::wire;

impl Session<'_> {
    /// Puts another log in place, and answers with what it was told, as front ends expect.
    pub(super) fn set_log_base(
        &mut self,
        payload: &[u8],
        mut fds: Vec<OwnedFd>,
    ) -> Result<LogArea, VhostError> {
        let request = Request::SET_LOG_BASE;
        let area: LogArea = wire::parse(request, payload)?;
        expect_fds(request, &fds, 1)?;
        let log = DirtyLog::map(fds.swap_remove(0), area.offset, area.size)
            .map_err(|source| VhostError::Map { request, source })?;
        self.log = Some(Arc::new(log.with_call(self.log_call.clone())));
        self.log_changed();
        Ok(area)
    }

    pub(super) fn set_log_fd(
        &mut self,
        payload: &[u8],
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), VhostError> {
        let request = Request::SET_LOG_FD;
        wire::parse::<()>(request, payload)?;
        expect_fds(request, &fds, 1)?;
        let call = fds.swap_remove(0);
        // The data path writes to it, and must not be made to wait.
        ioctl_fionbio(&call, true).map_err(|source: Errno| VhostError::BadValue {
            request,
            reason: format!(
                "expected a descriptor to write to, got one that cannot be set up ({source})"
            ),
        })?;
        self.log_call = Some(Arc::new(call));
        if let Some(log) = self.log.take() {
            self.log = Some(Arc::new(log.with_call(self.log_call.clone())));
            self.log_changed();
        }
        Ok(())
    }

    /// Rings that run go on with the log as it is now.
    fn log_changed(&mut self) {
        if self.features & F_LOG_ALL != 0 {
            self.stop_all();
            self.rebuild_memory();
            self.start_complete();
        }
    }
}
