//! Memory of Rust's that JavaScript sees as an `ArrayBuffer`, without a copy.

use std::ffi::c_void;
use std::ptr;

use napi::bindgen_prelude::{FromNapiValue, Unknown};
use napi::{Env, JsValue, sys};
use napi_derive::napi;

use crate::error::{Result, check, failure, internal};

const NO_SHARING: &str = "expected a JavaScript runtime that can show native memory without copying it, but this one copies or \
     refuses (Electron does); run vring in Node.js, for instance in a child process";

/// Shows `len` bytes from `base`. `owner` is dropped when the `ArrayBuffer` is gone, or a turn of the event loop after it was detached.
///
/// # Safety
/// The bytes stay mapped and writable as long as `owner` lives.
pub unsafe fn show<T: 'static>(
    env: &Env,
    base: *mut u8,
    len: usize,
    owner: T,
) -> Result<Unknown<'_>> {
    let hint: *mut c_void = Box::into_raw(Box::new(owner)).cast();
    let mut buffer = ptr::null_mut();
    // SAFETY: `hint` is a box of T, which the finalizer takes it for. When the call fails, nobody else knows the box.
    unsafe {
        let status = sys::napi_create_external_arraybuffer(
            env.raw(),
            base.cast(),
            len,
            Some(finalize::<T>),
            hint,
            &raw mut buffer,
        );
        if status != sys::Status::napi_ok {
            drop(Box::from_raw(hint.cast::<T>()));
            return Err(failure("ERR_VRING_NO_SHARED_MEMORY", NO_SHARING));
        }
        let (mut seen, mut bytes) = (ptr::null_mut(), 0);
        check(
            sys::napi_get_arraybuffer_info(env.raw(), buffer, &raw mut seen, &raw mut bytes),
            "napi_get_arraybuffer_info",
        )?;
        if seen != base.cast() || bytes != len {
            return Err(failure("ERR_VRING_NO_SHARED_MEMORY", NO_SHARING));
        }
        Unknown::from_napi_value(env.raw(), buffer).map_err(internal)
    }
}

unsafe extern "C" fn finalize<T>(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    // SAFETY: the box that `show` made; N-API calls a finalizer once, on the thread that made the buffer.
    drop(unsafe { Box::from_raw(hint.cast::<T>()) });
}

/// Takes the memory away from JavaScript: the `ArrayBuffer` and all views of it have length 0 from now on.
#[napi(catch_unwind, ts_args_type = "buffer: ArrayBuffer")]
pub fn detach(env: Env, buffer: Unknown<'_>) -> Result<()> {
    // SAFETY: a value of this call's scope; N-API checks that it is an ArrayBuffer.
    check(
        unsafe { sys::napi_detach_arraybuffer(env.raw(), buffer.raw()) },
        "napi_detach_arraybuffer",
    )
}
