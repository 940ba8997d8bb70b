//! How a `net_virtio_user` port leaves its back end.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vring_mem::{Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, PortConfig, open};
use vring_vhost::{
    BackendConfig, BackendHandler, BackendServer, ProtocolFeatures, SocketRole, VhostError,
    VringConfig,
};

/// What a back end saw, in words.
struct Recorder(Sender<String>);

impl BackendHandler for Recorder {
    fn start_queue(&mut self, config: VringConfig) -> Result<(), String> {
        self.0
            .send(format!("start {}", config.index))
            .map_err(|e| e.to_string())
    }

    fn stop_queue(&mut self, index: u16) -> u32 {
        let _nobody_listens = self.0.send(format!("stop {index}"));
        0
    }

    fn set_call(&mut self, _index: u16, _call: Option<Arc<OwnedFd>>) {}

    fn set_kick(&mut self, _index: u16, _kick: Option<Arc<OwnedFd>>) {}

    fn set_enabled(&mut self, _index: u16, _on: bool) {}

    fn status(&mut self, status: u8) {
        let _nobody_listens = self.0.send(format!("status {status:#x}"));
    }

    fn disconnected(&mut self, why: &VhostError) {
        let _nobody_listens = self.0.send(format!("gone: {why}"));
    }
}

/// A port that is closed takes leave in order: every ring is stopped and the status is 0 before the connection ends.
#[test]
fn closing_takes_leave() {
    let path = std::env::temp_dir().join(format!("vring-leave-{}", std::process::id()));
    let (sender, seen) = channel();
    let config = BackendConfig {
        features: 1 << 32,
        protocol_features: ProtocolFeatures::IMPLEMENTED,
        max_queues: 2,
    };
    let server = BackendServer::open(SocketRole::Listen, &path, config, Recorder(sender)).unwrap();
    let (stop, signal) = std::os::unix::net::UnixStream::pair().unwrap();
    let (stop, signal): (OwnedFd, Mutex<_>) = (stop.into(), Mutex::new(signal));
    let thread = std::thread::spawn(move || server.run(&stop));

    let pool = Mempool::new(&MempoolConfig {
        count: 1024,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap();
    let device = Device::parse(&format!("net_virtio_user_leave,path={}", path.display())).unwrap();
    let port = open(
        &device,
        &PortConfig {
            pool: pool.clone(),
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 0,
            tx_desc: 0,
            mtu: 1500,
            offloads: Offloads::NONE,
        },
    )
    .unwrap();
    let next = || seen.recv_timeout(Duration::from_secs(10)).unwrap();
    while next() != "status 0xf" {}
    let end = Instant::now() + Duration::from_secs(10);
    while !port.link().up {
        assert!(Instant::now() < end, "no link");
        std::thread::yield_now();
    }
    port.close();
    assert_eq!([next(), next(), next()], ["stop 0", "stop 1", "status 0x0"]);
    assert_eq!(next(), format!("gone: {}", VhostError::Disconnected));
    assert_eq!(pool.free_count(), 1024);
    drop(signal);
    assert!(matches!(thread.join().unwrap().1, VhostError::Stopped));
}
