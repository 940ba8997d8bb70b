//! Processes that are killed, and DPDK's, which is not.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts this program again, to run one of its tests as what `variable` says. The process ends when this one does: it reads its input.
pub fn again(test: &str, variables: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Whoever started this process holds the other end of its input: when that is gone, nobody is left to end it.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _end = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// As a crash, and gone when this returns.
pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A path that no other process uses.
pub fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("vring-crash-{name}-{}", std::process::id()))
}

/// `dpdk-testpmd` with one `net_vhost` port, which sends back what it receives.
pub struct Dpdk {
    child: Child,
    prefix: String,
}

impl Dpdk {
    /// `None` where it is not installed.
    pub fn start(socket: &Path, name: &str, buffers: usize) -> Option<Self> {
        let prefix = format!("vring-crash-{name}-{}", std::process::id());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let list = status.split("Cpus_allowed_list:\t").nth(1).unwrap();
        let list = list.lines().next().unwrap();
        let last = list.rsplit([',', '-']).next().unwrap();
        let child = Command::new("dpdk-testpmd")
            .args(["--no-huge", "-m", "256", "--no-pci", "--no-telemetry"])
            .args([
                "--lcores",
                &format!("0@({list}),1@{last}"),
                "--main-lcore",
                "0",
            ])
            .args(["--file-prefix", &prefix])
            .arg("--log-level=lib.vhost.*:error")
            .args(["--vdev", &format!("net_vhost0,iface={}", socket.display())])
            .args([
                "--",
                "-i",
                "--nb-cores=1",
                "--forward-mode=io",
                "--auto-start",
            ])
            .arg(format!("--total-num-mbufs={buffers}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        match child {
            Ok(child) => Some(Self { child, prefix }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("dpdk-testpmd: {error}"),
        }
    }

    /// Stops forwarding, and gives what it prints until its end: of forwarding, and of the mempool.
    pub fn finish(mut self) -> String {
        let commands = "stop\ndump_mempool mb_pool_0\nquit\n";
        let mut stdin = self.child.stdin.take().unwrap();
        stdin.write_all(commands.as_bytes()).unwrap();
        let mut output = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut output).unwrap();
        drop(stdin);
        assert!(self.child.wait().unwrap().success(), "{output}");
        output
    }
}

impl Drop for Dpdk {
    fn drop(&mut self) {
        // It has ended, unless a test failed.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        // It never removes the folder of its run-time files.
        for run in ["/var/run/dpdk", "/tmp/dpdk"] {
            let _not_there = std::fs::remove_dir_all(Path::new(run).join(&self.prefix));
        }
    }
}

/// The number that follows a name in a text.
pub fn number(text: &str, name: &str) -> u64 {
    let rest = text.split(name).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("no {name} in:\n{text}"));
    let digits = rest
        .trim_start()
        .split(|c: char| !c.is_ascii_digit())
        .next();
    digits.unwrap().parse().unwrap()
}
