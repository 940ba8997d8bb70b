//! vhost-user: the protocol by which a driver in one process (the *front end*) gives its virtqueues to a device in another
//! (the *back end*), over a Unix socket that carries file descriptors.
//!
//! * [`Frontend`] sends requests for the driver's side, one at a time, each with a time limit.
//! * [`backend`] keeps the device's side: it checks every message, owns the rings' state and the memory map, and tells a
//!   [`BackendHandler`] which rings start and stop.
//! * [`socket`] has both roles of the socket for either end: who listens and who dials is independent of who is the device.
//!
//! * [`kernel`] is the other kind of back end: vhost in the kernel, by ioctls instead of messages.
//!
//! The peer may be hostile. Messages are checked for their exact size and their exact number of descriptors before anything
//! is done with them; descriptors are owned from the moment they arrive; nothing is allocated by numbers of the peer's.

pub mod backend;
mod error;
mod frontend;
pub mod kernel;
pub mod message;
pub mod socket;
mod wire;

pub use backend::{Backend, BackendConfig, BackendHandler, BackendServer, Notifier, VringConfig};
pub use error::VhostError;
pub use frontend::{
    ACCESS_READ, ACCESS_WRITE, BackendRequest, BackendRequests, Frontend, FrontendRegion, Inflight,
    IotlbMiss, VringAddresses,
};
pub use kernel::{Kernel, KernelError, KernelRegion, Workers};
pub use message::{ProtocolFeatures, Request};
pub use socket::{Endpoint, Listener, SocketRole};
