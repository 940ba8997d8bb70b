//! Sleeping on a file descriptor in JavaScript's event loop: libuv's own poll handle, without a thread in between.
//!
//! A [`Waiter`] is armed for one wake-up at a time. While it is armed it holds on to its callback, and to nothing else: a waiter that
//! nobody uses any more can be collected.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use napi::bindgen_prelude::Unknown;
use napi::{Env, JsValue, sys};
use napi_derive::napi;

use crate::error::{Result, check, failure};

/// A `uv_poll_t`, whose size only libuv knows.
#[repr(C)]
struct UvPoll {
    /// The first field of every handle is for its user.
    data: *mut c_void,
}

const UV_POLL: c_int = 8;
const UV_READABLE: c_int = 1;

unsafe extern "C" {
    fn uv_handle_size(kind: c_int) -> usize;
    fn uv_poll_init(uv_loop: *mut c_void, handle: *mut UvPoll, fd: c_int) -> c_int;
    fn uv_poll_start(
        handle: *mut UvPoll,
        events: c_int,
        callback: unsafe extern "C" fn(*mut UvPoll, c_int, c_int),
    ) -> c_int;
    fn uv_poll_stop(handle: *mut UvPoll) -> c_int;
    fn uv_close(handle: *mut UvPoll, callback: unsafe extern "C" fn(*mut UvPoll));
    fn uv_ref(handle: *mut UvPoll);
    fn uv_unref(handle: *mut UvPoll);
    fn uv_strerror(error: c_int) -> *const std::ffi::c_char;
}

/// What the handle, the waiter and the environment's cleanup share. All on one thread.
struct Inner {
    env: sys::napi_env,
    /// 16-byte aligned, as large as libuv says.
    memory: RefCell<Vec<u128>>,
    closing: Cell<bool>,
    callback: Cell<sys::napi_ref>,
    hook: Cell<sys::napi_async_cleanup_hook_handle>,
    /// A duplicate: nobody else closes it while libuv watches it. Given back when libuv has let go, not when the waiter is collected: a
    /// peer waits for the end of a connection.
    fd: Cell<Option<OwnedFd>>,
    /// What it is of: what an epoll descriptor watches must not be closed before it. Given back likewise.
    of: Cell<Option<Arc<dyn AsFd>>>,
}

impl Inner {
    fn handle(&self) -> *mut UvPoll {
        self.memory.borrow_mut().as_mut_ptr().cast()
    }

    fn forget_callback(&self) {
        let reference = self.callback.replace(ptr::null_mut());
        if !reference.is_null() {
            // SAFETY: a reference of this environment, deleted once.
            unsafe { sys::napi_delete_reference(self.env, reference) };
        }
    }

    fn stop(&self) {
        if !self.closing.get() {
            // SAFETY: an initialised handle that is not closing; stopping a stopped one is no error.
            unsafe { uv_poll_stop(self.handle()) };
        }
        self.forget_callback();
    }

    fn close(&self) {
        self.stop();
        if !self.closing.replace(true) {
            // SAFETY: an initialised handle, closed once. Its memory lives until `closed`, which has a count of the Rc.
            unsafe { uv_close(self.handle(), closed) };
        }
    }
}

/// libuv has let go of the handle.
unsafe extern "C" fn closed(handle: *mut UvPoll) {
    // SAFETY: `data` is the count that `Waiter::new` gave to the handle; this callback is its last use.
    let inner = unsafe { Rc::from_raw((*handle).data.cast::<Inner>()) };
    drop((inner.fd.take(), inner.of.take()));
    // SAFETY: the hook's handle, removed once. When the environment is ending, this is what it waits for.
    unsafe { sys::napi_remove_async_cleanup_hook(inner.hook.get()) };
}

/// The environment ends: an open handle would abort the process.
unsafe extern "C" fn environment_ends(
    _hook: sys::napi_async_cleanup_hook_handle,
    argument: *mut c_void,
) {
    // SAFETY: the hook is removed in `closed`, so the handle's count of the Rc is still there.
    let inner = unsafe { &*argument.cast::<Inner>() };
    inner.close();
}

unsafe extern "C" fn readable(handle: *mut UvPoll, _status: c_int, _events: c_int) {
    // SAFETY: `data` is a live Rc while the handle is not closed. One more count keeps it through the callback, which may close it.
    let inner = unsafe {
        let raw = (*handle).data.cast::<Inner>().cast_const();
        Rc::increment_strong_count(raw);
        Rc::from_raw(raw)
    };
    // SAFETY: an initialised handle that is not closing, or it would not be called.
    unsafe { uv_poll_stop(handle) };
    let reference = inner.callback.replace(ptr::null_mut());
    if !reference.is_null() {
        call(inner.env, reference);
    }
}

