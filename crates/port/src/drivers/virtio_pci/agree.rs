//! What is asked for, what the device offers, and what comes of it: features, and the queues that it is given.

use vring_net::Features;
use vring_net::config::NetConfig;
use vring_pci::PciAddress;
use vring_pci::virtio::Transport;

use super::memory::Plan;
use crate::PortError;
use crate::drivers::agree::acknowledge;
use crate::drivers::kind::check_size;

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) name: String,
    pub(super) address: PciAddress,
    /// Queue pairs that are set up.
    pub(super) pairs: u16,
    /// Descriptors of a ring, 0 for the device's number.
    pub(super) rx_size: u16,
    pub(super) tx_size: u16,
    pub(super) wanted: Features,
    /// The registers before version 1, also where there are others.
    pub(super) legacy: bool,
}

impl Options {
    /// An error about what the device is not.
    pub(super) fn lacks(&self, what: &str) -> PortError {
        PortError::Peer {
            name: self.name.clone(),
            what: format!("expected a device that works as asked: {what}"),
            code: "ERR_VRING_PCI_DEVICE",
        }
    }
}

/// What both sides do.
pub(super) fn agree(
    options: &Options,
    transport: &dyn Transport,
    has_iommu: bool,
) -> Result<Features, PortError> {
    let offered = Features::from_bits_retain(transport.features());
    let mut wanted = options.wanted;
    wanted |= if transport.is_modern() {
        // On x86 the processor's own barriers order what a device sees.
        Features::VERSION_1 | Features::ACCESS_PLATFORM | Features::ORDER_PLATFORM
    } else {
        Features::ANY_LAYOUT
    };
    let features = acknowledge(offered, wanted, Features::empty());
    if transport.is_modern() && !features.contains(Features::VERSION_1) {
        return Err(options.lacks("one of version 1, as its registers are"));
    }
    if !transport.is_modern() && !features.contains(Features::ANY_LAYOUT) {
        return Err(options.lacks("one that takes headers together with packets (ANY_LAYOUT)"));
    }
    if has_iommu && !features.contains(Features::ACCESS_PLATFORM) {
        return Err(options.lacks(
                "one whose accesses go through the IOMMU (ACCESS_PLATFORM; QEMU: iommu_platform=on), or bound to uio_pci_generic",
            ));
    }
    if options.pairs > 1 && !features.contains(Features::MQ) {
        return Err(options.lacks(&format!("one with {} queue pairs", options.pairs)));
    }
    transport.set_features(features.bits());
    Ok(features)
}

/// The queues that it is given: receive and transmit queues in turn, and the control queue behind all that it has.
pub(super) fn plan(
    options: &Options,
    transport: &dyn Transport,
    features: Features,
    config: &NetConfig,
) -> Result<Vec<Plan>, PortError> {
    let Options { name, pairs, .. } = options;
    let most = config.max_virtqueue_pairs.unwrap_or(1);
    if *pairs > most {
        return Err(options.lacks(&format!("one with {pairs} queue pairs, it has {most}")));
    }
    let control = match most.checked_mul(2) {
        Some(behind) if features.contains(Features::CTRL_VQ) => Some(behind),
        None => return Err(options.lacks(&format!("one with fewer than {most} queue pairs"))),
        _ => None,
    };
    let queues = (0..2 * pairs).chain(control);
    let plan = |index| {
        let (chains, asked) = match index % 2 {
            _ if Some(index) == control => (false, 0),
            0 => (false, options.rx_size),
            _ => (true, options.tx_size),
        };
        let has = transport.queue_size(index);
        if has == 0 || index >= transport.queue_count() {
            return Err(options.lacks(&format!("a queue {index}")));
        }
        // Legacy queues have the device's size; of others that is the most.
        let size = if asked == 0 || !transport.is_modern() {
            has
        } else {
            asked.min(has)
        };
        let size = check_size(name, features, size.into())?;
        Ok(Plan {
            index,
            size,
            chains,
        })
    };
    queues.map(plan).collect()
}

#[cfg(test)]
mod tests {
    use vring_pci::PciError;
    use vring_pci::virtio::{Notifier, QueueSetup, Status};

    use super::*;

    /// A device that says what a test wants.
    #[derive(Debug)]
    struct Fake {
        modern: bool,
        offers: Features,
        queues: u16,
        sizes: [u16; 4],
    }

    const GOOD: Fake = Fake {
        modern: true,
        offers: Features::all(),
        queues: 4,
        sizes: [256; 4],
    };

