//! Device arguments in DPDK's form: `net_vhost0,iface=/tmp/s0,queues=2`.

use vring_pci::PciAddress;

use crate::{Offloads, PortError};

/// One argument that a driver knows.
#[derive(Debug, Clone, Copy)]
pub struct DevargInfo {
    /// Its name.
    pub key: &'static str,
    /// What it does, its values and its default.
    pub help: &'static str,
}

/// One driver.
#[derive(Debug, Clone, Copy)]
pub struct DriverInfo {
    /// Its name, as `net_vhost`.
    pub name: &'static str,
    /// Other beginnings of device names that mean it, as in DPDK.
    pub aliases: &'static [&'static str],
    /// What it is.
    pub help: &'static str,
    /// Its arguments.
    pub args: &'static [DevargInfo],
    /// What its devices do to packets themselves, where the peer can. Software does the rest.
    pub offloads: Offloads,
}

/// A device as somebody asked for it.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name, as `net_vhost0`.
    pub name: String,
    /// Its driver.
    pub driver: &'static DriverInfo,
    args: Vec<(String, String)>,
}

impl Device {
    /// Takes a string apart. The driver is what the name begins with.
    ///
    /// # Errors
    /// An unknown driver or argument: the message names the nearest known one.
    pub fn parse(text: &str) -> Result<Self, PortError> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let args = parts
            .filter(|part| !part.is_empty())
            .map(|part| match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (part.to_owned(), "1".to_owned()),
            });
        Self::new(name, args.collect())
    }

    /// A device by its name and its arguments, which may repeat where the driver allows it.
    ///
    /// # Errors
    /// As in [`Device::parse`].
    pub fn new(name: &str, args: Vec<(String, String)>) -> Result<Self, PortError> {
        let driver = find_driver(name)?;
        for (key, _) in &args {
            if !driver.args.iter().any(|arg| arg.key == key) {
                return Err(PortError::UnknownDevarg {
                    driver: driver.name,
                    got: key.clone(),
                    known: list(driver.args.iter().map(|arg| arg.key)),
                    hint: hint(key, driver.args.iter().map(|arg| arg.key)),
                });
            }
        }
        Ok(Self {
            name: name.to_owned(),
            driver,
            args,
        })
    }

    /// Keys and values, in order.
    pub fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        self.args
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The values of an argument, in order.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.args
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// The value of an argument: the last one counts.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.args
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// An argument that must be there.
    pub(crate) fn require(&self, key: &'static str) -> Result<&str, PortError> {
        let help = self
            .driver
            .args
            .iter()
            .find(|arg| arg.key == key)
            .map_or("", |arg| arg.help);
        self.get(key).ok_or(PortError::MissingDevarg {
            driver: self.driver.name,
            key,
            help,
        })
    }

    /// A number within a range.
    pub(crate) fn number(
        &self,
        key: &str,
        default: usize,
        min: usize,
        max: usize,
    ) -> Result<usize, PortError> {
        let Some(text) = self.get(key) else {
            return Ok(default);
        };
        let parsed = text.parse().ok().filter(|n| (min..=max).contains(n));
        parsed.ok_or_else(|| self.bad(key, format!("a number from {min} to {max}"), text))
    }

    /// A switch: 0 or 1.
    pub(crate) fn switch(&self, key: &str, default: bool) -> Result<bool, PortError> {
        match self.get(key) {
            None => Ok(default),
            Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(text) => Err(self.bad(key, "0 or 1".into(), text)),
        }
    }

    /// An Ethernet address.
    pub(crate) fn mac(&self, key: &str) -> Result<Option<[u8; 6]>, PortError> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        let bad = || {
            self.bad(
                key,
                "an Ethernet address like 02:00:00:00:00:01".into(),
                text,
            )
        };
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts
                .next()
                .filter(|part| (1..=2).contains(&part.len()))
                .ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() || mac[0] & 1 != 0 {
            Err(bad())
        } else {
            Ok(Some(mac))
        }
    }

    /// An error about the value of an argument.
    pub(crate) fn bad(&self, key: &str, expected: String, got: &str) -> PortError {
        PortError::BadDevarg {
            driver: self.driver.name,
            key: key.to_owned(),
            expected,
            got: got.to_owned(),
        }
    }
}

