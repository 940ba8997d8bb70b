//! What can be changed while a port is open.

use napi_derive::napi;
use vring_net::soft::{Checksum, HashTypes, RssConfig, RxConfig, VlanSet};
use vring_port::Offloads;

use crate::error::{Result, coded, failure};
use crate::port::{PortHandle, mac_text, u16_of};

/// How packets are hashed.
#[napi(object)]
pub struct RssFacts {
    /// 40 bytes.
    pub key: Vec<u8>,
    /// What is hashed, by ethdev's names.
    pub types: Vec<String>,
    /// Queues by the hash's low 7 bits; none where the device does not spread packets.
    pub table: Option<Vec<u32>>,
}

/// What is received, and how.
#[napi(object)]
pub struct RxModeFacts {
    /// Packets to any address.
    pub promiscuous: bool,
    /// Packets to any group.
    pub all_multicast: bool,
    /// Addresses besides the port's own.
    pub macs: Vec<String>,
    /// Groups.
    pub multicast: Vec<String>,
    /// VLANs that pass; none: all.
    pub vlans: Option<Vec<u32>>,
    /// Tags are taken out of packets.
    pub vlan_strip: bool,
    /// `off`, `complete` or `verify`.
    pub checksum: String,
    /// Hashes.
    pub rss: Option<RssFacts>,
}

/// Who does which offloads: names.
#[napi(object)]
pub struct OffloadFacts {
    /// Asked for at open.
    pub asked: Vec<Vec<String>>,
    /// The device's now.
    pub device: Vec<Vec<String>>,
    /// Software's.
    pub software: Vec<Vec<String>>,
}

const HASHES: [(HashTypes, &str); 9] = [
    (HashTypes::IPV4, "ipv4"),
    (HashTypes::TCP4, "ipv4-tcp"),
    (HashTypes::UDP4, "ipv4-udp"),
    (HashTypes::IPV6, "ipv6"),
    (HashTypes::TCP6, "ipv6-tcp"),
    (HashTypes::UDP6, "ipv6-udp"),
    (HashTypes::IPV6_EX, "ipv6-ex"),
    (HashTypes::TCP6_EX, "ipv6-tcp-ex"),
    (HashTypes::UDP6_EX, "ipv6-udp-ex"),
];

const CHECKSUMS: [(Checksum, &str); 3] = [
    (Checksum::Off, "off"),
    (Checksum::Complete, "complete"),
    (Checksum::Verify, "verify"),
];

fn range(message: String) -> crate::error::Error {
    failure("ERR_VRING_OUT_OF_RANGE", message)
}

/// An address like `02:00:00:00:00:01`.
pub fn mac_of(text: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| {
            let hex = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            hex.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        })
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            range(format!(
                "expected an Ethernet address like 02:00:00:00:00:01, got '{text}'"
            ))
        })
}

fn macs_of(texts: &[String]) -> Result<Vec<[u8; 6]>> {
    texts.iter().map(|text| mac_of(text)).collect()
}

fn vlans_of(ids: &[u32]) -> Result<Box<VlanSet>> {
    let mut set = Box::new(VlanSet::EMPTY);
    for &id in ids {
        let id = u16::try_from(id).ok().filter(|&id| id < 4096);
        let id = id.ok_or_else(|| range("expected VLANs from 0 to 4095".into()))?;
        set.set(id, true);
    }
    Ok(set)
}

fn rss_of(facts: RssFacts, queues: u16) -> Result<RssConfig> {
    let length = facts.key.len();
    let key = facts.key.try_into();
    let key = key.map_err(|_| range(format!("expected a key of 40 bytes, got {length}")))?;
    let mut types = HashTypes::empty();
    for name in &facts.types {
        let known = HASHES.iter().find(|(_, known)| known == name);
        types |= known.map(|&(flag, _)| flag).ok_or_else(|| {
            let all = HASHES.map(|(_, name)| name).join(", ");
            range(format!("expected hash types of {all}, got '{name}'"))
        })?;
    }
    let table = match facts.table {
        None => RssConfig::even(queues).table,
        Some(table) => {
            let length = table.len();
            let narrow: Option<Vec<u16>> =
                table.into_iter().map(|n| u16::try_from(n).ok()).collect();
            narrow
                .and_then(|table| table.try_into().ok())
                .ok_or_else(|| range(format!("expected a table of 128 queues, got {length}")))?
        }
    };
    Ok(RssConfig { key, table, types })
}

#[napi]
impl PortHandle {
    /// Lets all queues move packets.
    #[napi(catch_unwind)]
    pub fn start(&self) -> Result<()> {
        self.port().start().map_err(coded)
    }

    /// All queues stand still.
    #[napi(catch_unwind)]
    pub fn stop(&self) -> Result<()> {
        self.port().stop().map_err(coded)
    }

