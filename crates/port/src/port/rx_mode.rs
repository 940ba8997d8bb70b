//! What a port wants to receive, and how: addresses, VLANs, checksums, hashes. What the device does not do, software does.

use std::collections::BTreeSet;

use vring_net::soft::{Checksum, HashTypes, RssConfig, RxConfig, VlanSet};

use super::{AppliedBy, Driver, Port, PortConfig};
use crate::{PortError, RxOffloads};

/// Most addresses of a port, its own among them, and most groups besides.
pub const MAX_ADDRESSES: usize = 64;

bitflags::bitflags! {
    /// Parts of an [`RxConfig`], for a driver to say which of them its device does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RxParts: u8 {
        /// Addresses: `promiscuous`, `all_multicast`, `mac`, `macs`, `multicast`.
        const ADDRESSES = 1 << 0;
        /// `vlan_filter`.
        const VLAN_FILTER = 1 << 1;
        /// `vlan_strip`.
        const VLAN_STRIP = 1 << 2;
        /// The hash, with its key and types.
        const HASH = 1 << 3;
        /// The table: packets go to the queue that it says.
        const STEERING = 1 << 4;
    }
}

/// What the offloads that a port is opened with mean.
pub(super) fn at_open(config: &PortConfig, driver: &dyn Driver) -> RxConfig {
    let asked = config.offloads.rx;
    RxConfig {
        mac: driver.mac(),
        vlan_filter: asked
            .contains(RxOffloads::VLAN_FILTER)
            .then(|| Box::new(VlanSet::EMPTY)),
        vlan_strip: asked.contains(RxOffloads::VLAN_STRIP),
        checksum: if asked.contains(RxOffloads::CHECKSUM) {
            Checksum::Verify
        } else if driver.keeps_partial() {
            Checksum::Off
        } else {
            Checksum::Complete
        },
        hash: asked
            .contains(RxOffloads::RSS_HASH)
            .then(|| RssConfig::even(config.rx_queues)),
        ..RxConfig::default()
    }
}

impl Port {
    /// What is received, and how.
    #[must_use]
    pub fn rx_mode(&self) -> RxConfig {
        self.settings().rx.clone()
    }