/// Calls the function behind the reference and deletes the reference.
fn call(env: sys::napi_env, reference: sys::napi_ref) {
    let mut scope = ptr::null_mut();
    let (mut function, mut receiver, mut result) =
        (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: this is the environment's thread, outside of any JavaScript; all values live in the scope that is opened here.
    unsafe {
        if sys::napi_open_handle_scope(env, &raw mut scope) != sys::Status::napi_ok {
            return;
        }
        sys::napi_get_reference_value(env, reference, &raw mut function);
        sys::napi_delete_reference(env, reference);
        sys::napi_get_global(env, &raw mut receiver);
        let called = sys::napi_make_callback(
            env,
            ptr::null_mut(),
            receiver,
            function,
            0,
            ptr::null(),
            &raw mut result,
        );
        if called == sys::Status::napi_pending_exception {
            let mut thrown = ptr::null_mut();
            sys::napi_get_and_clear_last_exception(env, &raw mut thrown);
            sys::napi_fatal_exception(env, thrown);
        }
        sys::napi_close_handle_scope(env, scope);
    }
}

/// See the module.
#[napi]
pub struct Waiter {
    inner: Rc<Inner>,
}

impl Waiter {
    /// Watches a duplicate of the descriptor. It keeps the event loop alive only while it is armed, and not after `unref`.
    pub fn new(env: &Env, fd: BorrowedFd<'_>) -> Result<Self> {
        Self::watch(env, fd, None)
    }

    /// The same, and holds on to what the descriptor is of.
    pub fn of(env: &Env, of: Arc<dyn AsFd>) -> Result<Self> {
        Self::watch(env, of.as_fd(), Some(of.clone()))
    }

    fn watch(env: &Env, fd: BorrowedFd<'_>, of: Option<Arc<dyn AsFd>>) -> Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|e| {
            failure(
                "ERR_VRING_SYSTEM",
                format!("cannot duplicate a file descriptor: {e}"),
            )
        })?;
        let mut uv_loop = ptr::null_mut();
        // SAFETY: fills a pointer of ours.
        let status = unsafe { sys::napi_get_uv_event_loop(env.raw(), &raw mut uv_loop) };
        check(status, "napi_get_uv_event_loop")?;
        // SAFETY: a pure function.
        let size = unsafe { uv_handle_size(UV_POLL) };
        let number = fd.as_raw_fd();
        let inner = Rc::new(Inner {
            env: env.raw(),
            memory: RefCell::new(vec![0; size.div_ceil(size_of::<u128>())]),
            closing: Cell::new(false),
            callback: Cell::new(ptr::null_mut()),
            hook: Cell::new(ptr::null_mut()),
            fd: Cell::new(Some(fd)),
            of: Cell::new(of),
        });
        let handle = inner.handle();
        // SAFETY: memory of the size that libuv asked for, that does not move and outlives the handle: see `closed`.
        let status = unsafe { uv_poll_init(uv_loop.cast(), handle, number) };
        if status != 0 {
            return Err(uv_failure("uv_poll_init", status));
        }
        let counted = Rc::into_raw(inner.clone()).cast_mut().cast::<c_void>();
        let mut hook = ptr::null_mut();
        // SAFETY: the handle's own count of the Rc, which `closed` takes back. The hook is gone by then.
        unsafe {
            (*handle).data = counted;
            sys::napi_add_async_cleanup_hook(
                env.raw(),
                Some(environment_ends),
                counted,
                &raw mut hook,
            );
        }
        inner.hook.set(hook);
        Ok(Self { inner })
    }
}

#[napi]
impl Waiter {
    /// Calls the function once, when the descriptor is readable. Arming again replaces the function.
    #[napi(catch_unwind, ts_args_type = "callback: () => void")]
    pub fn arm(&self, env: Env, callback: Unknown<'_>) -> Result<()> {
        let inner = &self.inner;
        if inner.closing.get() {
            return Err(failure("ERR_VRING_CLOSED", "expected an open waiter"));
        }
        inner.forget_callback();
        let mut reference = ptr::null_mut();
        // SAFETY: a value of this call's scope.
        let status =
            unsafe { sys::napi_create_reference(env.raw(), callback.raw(), 1, &raw mut reference) };
        check(status, "napi_create_reference")?;
        inner.callback.set(reference);
        // SAFETY: an initialised handle that is not closing.
        let status = unsafe { uv_poll_start(inner.handle(), UV_READABLE, readable) };
        if status == 0 {
            Ok(())
        } else {
            Err(uv_failure("uv_poll_start", status))
        }
    }

    /// Does not call the function any more.
    #[napi(catch_unwind)]
    pub fn disarm(&self) {
        self.inner.stop();
    }

    /// While armed, keeps the event loop alive (the default).
    #[napi(catch_unwind, js_name = "ref")]
    pub fn keep_alive(&self) {
        // SAFETY: an initialised handle; a closing one does not mind.
        unsafe { uv_ref(self.inner.handle()) };
    }

    /// Does not keep the event loop alive.
    #[napi(catch_unwind)]
    pub fn unref(&self) {
        // SAFETY: an initialised handle; a closing one does not mind.
        unsafe { uv_unref(self.inner.handle()) };
    }

    /// Gives the descriptor back.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.inner.close();
    }
}

fn uv_failure(call: &str, status: c_int) -> crate::error::Error {
    // SAFETY: a static string for every number.
    let text = unsafe { std::ffi::CStr::from_ptr(uv_strerror(status)) };
    failure(
        "ERR_VRING_SYSTEM",
        format!("{call} failed: {}", text.to_string_lossy()),
    )
}
