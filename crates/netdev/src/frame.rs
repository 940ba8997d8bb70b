//! Frames between a device's file and memory that lies in pieces, one system call each.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// The pieces that a frame is read into or written from, in order.
#[derive(Debug, Default)]
pub struct Pieces(Vec<libc::iovec>);

// SAFETY: addresses and lengths; who reads or writes by them promises that they are good.
unsafe impl Send for Pieces {}

impl Pieces {
    /// No piece.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a piece at the end. Nothing is done with the pointer.
    pub fn push(&mut self, at: *mut u8, len: usize) {
        self.0.push(libc::iovec {
            iov_base: at.cast(),
            iov_len: len,
        });
    }

    /// Puts another piece in the place of the one with that number.
    ///
    /// # Panics
    /// When there is no such piece.
    pub fn set(&mut self, nth: usize, at: *mut u8, len: usize) {
        self.0[nth] = libc::iovec {
            iov_base: at.cast(),
            iov_len: len,
        };
    }

    /// Reads one frame; how many bytes, of which what does not fit is lost.
    ///
    /// # Errors
    /// What the kernel said: `AGAIN` when there is no frame.
    ///
    /// # Safety
    /// Each piece is memory that may be written, with no reference to it anywhere.
    pub unsafe fn read(&self, fd: impl AsFd) -> Result<usize, Errno> {
        // SAFETY: the caller's promise; the kernel does not write to the list itself.
        let got = unsafe { libc::readv(fd.as_fd().as_raw_fd(), self.0.as_ptr(), self.count()) };
        usize::try_from(got).map_err(|_| crate::sys::last_error())
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// What the kernel said: `AGAIN` when it has no room for one now.
    ///
    /// # Safety
    /// Each piece is memory that may be read.
    pub unsafe fn write(&self, fd: impl AsFd) -> Result<usize, Errno> {
        // SAFETY: the caller's promise.
        let put = unsafe { libc::writev(fd.as_fd().as_raw_fd(), self.0.as_ptr(), self.count()) };
        usize::try_from(put).map_err(|_| crate::sys::last_error())
    }

    /// More than the kernel takes is an error of the call's.
    fn count(&self) -> libc::c_int {
        libc::c_int::try_from(self.0.len()).unwrap_or(libc::c_int::MAX)
    }
}
