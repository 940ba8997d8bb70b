//! The loop of a control thread that serves front ends at a socket path, one after the other.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Backend, BackendConfig, BackendHandler, Notifier};
use crate::error::VhostError;
use crate::socket::{self, Endpoint, SocketRole};

/// Pause after a connection that we dialled ended, so that a peer that refuses us at once is not dialled in a hot loop.
const REDIAL: Duration = Duration::from_millis(100);

/// A back end at a socket path, in either role.
pub struct BackendServer<H> {
    endpoint: Endpoint,
    backend: Backend<H>,
}

impl<H: BackendHandler> BackendServer<H> {
    /// Opens the socket. Whoever opens the port gets these errors at once, before a thread exists.
    ///
    /// # Errors
    /// As [`Endpoint::open`].
    pub fn open(
        role: SocketRole,
        path: impl Into<PathBuf>,
        config: BackendConfig,
        handler: H,
    ) -> Result<Self, VhostError> {
        Ok(Self {
            endpoint: Endpoint::open(role, path)?,
            backend: Backend::new(config, handler)?,
        })
    }

    /// As [`Backend::notifier`].
    pub fn notifier(&self) -> &Arc<Notifier> {
        self.backend.notifier()
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.endpoint.path()
    }

    /// Serves front ends until `stop` becomes readable: accepts or dials, serves until the peer is gone, and again. Removes the
    /// socket if it is ours, and returns the handler. A system call that fails for good also ends it, and is returned.
    pub fn run(mut self, stop: &OwnedFd) -> (H, VhostError) {
        let why = loop {
            let socket = match self.endpoint.connect(stop.as_fd(), None) {
                Ok(socket) => socket,
                Err(why) => break why,
            };
            let ended = self.backend.serve(&socket, stop.as_fd());
            drop(socket);
            if matches!(ended, VhostError::Stopped) {
                break ended;
            }
            if self.endpoint.role() == SocketRole::Dial
                && let Err(why) = socket::pause(REDIAL, stop.as_fd())
            {
                break why;
            }
        };
        (self.backend.into_handler(), why)
    }
}
