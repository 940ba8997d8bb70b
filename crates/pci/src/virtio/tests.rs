//! Devices made of bytes: what they say is refused, or believed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::Registers;

/// Registers that keep what is written, but for what a test says otherwise.
struct Bytes {
    bytes: Mutex<Vec<u8>>,
    /// Of a read or a write at an offset: what is there instead.
    lie: Box<dyn Fn(u64) -> Option<u32> + Send + Sync>,
}

impl Registers for Bytes {
    fn read(&self, at: u64, size: usize) -> u32 {
        if let Some(lie) = (self.lie)(at) {
            return lie;
        }
        let bytes = self.bytes.lock().unwrap();
        let at = usize::try_from(at).unwrap();
        let mut value = [0; 4];
        value[..size].copy_from_slice(&bytes[at..at + size]);
        u32::from_le_bytes(value)
    }

    fn write(&self, at: u64, size: usize, value: u32) {
        let at = usize::try_from(at).unwrap();
        self.bytes.lock().unwrap()[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
}

fn window(bytes: Vec<u8>) -> Window {
    lying(bytes, |_| None)
}

fn lying(bytes: Vec<u8>, lie: impl Fn(u64) -> Option<u32> + Send + Sync + 'static) -> Window {
    let len = bytes.len() as u64;
    let registers = Bytes {
        bytes: Mutex::new(bytes),
        lie: Box::new(lie),
    };
    Window::new(Arc::new(registers), len)
}

fn address() -> PciAddress {
    "0000:00:03.0".parse().unwrap()
}

/// A capability at `at`: the next one, its length, kind, BAR, offset, bytes and multiplier.
type Cap = (u8, u8, u8, u8, u8, u32, u32, u32);

/// The four structures in BAR 4, in the order that QEMU has them.
const HONEST: [Cap; 4] = [
    (0x40, 0x50, 16, 1, 4, 0, 0x1000, 0),
    (0x50, 0x60, 16, 3, 4, 0x1000, 0x1000, 0),
    (0x60, 0x70, 16, 4, 4, 0x2000, 0x1000, 0),
    (0x70, 0, 20, 2, 4, 0x3000, 0x1000, 4),
];

fn config(caps: &[Cap]) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[6] = 0x10;
    bytes[0x34] = caps.first().map_or(0, |cap| cap.0);
    for &(at, next, len, kind, bar, offset, size, multiplier) in caps {
        let at = usize::from(at);
        bytes[at..at + 5].copy_from_slice(&[9, next, len, kind, bar]);
        let words = [(8, offset), (12, size), (16, multiplier)];
        for (place, word) in words.into_iter().take(if kind == 2 { 3 } else { 2 }) {
            let end = (at + place + 4).min(256);
            let from = (at + place).min(256);
            bytes[from..end].copy_from_slice(&word.to_le_bytes()[..end - from]);
        }
    }
    bytes
}

fn find(config: Vec<u8>, bar: &Window) -> Result<Option<Modern>, PciError> {
    Modern::find(address(), &window(config), &|_| Ok(bar.clone()))
}

fn honest_bar() -> Vec<u8> {
    vec![0; 0x4000]
}

/// Why it was refused.
fn refused<T: fmt::Debug>(result: Result<T, PciError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code(), "ERR_VRING_PCI_DEVICE");
    error.to_string()
}

/// A list of capabilities that ends, in any order, is followed; one that does not is an error, and so is one that leads into the header.
#[test]
fn lists_that_loop() {
    let bar = window(honest_bar());
    assert!(find(config(&HONEST), &bar).unwrap().is_some());
    let mut turned = HONEST;
    turned.reverse();
    (turned[0].1, turned[1].1, turned[2].1, turned[3].1) = (0x60, 0x50, 0x40, 0);
    assert!(find(config(&turned), &bar).unwrap().is_some());

    let mut loops = HONEST;
    loops[3].1 = 0x40;
    assert!(refused(find(config(&loops), &bar)).contains("goes on and on"));
    let mut own = HONEST;
    own[0].1 = 0x40;
    assert!(refused(find(config(&own), &bar)).contains("goes on and on"));
    let mut header = HONEST;
    header[1].1 = 0x10;
    assert!(refused(find(config(&header), &bar)).contains("one at 0x10"));
    let none = find(config(&[]), &bar).unwrap();
    assert!(none.is_none(), "a legacy device");
}

