//! The one table of features: what each depends on (5.1.3.1), and where it is implemented.

use super::Features;

/// Which part of vring implements a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The driver's half and the device's.
    Both,
    /// The driver's half.
    Driver,
    /// The device's half.
    Device,
    /// It is known by name, and never acknowledged.
    Named,
}

impl Support {
    fn text(self) -> &'static str {
        match self {
            Self::Both => "driver, device",
            Self::Driver => "driver",
            Self::Device => "device",
            Self::Named => "",
        }
    }
}

/// A feature, as the table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// One bit.
    pub feature: Features,
    /// One of these must be there too; empty for a feature that stands alone.
    pub needs_one_of: Features,
    /// Who implements it.
    pub support: Support,
    /// What stands in for it where it was not negotiated; empty for nothing.
    pub instead: &'static str,
}

const NONE: Features = Features::empty();
const CTRL: Features = Features::CTRL_VQ;
const GUEST_TSO: Features = Features::GUEST_TSO4.union(Features::GUEST_TSO6);
const HOST_TSO: Features = Features::HOST_TSO4.union(Features::HOST_TSO6);

const fn entry(
    feature: Features,
    needs_one_of: Features,
    support: Support,
    instead: &'static str,
) -> Entry {
    Entry {
        feature,
        needs_one_of,
        support,
        instead,
    }
}

/// All features that have a name, in the order of their bits.
pub const TABLE: &[Entry] = {
    use Support::{Both, Device, Driver, Named};
    &[
        entry(Features::CSUM, NONE, Both, "software"),
        entry(Features::GUEST_CSUM, NONE, Both, "software"),
        entry(Features::CTRL_GUEST_OFFLOADS, CTRL, Named, ""),
        entry(Features::MTU, NONE, Both, ""),
        entry(Features::MAC, NONE, Driver, ""),
        entry(Features::GUEST_TSO4, Features::GUEST_CSUM, Both, "software"),
        entry(Features::GUEST_TSO6, Features::GUEST_CSUM, Both, "software"),
        entry(Features::GUEST_ECN, GUEST_TSO, Both, "software"),
        entry(Features::GUEST_UFO, Features::GUEST_CSUM, Both, "software"),
        entry(Features::HOST_TSO4, Features::CSUM, Both, "software"),
        entry(Features::HOST_TSO6, Features::CSUM, Both, "software"),
        entry(Features::HOST_ECN, HOST_TSO, Both, "software"),
        entry(Features::HOST_UFO, Features::CSUM, Both, "software"),
        entry(Features::MRG_RXBUF, NONE, Both, ""),
        entry(Features::STATUS, NONE, Driver, ""),
        entry(Features::CTRL_VQ, NONE, Driver, ""),
        entry(Features::CTRL_RX, CTRL, Driver, "software"),
        entry(Features::CTRL_VLAN, CTRL, Driver, "software"),
        entry(Features::CTRL_RX_EXTRA, CTRL, Named, ""),
        entry(Features::GUEST_ANNOUNCE, CTRL, Both, ""),
        entry(Features::MQ, CTRL, Both, ""),
        entry(Features::CTRL_MAC_ADDR, CTRL, Driver, "software"),
        entry(Features::NOTIFY_ON_EMPTY, NONE, Named, ""),
        entry(Features::LOG_ALL, NONE, Device, ""),
        entry(Features::ANY_LAYOUT, NONE, Both, ""),
        entry(Features::INDIRECT_DESC, NONE, Both, ""),
        entry(Features::EVENT_IDX, NONE, Both, ""),
        entry(Features::PROTOCOL_FEATURES, NONE, Both, ""),
        entry(Features::VERSION_1, NONE, Both, ""),
        entry(Features::ACCESS_PLATFORM, NONE, Both, ""),
        entry(Features::RING_PACKED, NONE, Both, ""),
        entry(Features::IN_ORDER, NONE, Both, ""),
        entry(Features::ORDER_PLATFORM, NONE, Driver, ""),
        entry(Features::NOTIFICATION_DATA, NONE, Driver, ""),
        entry(Features::RING_RESET, NONE, Named, ""),
        entry(Features::NOTF_COAL, CTRL, Named, ""),
        entry(Features::GUEST_USO4, Features::GUEST_CSUM, Both, "software"),
        entry(Features::GUEST_USO6, Features::GUEST_CSUM, Both, "software"),
        entry(Features::HOST_USO, Features::CSUM, Both, "software"),
        entry(Features::HASH_REPORT, CTRL, Both, "software"),
        entry(Features::GUEST_HDRLEN, NONE, Named, ""),
        entry(Features::RSS, CTRL, Named, ""),
        entry(Features::RSC_EXT, HOST_TSO, Named, ""),
        entry(Features::STANDBY, NONE, Named, ""),
        entry(Features::SPEED_DUPLEX, NONE, Driver, ""),
    ]
};

