//! The control thread of a port and how it is stopped.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::PortError;
use crate::event::{eventfd, signal};

/// A thread that ends when its stop descriptor becomes readable.
#[derive(Debug)]
pub(super) struct Control {
    running: Mutex<Option<(Arc<OwnedFd>, JoinHandle<()>)>>,
}

impl Control {
    /// Starts `run`, which must return soon after the descriptor it gets is readable.
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(Arc<OwnedFd>) + Send + 'static,
    ) -> Result<Self, PortError> {
        let stop = Arc::new(eventfd()?);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn({
                let stop = stop.clone();
                move || run(stop)
            })
            .map_err(|source| PortError::System {
                what: "starting the control thread".into(),
                source,
            })?;
        Ok(Self {
            running: Mutex::new(Some((stop, thread))),
        })
    }

    /// Stops the thread and waits for its end.
    pub(super) fn stop(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((stop, thread)) = running {
            signal(&*stop);
            // A panic was reported by the panic hook; what the thread held is given back by its drops.
            let _reported = thread.join();
        }
    }
}
