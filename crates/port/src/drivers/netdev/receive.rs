//! What a port wants to receive, told to the kernel's device: a tap drops what is not for the port, other devices take what they would leave.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use vring_net::soft::{RxConfig, VlanSet};
use vring_netdev::{
    Membership, Memberships, NetdevError, Program, set_address_filter, vlan_program,
};

use super::{Kind, Netdev};
use crate::port::RxParts;

/// What the device was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    memberships: Option<Memberships>,
    /// It has a program that filters VLANs.
    filters: bool,
    /// It was told once, when the port was opened.
    before: bool,
}

impl Told {
    /// Tells it what is to be received from now on; which parts of it the device does.
    pub(super) fn tell(
        &mut self,
        device: &Netdev,
        config: &RxConfig,
    ) -> Result<RxParts, NetdevError> {
        let opening = !std::mem::replace(&mut self.before, true);
        let mut parts = match device.kind {
            Kind::Tap => filter_addresses(device, config)?,
            Kind::Macvtap | Kind::Packet => match self.join(device, wanted(device, config)) {
                // A port of somebody who may not ask receives what comes anyway.
                Err(NetdevError::NotPermitted { .. }) if opening => RxParts::empty(),
                result => result.map(|()| RxParts::empty())?,
            },
        };
        if self.filter_vlans(device, config.vlan_filter.as_deref())? {
            parts |= RxParts::VLAN_FILTER;
        }
        Ok(parts)
    }

    /// As if the port had never been: of a descriptor of the caller's, too.
    pub(super) fn forget(&mut self, device: &Netdev) {
        let _gone_anyway = self.join(device, BTreeSet::new());
        let _gone_anyway = self.filter_vlans(device, None);
        if device.kind == Kind::Tap {
            let _gone_anyway = set_address_filter(device.queues[0].as_fd(), None, false);
        }
    }

    fn join(&mut self, device: &Netdev, wanted: BTreeSet<Membership>) -> Result<(), NetdevError> {
        if self.memberships.is_none() {
            if wanted.is_empty() {
                return Ok(());
            }
            let place = device.place();
            self.memberships = Some(Memberships::open(&place.namespace, place.index)?);
        }
        self.memberships
            .as_mut()
            .map_or(Ok(()), |memberships| memberships.set(&wanted))
    }

    /// Whether the device filters by these VLANs. A macvtap cannot, and no program is long enough for each set.
    fn filter_vlans(
        &mut self,
        device: &Netdev,
        vlans: Option<&VlanSet>,
    ) -> Result<bool, NetdevError> {
        let ids = |set: &VlanSet| {
            let set = set.clone();
            vlan_program((1..4096).filter(move |&id| set.contains(id)))
        };
        let program = match device.kind {
            Kind::Macvtap => None,
            Kind::Tap | Kind::Packet => vlans.and_then(ids),
        };
        if program.is_none() && !self.filters {
            return Ok(false);
        }
        match device.kind {
            Kind::Tap => Program::set_on_tap(program.as_ref(), device.queues[0].as_fd())?,
            _ => {
                for queue in &device.queues {
                    Program::set_on_socket(program.as_ref(), queue.as_fd())?;
                }
            }
        }
        self.filters = program.is_some();
        Ok(self.filters)
    }
}

/// What the port is to receive that its device would not.
fn wanted(device: &Netdev, config: &RxConfig) -> BTreeSet<Membership> {
    if config.promiscuous {
        return BTreeSet::from([Membership::Promiscuous]);
    }
    let stations = [config.mac].into_iter().chain(config.macs.iter().copied());
    let mut wanted: BTreeSet<_> = stations
        .filter(|mac| *mac != device.mac)
        .map(Membership::Station)
        .collect();
    if config.all_multicast {
        wanted.insert(Membership::AllMulticast);
    } else {
        wanted.extend(config.multicast.iter().copied().map(Membership::Group));
    }
    wanted
}

fn filter_addresses(device: &Netdev, config: &RxConfig) -> Result<RxParts, NetdevError> {
    let file = device.queues[0].as_fd();
    if config.promiscuous {
        return set_address_filter(file, None, false).map(|_| RxParts::empty());
    }
    let mut addresses = vec![[0xff; 6], config.mac];
    addresses.extend(&config.macs);
    if !config.all_multicast {
        addresses.extend(&config.multicast);
    }
    let exact = set_address_filter(file, Some(&addresses), config.all_multicast)?;
    Ok(if exact {
        RxParts::ADDRESSES
    } else {
        RxParts::empty()
    })
}
