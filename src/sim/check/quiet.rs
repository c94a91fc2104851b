//! When everything is healed and nobody writes, no data goes between nodes any more (P9): watches when data
//! last did.
//!
//! One thing may still go: replicas collect at different times, and who has collected a share of an operation tells that to
//! another when a read finds them different; to each once.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Dot, Row, RowKey};
use crate::protocol::Message;

/// When data last went between nodes.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    last: (u64, &'static str),
    /// How often operations were told of which of their shares are collected.
    told: BTreeMap<(RowKey, BTreeSet<Dot>), usize>,
}

/// How often one operation may be told the same: by one to each of the replicas of a partition, and then some.
const TOLD_MAX: usize = 30;

impl Quiet {
    /// A message was sent.
    pub(super) fn sent(&mut self, now: u64, message: &Message) {
        let what = match message {
            Message::Append(_) => "Append",
            Message::Repair { rows, .. } if self.note_told(rows) => return,
            Message::Repair { .. } => "Repair",
            Message::LeafTell { .. } => "LeafTell",
            Message::SumsTell { .. } => "SumsTell",
            Message::Trimmed { .. } => "Trimmed",
            Message::Heartbeat(_)
            | Message::Wants(_)
            | Message::Acks(_)
            | Message::Forward { .. }
            | Message::Forwarded { .. }
            | Message::Read { .. }
            | Message::Summaries { .. }
            | Message::Rows { .. }
            | Message::CannotRead { .. }
            | Message::Repaired { .. }
            | Message::DigestAsk { .. }
            | Message::DigestTell { .. }
            | Message::Select { .. }
            | Message::Selected { .. }
            | Message::GravesAsk { .. }
            | Message::GravesTell { .. }
            | Message::Await { .. }
            | Message::Awaited { .. }
            | Message::LeafAsk { .. }
            | Message::SumsAsk { .. } => return,
        };
        self.last = (now, what);
    }

    /// Notes that operations were told which of their shares are collected; says whether that is all there was, and not too often.
    fn note_told(&mut self, rows: &[(RowKey, Row)]) -> bool {
        let mut is_all = !rows.is_empty();
        for (key, row) in rows {
            let Row::Once(once) = row else { return false };
            if once.gone.is_empty() {
                return false;
            }
            let gone = once.gone.clone();
            let count = self.told.entry((key.clone(), gone)).or_default();
            *count += 1;
            is_all &= *count <= TOLD_MAX;
        }
        is_all
    }

    /// When data last went, and in which message.
    pub(super) fn last(&self) -> (u64, &'static str) {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_traffic_and_acknowledgements_are_not() {
        let mut quiet = Quiet::default();
        quiet.sent(5, &Message::Acks(Vec::new()));
        assert_eq!(quiet.last().0, 0);
        let rows = Vec::new();
        quiet.sent(6, &Message::Repair { id: 1, rows });
        assert_eq!(quiet.last(), (6, "Repair"));
    }

    #[test]
    fn an_operation_is_told_what_was_collected_but_not_for_ever() {
        use crate::model::{Actor, Incarnation, KeyspaceId, NodeId, Once, Stamp, Timestamp, Wall};
        let actor = Actor {
            node: NodeId(1),
            incarnation: Incarnation(1),
        };
        let dot = Dot { actor, n: 1 };
        let once = |gone: &[Dot]| {
            Row::Once(Once {
                stamp: Stamp {
                    timestamp: Timestamp::ZERO,
                    dot,
                },
                applied: BTreeMap::from([(dot, 1)]),
                gone: gone.iter().copied().collect(),
                expires: Wall(1),
                is_spent: true,
            })
        };
        let key = RowKey::plain(KeyspaceId(1), b"k".to_vec().into());
        let tell = |row| Message::Repair {
            id: 1,
            rows: vec![(key.clone(), row)],
        };
        let mut quiet = Quiet::default();
        for _ in 0..TOLD_MAX {
            quiet.sent(5, &tell(once(&[dot])));
        }
        assert_eq!(quiet.last().0, 0);
        quiet.sent(6, &tell(once(&[dot])));
        assert_eq!(quiet.last(), (6, "Repair"));
        quiet.sent(7, &tell(once(&[])));
        assert_eq!(quiet.last(), (7, "Repair"));
    }
}
