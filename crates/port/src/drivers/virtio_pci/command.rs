//! The control queue: one command at a time, each waited for (5.1.6.5).

use std::sync::Arc;
use std::time::{Duration, Instant};

use vring_mem::Region;
use vring_net::Features;
use vring_net::control::{Command, OK};
use vring_pci::virtio::Notifier;
use vring_ring::Piece;

use super::memory::COMMAND_ROOM;
use crate::PortError;
use crate::drivers::kind::CommandRing;

/// How long a device may think.
const PATIENCE: Duration = Duration::from_secs(5);
/// The data begins behind the class and the command, which have a descriptor of their own: old devices want it so.
const HEAD: usize = 2;
/// Where the answer is written.
const ANSWER: usize = COMMAND_ROOM - 64;

/// See the module.
pub(super) struct Commands {
    name: String,
    ring: Box<dyn CommandRing>,
    notifier: Notifier,
    features: Features,
    region: Arc<Region>,
    offset: usize,
    /// The device's address of `offset`.
    at: u64,
    /// A command was not answered: what comes now may be its answer.
    lost: bool,
}

impl Commands {
    pub(super) fn new(
        name: &str,
        ring: Box<dyn CommandRing>,
        notifier: Notifier,
        features: Features,
        (region, offset, at): (Arc<Region>, usize, u64),
    ) -> Self {
        Self {
            name: name.to_owned(),
            ring,
            notifier,
            features,
            region,
            offset,
            at,
            lost: false,
        }
    }

    /// Whether the device understands this one.
    pub(super) fn knows(&self, command: &Command) -> bool {
        self.features.contains(command.needs())
    }

    /// Sends a command and waits for the answer.
    ///
    /// # Errors
    /// [`PortError::Peer`]: the device says no, or nothing, or broke its ring.
    pub(super) fn send(&mut self, command: &Command) -> Result<(), PortError> {
        if self.lost {
            return Err(self.peer(
                "did not answer an earlier command",
                "ERR_VRING_PEER_TIMEOUT",
            ));
        }
        let bytes = command.encode();
        if bytes.len() > ANSWER - HEAD {
            return Err(self.peer(
                "has no room for so long a command",
                "ERR_VRING_OUT_OF_RANGE",
            ));
        }
        let place = self.region.base().wrapping_add(self.offset);
        // SAFETY: COMMAND_ROOM bytes at `offset` of the region are this queue's, and no command is under way: the device looks at them when it
        // is told to. The answer is written as a byte that is none.
        unsafe {
            place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            place.add(ANSWER).write_volatile(0xff);
        }
        let piece = |at: usize, len: usize| Piece {
            addr: self.at + at as u64,
            len: u32::try_from(len).unwrap_or(u32::MAX),
        };
        let data = piece(HEAD, bytes.len() - HEAD);
        let request = [piece(0, HEAD), data];
        let request = if data.len == 0 {
            &request[..1]
        } else {
            &request
        };
        if self.ring.send(request, piece(ANSWER, 1)) {
            self.notifier.notify();
        }
        self.wait()?;
        // SAFETY: as above; the device has written it, or has not.
        match unsafe { place.add(ANSWER).read_volatile() } {
            OK => Ok(()),
            answer => Err(self.peer(
                &format!("answers {answer} to {command:?}, not {OK}"),
                "ERR_VRING_PEER",
            )),
        }
    }

    /// Waits for the answer: seldom longer than it takes the device to leave the processor.
    fn wait(&mut self) -> Result<(), PortError> {
        let begin = Instant::now();
        loop {
            match self.ring.answered() {
                Ok(true) => return Ok(()),
                Ok(false) if begin.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_micros(50));
                }
                Ok(false) => {
                    self.lost = true;
                    return Err(self.peer("does not answer a command", "ERR_VRING_PEER_TIMEOUT"));
                }
                Err(fault) => {
                    self.lost = true;
                    return Err(PortError::Fault {
                        queue: format!("{} control queue", self.name),
                        fault,
                    });
                }
            }
        }
    }

    fn peer(&self, what: &str, code: &'static str) -> PortError {
        PortError::Peer {
            name: self.name.clone(),
            what: format!("the device {what}"),
            code,
        }
    }
}
