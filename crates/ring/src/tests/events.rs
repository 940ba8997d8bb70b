//! Notifications: who is told when, and that nobody sleeps through news.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::*;
use crate::shared::need_event;

/// The formula of the specification (2.7.10), in its words: the index moved over the event.
fn moved_over(event: u16, new: u16, old: u16) -> bool {
    let batch = new.wrapping_sub(old);
    (0..batch).any(|step| old.wrapping_add(step) == event)
}

/// `need_event` is the formula of the specification and says what stepping through the batch says: for all events in small
/// batches, and near both ends of batches of every size, across the wrap.
#[test]
fn need_event_is_exact() {
    for old in [0u16, 1, 32_767, 65_530, 65_535] {
        for batch in [0u16, 1, 2, 7, 64] {
            let new = old.wrapping_add(batch);
            for event in 0..=u16::MAX {
                let formula = new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old);
                assert_eq!(need_event(event, new, old), formula);
                assert_eq!(need_event(event, new, old), moved_over(event, new, old));
            }
        }
        for batch in 0..=32_768u16 {
            let new = old.wrapping_add(batch);
            for edge in [old, new] {
                for by in 0..5u16 {
                    let event = edge.wrapping_add(by).wrapping_sub(2);
                    let inside = event.wrapping_sub(old) < batch;
                    assert_eq!(need_event(event, new, old), inside);
                }
            }
        }
    }
}

/// A device that polls is not kicked, and a driver that polls is not called, more than once in 65536 chains.
fn polling_halves_are_left_alone<F: Format>() {
    for features in FEATURES {
        let bed = Bed::<F>::new(64);
        let (mut driver, mut device) = (bed.driver(features), bed.device(features));
        let (mut kicks, mut calls) = (0, 0);
        for _ in 0..65_536 / 32 {
            for _ in 0..32 {
                driver.push(1, piece(60), false);
            }
            driver.publish();
            kicks += usize::from(driver.needs_kick());
            assert!(!driver.needs_kick(), "the same news are told once");
            assert_eq!(device.ready(32).unwrap(), 32);
            for _ in 0..32 {
                let id = device.peek(0).unwrap().id;
                device.complete(id, 0);
            }
            device.publish();
            calls += usize::from(device.needs_call());
            assert!(!device.needs_call());
            assert_eq!(driver.used_ready(32).unwrap(), 32);
            (0..32).for_each(|_| assert_eq!(driver.pop_used().unwrap().token, 1));
        }
        assert!(kicks <= 1 && calls <= 1, "{kicks} kicks, {calls} calls");
        assert!(features.event_idx || kicks + calls == 0);
    }
}

/// Where a thread sleeps. A sleep that lasts this long is a lost wake-up.
struct Bell(OwnedFd);

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self(eventfd(0, EventfdFlags::NONBLOCK).unwrap()))
    }

    fn ring(&self) {
        rustix::io::write(&self.0, &1u64.to_ne_bytes()).unwrap();
    }

    fn sleep(&self, who: &str) {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let limit = Timespec::try_from(Duration::from_secs(20)).unwrap();
        assert_eq!(
            poll(&mut fds, Some(&limit)),
            Ok(1),
            "{who} slept through news"
        );
        rustix::io::read(&self.0, &mut [0u8; 8]).unwrap();
    }
}

fn drive(driver: &mut impl DriverRing, rounds: u32, kick: &Bell, call: &Bell) {
    for round in 0..rounds {
        let count = (round % 3 + 1) as usize;
        for _ in 0..count {
            driver.push(round, piece(60), false);
        }
        driver.publish();
        if driver.needs_kick() {
            kick.ring();
        }
        let mut back = 0;
        while back < count {
            let ready = driver.used_ready(1).unwrap();
            if ready == 0 {
                if !driver.want_calls(true) {
                    call.sleep("the driver");
                }
                driver.want_calls(false);
            }
            for _ in 0..ready {
                assert_eq!(driver.pop_used().unwrap().token, round);
            }
            back += ready;
        }
    }
}

fn serve(device: &mut impl DeviceRing, mut left: u32, kick: &Bell, call: &Bell) {
    while left > 0 {
        let ready = device.ready(1).unwrap();
        if ready == 0 {
            if !device.want_kicks(true) {
                kick.sleep("the device");
            }
            device.want_kicks(false);
        }
        for _ in 0..ready {
            let id = device.peek(0).unwrap().id;
            device.complete(id, 0);
            left -= 1;
        }
        device.publish();
        if device.needs_call() {
            call.ring();
        }
    }
}

/// Two threads that sleep on eventfds whenever there is nothing to do never sleep through news, thousands of times.
fn no_wake_up_is_lost<F: Format>() {
    for features in [FEATURES[0], FEATURES[2]] {
        let bed = Bed::<F>::new(4);
        let (mut driver, mut device) = (bed.driver(features), bed.device(features));
        let (kick, call) = (Bell::new(), Bell::new());
        let rounds = 6_000;
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&mut device, 2 * rounds, &kick, &call));
            drive(&mut driver, rounds, &kick, &call);
        });
    }
}

/// A notification that carries data names the queue, and the place at which the device finds the next chain when it has taken all before, through
/// every wrap.
fn notifications_say_where_the_next_chain_goes<F: Format>() {
    for &size in F::SIZES {
        let bed = Bed::<F>::new(size);
        let (mut driver, mut device) = (
            bed.driver(features(true, false)),
            bed.device(features(true, false)),
        );
        for index in [0, 1, size - 1, size, 0x7fff, 0x8000] {
            run_to(&mut driver, &mut device, index);
            #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
            let next = device.base() as u16;
            assert_eq!(driver.notification(0x1234), 0x1234 | u32::from(next) << 16);
        }
    }
}

for_each_format!(
    polling_halves_are_left_alone,
    no_wake_up_is_lost,
    notifications_say_where_the_next_chain_goes,
);
