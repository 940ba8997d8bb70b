//! Device strings and the table of drivers.

use napi::bindgen_prelude::Either;
use napi_derive::napi;
use vring_port::{DRIVERS, Device};

use crate::error::{Result, coded};

/// One argument of a driver.
#[napi(object)]
pub struct DevargFacts {
    /// Its name.
    pub key: String,
    /// What it does, its values and its default.
    pub help: String,
}

/// One driver.
#[napi(object)]
pub struct DriverFacts {
    /// Its name.
    pub name: String,
    /// Other beginnings of device names that mean it.
    pub aliases: Vec<String>,
    /// What it is.
    pub help: String,
    /// Its arguments.
    pub args: Vec<DevargFacts>,
}

/// A device string, taken apart.
#[napi(object)]
pub struct DeviceFacts {
    /// As given.
    pub name: String,
    /// The driver that it means.
    pub driver: String,
    /// Keys and values in order; a key may come again.
    pub args: Vec<(String, String)>,
}

/// All drivers with their arguments.
#[napi(catch_unwind)]
pub fn driver_table() -> Vec<DriverFacts> {
    let arg = |arg: &vring_port::DevargInfo| DevargFacts {
        key: arg.key.to_owned(),
        help: arg.help.to_owned(),
    };
    let drivers = DRIVERS.iter().map(|driver| DriverFacts {
        name: driver.name.to_owned(),
        aliases: driver
            .aliases
            .iter()
            .map(|&alias| alias.to_owned())
            .collect(),
        help: driver.help.to_owned(),
        args: driver.args.iter().map(arg).collect(),
    });
    drivers.collect()
}

/// Takes a device string apart.
#[napi(catch_unwind)]
pub fn parse_device(text: String) -> Result<DeviceFacts> {
    let device = Device::parse(&text).map_err(coded)?;
    let args = device
        .args()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Ok(DeviceFacts {
        name: device.name,
        driver: device.driver.name.to_owned(),
        args,
    })
}

/// A device as a string, or as a name and arguments.
#[napi(object)]
pub struct DeviceRequest {
    /// The device's name.
    pub name: String,
    /// Keys and values.
    pub args: Vec<(String, String)>,
}

/// The device that was asked for.
pub fn device(request: Either<String, DeviceRequest>) -> Result<Device> {
    match request {
        Either::A(text) => Device::parse(&text),
        Either::B(request) => Device::new(&request.name, request.args),
    }
    .map_err(coded)
}