impl Features {
    /// Clears what lacks a feature that it depends on, and what depends on that in turn: the set that is left, and each feature that went with
    /// those of which it needs one.
    #[must_use]
    pub fn settle(self) -> (Self, Vec<(Self, Self)>) {
        self.settle_with(Self::empty())
    }

    /// The same, where `given` is there without being negotiated: back ends of vhost have several queue pairs without a control queue
    /// ([`Features::CTRL_VQ`]), which is their front end's.
    #[must_use]
    pub fn settle_with(mut self, given: Self) -> (Self, Vec<(Self, Self)>) {
        let mut missing = Vec::new();
        // Each round but the last clears a bit: this ends.
        while let Some(entry) = TABLE.iter().find(|entry| {
            self.contains(entry.feature)
                && !entry.needs_one_of.is_empty()
                && !(self | given).intersects(entry.needs_one_of)
        }) {
            self.remove(entry.feature);
            missing.push((entry.feature, entry.needs_one_of));
        }
        (self, missing)
    }
}

/// The table as `docs/features.md` has it.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Features\n\n\
        Generated from `crates/net/src/features/table.rs`; its test writes this file with `VRING_WRITE_DOCS=1`.\n\n\
        *Needs* is what the specification (5.1.3.1) makes a feature depend on; `Features::settle` clears it otherwise. *Implemented* names the \
        halves of the data path that know it: which of these a port negotiates follows from its arguments and the offloads asked for. *Instead* says what \
        does the same where the other side does not have it: `software` is `crates/net/src/soft`.\n\n\
        | bit | feature | needs | implemented | instead |\n|---|---|---|---|---|\n",
    );
    for entry in TABLE {
        let line = format!(
            "| {} | `{}` | {} | {} | {} |\n",
            entry.feature.bits().trailing_zeros(),
            entry.feature.names().join(""),
            entry
                .needs_one_of
                .names()
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(" or "),
            entry.support.text(),
            entry.instead,
        );
        // Empty cells are not padded.
        text.push_str(&line.replace("|  |", "| |").replace("|  |", "| |"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every feature with a name is in the table, once, and in order; what it needs has a name too.
    #[test]
    fn the_table_is_whole() {
        let bits: Vec<_> = TABLE.iter().map(|entry| entry.feature).collect();
        let all: Vec<_> = Features::all()
            .iter_names()
            .map(|(_, feature)| feature)
            .collect();
        assert_eq!(bits, all);
        assert!(bits.iter().all(|feature| feature.bits().is_power_of_two()));
    }

    /// What lacks something goes, with all that depends on it, and says what it needs.
    #[test]
    fn settles() {
        let asked = Features::GUEST_ECN | Features::GUEST_TSO4 | Features::MQ | Features::VERSION_1;
        let (left, mut missing) = asked.settle();
        missing.sort_by_key(|(feature, _)| feature.bits());
        assert_eq!(left, Features::VERSION_1);
        assert_eq!(
            missing,
            [
                (Features::GUEST_TSO4, Features::GUEST_CSUM),
                (Features::GUEST_ECN, GUEST_TSO),
                (Features::MQ, Features::CTRL_VQ),
            ]
        );
        let whole = asked | Features::GUEST_CSUM;
        assert_eq!(whole.settle_with(Features::CTRL_VQ), (whole, Vec::new()));
        let unknown = Features::from_bits_retain(1 << 50);
        assert_eq!(unknown.settle(), (unknown, Vec::new()));
    }

    /// The documentation is the table's.
    #[test]
    fn docs_are_generated() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/features.md");
        if std::env::var_os("VRING_WRITE_DOCS").is_some() {
            std::fs::write(path, markdown()).expect("docs can be written");
        }
        let text = std::fs::read_to_string(path).expect("docs/features.md");
        assert!(
            text == markdown(),
            "docs/features.md is not the table's: run this test with VRING_WRITE_DOCS=1"
        );
    }
}
