//! Writes what is in the rings.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::format::{self, CaptureFormat, Totals};
use super::{CaptureOptions, Source};

/// Bytes that are put together before they are written.
const BATCH: usize = 256 * 1024;
/// How long it sleeps when there is nothing to write. A queue's thread does not wake it: that would be a system call in the data path.
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000,
};
/// How long a reader may leave what is written unread, once the capture is to end.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The reader is gone, or does not read any more.
struct Broken;

/// See the module.
pub(super) struct Writer {
    sources: Vec<Source>,
    interfaces: usize,
    format: CaptureFormat,
    left: u64,
    output: OwnedFd,
    stop: Arc<OwnedFd>,
    batch: Vec<u8>,
}

impl Writer {
    pub(super) fn new(
        sources: Vec<Source>,
        interfaces: Vec<String>,
        options: &CaptureOptions,
        output: OwnedFd,
        stop: Arc<OwnedFd>,
    ) -> Self {
        Self {
            batch: format::begin(
                options.format,
                &interfaces,
                options.snaplen,
                &options.expression,
            ),
            sources,
            interfaces: interfaces.len(),
            format: options.format,
            left: options.limit.unwrap_or(u64::MAX),
            output,
            stop,
        }
    }

    pub(super) fn run(mut self) {
        let unbroken = self.write_while_it_lasts();
        self.sources.iter().for_each(Source::end);
        if unbroken.is_ok() {
            // Nobody is left to be told that the reader is gone.
            let _broken = self.finish();
        }
    }

    fn write_while_it_lasts(&mut self) -> Result<(), Broken> {
        // What comes first is the header: a reader wants to see that it works.
        self.flush()?;
        while self.left > 0 && !self.sources.iter().all(Source::is_closed) {
            let moved = self.collect();
            self.flush()?;
            if self.is_stopped(if moved { Timespec::default() } else { NAP }) {
                break;
            }
            if !moved {
                self.check_reader()?;
            }
        }
        Ok(())
    }

    /// What came until the end, and what was dropped.
    fn finish(&mut self) -> Result<(), Broken> {
        while self.left > 0 && self.collect() {
            self.flush()?;
        }
        let mut totals = vec![Totals::default(); self.interfaces];
        for source in &self.sources {
            let (stats, total) = (source.stats(), &mut totals[source.interface as usize]);
            total.received += stats.captured + stats.filtered + stats.dropped;
            total.accepted += stats.captured + stats.dropped;
            total.dropped += stats.dropped;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        self.batch.extend(format::end(self.format, now, &totals));
        self.flush()
    }

    /// Puts together what is in the rings, a batch at most; whether there was anything.
    fn collect(&mut self) -> bool {
        let Self {
            sources,
            batch,
            left,
            format,
            ..
        } = self;
        let mut moved = false;
        for source in &*sources {
            let (queue, direction) = source.number();
            moved |= source.tap.ring.drain(|record| {
                if *left > 0 {
                    *left -= 1;
                    format::packet(batch, *format, source.interface, queue, direction, &record);
                }
                *left > 0 && batch.len() < BATCH
            });
        }
        moved
    }

    /// Writes the batch. Waits for the reader; when the capture is to end, only as long as it still reads.
    fn flush(&mut self) -> Result<(), Broken> {
        let mut at = 0;
        while at < self.batch.len() {
            match rustix::io::write(&self.output, &self.batch[at..]) {
                Ok(written) => at += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for_reader()?,
                Err(_) => return Err(Broken),
            }
        }
        self.batch.clear();
        Ok(())
    }

    fn wait_for_reader(&self) -> Result<(), Broken> {
        let mut fds = [
            PollFd::new(&self.output, PollFlags::OUT),
            PollFd::new(&*self.stop, PollFlags::IN),
        ];
        let _interrupted = poll(&mut fds, None);
        if !fds[1].revents().is_empty() {
            let ready = poll(
                &mut [PollFd::new(&self.output, PollFlags::OUT)],
                Some(&PATIENCE),
            );
            return if matches!(ready, Ok(0)) {
                Err(Broken)
            } else {
                Ok(())
            };
        }
        Ok(())
    }

    /// A reader that went away is noticed also while there is nothing to write.
    fn check_reader(&self) -> Result<(), Broken> {
        let mut fds = [PollFd::new(&self.output, PollFlags::empty())];
        let _none = poll(&mut fds, Some(&Timespec::default()));
        let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        if fds[0].revents().intersects(gone) {
            Err(Broken)
        } else {
            Ok(())
        }
    }

    /// Whether the capture is to end; waits for that so long.
    fn is_stopped(&self, wait: Timespec) -> bool {
        let mut fds = [PollFd::new(&*self.stop, PollFlags::IN)];
        poll(&mut fds, Some(&wait)).is_ok_and(|ready| ready > 0)
    }
}
