//! What cannot be a port is refused when it is opened, with a message that says what was expected and what came.

use pcap_file::pcap::PcapHeader;
use pcap_file::{DataLink, Endianness};

use crate::rig::{Dir, native, packets, pcap_with, pcapng, pool, try_port};

/// The code and the message.
fn refusal(args: &[(&str, &str)], queues: (u16, u16)) -> (&'static str, String) {
    let error = try_port(&pool(16), args, queues).unwrap_err();
    (error.code(), error.to_string())
}

/// Files that are no captures of Ethernet packets.
#[test]
fn no_captures() {
    let dir = Dir::new();
    let slls = PcapHeader {
        datalink: DataLink::LINUX_SLL,
        ..Default::default()
    };
    let whole = native(&packets(&[60]));
    let cases = [
        (vec![], "an empty file"),
        (
            b"not a capture, but long enough".to_vec(),
            "a file that begins with 6e 6f 74 20",
        ),
        (b"hi".to_vec(), "a file of 2 bytes that begins with 68 69"),
        (
            whole[..23].to_vec(),
            "a file of 23 bytes that begins with d4 c3 b2 a1",
        ),
        (
            [&[0x1F, 0x8B, 8, 0], &whole[..]].concat(),
            "gzip data; unpack it first",
        ),
        (
            pcap_with(slls, &packets(&[60]), 0),
            "LINUX_SLL (link type 113)",
        ),
        (
            pcapng(Endianness::Big, &[DataLink::RAW], &packets(&[60])),
            "RAW (link type 101)",
        ),
        (
            pcapng(Endianness::Little, &[DataLink::RAW], &[]),
            "RAW (link type 101)",
        ),
    ];
    for (i, (content, got)) in cases.into_iter().enumerate() {
        let input = dir.file(&format!("{i}.pcap"), &content);
        let (code, message) = refusal(&[("rx_pcap", &input)], (1, 0));
        assert_eq!(code, "ERR_VRING_CAPTURE", "{message}");
        assert!(
            message.starts_with(&format!("{input}: expected a ")),
            "{message}"
        );
        assert!(
            message.contains("capture") && message.ends_with(got),
            "{message}"
        );
    }
    let mut section = pcapng(Endianness::Little, &[DataLink::ETHERNET], &[]);
    section[8] = 0;
    let (code, message) = refusal(&[("rx_pcap", &dir.file("x", &section))], (1, 0));
    assert_eq!(code, "ERR_VRING_CAPTURE");
    assert!(
        message.ends_with("a section of no known byte order at byte 0"),
        "{message}"
    );
}

/// Paths that are no files: nobody waits for the other end of a pipe.
#[test]
fn no_files() {
    let dir = Dir::new();
    let pipe = dir.path("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &*pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let folder = dir.path("");
    for (path, got) in [
        (&*pipe, "a pipe"),
        (&*folder, "a directory"),
        ("/dev/null", "a character device"),
    ] {
        let (code, message) = refusal(&[("rx_pcap", path)], (1, 0));
        assert_eq!(
            (code, message.ends_with(got)),
            ("ERR_VRING_CAPTURE", true),
            "{message}"
        );
    }
    for (key, path, queues) in [
        ("rx_pcap", dir.path("missing.pcap"), (1, 0)),
        ("tx_pcap", dir.path("missing/x.pcap"), (0, 1)),
        ("tx_pcap", folder.clone(), (0, 1)),
        ("tx_pcap", pipe.clone(), (0, 1)),
    ] {
        let (code, message) = refusal(&[(key, &path)], queues);
        let missing = path.contains("missing");
        assert_eq!(
            code,
            if missing {
                "ERR_VRING_NO_SUCH_PATH"
            } else {
                "ERR_VRING_SYSTEM"
            }
        );
        assert!(
            message.starts_with(&format!("opening {path} failed: ")),
            "{message}"
        );
    }
    let (code, message) = refusal(&[("tx_pcap", "/dev/full")], (0, 1));
    assert_eq!(code, "ERR_VRING_SYSTEM");
    assert!(
        message.starts_with("writing /dev/full failed: "),
        "{message}"
    );
}

/// A file that may not be read or written.
#[test]
fn no_permission() {
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED no_permission: root may read and write every file");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let path = dir.file("x.pcap", &native(&[]));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    for (key, queues) in [("rx_pcap", (1, 0)), ("tx_pcap", (0, 1))] {
        let (code, message) = refusal(&[(key, &path)], queues);
        assert_eq!(code, "ERR_VRING_PERMISSION");
        assert!(message.contains("Permission denied"), "{message}");
    }
}

/// One file for each queue, or none.
#[test]
fn wrong_count() {
    let dir = Dir::new();
    let input = dir.file("in.pcap", &native(&[]));
    for queues in [0, 2] {
        let (code, message) = refusal(&[("rx_pcap", &input)], (queues, 1));
        assert_eq!(code, "ERR_VRING_BAD_DEVARG");
        assert_eq!(
            message,
            format!(
                "net_pcap: expected rx_pcap to be given once for each receive queue, or not at all, got '1 of them for {queues} queues'"
            )
        );
    }
    let (code, _) = refusal(&[("tx_pcap", &dir.path("x"))], (1, 3));
    assert_eq!(code, "ERR_VRING_BAD_DEVARG");
}

/// A port never writes to what it reads or writes already, under whatever name; and the file is as it was.
#[test]
fn same_file() {
    let dir = Dir::new();
    let content = native(&packets(&[60, 61]));
    let input = dir.file("in.pcap", &content);
    let other = dir.file("other.pcap", &content);
    let (symbolic, hard) = (dir.path("symbolic.pcap"), dir.path("hard.pcap"));
    std::os::unix::fs::symlink(&input, &symbolic).unwrap();
    std::fs::hard_link(&input, &hard).unwrap();
    for same in [&input, &symbolic, &hard] {
        let args = [
            ("rx_pcap", &*input),
            ("tx_pcap", &*other),
            ("tx_pcap", same),
        ];
        let (code, message) = refusal(&args, (1, 2));
        assert_eq!(code, "ERR_VRING_BAD_DEVARG");
        assert!(
            message.contains(&format!("another file than {input}")),
            "{message}"
        );
    }
    let (code, _) = refusal(&[("tx_pcap", &other), ("tx_pcap", &other)], (0, 2));
    assert_eq!(code, "ERR_VRING_BAD_DEVARG");
    assert_eq!(std::fs::read(&input).unwrap(), content);
    assert_eq!(std::fs::read(&other).unwrap(), content);
    // Reading one file on several queues harms nobody.
    let args = [("rx_pcap", &*input), ("rx_pcap", &*symbolic)];
    assert!(try_port(&pool(16), &args, (2, 0)).is_ok());
}
