//! The device configuration space by message.

use zerocopy::{FromBytes, IntoBytes};

use super::session::Session;
use crate::error::VhostError;
use crate::message::{ConfigSpace, MAX_CONFIG, Request};

/// The head of a message and the bytes that it says it has.
fn parse(request: Request, payload: &[u8]) -> Result<(ConfigSpace, &[u8]), VhostError> {
    let size = |expected| VhostError::PayloadSize {
        request: request.to_string(),
        expected,
        got: payload.len(),
    };
    let (head, bytes) =
        ConfigSpace::read_from_prefix(payload).map_err(|_| size(size_of::<ConfigSpace>()))?;
    let said = usize::try_from(head.size).unwrap_or(usize::MAX);
    if said > MAX_CONFIG || bytes.len() != said {
        return Err(size(size_of::<ConfigSpace>() + said.min(MAX_CONFIG)));
    }
    Ok((head, bytes))
}

impl Session<'_> {
    /// What was asked for; without a byte if that is not inside the configuration space, as the specification wants errors told.
    pub(super) fn get_config(&mut self, payload: &[u8]) -> Result<Vec<u8>, VhostError> {
        let (head, bytes) = parse(Request::GET_CONFIG, payload)?;
        let config = self.handler.config();
        let from = usize::try_from(head.offset).unwrap_or(usize::MAX);
        let found = from
            .checked_add(bytes.len())
            .and_then(|to| config.get(from..to))
            .unwrap_or_default();
        let size = u32::try_from(found.len()).unwrap_or(0);
        let mut reply = ConfigSpace { size, ..head }.as_bytes().to_vec();
        reply.extend_from_slice(found);
        Ok(reply)
    }

    pub(super) fn set_config(&mut self, payload: &[u8]) -> Result<(), VhostError> {
        let request = Request::SET_CONFIG;
        let (head, bytes) = parse(request, payload)?;
        let restored = match head.flags {
            0 => false,
            1 => true,
            flags => {
                let reason = format!("expected flags 0 or 1, got {flags:#x}");
                return Err(VhostError::BadValue { request, reason });
            }
        };
        self.handler
            .set_config(head.offset, bytes, restored)
            .map_err(|reason| VhostError::BadValue { request, reason })
    }
}