fn find_driver(name: &str) -> Result<&'static DriverInfo, PortError> {
    // A device on the bus has its address for a name, as in DPDK.
    let name = if PciAddress::is_one(name) {
        "net_virtio_pci"
    } else {
        name
    };
    let names = |driver: &'static DriverInfo| {
        std::iter::once(driver.name).chain(driver.aliases.iter().copied())
    };
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    // As in DPDK, what follows the driver's name is free: the longest name that fits is meant.
    let best = DRIVERS
        .iter()
        .flat_map(|driver| names(driver).map(move |prefix| (prefix, driver)))
        .filter(|(prefix, _)| name.starts_with(prefix))
        .max_by_key(|(prefix, _)| prefix.len());
    best.map(|(_, driver)| driver)
        .ok_or_else(|| PortError::UnknownDriver {
            got: name.to_owned(),
            known: list(DRIVERS.iter().map(|driver| driver.name)),
            hint: hint(stem, DRIVERS.iter().map(|driver| driver.name)),
        })
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// The nearest known name, as the end of a sentence, if it is near.
fn hint<'a>(got: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (distance(got, name), name))
        .min()
        .filter(|&(far, name)| far <= name.len().div_ceil(2))
        .map_or_else(String::new, |(_, name)| format!(" (did you mean {name}?)"))
}

/// Edits from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

macro_rules! args {
    ($($key:literal: $help:literal),* $(,)?) => { &[$(DevargInfo { key: $key, help: $help }),*] };
}

