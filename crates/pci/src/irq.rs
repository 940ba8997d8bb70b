//! How a device wakes a process.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::Window;
use crate::vfio::Vfio;

/// What interrupts a device has.
#[derive(Debug)]
pub enum Interrupts {
    /// MSI-X by VFIO: so many vectors, each with an eventfd of its own (`Device::set_vectors`).
    Vectors(u16),
    /// One for all, which says by the device's ISR register what it is for.
    Line(Line),
    /// None: without a driver of the kernel's, nobody takes them. The ISR register says what happened to who asks it.
    Polled,
}

/// An interrupt line. It fires once, and again after [`Line::rearm`].
pub struct Line {
    fd: Arc<OwnedFd>,
    how: How,
}

enum How {
    /// A read takes it. UIO's generic driver masks it in the command register; others have it switched on by a write.
    Uio(Window),
    /// An eventfd.
    Vfio(Arc<Vfio>),
}

/// `PCI_COMMAND` and its bit that masks the line.
const COMMAND: u64 = 4;
const INTX_DISABLE: u16 = 1 << 10;

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

impl AsFd for Line {
    /// Readable when it has fired.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Line {
    pub(crate) fn uio(fd: Arc<OwnedFd>, config: Window) -> Self {
        let how = How::Uio(config);
        Self { fd, how }
    }

    pub(crate) fn vfio(fd: Arc<OwnedFd>, vfio: Arc<Vfio>) -> Self {
        let how = How::Vfio(vfio);
        Self { fd, how }
    }

    /// Takes what has fired. False when the device is gone.
    #[must_use]
    pub fn take(&self) -> bool {
        // Of UIO's, the read does not wait: poll said that there is something.
        let mut count = [0; 8];
        let len = if matches!(self.how, How::Uio(_)) {
            4
        } else {
            8
        };
        match rustix::io::read(&*self.fd, &mut count[..len]) {
            Ok(_) => true,
            Err(errno) => errno == rustix::io::Errno::AGAIN || errno == rustix::io::Errno::INTR,
        }
    }

    /// Lets it fire again.
    pub fn rearm(&self) {
        match &self.how {
            How::Uio(config) => {
                if rustix::io::write(&*self.fd, &1u32.to_ne_bytes()).is_err() {
                    let command = config.read16(COMMAND);
                    if command & INTX_DISABLE != 0 && command != u16::MAX {
                        config.write16(COMMAND, command & !INTX_DISABLE);
                    }
                }
            }
            How::Vfio(vfio) => vfio.unmask_line(),
        }
    }
}