/// Structures that are missing, too small, or outside of their BAR; numbers that overflow.
#[test]
fn structures_outside() {
    let bar = window(honest_bar());
    let with = |nth: usize, change: fn(&mut Cap)| {
        let mut caps = HONEST;
        change(&mut caps[nth]);
        refused(find(config(&caps), &bar))
    };
    assert!(with(0, |cap| cap.6 = 55).contains("at least 56 bytes"));
    assert!(with(0, |cap| cap.5 = 0x3fff).contains("in BAR 4 of 16384"));
    assert!(with(1, |cap| (cap.5, cap.6) = (u32::MAX, u32::MAX)).contains("0xffffffff"));
    assert!(with(2, |cap| cap.6 = 0).contains("at least 1 bytes"));
    assert!(with(3, |cap| cap.2 = 16).contains("at least 20 bytes"));
    assert!(with(3, |cap| cap.3 = 9).contains("capability for Notify"));
    assert!(with(1, |cap| cap.4 = 6).contains("capability for Isr"));
    // The last one is cut off by the end of the space.
    let mut end = HONEST;
    (end[2].1, end[3].0) = (0xf4, 0xf4);
    assert!(refused(find(config(&end), &bar)).contains("at least 20 bytes"));
    let small = window(vec![0; 0x3000]);
    assert!(refused(find(config(&HONEST), &small)).contains("in BAR 4 of 12288"));
    assert!(refused(Legacy::new(address(), window(vec![0; 20]))).contains("at least 24 bytes"));
}

fn queue() -> QueueSetup {
    QueueSetup {
        index: 3,
        size: 256,
        desc: 0x1_2345_6000,
        driver: 0x1_2345_7000,
        device: 0x1_2345_8000,
        vector: Some(1),
    }
}

fn set_queue(bar: &Window, multiplier: u32) -> Result<Notifier, PciError> {
    let mut caps = HONEST;
    caps[3].7 = multiplier;
    find(config(&caps), bar)
        .unwrap()
        .unwrap()
        .set_queue(&queue())
}

/// A queue is where it was said to be, and its notification register where the device says; not outside of its window.
#[test]
fn queues() {
    let bar = window(honest_bar());
    bar.write16(30, 5);
    let notifier = set_queue(&bar, 4).unwrap();
    assert_eq!((bar.read16(22), bar.read16(28)), (3, 1));
    assert_eq!((bar.read32(32), bar.read32(36)), (0x2345_6000, 1));
    notifier.notify();
    assert_eq!(bar.read16(0x3000 + 5 * 4), 3);

    let told = |at: u64, what: u32| {
        let bar = lying(honest_bar(), move |place| (place == at).then_some(what));
        refused(set_queue(&bar, 0x1000))
    };
    assert!(told(30, 5).contains("5 times 4096"));
    assert!(told(30, 0xffff).contains("65535 times 4096"));
    assert!(told(28, 1).contains("enabled already"));
    assert!(told(24, 64).contains("does not take 256 descriptors"));
    assert!(told(26, 0xffff).contains("no vector 1"));
}

/// A legacy device knows the number of a page, and no more.
#[test]
fn legacy_queues() {
    let bar = window(vec![0; 64]);
    let legacy = Legacy::new(address(), bar.clone()).unwrap();
    legacy.set_msix(true);
    legacy.set_queue(&queue()).unwrap().notify();
    assert_eq!((bar.read32(8), bar.read16(16)), (0x12_3456, 3));
    assert!(refused(legacy.set_queue(&queue())).contains("enabled already"));
    bar.write32(8, 0);
    let far = QueueSetup {
        desc: 1 << 44,
        ..queue()
    };
    assert!(refused(legacy.set_queue(&far)).contains("below 16 TiB"));
    let deaf = lying(vec![0; 64], |at| (at == 8).then_some(0));
    let legacy = Legacy::new(address(), deaf).unwrap();
    assert!(refused(legacy.set_queue(&queue())).contains("does not take the address"));
}

