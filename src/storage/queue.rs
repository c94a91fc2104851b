//! A bounded queue between the loop, which must not block, and threads, which may.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    limit: Limit,
}

/// So many items or bytes, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
                is_closed: false,
            }),
            changed: Condvar::new(),
            limit,
        }
    }

    /// Takes in all of these, with their sizes in bytes, unless the queue is full or closed already. So the limit
    /// may be exceeded by one call.
    pub(super) fn push(&self, items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Result<(), Vec<T>> {
        let mut state = self.lock();
        let is_full = state.items.len() >= self.limit.items || state.bytes >= self.limit.bytes;
        if is_full || state.is_closed {
            return Err(items);
        }
        for item in items {
            let size = bytes(&item);
            state.bytes = state.bytes.saturating_add(size);
            state.items.push_back((item, size));
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until something is there, and gives the first items, at least one; nothing once the queue is
    /// closed and empty.
    pub(super) fn take(&self, most: Limit) -> Option<Vec<T>> {
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.is_closed {
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Vec::new();
        let mut bytes = 0usize;
        while taken.len() < most.items && bytes < most.bytes {
            let Some((item, size)) = state.items.pop_front() else {
                break;
            };
            bytes = bytes.saturating_add(size);
            taken.push(item);
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        Some(taken)
    }

    /// Takes nothing in any more; what is there is still given out.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Items and bytes in it.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.items.len(), state.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        items: 3,
        bytes: 100,
    };

    #[test]
    fn it_is_full_by_items_and_by_bytes() {
        let queue = Queue::new(LIMIT);
        assert_eq!(queue.push(vec![1, 2], |_| 10), Ok(()));
        assert_eq!(
            queue.push(vec![3, 4], |_| 10),
            Ok(()),
            "one call may exceed it"
        );
        assert_eq!(queue.push(vec![5], |_| 10), Err(vec![5]));
        assert_eq!(
            queue.take(Limit {
                items: 2,
                bytes: 100
            }),
            Some(vec![1, 2])
        );
        assert_eq!(queue.take(Limit { items: 9, bytes: 1 }), Some(vec![3]));
        assert_eq!(queue.push(vec![6], |_| 90), Ok(()));
        assert_eq!(queue.push(vec![7], |_| 1), Err(vec![7]));
        assert_eq!(queue.size(), (2, 100));
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_has() {
        let queue = Queue::new(LIMIT);
        assert_eq!(queue.push(vec![1], |_| 1), Ok(()));
        queue.close();
        assert_eq!(queue.push(vec![2], |_| 1), Err(vec![2]));
        assert_eq!(queue.take(LIMIT), Some(vec![1]));
        assert_eq!(queue.take(LIMIT), None);
    }
}
