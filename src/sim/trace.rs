//! The trace of a run: a hash over everything that happened, and on demand the last lines in words.
//!
//! Two runs of one seed must have equal hashes; the lines are for people.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines_max: usize,
    lines: VecDeque<String>,
}

impl Trace {
    /// A trace that keeps the last `lines_max` lines; 0 for the hash alone.
    pub(crate) fn new(lines_max: usize) -> Self {
        Self {
            hash: 0,
            events: 0,
            lines_max,
            lines: VecDeque::new(),
        }
    }

    /// Notes that something happened: `facts` go into the hash, `words` into the lines.
    pub(crate) fn note(&mut self, now: u64, facts: [u64; 3], words: impl FnOnce() -> String) {
        self.events += 1;
        let [a, b, c] = facts;
        let mut bytes = [0u8; 32];
        for (slot, fact) in bytes.chunks_exact_mut(8).zip([now, a, b, c]) {
            slot.copy_from_slice(&fact.to_le_bytes());
        }
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
        if 0 < self.lines_max {
            if self.lines.len() == self.lines_max {
                self.lines.pop_front();
            }
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            self.lines
                .push_back(format!("{seconds:>4}.{micros:06} {}", words()));
        }
    }

    /// The hash so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many things were noted.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The last lines, for people.
    #[cfg(test)]
    pub(crate) fn last_lines(&self, count: usize) -> String {
        let skipped = self.lines.len().saturating_sub(count);
        let lines: Vec<&str> = self
            .lines
            .iter()
            .skip(skipped)
            .map(String::as_str)
            .collect();
        lines.join("\n")
    }

    /// The kept lines.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
