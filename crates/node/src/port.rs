//! Ports: opened and closed on a thread of their own, since both may wait for a peer.

use std::sync::{Arc, Mutex, PoisonError};

use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Either, Object};
use napi_derive::napi;
use vring_port::{
    Device, LinkStatus, Offloads, Port, PortConfig, PortError, PortEvent, RxOffloads, TxOffloads,
};

use crate::devargs::{DeviceRequest, device};
use crate::error::{Failure, Result, coded, failure, internal};
use crate::isolate;
use crate::mempool::MempoolHandle;
use crate::poll::Waiter;
use crate::queue::{AnyQueue, QueueHandle};

/// The names of the ports that are open; a port's number is its place.
static OPEN: Mutex<Vec<Option<String>>> = Mutex::new(Vec::new());

/// A number and a name, until it is dropped.
#[derive(Debug)]
struct Seat(usize);

impl Seat {
    /// The smallest number that is free. That the name is too is for the port to check.
    fn take(name: &str) -> Self {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = open.iter().position(Option::is_none).unwrap_or_else(|| {
            open.push(None);
            open.len() - 1
        });
        open[free] = Some(name.to_owned());
        Self(free)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        OPEN.lock().unwrap_or_else(PoisonError::into_inner)[self.0] = None;
    }
}

/// The smallest number that makes a name of the driver's that no open port has.
#[napi(catch_unwind)]
pub fn free_port_name(driver: String) -> String {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = |name: &String| open.iter().flatten().any(|other| other == name);
    let mut names = (0..=open.len()).map(|n| format!("{driver}{n}"));
    names.find(|name| !taken(name)).unwrap_or(driver)
}

/// How a port is opened.
#[napi(object)]
#[derive(Debug)]
pub struct PortRequest {
    /// Receive queues.
    pub rx_queues: f64,
    /// Transmit queues.
    pub tx_queues: f64,
    /// Descriptors of a receive ring, 0 for the driver's number.
    pub rx_desc: f64,
    /// Descriptors of a transmit ring, 0 for the driver's number.
    pub tx_desc: f64,
    /// Largest payload of a frame.
    pub mtu: f64,
    /// Offloads of packets that come in, by name.
    pub rx_offloads: Vec<String>,
    /// Offloads of packets that go out, by name.
    pub tx_offloads: Vec<String>,
}

/// A number of 16 bits.
pub fn u16_of(what: &str, value: f64) -> Result<u16> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked right here"
    )]
    if value.fract() == 0.0 && (0.0..=65535.0).contains(&value) {
        return Ok(value as u16);
    }
    Err(failure(
        "ERR_VRING_OUT_OF_RANGE",
        format!("expected {what} to be a whole number from 0 to 65535, got {value}"),
    ))
}

fn offloads(rx: &[String], tx: &[String]) -> Result<Offloads> {
    let rx = rx.iter().map(|name| RxOffloads::from_ethdev(name));
    let tx = tx.iter().map(|name| TxOffloads::from_ethdev(name));
    Ok(Offloads {
        rx: rx.collect::<std::result::Result<_, _>>().map_err(coded)?,
        tx: tx.collect::<std::result::Result<_, _>>().map_err(coded)?,
    })
}

/// The link.
#[napi(object)]
pub struct LinkFacts {
    /// Packets can pass.
    pub up: bool,
    /// Megabits a second.
    pub speed: u32,
}

impl From<LinkStatus> for LinkFacts {
    fn from(link: LinkStatus) -> Self {
        Self {
            up: link.up,
            speed: link.speed,
        }
    }
}

/// What a port is now.
#[napi(object)]
pub struct PortFacts {
    /// Most receive queues.
    pub max_rx_queues: u32,
    /// Most transmit queues.
    pub max_tx_queues: u32,
    /// Descriptors of each receive ring now, 0 while unknown.
    pub rx_desc: u32,
    /// Descriptors of each transmit ring now, 0 while unknown.
    pub tx_desc: u32,
    /// Names of what was negotiated.
    pub features: Vec<String>,
    /// Further facts by name.
    pub details: Vec<(String, String)>,
}

/// Something that happened to a port: one of these is there.
#[napi(object)]
#[derive(Default)]
pub struct EventFacts {
    /// The link changed.
    pub link: Option<LinkFacts>,
    /// A queue was stopped, or a peer could not be served.
    pub error: Option<Failure>,
    /// A guest announces its address.
    pub rarp: Option<String>,
    /// The peer told its MTU.
    pub mtu: Option<u32>,
}

/// As `02:00:00:00:00:01`.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl From<PortEvent> for EventFacts {
    fn from(event: PortEvent) -> Self {
        match event {
            PortEvent::Link(link) => Self {
                link: Some(link.into()),
                ..Self::default()
            },
            PortEvent::Error(error) => Self {
                error: Some(Failure::of(&error)),
                ..Self::default()
            },
            PortEvent::Rarp(mac) => Self {
                rarp: Some(mac_text(mac)),
                ..Self::default()
            },
            PortEvent::Mtu(mtu) => Self {
                mtu: Some(mtu.into()),
                ..Self::default()
            },
        }
    }
}

/// A port.
#[napi]
pub struct PortHandle {
    port: Arc<Port>,
    /// Given up when the port is closed.
    seat: Arc<Mutex<Option<Seat>>>,
    id: u32,
}

impl PortHandle {
    /// The port.
    pub fn port(&self) -> &Port {
        &self.port
    }
}