    /// Whether it moves packets.
    #[napi(catch_unwind)]
    pub fn started(&self) -> bool {
        self.port().started()
    }

    /// Sets the link up or down.
    #[napi(catch_unwind)]
    pub fn set_link(&self, up: bool) -> Result<()> {
        self.port().set_link(up).map_err(coded)
    }

    /// Sets the MTU.
    #[napi(catch_unwind)]
    pub fn set_mtu(&self, mtu: f64) -> Result<()> {
        self.port().set_mtu(u16_of("mtu", mtu)?).map_err(coded)
    }

    /// Sets the Ethernet address.
    #[napi(catch_unwind)]
    pub fn set_mac(&self, mac: String) -> Result<()> {
        self.port().set_mac(mac_of(&mac)?).map_err(coded)
    }

    /// Receive and transmit queues that are used.
    #[napi(catch_unwind)]
    pub fn used_queues(&self) -> Vec<u32> {
        let (rx, tx) = self.port().used_queues();
        vec![rx.into(), tx.into()]
    }

    /// Uses that many queues.
    #[napi(catch_unwind)]
    pub fn set_queues(&self, rx: f64, tx: f64) -> Result<()> {
        let (rx, tx) = (u16_of("rx", rx)?, u16_of("tx", tx)?);
        self.port().set_queues(rx, tx).map_err(coded)
    }

    /// Starts or stops one queue.
    #[napi(catch_unwind)]
    pub fn set_queue(&self, receives: bool, index: u32, on: bool) -> Result<()> {
        let index = u16_of("a queue's index", index.into())?;
        if receives {
            self.port().set_rx_queue(index, on)
        } else {
            self.port().set_tx_queue(index, on)
        }
        .map_err(coded)
    }

    /// What is received, and how.
    #[napi(catch_unwind)]
    pub fn rx_mode(&self) -> RxModeFacts {
        let (config, steers) = (self.port().rx_mode(), self.port().steers());
        let texts = |macs: &[[u8; 6]]| macs.iter().map(|&mac| mac_text(mac)).collect();
        let checksum = CHECKSUMS.iter().find(|(one, _)| *one == config.checksum);
        RxModeFacts {
            promiscuous: config.promiscuous,
            all_multicast: config.all_multicast,
            macs: texts(&config.macs),
            multicast: texts(&config.multicast),
            vlans: config.vlan_filter.map(|set| {
                let ids = (0..4096).filter(|&id| set.contains(id));
                ids.map(u32::from).collect()
            }),
            vlan_strip: config.vlan_strip,
            checksum: checksum.map_or("off", |&(_, name)| name).to_owned(),
            rss: config.hash.map(|rss| RssFacts {
                key: rss.key.to_vec(),
                types: HASHES
                    .iter()
                    .filter(|(flag, _)| rss.types.contains(*flag))
                    .map(|&(_, name)| name.to_owned())
                    .collect(),
                table: steers.then(|| rss.table.map(u32::from).to_vec()),
            }),
        }
    }

    /// Sets what is received, and how.
    #[napi(catch_unwind)]
    pub fn set_rx_mode(&self, mode: RxModeFacts) -> Result<()> {
        let checksum = CHECKSUMS.iter().find(|(_, name)| *name == mode.checksum);
        let checksum = checksum.map(|&(one, _)| one).ok_or_else(|| {
            let got = &mode.checksum;
            range(format!(
                "expected checksum to be off, complete or verify, got '{got}'"
            ))
        })?;
        let queues = self.port().used_queues().0;
        let config = RxConfig {
            promiscuous: mode.promiscuous,
            all_multicast: mode.all_multicast,
            mac: self.port().mac(),
            macs: macs_of(&mode.macs)?,
            multicast: macs_of(&mode.multicast)?,
            vlan_filter: mode.vlans.as_deref().map(vlans_of).transpose()?,
            vlan_strip: mode.vlan_strip,
            checksum,
            hash: mode.rss.map(|rss| rss_of(rss, queues)).transpose()?,
        };
        self.port().set_rx_mode(config).map_err(coded)
    }

    /// Who applies what was set.
    #[napi(catch_unwind)]
    pub fn applied(&self) -> Vec<(String, String)> {
        let applied = self.port().applied();
        let pairs = applied.into_iter();
        pairs
            .map(|(what, by)| (what.to_owned(), by.name().to_owned()))
            .collect()
    }

    /// Who does which offloads: receive, then transmit.
    #[napi(catch_unwind)]
    pub fn offloads(&self) -> OffloadFacts {
        let names = |offloads: Offloads| {
            let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            vec![owned(offloads.rx.names()), owned(offloads.tx.names())]
        };
        let info = self.port().offloads();
        OffloadFacts {
            asked: names(info.asked),
            device: names(info.device),
            software: names(info.software),
        }
    }
}
