//! `net_pcap`: receives from capture files, transmits to capture files.
//!
//! Receiving is as fast as it can be, not at the pace of the capture. A record that was cut when it was captured is delivered as it is, with
//! the bytes that are there, as in DPDK. Without `rx_pcap=` nothing is received; without `tx_pcap=` packets are dropped as `tx_no_file`.

mod clock;
mod read;
mod recording;
mod rx;
mod tx;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};

use super::{MAX_QUEUES, Opened, check_queues, random_mac};
use crate::port::{Driver, Shared};
use crate::{Device, LinkStatus, PortConfig, PortError, PortInfo};
use read::Capture;
pub use recording::Recording;
use rx::PcapRx;
use tx::{Format, NoFile, PcapTx};

/// Most bytes of a packet, whatever the mempool could hold.
const MAX_PACKET: usize = 65535;

struct Pcap {
    mac: [u8; 6],
    max_rx_queues: u16,
    max_tx_queues: u16,
    rx_files: Vec<String>,
    tx_files: Vec<String>,
    infinite: bool,
    /// By receive queue with a file: its capture is through.
    finished: Vec<Arc<AtomicBool>>,
}

pub(super) fn open(device: &Device, config: &PortConfig) -> Opened {
    let (rx_files, max_rx_queues) = files(device, "rx_pcap", "receive", config.rx_queues)?;
    let (tx_files, max_tx_queues) = files(device, "tx_pcap", "transmit", config.tx_queues)?;
    check_queues(device, config, max_rx_queues, max_tx_queues, 0)?;
    let infinite = device.switch("infinite_rx", false)?;
    let shared = Shared::new(&device.name, config)?;
    let captures = rx_files
        .iter()
        .map(|path| Capture::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let outputs = open_outputs(device, &tx_files, &captures)?;
    let mut finished = Vec::new();
    for (queue, capture) in shared.rx.iter().zip(captures) {
        let path = PcapRx::new(&shared, capture, infinite);
        finished.push(path.finished_flag());
        queue.attach(Box::new(path), None);
    }
    for (queue, (file, path)) in shared.tx.iter().zip(outputs) {
        let path = PcapTx::new(&shared, file, path, Format::of(path))?;
        queue.attach(Box::new(path), None);
    }
    for queue in shared.tx.iter().skip(tx_files.len()) {
        queue.attach(Box::new(NoFile::new(&config.pool)), None);
    }
    shared.set_link(LinkStatus::UP);
    Ok((
        shared,
        Box::new(Pcap {
            mac: random_mac(),
            max_rx_queues,
            max_tx_queues,
            rx_files,
            tx_files,
            infinite,
            finished,
        }),
    ))
}

/// The files of one direction, and how many queues there can be: one for each file, or any number without files.
fn files(
    device: &Device,
    key: &'static str,
    direction: &str,
    queues: u16,
) -> Result<(Vec<String>, u16), PortError> {
    let files: Vec<String> = device.all(key).map(str::to_owned).collect();
    if files.is_empty() {
        return Ok((files, MAX_QUEUES));
    }
    if files.len() != usize::from(queues) {
        return Err(device.bad(
            key,
            format!("given once for each {direction} queue, or not at all"),
            &format!("{} of them for {queues} queues", files.len()),
        ));
    }
    Ok((files, queues))
}

/// Opens the files to write, and empties them only when all of them are good: an error here costs nobody a capture.
fn open_outputs<'a>(
    device: &Device,
    paths: &'a [String],
    captures: &[Capture],
) -> Result<Vec<(File, &'a str)>, PortError> {
    let mut taken = captures
        .iter()
        .map(|capture| Ok((identity(capture.file(), capture.path())?, capture.path())))
        .collect::<Result<Vec<_>, PortError>>()?;
    let mut outputs = Vec::new();
    for path in paths {
        let file = open_file(path, OFlags::WRONLY | OFlags::CREATE)?;
        let id = identity(&file, path)?;
        if id.regular
            && let Some((_, other)) = taken.iter().find(|(other, _)| *other == id)
        {
            return Err(device.bad(
                "tx_pcap",
                format!("another file than {other}, which this port uses already"),
                path,
            ));
        }
        taken.push((id, path));
        outputs.push((file, path.as_str()));
    }
    for ((file, path), (id, _)) in outputs.iter().zip(&taken[captures.len()..]) {
        if id.regular {
            file.set_len(0)
                .map_err(|e| PortError::system(format!("emptying {path}"), e))?;
        }
    }
    Ok(outputs)
}

/// Opens a file that a data path can use without being kept waiting: not a pipe, which would.
fn open_file(path: &str, flags: OFlags) -> Result<File, PortError> {
    // Without NONBLOCK, opening a pipe waits for its other end.
    let all = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, all, Mode::from_raw_mode(0o666))
        .map_err(|e| PortError::system(format!("opening {path}"), e))?;
    Ok(File::from(fd))
}

/// What a file is, under whatever path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    regular: bool,
}

fn identity(file: &File, path: &str) -> Result<Identity, PortError> {
    use std::os::unix::fs::FileTypeExt;
    let meta = file
        .metadata()
        .map_err(|e| PortError::system(format!("asking what {path} is"), e))?;
    let kind = meta.file_type();
    if kind.is_file() || kind.is_char_device() {
        return Ok(Identity {
            device: meta.dev(),
            inode: meta.ino(),
            regular: kind.is_file(),
        });
    }
    Err(PortError::Capture {
        path: path.to_owned(),
        expected: "a file",
        got: describe(kind).into(),
    })
}

fn describe(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_char_device() {
        "a character device"
    } else {
        "a device"
    }
}

impl Driver for Pcap {
    fn info(&self) -> PortInfo {
        let mut details = std::collections::BTreeMap::new();
        if !self.rx_files.is_empty() {
            let eof = self.finished.iter().all(|f| f.load(Ordering::Relaxed));
            details.insert("rx_pcap", self.rx_files.join(", "));
            details.insert("rx eof", eof.to_string());
            details.insert("infinite_rx", self.infinite.to_string());
        }
        if !self.tx_files.is_empty() {
            details.insert("tx_pcap", self.tx_files.join(", "));
        }
        PortInfo {
            driver: "net_pcap",
            max_rx_queues: self.max_rx_queues,
            max_tx_queues: self.max_tx_queues,
            details,
            ..Default::default()
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Nothing is kept back: each burst is in the file when it was accepted. The files are closed with the queues.
    fn close(&self) {}
}
