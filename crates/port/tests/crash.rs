//! A process at one end of a link is killed in the middle of its work, again and again, and each time another one comes in its place.
//!
//! Packets have numbers and come back in their order, so each that is lost or comes twice is known by name. `VRING_SEED` repeats a run.

#[path = "crash/driver.rs"]
mod driver;
#[path = "crash/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vring_mem::Burst;
use vring_port::{Device, Owner, PortEvent, open};

use driver::{BUFFERS, BURST, Driver, LIMIT, RING, Random, config, pool, ranges};
use process::{Dpdk, again, end_with_parent, kill, number, path};

/// How the processes that are killed are told what to be.
const DEVICE: &str = "VRING_CRASH_DEVICE";
const REPORT: &str = "VRING_CRASH_REPORT";
const LIFE: &str = "VRING_CRASH_LIFE";

/// Not a test of its own: a process that is killed. It sends back what it receives.
#[test]
fn device_process() {
    let (Ok(device), Err(_)) = (std::env::var(DEVICE), std::env::var(REPORT)) else {
        return;
    };
    end_with_parent();
    let pool = pool();
    let port = open(&Device::parse(&device).unwrap(), &config(&pool)).unwrap();
    let (owner, mut burst) = (Owner::new(), Burst::new(BURST));
    loop {
        if burst.is_empty() {
            port.rx_queues()[0].burst(owner, &mut burst).unwrap();
        }
        port.tx_queues()[0].burst(owner, &mut burst).unwrap();
    }
}

/// Both ends of a link poll, so one test at a time has the processors.
static TURN: Mutex<()> = Mutex::new(());

fn device_crashes(name: &str, args: &str, kills: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut random = Random::new(name);
    let path = path(name);
    let virtio = format!(
        "net_virtio_user_{name},path={},server=1,packed_vq=1",
        path.display()
    );
    let vhost = format!("net_vhost_{name},iface={},client=1{args}", path.display());
    let mut driver = Driver::open(&virtio, 0);
    let start = || again("device_process", &[(DEVICE, &vhost)]);
    let mut child = start();
    driver.settle();
    let (mut since_settled, mut lost_before) = (0, 0);
    for nth in 0..kills {
        // Most die at their work, some while they take it up.
        if random.below(4) > 0 {
            driver.settle();
            let lost = driver.lost.len() - lost_before;
            assert!(
                lost <= since_settled * BURST,
                "{lost} packets lost by {since_settled} crashes before {nth}: {}",
                ranges(&driver.lost[lost_before..])
            );
            (since_settled, lost_before) = (0, driver.lost.len());
            let back = driver.back + random.below(3000);
            driver.run_until("traffic", u32::MAX, |driver| driver.back >= back);
        } else {
            let until = Instant::now() + Duration::from_micros(random.below(20_000));
            driver.run_until("a start", u32::MAX, |_| Instant::now() >= until);
        }
        for _ in 0..random.below(2000) {
            std::hint::spin_loop();
        }
        kill(child);
        since_settled += 1;
        child = start();
    }
    driver.settle();
    // Nothing more is sent: all that was comes back, and every descriptor that it was sent with.
    let last = driver.next;
    driver.run_until("the last packet", last, |driver| driver.due == last);
    let tx = driver.port.tx_queues()[0].clone();
    driver.run_until("transmit descriptors", last, |_| {
        tx.used_count().unwrap() == 0
    });
    // So does every descriptor that was posted: they are filled when nobody takes packets out.
    let end = Instant::now() + LIMIT;
    let rx = driver.port.rx_queues()[0].clone();
    while rx.used_count().unwrap() < RING.into() {
        assert!(
            Instant::now() < end,
            "{:?} receive descriptors",
            rx.used_count()
        );
        driver.send(last + 2 * u32::from(RING));
    }
    let last = driver.next;
    driver.run_until("packets of the full ring", last, |driver| {
        driver.due == last
    });

    println!(
        "{name}: {kills} crashes of the device, {} packets back, lost {}, twice {}",
        driver.back,
        ranges(&driver.lost),
        ranges(&driver.twice)
    );
    assert_eq!(driver.twice, []);
    assert_eq!(
        driver.lost.iter().collect::<BTreeSet<_>>().len(),
        driver.lost.len()
    );
    assert_eq!(driver.back + driver.lost.len() as u64, u64::from(last));
    for drops in [tx.stats().drops, rx.stats().drops] {
        assert!(drops.is_empty(), "{drops:?}");
    }
    for event in driver.port.events().drain() {
        assert!(!matches!(event, PortEvent::Error(_)), "{event:?}");
    }
    driver.pool.free_burst(&mut driver.out);
    driver.port.close();
    kill(child);
    assert_eq!(driver.pool.free_count(), BUFFERS, "buffers are missing");
}

/// The port at the other end keeps its rings. What the used index of a split ring does not cover was never taken.
#[test]
fn a_split_ring_outlives_its_device() {
    device_crashes("split", ",packed_vq=0,in_order=0", 200);
}