/// All drivers.
pub static DRIVERS: &[DriverInfo] = &[
    DriverInfo {
        name: "net_virtio_user",
        aliases: &["virtio_user"],
        help: "virtio driver on a vhost-user back end, or on vhost in the kernel",
        args: args! {
            "path": "socket of the vhost-user back end, or /dev/vhost-net",
            "server": "1: make the socket and wait for the back end; default 0: connect to it, again and again",
            "queues": "queue pairs, 1 to 128; default 1",
            "queue_size": "descriptors of a ring, a power of two from 2 to 32768, packed any number from 1; default 256",
            "mac": "Ethernet address of the port; default a random local one",
            "packed_vq": "1: packed rings where the back end has them; default 0",
            "in_order": "0: no IN_ORDER; default 1",
            "inflight": "0: new rings for each connection, even if the back end records what is in flight; default 1",
            "mrg_rxbuf": "0: no mergeable receive buffers; default 1",
            "event_idx": "0: no EVENT_IDX; default 1",
            "indirect": "0: no indirect descriptors; default 1",
            "iommu_platform": "1: ACCESS_PLATFORM where the back end has it: it asks for translations of addresses; default 0",
            "iface": "/dev/vhost-net: a tap, made if it is not there, a macvtap, or any other Ethernet device; default a new tap",
            "fd": "/dev/vhost-net: descriptor of a tap, macvtap or packet socket, once for each queue pair, instead of iface",
            "netns": "/dev/vhost-net: network namespace of the device, a name or a path; default this process's",
            "bridge": "/dev/vhost-net: bridge that the device becomes a port of",
            "ip": "/dev/vhost-net: address of the device, as 10.0.0.1/24",
            "persist": "/dev/vhost-net: 1: a tap that was made stays when the port is closed; default 0",
            "workers": "/dev/vhost-net: 2: a thread of the kernel's for each ring where it lets one choose; default 1: one for a queue pair",
            "busy_poll": "/dev/vhost-net: microseconds that the kernel polls before it sleeps; default 0",
            "cq": "accepted as in DPDK; without meaning on vhost-user, which has no control queue",
        },
        offloads: Offloads::VIRTIO,
    },
    DriverInfo {
        name: "net_virtio_pci",
        aliases: &[],
        help: "virtio driver on a PCI device that is bound to vfio-pci, uio_pci_generic or no driver",
        args: args! {
            "addr": "address of the device, as 0000:00:03.0; default the device's name, if it is one",
            "legacy": "1: use the registers before version 1 of a device that has both; default 0",
            "packed_vq": "0: no packed rings; default 1: where the device has them",
            "in_order": "0: no IN_ORDER; default 1",
            "mrg_rxbuf": "0: no mergeable receive buffers; default 1",
            "event_idx": "0: no EVENT_IDX; default 1",
            "indirect": "0: no indirect descriptors; default 1",
        },
        offloads: Offloads::VIRTIO,
    },
    DriverInfo {
        name: "net_vhost",
        aliases: &["eth_vhost"],
        help: "vhost-user back end: the device side of a guest's or container's virtio",
        args: args! {
            "iface": "path of the socket",
            "client": "1: connect to the socket, again and again; default 0: make it",
            "queues": "queue pairs, 1 to 128; default 1",
            "mac": "Ethernet address of the port; default 56:48:4f:53:54:NN as in DPDK",
            "packed_vq": "0: do not offer packed rings; default 1",
            "in_order": "0: do not offer IN_ORDER; default 1",
            "inflight": "0: do not offer to record what is in flight; default 1",
            "config": "1: answer front ends that ask for the configuration space; default 0",
            "mrg_rxbuf": "0: do not offer mergeable receive buffers; default 1",
            "event_idx": "0: do not offer EVENT_IDX; default 1",
            "indirect": "0: do not offer indirect descriptors; default 1",
            "tso": "1: the guest may send large packets, to be cut; default 0, unless lro is asked for",
            "legacy-ol-flags": "1: checksums that the guest left out stay so; default 0: they are completed",
            "iommu-support": "1: offer ACCESS_PLATFORM, for guests with an IOMMU; default 0",
        },
        offloads: Offloads::VIRTIO,
    },
    DriverInfo {
        name: "net_tap",
        aliases: &[],
        help: "a tap or macvtap: an Ethernet device of the kernel's whose other end is the port",
        args: args! {
            "iface": "a tap, made if it is not there, or a macvtap; default a new tap",
            "fd": "descriptor of a tap or macvtap, once for each queue, instead of iface",
            "queues": "most queues of one direction, 1 to 128; default 16",
            "mac": "Ethernet address of the port and of the tap; default random ones",
            "netns": "network namespace of the device, a name or a path; default this process's",
            "bridge": "bridge that the device becomes a port of",
            "ip": "address of the device, as 10.0.0.1/24",
            "persist": "1: a tap that was made stays when the port is closed; default 0",
        },
        offloads: Offloads::VIRTIO,
    },
    DriverInfo {
        name: "net_af_packet",
        aliases: &["eth_af_packet"],
        help: "any Ethernet device of the kernel's, by packet sockets; the kernel goes on using it",
        args: args! {
            "iface": "the device",
            "qpairs": "queue pairs, 1 to 128, among which the kernel spreads the flows; default 1",
            "blocksz": "bytes of a block of the ring, a multiple of 4096; default as many as a frame needs",
            "framesz": "bytes of a frame with its header of up to 80 bytes, a multiple of 16; default 2048",
            "framecnt": "frames of each ring, 1 to 65536; default 512",
            "qdisc_bypass": "1: send past the device's queueing discipline; default 0",
            "mac": "Ethernet address of the port; default the device's",
            "netns": "network namespace of the device, a name or a path; default this process's",
        },
        offloads: Offloads::NONE,
    },
    DriverInfo {
        name: "net_pcap",
        aliases: &["eth_pcap"],
        help: "captures: receives from files, transmits to files",
        args: args! {
            "rx_pcap": "pcap or pcapng file to receive from; once for each receive queue",
            "tx_pcap": "file to transmit to, pcapng if it ends so, else pcap; once for each transmit queue",
            "infinite_rx": "1: begin again at the end of the file; default 0",
        },
        offloads: Offloads::NONE,
    },
    DriverInfo {
        name: "net_null",
        aliases: &["eth_null"],
        help: "receives packets of zeros without end, transmits to nowhere",
        args: args! {
            "size": "bytes of a packet, 14 to 65535; default 64",
            "copy": "1: write and read the bytes; default 0",
            "no-rx": "1: receive nothing; default 0",
        },
        offloads: Offloads::NONE,
    },
    DriverInfo {
        name: "net_ring",
        aliases: &["eth_ring"],
        help: "rings in memory: what is sent on a queue is received on it, or on the port that shares the ring",
        args: args! {
            "size": "packets that a ring holds, a power of two from 2 to 65536; default 1024",
            "peer": "name of another net_ring port: its transmit queues are our receive queues, and the other way round",
        },
        offloads: Offloads::NONE,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and arguments are found; the last value of an argument counts.
    #[test]
    fn parses() {
        let device = Device::parse("net_vhost0,iface=/tmp/a=b,queues=1,queues=2").unwrap();
        assert_eq!(
            (device.name.as_str(), device.driver.name),
            ("net_vhost0", "net_vhost")
        );
        assert_eq!(device.get("iface"), Some("/tmp/a=b"));
        assert_eq!(device.number("queues", 1, 1, 128).unwrap(), 2);
        assert_eq!(
            Device::parse("virtio_user7,path=/x").unwrap().driver.name,
            "net_virtio_user"
        );
    }

    /// What is unknown is named together with the nearest known.
    #[test]
    fn suggests() {
        let error = Device::parse("net_vhots0").unwrap_err();
        assert!(
            error.to_string().contains("did you mean net_vhost?"),
            "{error}"
        );
        let error = Device::parse("net_vhost0,ifcae=/tmp/s").unwrap_err();
        assert_eq!(error.code(), "ERR_VRING_UNKNOWN_DEVARG");
        assert!(error.to_string().contains("did you mean iface?"), "{error}");
        let error = Device::parse("net_vhost0")
            .unwrap()
            .require("iface")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "net_vhost: expected the argument iface (path of the socket), got none"
        );
    }

    /// Values out of range say what the range is.
    #[test]
    fn refuses() {
        let device = Device::parse("net_vhost0,queues=0,client=yes,mac=01:00:00:00:00:00").unwrap();
        assert!(
            device
                .number("queues", 1, 1, 128)
                .unwrap_err()
                .to_string()
                .contains("from 1 to 128, got '0'")
        );
        assert!(device.switch("client", false).is_err());
        assert!(device.mac("mac").is_err());
    }
}
