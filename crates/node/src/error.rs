//! Errors on their way into JavaScript: a stable code and a message. `ts/errors.ts` makes a `VringError` of them.

use std::fmt;

use napi_derive::napi;
use vring_forward::ForwardError;
use vring_mem::MemError;
use vring_netdev::NetdevError;
use vring_port::PortError;

/// A code `ERR_VRING_…`.
#[derive(Debug, Clone, Copy)]
pub struct Code(pub &'static str);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.0
    }
}

/// What a `#[napi]` function throws.
pub type Error = napi::Error<Code>;
/// What a `#[napi]` function returns.
pub type Result<T> = napi::Result<T, Code>;

/// An error that has a stable code.
pub trait Coded: fmt::Display {
    /// The code.
    fn code(&self) -> &'static str;
}

impl Coded for PortError {
    fn code(&self) -> &'static str {
        self.code()
    }
}

impl Coded for ForwardError {
    fn code(&self) -> &'static str {
        self.code()
    }
}

impl Coded for NetdevError {
    fn code(&self) -> &'static str {
        self.code()
    }
}

impl Coded for MemError {
    fn code(&self) -> &'static str {
        self.code()
    }
}

/// For `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
pub fn coded(error: impl Coded) -> Error {
    Error::new(Code(error.code()), error.to_string())
}

/// N-API itself failed: for `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
pub fn internal(error: napi::Error) -> Error {
    Error::new(Code("ERR_VRING_INTERNAL"), error.reason.clone())
}

/// An error of this crate's own.
pub fn failure(code: &'static str, message: impl Into<String>) -> Error {
    Error::new(Code(code), message.into())
}

/// Says that N-API refused something that it has no reason to refuse.
pub fn check(status: napi::sys::napi_status, what: &str) -> Result<()> {
    if status == napi::sys::Status::napi_ok {
        Ok(())
    } else {
        Err(failure(
            "ERR_VRING_INTERNAL",
            format!("{what} failed with N-API status {status}"),
        ))
    }
}

/// An error as a value: for events, and for promises that another thread settles.
#[napi(object)]
#[derive(Debug)]
pub struct Failure {
    /// The stable code.
    pub code: String,
    /// What was expected, what came, what to do.
    pub message: String,
}

impl Failure {
    /// Of any error with a code.
    pub fn of(error: &impl Coded) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
        }
    }
}
