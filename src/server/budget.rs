//! The bytes in flight: what requests and answers may hold of the node's memory, all together. It knows no body.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Code, Problem};

/// The bytes of all bodies and answers.
#[derive(Debug)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    bytes_max: usize,
}

impl Budget {
    /// So many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
        }
    }

    /// Takes room for so many bytes, or refuses at once: waiting would only hold more.
    pub(super) fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.free).try_acquire_many_owned(bytes);
        permit.map_err(|_full| Self::refusal())
    }

    /// Refuses what cannot fit now anyway.
    pub(super) fn refuse_early(&self, bytes: usize) -> Result<(), Problem> {
        if bytes > self.free.available_permits() {
            return Err(Self::refusal());
        }
        Ok(())
    }

    /// Bytes in flight now.
    pub(super) fn used(&self) -> usize {
        self.bytes_max.saturating_sub(self.free.available_permits())
    }

    /// Whether more than half is in flight: then who is slow makes room for others.
    pub(super) fn is_scarce(&self) -> bool {
        self.used() > self.bytes_max / 2
    }

    fn refusal() -> Problem {
        Problem::new(
            Code::Overloaded,
            "too many bytes are in flight at this node: try again in a second, or elsewhere",
        )
    }
}
