//! Queues on their way from one thread to another.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use vring_port::Owner;

use crate::error::{Result, failure};
use crate::queue::{AnyQueue, AnyTicket};

/// A queue that was handed over and not adopted yet. Nobody can poll it.
struct Pending {
    ticket: AnyTicket,
    /// The thread that handed it over.
    from: u64,
}

static PENDING: LazyLock<Mutex<HashMap<u32, Pending>>> = LazyLock::new(Mutex::default);

fn pending() -> MutexGuard<'static, HashMap<u32, Pending>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the queue to a token. A token of the same queue from the same thread that nobody adopted is void from now on.
pub fn hand_over(given: &AnyQueue, from: Owner) -> Result<u32> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let mut pending = pending();
    // What is dropped here gives its queue back.
    pending.retain(|_, old| {
        let queue = old.ticket.queue();
        !(queue.is_closed() || (old.from == from.number() && queue.same(given)))
    });
    let ticket = given.hand_over(from)?;
    let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    pending.insert(
        id,
        Pending {
            ticket,
            from: from.number(),
        },
    );
    Ok(id)
}

/// Takes the queue of a token, once.
pub fn adopt(id: u32, receives: bool, to: Owner) -> Result<AnyQueue> {
    let mut pending = pending();
    let Some(found) = pending.get(&id) else {
        return Err(failure(
            "ERR_VRING_TOKEN",
            "expected a token that was not adopted yet; a token is good for one adopt(): hand the queue over again",
        ));
    };
    if found.ticket.queue().receives() != receives {
        let (wanted, other) = if receives {
            ("a receive", "TxQueue.adopt()")
        } else {
            ("a transmit", "RxQueue.adopt()")
        };
        return Err(failure(
            "ERR_VRING_TOKEN",
            format!("expected the token of {wanted} queue; for this one use {other}"),
        ));
    }
    let Pending { ticket, .. } = pending.remove(&id).expect("found right above");
    let queue = ticket.queue();
    ticket.take(to)?;
    Ok(queue)
}
