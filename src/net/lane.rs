//! The queue of one lane to one peer: bounded in bytes and messages, filled without waiting.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::protocol::Message;

use super::frame::{FrameBuffer, Unfit};

/// Why a message was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dropped {
    /// There is no connection.
    Closed,
    /// Too much waits already.
    Full,
    /// The message is longer than any frame may be.
    TooLong,
}

/// Messages of one lane that wait for the stream's writer, coded already.
#[derive(Debug)]
pub(super) struct LaneQueue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    bytes_max: usize,
    messages_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    is_open: bool,
    frames: FrameBuffer,
    messages: usize,
}

impl LaneQueue {
    pub(super) fn new(bytes_max: usize, messages_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            bytes_max,
            messages_max,
        }
    }

    /// Queues a message, or says why not. Never waits for more than a writer's swap of buffers.
    pub(super) fn push(&self, message: &Message) -> Result<(), Dropped> {
        let mut waiting = self.lock();
        if !waiting.is_open {
            return Err(Dropped::Closed);
        }
        if waiting.messages >= self.messages_max || waiting.frames.len() >= self.bytes_max {
            return Err(Dropped::Full);
        }
        waiting
            .frames
            .push(message, self.bytes_max)
            .map_err(|unfit| match unfit {
                Unfit::Full => Dropped::Full,
                Unfit::TooLong => Dropped::TooLong,
            })?;
        waiting.messages += 1;
        let was_empty = waiting.messages == 1;
        drop(waiting);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for messages and takes all of them. Only one task takes at a time.
    pub(super) async fn take(&self) -> Bytes {
        loop {
            {
                let mut waiting = self.lock();
                if waiting.messages > 0 {
                    waiting.messages = 0;
                    return waiting.frames.take();
                }
            }
            self.filled.notified().await;
        }
    }

    /// From now on messages are queued.
    pub(super) fn open(&self) {
        *self.lock() = Waiting {
            is_open: true,
            ..Waiting::default()
        };
    }

    /// From now on messages are dropped, and so are those that wait.
    pub(super) fn close(&self) {
        *self.lock() = Waiting::default();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message::CannotRead { id: 1 }
    }

    #[tokio::test]
    async fn queue_is_bounded_and_closes() {
        let queue = LaneQueue::new(1 << 20, 2);
        assert_eq!(queue.push(&message()), Err(Dropped::Closed));
        queue.open();
        assert_eq!(queue.push(&message()), Ok(()));
        assert_eq!(queue.push(&message()), Ok(()));
        assert_eq!(queue.push(&message()), Err(Dropped::Full));
        assert!(!queue.take().await.is_empty());
        assert_eq!(queue.push(&message()), Ok(()));
        queue.close();
        assert_eq!(queue.push(&message()), Err(Dropped::Closed));
    }
}
