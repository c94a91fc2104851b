//! No two different changes ever carry the same dot, whatever kind of row they made (I7).

use std::collections::BTreeMap;

use crate::model::{Dot, PartitionId, Row, RowKey, Summary, Version};
use crate::protocol::Message;

/// What a dot made.
#[derive(Clone, PartialEq, Debug)]
enum Made {
    /// A version of a register, a member or a field.
    Version(Box<Version>),
    /// An increment with an operation id.
    Once(i64),
    /// Anything else, or a version that was only seen go.
    Some,
}

impl Made {
    /// Whether both may be the same change. A version may have expired in between.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Version(one), Self::Version(two)) => {
                let has_expired =
                    |version: &Version| version.value.is_none() && version.expires.is_some();
                one == two || (one.stamp() == two.stamp() && (has_expired(one) || has_expired(two)))
            }
            (Self::Once(one), Self::Once(two)) => one == two,
            (Self::Some, _) | (_, Self::Some) => true,
            (Self::Version(_), Self::Once(_)) | (Self::Once(_), Self::Version(_)) => false,
        }
    }
}

/// Every change ever seen, by partition and dot.
#[derive(Debug)]
pub(super) struct Unique {
    partition_count: u16,
    seen: BTreeMap<(PartitionId, Dot), (RowKey, Made)>,
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
        match row {
            Row::Register(version) => self.version(partition, key, version)?,
            Row::Siblings(siblings) => {
                for version in siblings.versions() {
                    self.version(partition, key, version)?;
                }
                if let Some(stamp) = siblings.latest() {
                    self.made(partition, stamp.dot, key, Made::Some)?;
                }
            }
            Row::Once(once) => {
                for (dot, delta) in &once.applied {
                    self.made(partition, *dot, key, Made::Once(*delta))?;
                }
            }
            Row::Share(_) | Row::Clear(_) | Row::Expiry(_) | Row::Conflict(_) => {
                self.made(partition, row.stamp().dot, key, Made::Some)?;
            }
        }
        Ok(())
    }

    fn version(
        &mut self,
        partition: PartitionId,
        key: &RowKey,
        version: &Version,
    ) -> Result<(), String> {
        let made = Made::Version(Box::new(version.clone()));
        self.made(partition, version.dot, key, made)
    }

    fn made(
        &mut self,
        partition: PartitionId,
        dot: Dot,
        key: &RowKey,
        made: Made,
    ) -> Result<(), String> {
        match self.seen.get_mut(&(partition, dot)) {
            Some((known_key, known)) if known_key == key && known.agrees(&made) => {
                if *known == Made::Some {
                    *known = made;
                }
                Ok(())
            }
            Some(known) => Err(format!("{dot:?} is both {known:?} and {key:?}, {made:?}")),
            None => {
                self.seen.insert((partition, dot), (key.clone(), made));
                Ok(())
            }
        }
    }

    /// The greatest tombstone ever stamped for each register; whatever expires counts as one.
    pub(super) fn tombstones(&self) -> BTreeMap<RowKey, Summary> {
        let mut greatest: BTreeMap<RowKey, Summary> = BTreeMap::new();
        for (key, made) in self.seen.values() {
            let Made::Version(version) = made else {
                continue;
            };
            let summary = Row::Register((**version).clone()).summary();
            let is_grave = summary.is_tombstone || version.expires.is_some();
            let old = greatest.get(key);
            if is_grave && old.is_none_or(|old| summary.is_newer_than(old)) {
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
            Message::Repair { rows, .. } | Message::Selected { rows, .. } => {
                for (key, row) in rows {
                    let partition = key.partition(self.partition_count);
                    self.row(partition, key, row)?;
                }
            }
            Message::Select { .. }
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
    use super::super::samples::{actor, key, partition, row, summary};
    use super::*;
    use crate::model::{Once, Part, Place, Share, Tally, Wall};

    #[test]
    fn a_dot_with_two_contents_is_found() {
        let mut unique = Unique::new(1);
        let mut seen = |name, n, token| unique.row(partition(), &key(name), &row(n, token));
        assert!(seen("a", 1, Some(1)).is_ok());
        assert!(seen("a", 1, Some(1)).is_ok());
        assert!(seen("a", 1, Some(2)).is_err());
        assert!(seen("b", 1, Some(1)).is_err());
    }

    #[test]
    fn an_increment_and_its_share_have_dots_of_their_own() {
        let stamp = summary(1, false).stamp();
        let share = Row::Share(Share {
            stamp,
            own: Tally {
                n: 1,
                since: 1,
                sum: 5,
            },
            reset: Tally::default(),
        });
        let once = Row::Once(Once {
            stamp,
            applied: [(stamp.dot, 5)].into(),
            gone: std::collections::BTreeSet::new(),
            expires: Wall(9),
            is_spent: false,
        });
        let id = crate::model::OpId(7);
        let once_key = key("a").with(&Part::Once(Place::Key, id));
        let share_key = key("a").with(&Part::Share(Place::Key, actor(1)));
        let mut unique = Unique::new(1);
        assert!(unique.row(partition(), &once_key, &once).is_ok());
        assert!(unique.row(partition(), &share_key, &share).is_err());
    }

    #[test]
    fn a_version_may_expire() {
        let with = |value: Option<u64>, expires| {
            let Row::Register(mut version) = row(1, value) else {
                panic!("a register");
            };
            version.expires = expires;
            Row::Register(version)
        };
        let mut unique = Unique::new(1);
        let at = Some(Wall(5));
        let mut seen = |row: &Row| unique.row(partition(), &key("a"), row);
        assert!(seen(&with(Some(1), at)).is_ok());
        assert!(seen(&with(None, at)).is_ok());
        assert!(seen(&with(None, None)).is_err());
    }
}
