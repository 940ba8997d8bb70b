//! Queues on their way from one thread to another.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use vring_port::Owner;

use crate::error::{Result, coded, failure};
use crate::queue::AnyQueue;

/// A queue that was handed over and not adopted yet. Nobody can poll it: it belongs to the token.
struct Pending {
    queue: AnyQueue,
    from: Owner,
    token: Owner,
}

static PENDING: LazyLock<Mutex<HashMap<u32, Pending>>> = LazyLock::new(Mutex::default);

fn pending() -> MutexGuard<'static, HashMap<u32, Pending>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the queue to a token. A token of the same queue from the same thread that nobody adopted is void from now on.
pub fn hand_over(queue: &AnyQueue, from: Owner) -> Result<u32> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let mut pending = pending();
    pending.retain(|_, old| {
        let void = old.queue.is_closed() || (old.from == from && old.queue.same(queue));
        if void {
            old.queue.release(old.token);
        }
        !void
    });
    // Whoever has the queue now is the only one that may give it away.
    queue.claim(from).map_err(coded)?;
    queue.release(from);
    let token = Owner::new();
    queue.claim(token).map_err(coded)?;
    let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    pending.insert(
        id,
        Pending {
            queue: queue.clone(),
            from,
            token,
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
    if found.queue.receives() != receives {
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
    let Pending { queue, token, .. } = pending.remove(&id).expect("found right above");
    queue.release(token);
    queue.claim(to).map_err(coded)?;
    Ok(queue)
}
