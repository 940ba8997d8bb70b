//! What marks a generated packet: who sent it, which one it is, and when it left.
//!
//! ```text
//! bytes  0..2   magic       6..12   sequence number within the flow
//!        2..4   check      12..18   time: low 48 bits of the nanoseconds since the run began
//!        4..6   flow
//! ```
//!
//! It stands right behind the headers, in the first cache line of the packets that rates are measured with. All numbers are in network
//! order, as the checksums over them want. Eighteen bytes are what UDP over IPv4 leaves in Ethernet's shortest packet.

/// Bytes of it.
pub(crate) const BYTES: usize = 18;
const MAGIC: u16 = 0x7672;
/// Sequence numbers and times are kept in so many bits: 10 million packets a second for 325 days, nanoseconds for 78 hours.
const BITS: u32 = 48;
const LOW: u64 = (1 << BITS) - 1;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The flow's number, unique among all senders of a run.
    pub(crate) flow: u16,
    /// Counts the packets of the flow from 0.
    pub(crate) sequence: u64,
    /// Nanoseconds since the run began.
    pub(crate) time: u64,
}

/// What the bytes behind the headers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// One of ours.
    Signature(Signature),
    /// One of ours once: its check is wrong.
    Damaged,
    /// Somebody else's packet.
    Foreign,
}

impl Signature {
    /// The bytes for a packet that has `len` bytes from here on: one that was cut or padded fails its check.
    #[inline]
    pub(crate) fn encode(self, len: u32) -> [u8; BYTES] {
        let (sequence, time) = (self.sequence & LOW, self.time & LOW);
        let mut bytes = [0; BYTES];
        bytes[0..2].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[2..4].copy_from_slice(&check(self.flow, sequence, time, len).to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flow.to_be_bytes());
        bytes[6..12].copy_from_slice(&sequence.to_be_bytes()[2..]);
        bytes[12..18].copy_from_slice(&time.to_be_bytes()[2..]);
        bytes
    }

    /// What these first bytes behind the headers are, of a packet that has `len` bytes from there on.
    #[inline]
    pub(crate) fn decode(bytes: &[u8], len: u32) -> Found {
        if !bytes.starts_with(&MAGIC.to_be_bytes()) {
            return Found::Foreign;
        }
        let Some(bytes) = bytes.first_chunk::<BYTES>() else {
            return Found::Damaged;
        };
        let number = |range: std::ops::Range<usize>| {
            bytes[range]
                .iter()
                .fold(0, |n, &byte| n << 8 | u64::from(byte))
        };
        #[expect(clippy::cast_possible_truncation, reason = "two bytes")]
        let (flow, sequence, time) = (number(4..6) as u16, number(6..12), number(12..18));
        if number(2..4) != u64::from(check(flow, sequence, time, len)) {
            return Found::Damaged;
        }
        Found::Signature(Self {
            flow,
            sequence,
            time,
        })
    }

    /// How long ago `time` was, seen at `now`: both count nanoseconds since the run began, `time` in its low bits only.
    #[inline]
    pub(crate) fn age(self, now: u64) -> u64 {
        now.wrapping_sub(self.time) & LOW
    }
}

/// Sixteen bits that a changed number does not keep: multiply and take the top, where all bits of the product have a say.
#[inline]
fn check(flow: u16, sequence: u64, time: u64, len: u32) -> u16 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (sequence ^ u64::from(flow) << 48).wrapping_mul(ODD)
        ^ time.rotate_left(16)
        ^ u64::from(len);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(ODD);
    (mixed >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Signature = Signature {
        flow: 7000,
        sequence: 1 << 40,
        time: 123_456_789,
    };

    #[test]
    fn a_signature_comes_back_as_it_was_written() {
        assert_eq!(
            Signature::decode(&ONE.encode(64), 64),
            Found::Signature(ONE)
        );
    }

    #[test]
    fn a_changed_bit_or_length_is_damage_and_another_magic_is_a_foreign_packet() {
        let bytes = ONE.encode(64);
        assert_eq!(Signature::decode(&bytes, 60), Found::Damaged);
        for bit in 16..BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Signature::decode(&changed, 64), Found::Damaged, "bit {bit}");
        }
        assert_eq!(Signature::decode(&bytes[..BYTES - 1], 64), Found::Damaged);
        assert_eq!(Signature::decode(&[0; BYTES], 64), Found::Foreign);
        assert_eq!(Signature::decode(&[], 64), Found::Foreign);
    }

    #[test]
    fn an_age_is_right_when_the_48_bits_wrapped_on_the_way() {
        let sent = Signature {
            time: LOW - 10,
            ..ONE
        };
        assert_eq!(sent.age(LOW + 1 + 20), 31);
    }
}
