//! Which packets of a flow came: once, twice, out of order, or not.

use std::collections::BTreeMap;

/// Words of the window: packets that come later than this many behind the newest cannot be told from doubles.
const WORDS: usize = 16;
/// Packets that the window remembers.
pub(crate) const WINDOW: u64 = 64 * WORDS as u64;

/// What a packet was to its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one.
    Next,
    /// Newer than the next one: those between are missing until they come.
    Ahead {
        /// The first that is missing.
        from: u64,
    },
    /// One that was missing.
    Late,
    /// One that was there already.
    Double,
    /// So far behind that it may be either.
    Stale,
}

/// What a flow has received: the newest sequence number, and which of the [`WINDOW`] up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    /// The sequence number after the newest.
    next: u64,
    /// Bit `n % WINDOW` says whether packet `n` came, for those of the window.
    window: [u64; WORDS],
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            next: 0,
            window: [0; WORDS],
        }
    }
}

impl Flow {
    /// Notes packet `sequence`.
    #[inline]
    pub(crate) fn note(&mut self, sequence: u64) -> Arrival {
        if sequence == self.next {
            self.set(sequence);
            self.next += 1;
            return Arrival::Next;
        }
        self.note_out_of_order(sequence)
    }

    /// The sequence number after the newest.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    #[cold]
    fn note_out_of_order(&mut self, sequence: u64) -> Arrival {
        if sequence > self.next {
            let from = self.next;
            if sequence - from >= WINDOW {
                self.window = [0; WORDS];
            } else {
                (from..sequence).for_each(|missing| self.clear(missing));
            }
            self.set(sequence);
            self.next = sequence + 1;
            return Arrival::Ahead { from };
        }
        if self.next - sequence > WINDOW {
            return Arrival::Stale;
        }
        let (word, bit) = Self::place(sequence);
        if self.window[word] & bit != 0 {
            return Arrival::Double;
        }
        self.window[word] |= bit;
        Arrival::Late
    }

    fn place(sequence: u64) -> (usize, u64) {
        let at = sequence % WINDOW;
        let word = (at / 64) as usize;
        (word, 1 << (at % 64))
    }

    #[inline]
    fn set(&mut self, sequence: u64) {
        let (word, bit) = Self::place(sequence);
        self.window[word] |= bit;
    }

    fn clear(&mut self, sequence: u64) {
        let (word, bit) = Self::place(sequence);
        self.window[word] &= !bit;
    }
}

/// Ranges of missing packets, by flow and first sequence number; the value is the one after the last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Missing {
    ranges: BTreeMap<(u16, u64), u64>,
}

impl Missing {
    /// Packets `from..to` of a flow did not come, at least not yet.
    pub(crate) fn open(&mut self, flow: u16, from: u64, to: u64) {
        if from < to {
            self.ranges.insert((flow, from), to);
        }
    }

    /// One of them came after all.
    pub(crate) fn close(&mut self, flow: u16, sequence: u64) {
        let Some((&(_, from), &to)) = self.ranges.range((flow, 0)..=(flow, sequence)).next_back()
        else {
            return;
        };
        if sequence < to {
            self.ranges.remove(&(flow, from));
            self.open(flow, from, sequence);
            self.open(flow, sequence + 1, to);
        }
    }

    /// In order of flow and sequence number: flow, first, and the one after the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, u64, u64)> + '_ {
        self.ranges
            .iter()
            .map(|(&(flow, from), &to)| (flow, from, to))
    }

    /// How many ranges there are.
    pub(crate) fn ranges(&self) -> u64 {
        self.ranges.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_in_order_are_each_the_next() {
        let mut flow = Flow::default();
        assert!((0..5000).all(|n| flow.note(n) == Arrival::Next));
    }

    #[test]
    fn a_gap_is_told_and_filled_once() {
        let mut flow = Flow::default();
        flow.note(0);
        assert_eq!(flow.note(3), Arrival::Ahead { from: 1 });
        assert_eq!(
            [flow.note(2), flow.note(2), flow.note(3)],
            [Arrival::Late, Arrival::Double, Arrival::Double]
        );
        assert_eq!(flow.note(4), Arrival::Next);
    }

    #[test]
    fn a_packet_from_before_the_window_is_stale() {
        let mut flow = Flow::default();
        flow.note(WINDOW + 5);
        assert_eq!(
            [flow.note(5), flow.note(6)],
            [Arrival::Stale, Arrival::Late]
        );
    }

    #[test]
    fn missing_ranges_are_split_by_what_comes_late() {
        let mut missing = Missing::default();
        missing.open(1, 10, 20);
        missing.open(2, 15, 16);
        missing.close(1, 15);
        missing.close(1, 10);
        missing.close(1, 30);
        assert_eq!(
            missing.iter().collect::<Vec<_>>(),
            [(1, 11, 15), (1, 16, 20), (2, 15, 16)]
        );
    }

    proptest! {
        #[test]
        fn what_arrives_in_any_order_is_judged_as_a_set_would(order in proptest::collection::vec(0u64..900, 1..600)) {
            let (mut flow, mut missing, mut seen) = (Flow::default(), Missing::default(), BTreeSet::new());
            for n in order {
                let fresh = seen.insert(n);
                match flow.note(n) {
                    Arrival::Next => prop_assert!(fresh),
                    Arrival::Ahead { from } => {
                        prop_assert!(fresh);
                        missing.open(0, from, n);
                    }
                    Arrival::Late => {
                        prop_assert!(fresh);
                        missing.close(0, n);
                    }
                    Arrival::Double => prop_assert!(!fresh),
                    Arrival::Stale => prop_assert!(false, "all lie in the window"),
                }
            }
            let absent: Vec<u64> = (0..flow.next()).filter(|n| !seen.contains(n)).collect();
            let told: Vec<u64> = missing.iter().flat_map(|(_, from, to)| from..to).collect();
            prop_assert_eq!(told, absent);
        }
    }
}
