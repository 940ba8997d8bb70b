//! One JavaScript thread: the owner of its queues, and what must not outlive it.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use napi::{Env, sys};
use vring_forward::Lcore;
use vring_port::{Capture, Owner, Port};

use crate::error::{Result, check};
use crate::queue::{AnyQueue, WeakQueue};

/// See the module.
pub struct Isolate {
    /// Whom the queues that this thread polls belong to.
    pub owner: Owner,
    queues: RefCell<Vec<WeakQueue>>,
    ports: RefCell<Vec<Weak<Port>>>,
    lcores: RefCell<Vec<Weak<Lcore>>>,
    captures: RefCell<Vec<Weak<Capture>>>,
}

thread_local! {
    static CURRENT: Cell<Option<Rc<Isolate>>> = const { Cell::new(None) };
}

/// The isolate of this thread. The first call arranges that its end gives everything back.
pub fn current(env: &Env) -> Result<Rc<Isolate>> {
    if let Some(isolate) = CURRENT.take() {
        CURRENT.set(Some(isolate.clone()));
        return Ok(isolate);
    }
    let isolate = Rc::new(Isolate {
        owner: Owner::new(),
        queues: RefCell::default(),
        ports: RefCell::default(),
        lcores: RefCell::default(),
        captures: RefCell::default(),
    });
    let argument = Rc::into_raw(isolate.clone()).cast_mut().cast();
    // SAFETY: the hook gets the reference that is counted for it here, once, on this thread.
    let added = unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(end), argument) };
    check(added, "napi_add_env_cleanup_hook")?;
    CURRENT.set(Some(isolate.clone()));
    Ok(isolate)
}

unsafe extern "C" fn end(argument: *mut c_void) {
    // SAFETY: what `current` gave to the hook; hooks run once.
    let isolate = unsafe { Rc::from_raw(argument.cast::<Isolate>()) };
    // Another environment on this thread would get an isolate of its own.
    CURRENT.set(None);
    isolate
        .lcores
        .take()
        .iter()
        .filter_map(Weak::upgrade)
        .for_each(|lcore| lcore.stop());
    isolate
        .captures
        .take()
        .iter()
        .filter_map(Weak::upgrade)
        .for_each(|capture| capture.stop());
    isolate
        .ports
        .take()
        .iter()
        .filter_map(Weak::upgrade)
        .for_each(|port| port.close());
    isolate
        .queues
        .take()
        .iter()
        .filter_map(WeakQueue::upgrade)
        .for_each(|queue| queue.release(isolate.owner));
}

impl Isolate {
    /// The queue's claim ends with this thread at the latest.
    pub fn uses(&self, queue: &AnyQueue) {
        remember(&self.queues, queue.downgrade(), |weak| {
            weak.upgrade().is_some()
        });
    }

    /// The port was opened by this thread, and closes with it at the latest.
    pub fn opened(&self, port: &Arc<Port>) {
        remember(&self.ports, Arc::downgrade(port), |weak| {
            weak.strong_count() > 0
        });
    }

    /// The capture was begun by this thread, and ends with it at the latest.
    pub fn captures(&self, capture: &Arc<Capture>) {
        remember(&self.captures, Arc::downgrade(capture), |weak| {
            weak.strong_count() > 0
        });
    }

    /// The lcore was made by this thread, and stops with it at the latest.
    pub fn made(&self, lcore: &Arc<Lcore>) {
        remember(&self.lcores, Arc::downgrade(lcore), |weak| {
            weak.strong_count() > 0
        });
    }
}

/// Adds to a list. When it would have to grow, what is gone is left out first: the list stays as long as what it lists.
fn remember<T>(list: &RefCell<Vec<T>>, item: T, alive: impl Fn(&T) -> bool) {
    let mut list = list.borrow_mut();
    if list.len() == list.capacity() {
        list.retain(alive);
    }
    list.push(item);
}
