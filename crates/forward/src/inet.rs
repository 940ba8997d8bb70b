//! The Internet checksum (RFC 1071) of packets that are made here.

/// The sum of words in network order, with its carries; a last odd byte is the first half of its word. Of at most 128 KiB.
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words: u32 = words
        .iter()
        .map(|&word| u32::from(u16::from_be_bytes(word)))
        .sum();
    words + rest.first().map_or(0, |&byte| u32::from(byte) << 8)
}

/// What is written for a sum (RFC 1071).
#[inline]
pub(crate) fn checksum(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded twice")]
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    !folded
}
