//! A native thread that polls.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::EventfdFlags;
use rustix::thread::CpuSet;

use vring_port::{Owner, PortError, Queue, RxPath, Ticket, TxPath};

use crate::stats::Counters;
use crate::stats::{BurstSpread, LatencyStats};
use crate::traffic::FrameSpec;
use crate::{Engine, EngineOptions, ForwardError, Stream, StreamStats, Traffic};

/// What an lcore does: an engine, or a part of a traffic run.
pub(crate) trait Work: Send {
    /// The queues that it uses.
    fn streams(&self) -> &[Stream];

    /// The counters of each stream.
    fn counters(&self) -> Vec<Counters> {
        self.streams().iter().map(|_| Counters::default()).collect()
    }

    /// Polls until it is told to stop, is through, or a port is closed. There are counters for each stream; `owner` has the queues. A
    /// thread that `shares` its processor gives it away when there is nothing to do.
    fn run(self: Box<Self>, counters: &[Counters], owner: Owner, stop: &AtomicBool, shares: bool);
}

/// Empty turns after which a thread that is not pinned lets others run: its peer may be the one that waits for it.
const IDLE_TURNS: u32 = 64;

/// How long there was nothing to do.
#[derive(Debug)]
pub(crate) struct Idle {
    shares: bool,
    turns: u32,
}

impl Idle {
    /// Of a thread that shares its processor, or has one to itself.
    pub(crate) fn new(shares: bool) -> Self {
        Self { shares, turns: 0 }
    }

    /// After each turn.
    #[inline]
    pub(crate) fn turned(&mut self, moved: bool) {
        self.turns = if moved { 0 } else { self.turns + 1 };
        if self.turns >= IDLE_TURNS {
            self.turns = 0;
            if self.shares {
                std::thread::yield_now();
            }
        }
    }
}

/// See the module. It has one thread while it runs, none while it is stopped. Dropped, it stops.
#[derive(Debug)]
pub struct Lcore {
    name: String,
    cpu: Option<usize>,
    job: Mutex<Job>,
    done: OwnedFd,
}

#[derive(Debug, Default)]
struct Job {
    stop: Arc<AtomicBool>,
    running: Arc<AtomicBool>,
    counters: Arc<[Counters]>,
    thread: Option<JoinHandle<()>>,
}

impl Lcore {
    /// An lcore that will run on that processor, or on any.
    ///
    /// # Errors
    /// [`ForwardError::Cpu`] when this process may not run there.
    pub fn new(name: &str, cpu: Option<usize>) -> Result<Self, ForwardError> {
        if let Some(cpu) = cpu {
            let allowed =
                rustix::thread::sched_getaffinity(None).map_err(|e| ForwardError::Cpu {
                    cpu,
                    source: e.into(),
                })?;
            if cpu >= CpuSet::MAX_CPU || !allowed.is_set(cpu) {
                return Err(ForwardError::Cpu {
                    cpu,
                    source: std::io::Error::from_raw_os_error(
                        rustix::io::Errno::INVAL.raw_os_error(),
                    ),
                });
            }
        }
        let done = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| ForwardError::Thread(e.into()))?;
        Ok(Self {
            name: name.to_owned(),
            cpu,
            job: Mutex::default(),
            done,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts the engine on all streams, in a new thread. The queues are claimed here and released when the engine ends.
    ///
    /// # Errors
    /// A queue that someone else has, a stream that does not suit the engine, an option out of range, an lcore that runs.
    pub fn start(
        &self,
        engine: Engine,
        streams: Vec<Stream>,
        options: &EngineOptions,
    ) -> Result<(), ForwardError> {
        self.launch(engine.work(streams, options)?)
    }

    /// Sends on the streams that have a `spec`, and checks what comes on those that have a receive queue: see [`Traffic`]. It ends when all
    /// is sent, or, if it checks, when it is stopped.
    ///
    /// # Errors
    /// As [`Lcore::start`].
    pub fn start_traffic(
        &self,
        traffic: &Arc<Traffic>,
        streams: Vec<(Stream, Option<FrameSpec>)>,
    ) -> Result<(), ForwardError> {
        self.launch(Box::new(traffic.work(streams)?))
    }

    fn launch(&self, work: Box<dyn Work>) -> Result<(), ForwardError> {
        let mut job = self.lock();
        if job.running.load(Ordering::Acquire) {
            return Err(ForwardError::Running {
                name: self.name.clone(),
            });
        }
        join(&mut job);
        let streams = work.streams().to_vec();
        let tickets = reserve(&streams)?;
        let _empty = rustix::io::read(&self.done, &mut [0; 8]);
        let counters: Arc<[Counters]> = work.counters().into();
        let (stop, running) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(true)),
        );
        let done = self.done.try_clone().map_err(ForwardError::Thread)?;
        let thread = std::thread::Builder::new().name(self.name.clone()).spawn({
            let cpu = self.cpu;
            let (counters, stop, running) = (counters.clone(), stop.clone(), running.clone());
            move || {
                let owner = Owner::new();
                let finish = Finish {
                    streams: &streams,
                    owner,
                    running: &running,
                    done: &done,
                };
                if let Some(cpu) = cpu {
                    pin(cpu);
                }
                match take(tickets, owner) {
                    Ok(()) => work.run(&counters, owner, &stop, cpu.is_none()),
                    Err(error) => tracing::warn!(%error, "an lcore ends before it began"),
                }
                drop(finish);
            }
        });
        match thread {
            Ok(thread) => {
                *job = Job {
                    stop,
                    running,
                    counters,
                    thread: Some(thread),
                };
                Ok(())
            }
            Err(error) => Err(ForwardError::Thread(error)),
        }
    }

