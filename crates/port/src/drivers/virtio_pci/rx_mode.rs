//! What the application wants to receive, as commands. A device may do less than it is told (5.1.6.5.2): the port's software looks at each packet
//! all the same, and the device spares it most of them.

use vring_net::control::{Command, RxMode};
use vring_net::soft::{RxConfig, VlanSet};

use super::unit::Unit;
use crate::PortError;
use crate::port::AppliedBy;

/// What the device was told last.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) mac: Option<[u8; 6]>,
    pub(super) rx: Option<RxConfig>,
}

impl Unit {
    /// The device's own address.
    pub(super) fn set_mac(&mut self, mac: [u8; 6]) -> Result<AppliedBy, PortError> {
        self.told.mac = Some(mac);
        if self.send(&Command::MacAddr(mac))? {
            return Ok(AppliedBy::Device);
        }
        if self.transport.is_modern() {
            return Ok(AppliedBy::Software);
        }
        // Before there was a command, the address was written where it is read (5.1.4.2).
        self.transport.write_config(0, &mac);
        Ok(AppliedBy::Device)
    }

    /// Addresses and VLANs.
    pub(super) fn set_rx_mode(&mut self, config: &RxConfig) -> Result<(), PortError> {
        let before = self.told.rx.take();
        self.send(&Command::Rx(RxMode::Promiscuous, config.promiscuous))?;
        self.send(&Command::Rx(RxMode::AllMulticast, config.all_multicast))?;
        let mut single = config.macs.clone();
        // The own one, where the device does not know it.
        if self.config.mac != Some(config.mac) && self.told.mac != Some(config.mac) {
            single.push(config.mac);
        }
        self.send(&Command::MacTable(single, config.multicast.clone()))?;
        let was = before.as_ref().and_then(|rx| rx.vlan_filter.as_deref());
        self.set_vlans(before.is_some(), was, config.vlan_filter.as_deref())?;
        self.told.rx = Some(config.clone());
        Ok(())
    }

    /// A device that filters lets no VLAN pass but those that it is told of: without a filter of the port's, that is each.
    fn set_vlans(
        &mut self,
        told: bool,
        was: Option<&VlanSet>,
        wanted: Option<&VlanSet>,
    ) -> Result<(), PortError> {
        if told && was == wanted {
            return Ok(());
        }
        let passes = |set: Option<&VlanSet>, id| set.is_none_or(|set| set.contains(id));
        for id in 0..4096 {
            let (before, now) = (told && passes(was, id), passes(wanted, id));
            if before != now && !self.send(&Command::Vlan(id, now))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends a command that the device knows; whether it does.
    pub(super) fn send(&mut self, command: &Command) -> Result<bool, PortError> {
        match self.commands.as_mut().filter(|one| one.knows(command)) {
            Some(commands) => commands.send(command).map(|()| true),
            None => Ok(false),
        }
    }
}
