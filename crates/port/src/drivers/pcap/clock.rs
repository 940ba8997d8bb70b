//! When packets of a capture came.

use pcap_file::{Endianness, TsResolution};

/// `if_tsresol` of pcapng.
const RESOLUTION: u16 = 9;

/// What a timestamp counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    ticks_per_second: u64,
}

impl Clock {
    /// Of a classic capture.
    pub(super) fn of(resolution: TsResolution) -> Self {
        let ticks_per_second = match resolution {
            TsResolution::MicroSecond => 1_000_000,
            TsResolution::NanoSecond => 1_000_000_000,
        };
        Self { ticks_per_second }
    }

    /// Of an interface of pcapng with these options: microseconds unless one says something else, or something that no clock counts.
    pub(super) fn of_options(mut options: &[u8], order: Endianness) -> Self {
        let default = Self::of(TsResolution::MicroSecond);
        while let Some((head, rest)) = options.split_first_chunk::<4>() {
            let [code, len] = [[head[0], head[1]], [head[2], head[3]]].map(|two| match order {
                Endianness::Big => u16::from_be_bytes(two),
                Endianness::Little => u16::from_le_bytes(two),
            });
            let value = match rest.first() {
                Some(&value) if code == RESOLUTION && len == 1 => value,
                _ => {
                    let padded = usize::from(len).next_multiple_of(4);
                    let Some(next) = rest.get(padded..).filter(|_| code != 0) else {
                        return default;
                    };
                    options = next;
                    continue;
                }
            };
            let exponent = u32::from(value & 0x7f);
            let base: u64 = if value & 0x80 == 0 { 10 } else { 2 };
            return base
                .checked_pow(exponent)
                .map_or(default, |ticks_per_second| Self { ticks_per_second });
        }
        default
    }

    /// Nanoseconds since 1970, as far as they fit.
    pub(super) fn nanoseconds(self, ticks: u64) -> u64 {
        let nanoseconds =
            u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }

    /// The same of whole seconds and ticks.
    pub(super) fn of_parts(self, seconds: u32, ticks: u32) -> u64 {
        u64::from(seconds) * 1_000_000_000 + self.nanoseconds(ticks.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[(u16, &[u8])]) -> Vec<u8> {
        let one = |&(code, value): &(u16, &[u8])| {
            let len = u16::try_from(value.len()).unwrap();
            let mut bytes = [code.to_le_bytes(), len.to_le_bytes()].concat();
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        list.iter().flat_map(one).collect()
    }

    #[test]
    fn the_resolution_is_found_among_other_options_and_is_microseconds_without() {
        let clock = |list: &[(u16, &[u8])]| {
            Clock::of_options(&options(list), Endianness::Little).nanoseconds(1 << 20)
        };
        assert_eq!(clock(&[]), (1 << 20) * 1000);
        assert_eq!(clock(&[(2, b"eth0"), (9, &[9]), (0, &[])]), 1 << 20);
        assert_eq!(clock(&[(2, b"veth0"), (9, &[0x80 | 20])]), 1_000_000_000);
        assert_eq!(
            clock(&[(0, &[]), (9, &[9])]),
            (1 << 20) * 1000,
            "the end of the options was passed"
        );
        assert_eq!(
            clock(&[(9, &[127])]),
            (1 << 20) * 1000,
            "no clock counts that"
        );
        assert_eq!(
            Clock::of_options(&[9, 0, 1], Endianness::Little),
            Clock::of(TsResolution::MicroSecond)
        );
    }
}
