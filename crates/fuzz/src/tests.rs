//! The same programs on random bytes and on the corpus: a short look each time that the tests run.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use vring_vhost::ProtocolFeatures;

use crate::vhost_user::starts;
use crate::{device, driver, vhost_user};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever a driver writes, the device's half names it a fault or moves packets, and no buffer is missing.
    #[test]
    fn device_half(data in bytes()) {
        device(&data);
    }

    /// Whatever a device writes, the driver's half names it a fault or moves packets, and no buffer is missing.
    #[test]
    fn driver_half(data in bytes()) {
        driver(&data);
    }

    /// Whatever a front end sends, the back end ends or goes on, and stops each ring that it started.
    #[test]
    fn vhost_user_bytes(data in bytes()) {
        vhost_user(&data);
    }
}

/// What the fuzzer found worth keeping holds as well.
#[test]
fn corpus() {
    type Program = fn(&[u8]);
    let programs = [
        ("device", device as Program),
        ("driver", driver),
        ("vhost_user", vhost_user),
    ];
    for (name, run) in programs {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(name);
        let files: Vec<_> = fs::read_dir(&folder).expect("a corpus").collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            run(&fs::read(file.expect("a file").path()).expect("readable"));
        }
    }
}

/// One message of a front end as `vhost_user` reads it, with as many descriptors.
fn message(number: u8, payload: &[u64], fds: u8) -> Vec<u8> {
    let len = u8::try_from(8 * payload.len()).expect("a short message");
    let mut bytes = vec![number, fds << 4, len];
    bytes.extend(payload.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// An honest session in the language of the program starts its rings: mutations of it get as far. It is where the corpus began;
/// `VRING_SEEDS=1` writes it there.
#[test]
fn honest_session() {
    const BASE: u64 = 0x1_0000;
    let protocol = ProtocolFeatures::IMPLEMENTED.bits();
    for packed in [false, true] {
        let features = 1 << 32 | 1 << 30 | u64::from(packed) << 34;
        let mut session = [
            message(2, &[features], 0),
            message(16, &[protocol], 0),
            message(3, &[], 0),
            message(5, &[1, BASE, 0x2_0000, BASE, 0], 1),
        ]
        .concat();
        for ring in 0..4 {
            let at = BASE + 0x4000 * ring;
            let base = if packed { 0x8000_8000 } else { 0 };
            let areas = [ring, at, at + 0x2000, at + 0x1000, 0];
            session.extend(message(8, &[ring | 64 << 32], 0));
            session.extend(message(10, &[ring | base << 32], 0));
            session.extend(message(9, &areas, 0));
            session.extend(message(12, &[ring | 0x100], 0));
            session.extend(message(18, &[ring | 1 << 32], 0));
        }
        assert_eq!(starts(&session), 4, "packed: {packed}");
        if std::env::var_os("VRING_SEEDS").is_some() {
            let name = if packed {
                "honest-packed"
            } else {
                "honest-split"
            };
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/vhost_user");
            fs::write(path.join(name), session).expect("a writable corpus");
        }
    }
}
