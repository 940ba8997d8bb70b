//! A file that can hold no more.

use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::rig::{Dir, bytes, packets, pool, port, receive, send, told};

/// Set in the process that this test starts for itself.
const LIMITED: &str = "VRING_TEST_LIMITED";

/// Packets that find no room are dropped and counted; it is told once; what is in the file is whole, and is what was counted as sent. When
/// there is room again, packets are written again.
///
/// The limit is that of a process, and a signal would end it: the test runs itself again, alone, in one that ignores the signal.
#[test]
fn full() {
    if std::env::var_os(LIMITED).is_some() {
        return fills_up();
    }
    let ended = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "unwritable::full"])
        .env(LIMITED, "1")
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stdout)
    );
}

fn fills_up() {
    for name in ["out.pcap", "out.pcapng"] {
        let (dir, pool) = (Dir::new(), pool(64));
        let path = dir.path(name);
        let all = packets(&[1000; 8]);
        let port = port(&pool, &[("tx_pcap", &path)]);
        limit(Some(20_000));
        for _ in 0..4 {
            send(&port, &all);
        }
        limit(None);
        let stats = port.tx_queues()[0].stats();
        assert_eq!((stats.packets, stats.drops["tx_write_failed"]), (16, 16));
        let told = told(&port);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with(&format!("ERR_VRING_SYSTEM writing {path} behind byte ")),
            "{told:?}"
        );
        assert_eq!(bytes(&path), [&all[..], &all[..]].concat());
        send(&port, &all);
        port.close();
        let again = rig_reads(&path);
        assert_eq!(again, [&all[..], &all[..], &all[..]].concat());
        assert_eq!(pool.free_count(), 64);
    }
}

/// As another port reads it.
fn rig_reads(path: &str) -> Vec<Vec<u8>> {
    receive(&port(&pool(64), &[("rx_pcap", path)]))
}

fn limit(bytes: Option<u64>) {
    let all = rustix::process::getrlimit(Resource::Fsize);
    let limit = Rlimit {
        current: bytes,
        maximum: all.maximum,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
}
