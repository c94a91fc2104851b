//! When everything is healed and nobody writes, no data goes between nodes any more (P9): watches when data
//! last did.

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

/// As many replicas as a partition may have, and then some.
const TOLD_MAX: usize = 30;

impl Quiet {
    /// A message was sent.
    pub(super) fn sent(&mut self, now: u64, message: &Message) {
        let what = match message {
            Message::Append(_) => "Append",
            Message::Repair { rows, .. } if !rows.is_empty() && self.are_told(rows) => return,
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

    /// Whether what differs may be that shares of operations are collected here and not yet there. Replicas collect at different
    /// times, and who reads the operation after one has tells each of the others, once.
    fn are_told(&mut self, rows: &[(RowKey, Row)]) -> bool {
        let is_told = |(key, row): &(RowKey, Row)| {
            let Row::Once(once) = row else { return false };
            let told = (key.clone(), once.gone.clone());
            let count = self.told.entry(told).or_default();
            *count += 1;
            !once.gone.is_empty() && *count <= TOLD_MAX
        };
        rows.iter().all(is_told)
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
}