/// Settles a promise by a thread; where none may be started, here and now: a promise that nobody settles keeps the process alive.
fn spawn<F: FnOnce() + Send + 'static>(name: &str, work: F) {
    fn run<F: FnOnce()>(work: &Mutex<Option<F>>) {
        let taken = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = taken {
            work();
        }
    }
    let work = Arc::new(Mutex::new(Some(work)));
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn({
        let work = work.clone();
        move || run(&work)
    });
    if thread.is_err() {
        run(&work);
    }
}

fn open_on_this_thread(
    device: &Device,
    config: &PortConfig,
) -> std::result::Result<Arc<Port>, Failure> {
    vring_port::open(device, config)
        .map(Arc::new)
        .map_err(|error| Failure::of(&error))
}

/// Opens a device. Settles with the port, or with why not.
#[napi(catch_unwind, ts_return_type = "Promise<PortHandle | Failure>")]
pub fn open_port<'env>(
    env: &'env Env,
    request: Either<String, DeviceRequest>,
    pool: ClassInstance<'_, MempoolHandle>,
    config: PortRequest,
) -> Result<Object<'env>> {
    let device = device(request)?;
    let config = PortConfig {
        pool: pool.pool()?,
        rx_queues: u16_of("rxQueues", config.rx_queues)?,
        tx_queues: u16_of("txQueues", config.tx_queues)?,
        rx_desc: u16_of("rxDesc", config.rx_desc)?,
        tx_desc: u16_of("txDesc", config.tx_desc)?,
        mtu: u16_of("mtu", config.mtu)?,
        offloads: offloads(&config.rx_offloads, &config.tx_offloads)?,
    };
    let seat = Seat::take(&device.name);
    let (deferred, promise) = env.create_deferred().map_err(internal)?;
    spawn("vring-open", move || {
        let opened = open_on_this_thread(&device, &config);
        deferred.resolve(move |env| {
            Ok(match opened {
                Ok(port) => {
                    isolate::current(&env)
                        .map_err(|e| napi::Error::from_reason(e.reason.clone()))?
                        .opened(&port);
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "as many as there are ports"
                    )]
                    let id = seat.0 as u32;
                    Either::A(PortHandle {
                        port,
                        id,
                        seat: Arc::new(Mutex::new(Some(seat))),
                    })
                }
                Err(failure) => Either::B(failure),
            })
        });
    });
    Ok(promise)
}

#[napi]
impl PortHandle {
    /// Its number.
    #[napi(catch_unwind)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The device's name.
    #[napi(catch_unwind)]
    pub fn name(&self) -> String {
        self.port.name().to_owned()
    }

    /// The driver's name.
    #[napi(catch_unwind)]
    pub fn driver(&self) -> &'static str {
        self.port.info().driver
    }

    /// Its Ethernet address.
    #[napi(catch_unwind)]
    pub fn mac(&self) -> String {
        mac_text(self.port.mac())
    }

    /// Largest payload of a frame.
    #[napi(catch_unwind)]
    pub fn mtu(&self) -> u32 {
        self.port.mtu().into()
    }

    /// The link now.
    #[napi(catch_unwind)]
    pub fn link(&self) -> LinkFacts {
        self.port.link().into()
    }

    /// What it is now.
    #[napi(catch_unwind)]
    pub fn facts(&self) -> PortFacts {
        let info = self.port.info();
        PortFacts {
            max_rx_queues: info.max_rx_queues.into(),
            max_tx_queues: info.max_tx_queues.into(),
            rx_desc: info.rx_desc.into(),
            tx_desc: info.tx_desc.into(),
            features: info.features.iter().map(|&name| name.to_owned()).collect(),
            details: info
                .details
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        }
    }

    /// Its receive queues, for this isolate.
    #[napi(catch_unwind)]
    pub fn rx_queues(&self, env: Env) -> Result<Vec<QueueHandle>> {
        self.port
            .rx_queues()
            .iter()
            .map(|queue| QueueHandle::of(&env, AnyQueue::Rx(queue.clone())))
            .collect()
    }

    /// Its transmit queues, for this isolate.
    #[napi(catch_unwind)]
    pub fn tx_queues(&self, env: Env) -> Result<Vec<QueueHandle>> {
        self.port
            .tx_queues()
            .iter()
            .map(|queue| QueueHandle::of(&env, AnyQueue::Tx(queue.clone())))
            .collect()
    }

    /// Wakes when there are events.
    #[napi(catch_unwind)]
    pub fn waiter(&self, env: Env) -> Result<Waiter> {
        let fd = self.port.events().fd().ok_or_else(|| {
            coded(PortError::Closed {
                name: self.port.name().to_owned(),
            })
        })?;
        Waiter::of(&env, fd)
    }

    /// Takes the events that have come.
    #[napi(catch_unwind)]
    pub fn drain(&self) -> Vec<EventFacts> {
        self.port
            .events()
            .drain()
            .into_iter()
            .map(EventFacts::from)
            .collect()
    }

    /// Closes it; settles when it is closed. Its name and number are free then.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred().map_err(internal)?;
        let (port, seat) = (self.port.clone(), self.seat.clone());
        spawn("vring-close", move || {
            port.close();
            drop(port);
            seat.lock().unwrap_or_else(PoisonError::into_inner).take();
            deferred.resolve(|_env| Ok(()));
        });
        Ok(promise)
    }
}