    /// Whether an engine runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.lock().running.load(Ordering::Acquire)
    }

    /// Asks the engine to end after the burst under way. [`Lcore::done_fd`] tells when it has.
    pub fn request_stop(&self) {
        self.lock().stop.store(true, Ordering::Release);
    }

    /// Stops the engine and waits until it has left its queues.
    pub fn stop(&self) {
        let mut job = self.lock();
        job.stop.store(true, Ordering::Release);
        join(&mut job);
    }

    /// Waits until the engine has ended by itself.
    pub fn wait(&self) {
        join(&mut self.lock());
    }

    /// Readable when the engine has ended and its queues are free.
    #[must_use]
    pub fn done_fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    /// What each stream has done since the start.
    #[must_use]
    pub fn stats(&self) -> Vec<StreamStats> {
        self.lock().counters.iter().map(Counters::read).collect()
    }

    /// How many packets each stream's bursts had, where that is counted.
    #[must_use]
    pub fn bursts(&self) -> Vec<Option<BurstSpread>> {
        let read = |counters: &Counters| counters.bursts.as_ref().map(|bursts| bursts.read());
        self.lock().counters.iter().map(read).collect()
    }

    /// How long packets were in each stream, where that is measured.
    #[must_use]
    pub fn latency(&self) -> Vec<LatencyStats> {
        let read = |counters: &Counters| counters.latency.as_ref().map(|latency| latency.read());
        self.lock().counters.iter().filter_map(read).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Job> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        self.stop();
    }
}

fn join(job: &mut Job) {
    if let Some(thread) = job.thread.take() {
        // A panic in an engine has been reported by the panic hook, and its queues are released by Finish.
        let _reported = thread.join();
    }
}

/// Leaves the queues and tells the world, also if the engine panics.
struct Finish<'a> {
    streams: &'a [Stream],
    owner: Owner,
    running: &'a AtomicBool,
    done: &'a OwnedFd,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        release(self.streams, self.owner);
        self.running.store(false, Ordering::Release);
        let _full_is_readable = rustix::io::write(self.done, &1u64.to_ne_bytes());
    }
}

/// The queues of a stream on their way to the lcore's thread.
type Tickets = (Option<Ticket<dyn RxPath>>, Option<Ticket<dyn TxPath>>);

/// All queues or none: when one cannot be had, the tickets of the others are dropped.
fn reserve(streams: &[Stream]) -> Result<Vec<Tickets>, ForwardError> {
    let reserve = |stream: &Stream| {
        let rx = stream.rx.as_ref().map(Queue::reserve).transpose()?;
        let tx = stream.tx.as_ref().map(Queue::reserve).transpose()?;
        Ok((rx, tx))
    };
    streams.iter().map(reserve).collect()
}

fn take(tickets: Vec<Tickets>, owner: Owner) -> Result<(), PortError> {
    for (rx, tx) in tickets {
        rx.map_or(Ok(()), |ticket| ticket.take(owner))?;
        tx.map_or(Ok(()), |ticket| ticket.take(owner))?;
    }
    Ok(())
}

fn release(streams: &[Stream], owner: Owner) {
    for stream in streams {
        if let Some(queue) = &stream.rx {
            queue.release(owner);
        }
        if let Some(queue) = &stream.tx {
            queue.release(owner);
        }
    }
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(errno) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %errno, "the lcore is not pinned");
    }
}
