use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use super::*;

/// A folder of its own, removed when the test is done.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vring-sock-{}-{unique}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, VhostError>) -> &'static str {
    result.unwrap_err().code()
}

fn never() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap()
}

/// A socket file that a dead process left behind is replaced; one that is listened on is not.
#[test]
fn replaces_stale_sockets_only() {
    let folder = Folder::new();
    let path = folder.file("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves its file behind");
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(code(Listener::bind(&path)), "ERR_VRING_SOCKET_IN_USE");
    dial(&path).unwrap();
    drop(listener);
    assert!(!path.exists());
}

/// What is no socket is never removed, not even through a link.
#[test]
fn leaves_other_files_alone() {
    let folder = Folder::new();
    let path = folder.file("precious");
    fs::write(&path, "data").unwrap();
    let link = folder.file("link");
    symlink(&path, &link).unwrap();
    for at in [&path, &link, &folder.0] {
        assert_eq!(code(Listener::bind(at)), "ERR_VRING_NOT_A_SOCKET");
        assert_eq!(code(dial(at)), "ERR_VRING_NOT_A_SOCKET");
        assert_eq!(
            code(Endpoint::open(SocketRole::Dial, at)),
            "ERR_VRING_NOT_A_SOCKET"
        );
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
}

/// Missing folders and impossible lengths have codes of their own, in both roles.
#[test]
fn names_what_is_wrong_with_a_path() {
    let folder = Folder::new();
    fs::write(folder.file("plain"), "").unwrap();
    for role in [SocketRole::Listen, SocketRole::Dial] {
        let open = |path: PathBuf| code(Endpoint::open(role, path));
        assert_eq!(open(folder.file("none/s")), "ERR_VRING_NO_SUCH_PATH");
        assert_eq!(open(folder.file("plain/s")), "ERR_VRING_NO_SUCH_PATH");
        assert_eq!(
            open(PathBuf::from("/tmp/".to_owned() + &"x".repeat(103))),
            "ERR_VRING_PATH_TOO_LONG"
        );
        assert_eq!(open(PathBuf::new()), "ERR_VRING_PATH_TOO_LONG");
    }
    assert_eq!(code(dial(&folder.file("s"))), "ERR_VRING_NO_SUCH_PATH");
}

/// Without permission for the folder. Root has it everywhere, so as root there is nothing to see.
#[test]
fn names_missing_permission() {
    let folder = Folder::new();
    let closed = folder.file("closed");
    fs::create_dir(&closed).unwrap();
    if rustix::process::geteuid().is_root() {
        println!("skipped: root may write everywhere");
        return;
    }
    let set = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    set(0o0);
    let bound = Listener::bind(closed.join("s"));
    let dialled = Endpoint::open(SocketRole::Dial, closed.join("s"));
    set(0o700);
    assert_eq!(code(bound), "ERR_VRING_PERMISSION");
    assert_eq!(code(dialled), "ERR_VRING_PERMISSION");
}

/// A listener that lost its path to another one leaves the other's file in place.
#[test]
fn removes_its_own_file_only() {
    let folder = Folder::new();
    let path = folder.file("s");
    let first = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = Listener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
    dial(&path).unwrap();
    drop(second);
    assert!(!path.exists());
}

/// Waiting ends with the stop at once, and with the time limit by an error that tells what was missing.
#[test]
fn waits_end() {
    let folder = Folder::new();
    let path = folder.file("s");
    let stop = never();
    let short = Some(Duration::from_millis(10));
    let dialling = Endpoint::open(SocketRole::Dial, &path).unwrap();
    assert_eq!(
        code(dialling.connect(stop.as_fd(), short)),
        "ERR_VRING_NO_SUCH_PATH"
    );
    let listening = Endpoint::open(SocketRole::Listen, &path).unwrap();
    assert_eq!(
        code(listening.connect(stop.as_fd(), short)),
        "ERR_VRING_PEER_TIMEOUT"
    );
    dialling.connect(stop.as_fd(), short).unwrap();
    listening.connect(stop.as_fd(), short).unwrap();
    rustix::io::write(&stop, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(
        code(listening.connect(stop.as_fd(), None)),
        "ERR_VRING_STOPPED"
    );
    drop(listening);
    assert_eq!(
        code(dialling.connect(stop.as_fd(), None)),
        "ERR_VRING_STOPPED"
    );
}

/// A dial that began before the listener was there succeeds once it is.
#[test]
fn dials_until_somebody_listens() {
    let folder = Folder::new();
    let path = folder.file("s");
    let dialling = Endpoint::open(SocketRole::Dial, &path).unwrap();
    let thread = std::thread::spawn(move || dialling.connect(never().as_fd(), None).map(drop));
    let listener = Endpoint::open(SocketRole::Listen, &path).unwrap();
    listener.connect(never().as_fd(), None).unwrap();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_socket_of_messages_is_made_like_one_of_bytes() {
    let folder = Folder::new();
    let path = folder.file("s");
    let listener = Listener::bind_as(&path, SocketType::SEQPACKET).unwrap();
    assert_eq!(
        code(Listener::bind_as(&path, SocketType::SEQPACKET)),
        "ERR_VRING_SOCKET_IN_USE"
    );
    // Of the other type, somebody has it all the same.
    assert_eq!(code(Listener::bind(&path)), "ERR_VRING_SOCKET_IN_USE");
    // Who asked whether somebody listens has connected, and is gone.
    while listener.accept().unwrap().is_some() {}
    let socket = new_socket(SocketType::SEQPACKET).unwrap();
    connect(&socket, &address_of(&path).unwrap()).unwrap();
    assert!(listener.accept().unwrap().is_some());
}
