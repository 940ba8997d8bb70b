//! A network device of the kernel's as `ip link` shows it, for those who follow what is done to it.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use napi::Env;
use napi_derive::napi;
use vring_netdev::{Link, LinkMonitor, Macvtap, Namespace, NetdevError, Netlink};

use crate::configure::mac_of;
use crate::error::{Result, coded, failure};
use crate::poll::Waiter;
use crate::port::mac_text;

/// Bytes of the header before a frame until the file's user asks for another one: what QEMU expects of a tap.
const HEADER: u8 = 10;

/// What a device is now.
#[napi(object)]
pub struct DeviceState {
    /// Somebody switched it on.
    pub up: bool,
    /// Largest payload of a frame.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: String,
    /// Somebody wants packets to all addresses.
    pub promiscuous: bool,
    /// Somebody wants packets to all groups.
    pub all_multicast: bool,
    /// Packets that the kernel received from it.
    pub rx_packets: f64,
    /// Packets that it received and that nobody in the kernel took.
    pub rx_dropped: f64,
    /// Packets that the kernel sent through it.
    pub tx_packets: f64,
    /// Packets that had no room in it.
    pub tx_dropped: f64,
}

impl From<Link> for DeviceState {
    #[expect(clippy::cast_precision_loss, reason = "JavaScript's numbers")]
    fn from(link: Link) -> Self {
        Self {
            up: link.up,
            mtu: link.mtu,
            mac: mac_text(link.mac),
            promiscuous: link.promiscuous,
            all_multicast: link.all_multicast,
            rx_packets: link.counters.rx_packets as f64,
            rx_dropped: link.counters.rx_dropped as f64,
            tx_packets: link.counters.tx_packets as f64,
            tx_dropped: link.counters.tx_dropped as f64,
        }
    }
}

/// See the module. It holds sockets, until it is closed; not the device.
#[napi]
pub struct DeviceHandle {
    index: u32,
    namespace: Namespace,
    open: RefCell<Option<Open>>,
}

struct Open {
    netlink: Netlink,
    monitor: LinkMonitor,
}

/// The device of that name in a network namespace, or in this process's.
#[napi(catch_unwind)]
pub fn open_device(name: String, namespace: Option<String>) -> Result<DeviceHandle> {
    let open = || {
        let namespace =
            namespace.map_or_else(|| Ok(Namespace::own()), |text| Namespace::open(&text))?;
        let monitor = LinkMonitor::open(&namespace)?;
        let mut netlink = Netlink::open(&namespace)?;
        let index = netlink.link(&name)?.index;
        Ok(DeviceHandle {
            index,
            namespace,
            open: RefCell::new(Some(Open { netlink, monitor })),
        })
    };
    open().map_err(|error: NetdevError| coded(error))
}

impl DeviceHandle {
    fn with<T>(
        &self,
        f: impl FnOnce(&mut Open) -> std::result::Result<T, NetdevError>,
    ) -> Result<T> {
        match &mut *self.open.borrow_mut() {
            Some(open) => f(open).map_err(coded),
            None => Err(failure("ERR_VRING_CLOSED", "expected an open device")),
        }
    }
}

#[napi]
impl DeviceHandle {
    /// What it is now; nothing when it is gone.
    #[napi(catch_unwind)]
    pub fn state(&self) -> Result<Option<DeviceState>> {
        match &mut *self.open.borrow_mut() {
            Some(open) => state(&mut open.netlink, self.index),
            None => Ok(None),
        }
    }

    /// Wakes when something was done to a device; `drain` comes before the next look.
    #[napi(catch_unwind)]
    pub fn waiter(&self, env: Env) -> Result<Waiter> {
        match &*self.open.borrow() {
            Some(open) => Waiter::new(&env, open.monitor.as_fd()),
            None => Err(failure("ERR_VRING_CLOSED", "expected an open device")),
        }
    }

    /// Forgets what was done so far.
    #[napi(catch_unwind)]
    pub fn drain(&self) -> Result<()> {
        self.with(|open| open.monitor.take().map(drop))
    }

    /// Switches it on or off.
    #[napi(catch_unwind)]
    pub fn set_up(&self, on: bool) -> Result<()> {
        self.with(|open| open.netlink.set_up(self.index, on))
    }

    /// Sets its MTU.
    #[napi(catch_unwind)]
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        self.with(|open| open.netlink.set_mtu(self.index, mtu))
    }

    /// Sets its address.
    #[napi(catch_unwind)]
    pub fn set_mac(&self, mac: String) -> Result<()> {
        let mac = mac_of(&mac)?;
        self.with(|open| open.netlink.set_mac(self.index, mac))
    }

    /// As `ip link set … promisc`.
    #[napi(catch_unwind)]
    pub fn set_promiscuous(&self, on: bool) -> Result<()> {
        self.with(|open| open.netlink.set_promiscuous(self.index, on))
    }

    /// As `ip link set … allmulticast`.
    #[napi(catch_unwind)]
    pub fn set_all_multicast(&self, on: bool) -> Result<()> {
        self.with(|open| open.netlink.set_all_multicast(self.index, on))
    }

    /// Puts a macvtap on top that gets all that the device receives.
    #[napi(catch_unwind)]
    pub fn hand_off(&self, name: String) -> Result<MacvtapHandle> {
        self.with(|open| {
            Ok(MacvtapHandle {
                link: Macvtap::take_over(&mut open.netlink, &name, self.index)?,
                netlink: RefCell::new(Some(Netlink::open(&self.namespace)?)),
                namespace: self.namespace.clone(),
                file: RefCell::default(),
            })
        })
    }

    /// Gives the sockets back.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.open.take();
    }
}

/// A macvtap that a machine is to have. The device goes with the one below it.
#[napi]
pub struct MacvtapHandle {
    link: Link,
    namespace: Namespace,
    netlink: RefCell<Option<Netlink>>,
    file: RefCell<Option<OwnedFd>>,
}

#[napi]
impl MacvtapHandle {
    /// Its file.
    #[napi(catch_unwind)]
    pub fn path(&self) -> String {
        Macvtap::path(self.link.index)
    }

    /// A descriptor of one queue, which is opened now if it was not.
    #[napi(catch_unwind)]
    pub fn fd(&self) -> Result<i32> {
        let mut file = self.file.borrow_mut();
        if file.is_none() {
            let opened = Macvtap::open(&self.namespace, &self.link.name, 1, HEADER);
            *file = opened.map_err(coded)?.into_queues().pop();
        }
        let number = file.as_ref().map(|file| file.as_fd().as_raw_fd());
        number.ok_or_else(|| failure("ERR_VRING_INTERNAL", "a macvtap without a queue"))
    }

    /// What it is now; nothing when it is gone.
    #[napi(catch_unwind)]
    pub fn state(&self) -> Result<Option<DeviceState>> {
        match &mut *self.netlink.borrow_mut() {
            Some(netlink) => state(netlink, self.link.index),
            None => Ok(None),
        }
    }

    /// Closes the descriptor and gives the socket back.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.file.take();
        self.netlink.take();
    }
}

fn state(netlink: &mut Netlink, index: u32) -> Result<Option<DeviceState>> {
    match netlink.link_at(index) {
        Ok(link) => Ok(Some(link.into())),
        Err(NetdevError::NoSuchDevice { .. }) => Ok(None),
        Err(error) => Err(coded(error)),
    }
}
