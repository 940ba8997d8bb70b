//! Proof, in a debug build, that a buffer is in one place.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Mempool;

/// In a debug build: proves that a buffer is free or held, never both. Costs nothing in a release build.
#[derive(Debug)]
pub(crate) struct Audit {
    #[cfg(debug_assertions)]
    held: Box<[AtomicBool]>,
}

impl Audit {
    #[cfg_attr(
        not(debug_assertions),
        expect(unused_variables, reason = "audits only in debug builds")
    )]
    pub(crate) fn new(count: usize) -> Self {
        Self {
            #[cfg(debug_assertions)]
            held: (0..count).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    #[inline(always)]
    #[cfg_attr(
        not(debug_assertions),
        expect(
            unused_variables,
            clippy::unused_self,
            reason = "audits only in debug builds"
        )
    )]
    pub(crate) fn take(&self, pool: &Mempool, addrs: &[u32]) {
        #[cfg(debug_assertions)]
        for &addr in addrs {
            let was = self.held[pool.buffer_of(addr) as usize].swap(true, Ordering::Relaxed);
            assert!(
                !was,
                "buffer at {addr} of mempool {} was handed out twice",
                pool.name()
            );
        }
    }

    #[inline(always)]
    #[cfg_attr(
        not(debug_assertions),
        expect(
            unused_variables,
            clippy::unused_self,
            reason = "audits only in debug builds"
        )
    )]
    pub(crate) fn give(&self, pool: &Mempool, addrs: &[u32]) {
        #[cfg(debug_assertions)]
        for &addr in addrs {
            let was = self.held[pool.buffer_of(addr) as usize].swap(false, Ordering::Relaxed);
            assert!(
                was,
                "buffer at {addr} of mempool {} was freed twice",
                pool.name()
            );
        }
    }
}
