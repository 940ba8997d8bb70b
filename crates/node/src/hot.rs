//! Raw native functions for the data path.
//!
//! Each is a JavaScript function object that is bound to a Rust value: no receiver to check, no borrow to track, no argument but
//! numbers. A call costs what N-API itself costs.

use std::any::Any;
use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use napi::bindgen_prelude::{FromNapiValue, Unknown};
use napi::{Env, sys};

use crate::error::{Error, Result, check, failure};

/// What a call gives. The error is boxed so that the result travels in registers: moving a large one through memory costs as much as the
/// rest of the call.
pub type Outcome<T> = std::result::Result<T, Box<Error>>;

/// What a native function does with up to two numbers.
pub trait Callable: 'static {
    /// The function's name in JavaScript's stack traces.
    const NAME: &'static str;

    /// One call; an argument that is missing or no number is [`u32::MAX`]. The result must be quick to make into a number.
    ///
    /// # Errors
    /// What is thrown.
    fn call(&self, first: u32, second: u32) -> Outcome<u32>;
}

/// Makes the function object. The value lives as long as that.
pub fn bind<'env, T: Callable>(env: &'env Env, value: T) -> Result<Unknown<'env>> {
    let name = CString::new(T::NAME)
        .map_err(|_| failure("ERR_VRING_INTERNAL", "a function name with a NUL"))?;
    let data: *mut c_void = Box::into_raw(Box::new(value)).cast();
    let mut function = ptr::null_mut();
    // SAFETY: `data` is a box of T, which trampoline::<T> and finalize::<T> take it for; the finalizer runs once, when the function
    // is gone and cannot be called any more. On failure nobody else knows the box.
    unsafe {
        let length = name.as_bytes().len().cast_signed();
        let made = sys::napi_create_function(
            env.raw(),
            name.as_ptr(),
            length,
            Some(trampoline::<T>),
            data,
            &raw mut function,
        );
        if made != sys::Status::napi_ok {
            drop(Box::from_raw(data.cast::<T>()));
            return Err(failure(
                "ERR_VRING_INTERNAL",
                format!("napi_create_function failed with status {made}"),
            ));
        }
        let added = sys::napi_add_finalizer(
            env.raw(),
            function,
            data,
            Some(finalize::<T>),
            ptr::null_mut(),
            ptr::null_mut(),
        );
        // When this fails the box leaks: the function may still be called.
        check(added, "napi_add_finalizer")?;
        Unknown::from_napi_value(env.raw(), function).map_err(crate::error::internal)
    }
}

unsafe extern "C" fn finalize<T>(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the box that `bind` made; N-API calls a finalizer once.
    drop(unsafe { Box::from_raw(data.cast::<T>()) });
}

unsafe extern "C" fn trampoline<T: Callable>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let mut count = 2;
    let mut arguments = [ptr::null_mut(); 2];
    let mut data = ptr::null_mut();
    let mut numbers = [u32::MAX; 2];
    // SAFETY: env and info are N-API's for this call; it fills up to two arguments, the missing ones with undefined, and gives the
    // data that `bind` gave it. A value that is no number leaves its place as it is.
    unsafe {
        sys::napi_get_cb_info(
            env,
            info,
            &raw mut count,
            arguments.as_mut_ptr(),
            ptr::null_mut(),
            &raw mut data,
        );
        sys::napi_get_value_uint32(env, arguments[0], &raw mut numbers[0]);
        if count > 1 {
            sys::napi_get_value_uint32(env, arguments[1], &raw mut numbers[1]);
        }
    }
    // SAFETY: the function is alive, hence its box too; JavaScript is single-threaded, and a call does not come back here.
    let value = unsafe { &*data.cast::<T>() };
    let outcome = catch_unwind(AssertUnwindSafe(|| value.call(numbers[0], numbers[1])));
    let mut result = ptr::null_mut();
    match outcome {
        // SAFETY: as above.
        Ok(Ok(number)) => unsafe {
            sys::napi_create_uint32(env, number, &raw mut result);
        },
        Ok(Err(error)) => throw(env, &error),
        Err(panic) => throw(
            env,
            &failure("ERR_VRING_INTERNAL", panic_text(panic.as_ref())),
        ),
    }
    result
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!(
        "vring panicked: {}; this is a bug, please report it",
        text.unwrap_or("no message")
    )
}

#[cold]
fn throw(env: sys::napi_env, error: &Error) {
    let text = |s: &str| CString::new(s.replace('\0', " ")).unwrap_or_default();
    let (code, message) = (text(error.status.0), text(&error.reason));
    // SAFETY: two C strings that live through the call. When an exception is pending already, that one is as good.
    unsafe { sys::napi_throw_error(env, code.as_ptr(), message.as_ptr()) };
}
