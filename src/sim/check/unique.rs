//! No two different versions ever carry the same dot (I7).

use std::collections::BTreeMap;

use crate::model::{Dot, PartitionId, Row, RowKey, Summary, Version};
use crate::protocol::Message;

/// Every version ever seen, by partition and dot.
#[derive(Debug)]
pub(super) struct Unique {
    partition_count: u16,
    seen: BTreeMap<(PartitionId, Dot), (RowKey, Version)>,
}

impl Unique {
    /// Nothing seen yet, in a cluster of so many partitions.
    pub(super) fn new(partition_count: u16) -> Self {
        Self {
            partition_count,
            seen: BTreeMap::new(),
        }
    }

    /// A row was stamped or sent.
    pub(super) fn row(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        row: &Row,
    ) -> Result<(), String> {
        let Row::Register(version) = row else {
            return Ok(());
        };
        let at = (partition, version.dot);
        match self.seen.get(&at) {
            Some((known_key, known)) if known_key == key && known == version => Ok(()),
            Some(known) => Err(format!(
                "{:?} is both {known:?} and {key:?}, {version:?}",
                version.dot
            )),
            None => {
                self.seen.insert(at, (key.clone(), version.clone()));
                Ok(())
            }
        }
    }

    /// The greatest tombstone ever stamped for each row.
    pub(super) fn tombstones(&self) -> BTreeMap<RowKey, Summary> {
        let mut greatest: BTreeMap<RowKey, Summary> = BTreeMap::new();
        for (key, version) in self.seen.values() {
            let summary = Row::Register(version.clone()).summary();
            let old = greatest.get(key);
            if summary.is_tombstone && old.is_none_or(|old| summary.is_newer_than(old)) {
                greatest.insert(key.clone(), summary);
            }
        }
        greatest
    }

    /// All rows of a message.
    pub(super) fn message(&mut self, message: &Message) -> Result<(), String> {
        match message {
            Message::Append(append) => {
                for item in &append.items {
                    self.row(append.partition, &item.key, &item.row)?;
                }
            }
            Message::Repair { rows, .. } => {
                for (key, row) in rows {
                    let partition = key.partition(self.partition_count);
                    self.row(partition, key, row)?;
                }
            }
            Message::Select { .. }
            | Message::Selected { .. }
            | Message::GravesAsk { .. }
            | Message::GravesTell { .. }
            | Message::Await { .. }
            | Message::Awaited { .. }
            | Message::Heartbeat(_)
            | Message::Wants(_)
            | Message::Acks(_)
            | Message::Trimmed { .. }
            | Message::Forward { .. }
            | Message::Forwarded { .. }
            | Message::Read { .. }
            | Message::Summaries { .. }
            | Message::Rows { .. }
            | Message::CannotRead { .. }
            | Message::Repaired { .. }
            | Message::DigestAsk { .. }
            | Message::DigestTell { .. }
            | Message::LeafAsk { .. }
            | Message::LeafTell { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{key, partition, row};
    use super::*;

    #[test]
    fn a_dot_with_two_contents_is_found() {
        let mut unique = Unique::new(1);
        assert!(unique.row(partition(), &key("a"), &row(1, Some(1))).is_ok());
        assert!(unique.row(partition(), &key("a"), &row(1, Some(1))).is_ok());
        assert!(
            unique
                .row(partition(), &key("a"), &row(1, Some(2)))
                .is_err()
        );
        assert!(
            unique
                .row(partition(), &key("b"), &row(1, Some(1)))
                .is_err()
        );
    }
}