/// The configuration is read at one time; one that never stands still is an error, not a loop.
#[test]
fn configuration_that_moves() {
    let counter = AtomicU32::new(0);
    let moves = move |at: u64| (at == 21).then(|| counter.fetch_add(1, Ordering::Relaxed));
    let modern = find(config(&HONEST), &lying(honest_bar(), moves))
        .unwrap()
        .unwrap();
    let mut bytes = [0; 24];
    assert!(refused(modern.read_config(&mut bytes)).contains("faster than it can be read"));

    let counter = AtomicU32::new(0);
    let moves = move |at: u64| (at == 24).then(|| counter.fetch_add(1, Ordering::Relaxed));
    let legacy = Legacy::new(address(), lying(vec![0; 32], moves)).unwrap();
    assert!(refused(legacy.read_config(&mut bytes)).contains("faster than it can be read"));

    let legacy = Legacy::new(address(), window((0..32).collect())).unwrap();
    assert_eq!(legacy.read_config(&mut bytes).unwrap(), 12);
    assert_eq!(bytes[..3], [20, 21, 22]);
    legacy.set_msix(true);
    assert_eq!(legacy.read_config(&mut bytes).unwrap(), 8);
    assert_eq!(bytes[0], 24);
}

/// A reset is waited for; a device that is gone reads as ones, and is not.
#[test]
fn resets() {
    let left = AtomicU32::new(3);
    let slow = move |at: u64| (at == 20 && left.fetch_sub(1, Ordering::Relaxed) > 1).then_some(4);
    let modern = find(config(&HONEST), &lying(honest_bar(), slow))
        .unwrap()
        .unwrap();
    reset(address(), &modern).unwrap();
    let gone = lying(honest_bar(), |at| (at == 20).then_some(u32::MAX));
    let modern = find(config(&HONEST), &gone).unwrap().unwrap();
    assert!(refused(reset(address(), &modern)).contains("0xff"));
}

proptest! {
    /// Whatever stands in a configuration space, what is found lies inside, and nothing panics or hangs.
    #[test]
    fn any_configuration(mut bytes in proptest::collection::vec(any::<u8>(), 256), len in 0usize..0x5000) {
        bytes[6] |= 0x10;
        let bar = window(vec![0; len]);
        if let Ok(Some(modern)) = find(bytes, &bar) {
            let _refused_or_not = modern.set_queue(&queue());
            let _any = modern.read_config(&mut [0; 24]);
        }
    }

    /// Nor do capabilities that begin like virtio's.
    #[test]
    fn any_structures(caps in proptest::array::uniform4((0u8..8, any::<u32>(), any::<u32>(), any::<u32>())), len in 0usize..0x5000) {
        let mut all = HONEST;
        for (cap, (bar, offset, size, multiplier)) in all.iter_mut().zip(caps) {
            (cap.4, cap.5, cap.6, cap.7) = (bar, offset % 0x6000, size % 0x6000, multiplier);
        }
        let bar = window(vec![0; len]);
        if let Ok(Some(modern)) = find(config(&all), &bar) {
            let _refused_or_not = modern.set_queue(&queue());
            let _any = modern.read_config(&mut [0; 24]);
        }
    }

    /// A part of a window is inside, whatever numbers a device gives.
    #[test]
    fn windows(at in any::<u64>(), len in any::<u64>(), inner in any::<u64>()) {
        let whole = window(vec![7; 64]);
        for (at, len) in [(at, len), (at % 80, len % 80)] {
            if let Some(part) = whole.part(at, len) {
                prop_assert!(at + len <= 64);
                let read = part.read32(inner % 80);
                let inside = (inner % 80).checked_add(4).is_some_and(|end| end <= len);
                prop_assert_eq!(read == 0x0707_0707, inside);
            }
        }
    }
}
