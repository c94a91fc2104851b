//! Which records are done, when they are done out of order.

use std::collections::BTreeMap;

/// The greatest number below which everything is done, and what is done above it.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Records up to this number are done.
    low: u64,
    /// Bytes of the file up to the end of record `low`.
    low_bytes: u64,
    /// Done above `low`, with the bytes up to their ends. Limit: the importer never lets more records
    /// be on their way than its spread.
    above: BTreeMap<u64, u64>,
}

impl Done {
    /// Everything up to record `low` is done.
    pub(super) fn from(low: u64, low_bytes: u64) -> Self {
        Self {
            low,
            low_bytes,
            above: BTreeMap::new(),
        }
    }

    /// A record is done; `bytes` is where it ends.
    pub(super) fn add(&mut self, number: u64, bytes: u64) {
        self.above.insert(number, bytes);
        while let Some(first) = self.above.first_entry() {
            if *first.key() > self.low + 1 {
                break;
            }
            self.low_bytes = self.low_bytes.max(*first.get());
            self.low = self.low.max(*first.key());
            first.remove();
        }
    }

    /// Everything up to this record is done.
    pub(super) fn low(&self) -> u64 {
        self.low
    }

    /// Bytes of the file up to the end of that record.
    pub(super) fn low_bytes(&self) -> u64 {
        self.low_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_moves_when_the_gap_closes() {
        let mut done = Done::from(10, 100);
        done.add(12, 120);
        done.add(13, 130);
        assert_eq!((done.low(), done.low_bytes()), (10, 100));
        done.add(11, 110);
        assert_eq!((done.low(), done.low_bytes()), (13, 130));
        assert!(done.above.is_empty());
    }
}
