//! Captures of other programs are read here, and those of ours there.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::rig::{Dir, bytes, native, packets, pool, port, receive, send};

/// What the program printed, or nothing, with a note, when it is not here.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(program).args(args).output() else {
        eprintln!("SKIPPED a part: {program} is not installed");
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

const LENS: [usize; 6] = [60, 61, 62, 1514, 9000, 65535];

/// tshark, capinfos, tcpdump and editcap read what was written.
#[test]
fn others_read_ours() {
    let (dir, pool, all) = (Dir::new(), pool(256), packets(&LENS));
    for (name, kind) in [("out.pcap", "pcap"), ("out.pcapng", "pcapng")] {
        let path = dir.path(name);
        let began = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros();
        let port = port(&pool, &[("tx_pcap", &path)]);
        send(&port, &all);
        port.close();
        let fields = [
            "-e",
            "frame.len",
            "-e",
            "frame.cap_len",
            "-e",
            "frame.time_epoch",
        ];
        let args = [&["-r", &path, "-T", "fields"], &fields[..]].concat();
        if let Some(out) = run("tshark", &args) {
            assert_eq!(out.lines().count(), LENS.len());
            for (line, len) in out.lines().zip(LENS) {
                let columns: Vec<&str> = line.split('\t').collect();
                assert_eq!(columns[..2], [len.to_string(), len.to_string()]);
                let time: f64 = columns[2].parse().unwrap();
                assert!(
                    (0.0..60e6).contains(&(time * 1e6 - began as f64 + 1.0)),
                    "{line}"
                );
            }
        }
        if let Some(out) = run("capinfos", &["-t", "-E", "-c", "-T", "-r", &path]) {
            let facts: Vec<&str> = out.trim().split('\t').skip(1).collect();
            assert_eq!(facts, [kind, "ether", &LENS.len().to_string()], "{out}");
        }
        if let Some(out) = run("tcpdump", &["-nn", "-r", &path]) {
            assert_eq!(
                out.lines().filter(|l| !l.starts_with('\t')).count(),
                LENS.len()
            );
        }
        let other = dir.path("other.pcap");
        if run("editcap", &["-F", "pcap", &path, &other]).is_some() {
            assert_eq!(bytes(&other), all);
        }
    }
}

/// What editcap and randpkt write is read, in each format, and cut by editcap as well.
#[test]
fn ours_read_others() {
    let (dir, pool, all) = (Dir::new(), pool(256), packets(&LENS));
    let input = dir.file("in.pcap", &native(&all));
    let other = dir.path("other");
    for format in ["pcap", "nsecpcap", "pcapng"] {
        if run("editcap", &["-F", format, &input, &other]).is_some() {
            assert_eq!(receive(&port(&pool, &[("rx_pcap", &other)])), all);
        }
        if run("editcap", &["-s", "40", "-F", format, &input, &other]).is_some() {
            let got = receive(&port(&pool, &[("rx_pcap", &other)]));
            assert!(
                got.iter()
                    .map(Vec::as_slice)
                    .eq(all.iter().map(|p| &p[..40]))
            );
        }
    }
    if run("randpkt", &["-b", "2000", "-c", "200", "-t", "eth", &other]).is_some() {
        let port = port(&pool, &[("rx_pcap", &other)]);
        let runts = || port.rx_queues()[0].stats().drops.get("rx_runt").copied();
        let got = receive(&port).len() as u64;
        assert_eq!(got + runts().unwrap_or(0), 200);
    }
    assert_eq!(pool.free_count(), 256);
}