    /// Its Ethernet address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.settings().rx.mac
    }

    /// Sets the Ethernet address, and tells the device where it can be told.
    ///
    /// # Errors
    /// [`PortError::Address`], [`PortError::Closed`], or what the device says.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), PortError> {
        self.check_unicast(mac)?;
        let mut settings = self.open_settings()?;
        let by = self.driver.set_mac(mac)?;
        settings.applied.insert("mac", by);
        let mut config = settings.rx.clone();
        config.mac = mac;
        config.macs.retain(|other| *other != mac);
        self.apply(&mut settings, config)
    }

    /// Sets what is received, and how; `mac` stays what it is. Packets that stand in the rings already are treated
    /// in the new way by software; what a device does, it does to those that come from now on.
    ///
    /// # Errors
    /// [`PortError::Address`]; [`PortError::NotSupported`] for a table where the device does not spread packets, and for hashes that nobody
    /// computes; [`PortError::Closed`]; or what the device says. Nothing has changed then.
    pub fn set_rx_mode(&self, config: RxConfig) -> Result<(), PortError> {
        self.check_addresses(&config)?;
        let mut settings = self.open_settings()?;
        let mac = settings.rx.mac;
        self.apply(&mut settings, RxConfig { mac, ..config })
    }

    pub(super) fn apply(
        &self,
        settings: &mut super::Settings,
        config: RxConfig,
    ) -> Result<(), PortError> {
        let parts = self.driver.set_rx_mode(&config)?;
        if let Err(error) = self.check_done(&config, parts, settings.rx_queues) {
            self.driver.set_rx_mode(&settings.rx)?;
            return Err(error);
        }
        let soft = left_to_software(&config, parts);
        for queue in &self.shared.rx {
            queue.configure(&soft);
        }
        let asked = [
            ("addresses", RxParts::ADDRESSES, !config.promiscuous),
            (
                "vlan-filter",
                RxParts::VLAN_FILTER,
                config.vlan_filter.is_some(),
            ),
            ("vlan-strip", RxParts::VLAN_STRIP, config.vlan_strip),
            ("rss-hash", RxParts::HASH, config.hash.is_some()),
        ];
        for (name, part, on) in asked {
            let by = if parts.contains(part) {
                AppliedBy::Device
            } else {
                AppliedBy::Software
            };
            settings.applied.remove(name);
            if on {
                settings.applied.insert(name, by);
            }
        }
        settings.steers = parts.contains(RxParts::STEERING);
        settings.rx = config;
        Ok(())
    }

    /// Nothing is agreed to that nobody does.
    fn check_done(&self, config: &RxConfig, parts: RxParts, queues: u16) -> Result<(), PortError> {
        let Some(rss) = &config.hash else {
            return Ok(());
        };
        let unsupported = |what: &str, why: &str| {
            Err(PortError::NotSupported {
                name: self.name().to_owned(),
                what: what.to_owned(),
                why: why.to_owned(),
            })
        };
        if !parts.contains(RxParts::HASH) && !HashTypes::SOFT.contains(rss.types) {
            return unsupported(
                "hashing IPv6 with extension headers",
                "the device does not, and software does not look into them",
            );
        }
        if !parts.contains(RxParts::STEERING) && rss.table != RssConfig::even(queues).table {
            return unsupported(
                "a redirection table",
                "the device does not spread packets by their hash; whoever sends them chooses the queue",
            );
        }
        match rss.table.iter().find(|&&queue| queue >= queues) {
            Some(&queue) => Err(PortError::NoQueue {
                name: self.name().to_owned(),
                what: "receive",
                count: queues.into(),
                got: queue,
            }),
            None => Ok(()),
        }
    }

    /// Whether the device spreads packets over the queues by [`RssConfig::table`].
    #[must_use]
    pub fn steers(&self) -> bool {
        self.settings().steers
    }

    fn check_unicast(&self, mac: [u8; 6]) -> Result<(), PortError> {
        if mac[0] & 1 == 0 && mac != [0; 6] {
            return Ok(());
        }
        Err(self.bad_address(
            "the address of one station, not of a group and not zero",
            mac,
        ))
    }

    fn check_addresses(&self, config: &RxConfig) -> Result<(), PortError> {
        for mac in &config.macs {
            self.check_unicast(*mac)?;
        }
        if let Some(mac) = config.multicast.iter().find(|mac| mac[0] & 1 == 0) {
            return Err(self.bad_address("the address of a group", *mac));
        }
        for (list, most) in [
            (&config.macs, MAX_ADDRESSES - 1),
            (&config.multicast, MAX_ADDRESSES),
        ] {
            let mut seen = BTreeSet::new();
            if let Some(twice) = list.iter().find(|mac| !seen.insert(**mac)) {
                return Err(self.bad_address("each address once", *twice));
            }
            if let Some(first) = list.get(most) {
                let expected = format!("at most {most} of them besides its own");
                return Err(self.bad_address(&expected, *first));
            }
        }
        Ok(())
    }

    fn bad_address(&self, expected: &str, got: [u8; 6]) -> PortError {
        PortError::Address {
            name: self.name().to_owned(),
            expected: expected.to_owned(),
            got: got.map(|byte| format!("{byte:02x}")).join(":"),
        }
    }
}

/// What the device does not do.
fn left_to_software(config: &RxConfig, parts: RxParts) -> RxConfig {
    let mut soft = config.clone();
    if parts.contains(RxParts::ADDRESSES) {
        soft.promiscuous = true;
    }
    if parts.contains(RxParts::VLAN_FILTER) {
        soft.vlan_filter = None;
    }
    if parts.contains(RxParts::VLAN_STRIP) {
        soft.vlan_strip = false;
    }
    if parts.contains(RxParts::HASH) {
        soft.hash = None;
    }
    soft
}
