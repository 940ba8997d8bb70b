//! A capture in memory, with the time of each packet: for a generator that plays it again.

use pcap_file::DataLink;

use super::MAX_PACKET;
use super::read::Capture;
use crate::PortError;

/// Most bytes of a capture that is played from memory.
const MAX_BYTES: usize = 1 << 30;

/// A packet of a [`Recording`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Recorded {
    at: usize,
    len: usize,
    time: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    bytes: Vec<u8>,
    packets: Vec<Recorded>,
}

impl Recording {
    /// Reads a pcap or pcapng capture of Ethernet packets. Packets of other links, of no byte and of more than 65535 are left out.
    ///
    /// # Errors
    /// It cannot be read, is no such capture, is damaged, has no packet, or is larger than 1 GiB: [`PortError::Capture`] and others.
    pub fn load(path: &str) -> Result<Self, PortError> {
        let mut capture = Capture::open(path)?;
        let mut recording = Self::default();
        while let Some(record) = capture.next()? {
            if record.link == DataLink::ETHERNET && (1..=MAX_PACKET).contains(&record.len) {
                let at = recording.bytes.len();
                recording.bytes.extend_from_slice(capture.data(&record)?);
                recording.packets.push(Recorded {
                    at,
                    len: record.len,
                    time: record.time,
                });
            }
            capture.consume(&record);
            if recording.bytes.len() > MAX_BYTES {
                let got = format!("more than {MAX_BYTES} bytes of packets");
                return Err(PortError::Capture {
                    path: path.to_owned(),
                    expected: "a capture that fits in memory",
                    got,
                });
            }
        }
        if recording.packets.is_empty() {
            let got = "no such packet in it".into();
            return Err(PortError::Capture {
                path: path.to_owned(),
                expected: "a capture with an Ethernet packet",
                got,
            });
        }
        Ok(recording)
    }

    /// Packets in it: at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// The bytes of a packet.
    ///
    /// # Panics
    /// When there is no such packet.
    #[must_use]
    pub fn packet(&self, nth: usize) -> &[u8] {
        let Recorded { at, len, .. } = self.packets[nth];
        &self.bytes[at..at + len]
    }

    /// Nanoseconds from the first packet to that one; 0 for one that came before the first.
    ///
    /// # Panics
    /// When there is no such packet.
    #[must_use]
    pub fn time(&self, nth: usize) -> u64 {
        self.packets[nth].time.saturating_sub(self.packets[0].time)
    }

    /// Mean bytes of a packet.
    #[must_use]
    pub fn mean_len(&self) -> f64 {
        self.bytes.len() as f64 / self.packets.len() as f64
    }

    /// Bytes of the longest packet.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.packets
            .iter()
            .map(|packet| packet.len)
            .max()
            .unwrap_or(0)
    }
}
