//! Unix sockets that carry messages (`SOCK_SEQPACKET`), which Node.js has not: for telemetry. Nothing here blocks.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use napi::Env;
use napi_derive::napi;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, recv, send, sockopt};
use vring_vhost::Listener;

use crate::error::{Code, Error, Result, failure};
use crate::poll::Waiter;

/// Longest message that is read whole: DPDK's telemetry takes no longer ones either, and cuts them off.
const LONGEST_REQUEST: usize = 1023;

fn closed() -> Error {
    failure("ERR_VRING_CLOSED", "the socket is closed")
}

fn system(call: &str, errno: Errno) -> Error {
    failure("ERR_VRING_SYSTEM", format!("{call} failed: {errno}"))
}

/// A socket that takes connections.
#[napi]
pub struct MessageListener {
    listener: RefCell<Option<Listener>>,
    longest: u32,
}

/// Makes the socket at `path` and listens. Messages of up to `longest` bytes can be sent on its connections.
#[napi(catch_unwind)]
pub fn listen_for_messages(path: String, longest: u32) -> Result<MessageListener> {
    let listener = Listener::bind_as(path, SocketType::SEQPACKET)
        .map_err(|error| Error::new(Code(error.code()), error.to_string()))?;
    Ok(MessageListener {
        listener: RefCell::new(Some(listener)),
        longest,
    })
}

#[napi]
impl MessageListener {
    /// Wakes when a connection waits.
    #[napi(catch_unwind)]
    pub fn waiter(&self, env: Env) -> Result<Waiter> {
        let listener = self.listener.borrow();
        Waiter::new(&env, listener.as_ref().ok_or_else(closed)?.as_fd())
    }

    /// The next connection, if one waits.
    #[napi(catch_unwind)]
    pub fn accept(&self) -> Result<Option<MessageSocket>> {
        let listener = self.listener.borrow();
        let accepted = listener
            .as_ref()
            .ok_or_else(closed)?
            .accept()
            .map_err(|errno| system("accept", errno))?;
        let Some(socket) = accepted else {
            return Ok(None);
        };
        // The kernel counts twice what it is told, for its own part of it. It may be less than that: a longer message fails.
        let _smaller = sockopt::set_socket_send_buffer_size(&socket, self.longest as usize);
        Ok(Some(MessageSocket {
            socket: RefCell::new(Some(socket)),
        }))
    }

    /// Removes the socket. Connections stay.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.listener.replace(None);
    }
}

/// One connection.
#[napi]
pub struct MessageSocket {
    socket: RefCell<Option<OwnedFd>>,
}

impl MessageSocket {
    fn with<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
        let socket = self.socket.borrow();
        Ok(act(socket.as_ref().ok_or_else(closed)?.as_fd()))
    }
}

#[napi]
impl MessageSocket {
    /// Wakes when there is something to receive, or the peer is gone.
    #[napi(catch_unwind)]
    pub fn waiter(&self, env: Env) -> Result<Waiter> {
        self.with(|socket| Waiter::new(&env, socket))?
    }

    /// The next message, cut off behind 1023 bytes; nothing when none waits; an empty one when the peer is gone.
    #[napi(catch_unwind)]
    pub fn receive(&self) -> Result<Option<String>> {
        let mut message = [0; LONGEST_REQUEST];
        match self.with(|socket| recv(socket, &mut message, RecvFlags::DONTWAIT))? {
            Ok((length, _)) => Ok(Some(
                String::from_utf8_lossy(&message[..length]).into_owned(),
            )),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(_) => Ok(Some(String::new())),
        }
    }

    /// Sends a message whole, or not at all: false when the peer does not read, or is gone.
    #[napi(catch_unwind)]
    pub fn send(&self, message: String) -> Result<bool> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = self.with(|socket| send(socket, message.as_bytes(), flags))?;
        Ok(sent.is_ok_and(|length| length == message.len()))
    }

    /// Ends the connection.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.socket.replace(None);
    }
}