    impl Transport for Fake {
        fn is_modern(&self) -> bool {
            self.modern
        }
        fn features(&self) -> u64 {
            self.offers.bits()
        }
        fn set_features(&self, _features: u64) {}
        fn status(&self) -> Status {
            Status::empty()
        }
        fn set_status(&self, _status: Status) {}
        fn queue_count(&self) -> u16 {
            self.queues
        }
        fn queue_size(&self, index: u16) -> u16 {
            self.sizes.get(usize::from(index)).copied().unwrap_or(0)
        }
        fn set_queue(&self, _queue: &QueueSetup) -> Result<Notifier, PciError> {
            unreachable!("no test comes so far")
        }
        fn take_isr(&self) -> u8 {
            0
        }
        fn set_config_vector(&self, _vector: u16) -> Result<(), PciError> {
            Ok(())
        }
        fn set_msix(&self, _on: bool) {}
        fn read_config(&self, _bytes: &mut [u8]) -> Result<usize, PciError> {
            Ok(0)
        }
        fn write_config(&self, _at: u64, _bytes: &[u8]) {}
    }

    fn options(pairs: u16) -> Options {
        Options {
            name: "0000:00:03.0".into(),
            address: "0000:00:03.0".parse().unwrap(),
            pairs,
            rx_size: 0,
            tx_size: 0,
            wanted: Features::MRG_RXBUF | Features::CTRL_VQ | Features::MQ,
            legacy: false,
        }
    }

    fn why<T: std::fmt::Debug>(result: Result<T, PortError>) -> String {
        result.unwrap_err().to_string()
    }

    /// What both have, and what the platform needs; a device that lacks what cannot be done without is refused.
    #[test]
    fn features() {
        let agreed = agree(&options(1), &GOOD, true).unwrap();
        let expected = options(1).wanted
            | Features::VERSION_1
            | Features::ACCESS_PLATFORM
            | Features::ORDER_PLATFORM;
        assert_eq!(agreed, expected);
        let without = |missing: Features, modern, pairs, iommu| {
            let offers = Features::all() - missing;
            let device = Fake {
                modern,
                offers,
                ..GOOD
            };
            why(agree(&options(pairs), &device, iommu))
        };
        assert!(without(Features::VERSION_1, true, 1, false).contains("version 1"));
        assert!(without(Features::ANY_LAYOUT, false, 1, false).contains("ANY_LAYOUT"));
        assert!(without(Features::ACCESS_PLATFORM, true, 1, true).contains("iommu_platform=on"));
        assert!(without(Features::CTRL_VQ, true, 2, false).contains("2 queue pairs"));
        // A legacy device behind an IOMMU would pass by it.
        let legacy = Fake {
            modern: false,
            ..GOOD
        };
        assert!(why(agree(&options(1), &legacy, true)).contains("ACCESS_PLATFORM"));
    }

    /// Queues have sizes that rings can have, and are there; the control queue stands behind all that the device has.
    #[test]
    fn queues() {
        let features = Features::VERSION_1 | Features::CTRL_VQ;
        let plans = |device: &Fake, options: &Options, features| {
            plan(options, device, features, &NetConfig::default())
        };
        let good = plans(&GOOD, &options(1), features).unwrap();
        let seen: Vec<_> = good.iter().map(|plan| (plan.index, plan.size)).collect();
        assert_eq!(seen, [(0, 256), (1, 256), (2, 256)]);
        let small = Options {
            rx_size: 64,
            tx_size: 4096,
            ..options(1)
        };
        let sizes = plans(&GOOD, &small, features).unwrap();
        assert_eq!((sizes[0].size, sizes[1].size), (64, 256));

        let sized = |size, features| {
            let sizes = [size, 256, 256, 256];
            plans(&Fake { sizes, ..GOOD }, &options(1), features)
        };
        assert!(why(sized(0, features)).contains("a queue 0"));
        assert!(why(sized(100, features)).contains("a power of two"));
        assert!(why(sized(0x8001, features)).contains("a power of two"));
        let packed = features | Features::RING_PACKED;
        assert_eq!(sized(100, packed).unwrap()[0].size, 100);
        assert!(why(sized(u16::MAX, packed)).contains("1 to 32768"));
        let few = Fake { queues: 2, ..GOOD };
        assert!(why(plans(&few, &options(1), features)).contains("a queue 2"));
        assert!(why(plans(&GOOD, &options(2), features)).contains("2 queue pairs, it has 1"));
        let many = NetConfig {
            max_virtqueue_pairs: Some(0x8000),
            ..NetConfig::default()
        };
        let beyond = plan(&options(1), &GOOD, features | Features::MQ, &many);
        assert!(why(beyond).contains("fewer than 32768"));
    }
}