/// The same with used elements that stand for several chains.
#[test]
fn a_split_ring_in_order_outlives_its_device() {
    device_crashes("split_in_order", ",packed_vq=0", 50);
}

/// Descriptors that used elements were written over come back from the record.
#[test]
fn a_packed_ring_outlives_its_device() {
    device_crashes("packed", ",in_order=0", 200);
}

/// The same with used elements that stand for several chains.
#[test]
fn a_packed_ring_in_order_outlives_its_device() {
    device_crashes("packed_in_order", "", 50);
}

/// Packets of one driver that are on their way at a time.
const WINDOW: u32 = 128;

/// Not a test of its own: a process that is killed. It sends numbered packets and writes down how far it is: the numbers of the next to be sent and
/// of the next that is due, how many are lost, how many came twice.
#[test]
fn driver_process() {
    let (Ok(device), Ok(report)) = (std::env::var(DEVICE), std::env::var(REPORT)) else {
        return;
    };
    end_with_parent();
    let report = std::fs::OpenOptions::new()
        .write(true)
        .open(report)
        .unwrap();
    let mut driver = Driver::open(&device, std::env::var(LIFE).unwrap().parse().unwrap());
    loop {
        driver.receive();
        let words = [
            driver.next,
            driver.due,
            u32::try_from(driver.lost.len()).unwrap(),
            u32::try_from(driver.twice.len()).unwrap(),
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        report.write_all_at(&bytes, 0).unwrap();
        driver.send((driver.due + WINDOW).min(driver.next + 8));
    }
}

fn driver_crashes(name: &str, args: &str, kills: u32) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    const BUFFERS: usize = 4096;
    let mut random = Random::new(name);
    let (path, report_path) = (path(name), path(&format!("{name}-report")));
    let Some(dpdk) = Dpdk::start(&path, name, BUFFERS) else {
        println!("{name}: skipped, dpdk-testpmd is not installed");
        return;
    };
    let report = std::fs::File::create_new(&report_path).unwrap();
    let device = format!("net_virtio_user_{name},path={}{args}", path.display());
    let read = || {
        let mut bytes = [0; 16];
        report_read(&report_path, &mut bytes);
        let word = |at| u32::from_ne_bytes(std::array::from_fn(|nth| bytes[at + nth]));
        [word(0), word(4), word(8), word(12)]
    };
    let (mut back, mut lost) = (0u64, Vec::new());
    for life in 0..kills {
        report.set_len(0).unwrap();
        let variables = [
            (DEVICE, &*device),
            (REPORT, report_path.to_str().unwrap()),
            (LIFE, &life.to_string()),
        ];
        let child = again("driver_process", &variables);
        let (end, enough) = (Instant::now() + LIMIT, 1 + random.below(3000));
        // Its link works, and it is somewhere in its work.
        while u64::from(read()[1]) < enough {
            assert!(Instant::now() < end, "driver {life} is at {:?}", read());
            std::thread::yield_now();
        }
        for _ in 0..random.below(2000) {
            std::hint::spin_loop();
        }
        kill(child);
        let [next, due, missing, twice] = read();
        assert_eq!((missing, twice), (0, 0), "driver {life}");
        assert!(next - due <= WINDOW, "driver {life}: {due} to {next}");
        back += u64::from(due);
        lost.push(format!("{life}:{due}-{next}"));
    }
    let output = dpdk.finish();
    let _not_there = std::fs::remove_file(&report_path);
    println!(
        "{name}: {kills} crashes of the driver, {back} packets back, on their way at each: {}",
        lost.join(" ")
    );
    let [received, sent, dropped] =
        ["RX-packets:", "TX-packets:", "TX-dropped:"].map(|name| number(&output, name));
    println!("{name}: DPDK received {received}, sent {sent}, dropped {dropped}");
    assert_eq!(received, sent + dropped, "{output}");
    // What was read just before the end may have come back after it.
    assert!(sent >= back, "{output}");
    let most = u64::from(kills) * u64::from(WINDOW);
    assert!(received <= back + most, "{output}");
    let free = number(&output, "total_cache_count=") + number(&output, "common_pool_count=");
    assert_eq!(free, BUFFERS as u64, "{output}");
}

fn report_read(path: &std::path::Path, bytes: &mut [u8; 16]) {
    let file = std::fs::File::open(path).unwrap();
    // Shorter as long as nothing was written.
    let _shorter = file.read_at(bytes, 0);
}

/// DPDK's vhost carries on, the driver that comes next has a link that works, and DPDK's buffers are all accounted for.
#[test]
fn dpdk_outlives_the_driver_of_split_rings() {
    driver_crashes("dpdk_split", "", 200);
}

/// The same with packed rings.
#[test]
fn dpdk_outlives_the_driver_of_packed_rings() {
    driver_crashes("dpdk_packed", ",packed_vq=1", 50);
}
