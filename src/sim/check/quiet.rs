//! When everything is healed and nobody writes, no data goes between nodes any more (P9): watches when data
//! last did.

use crate::model::Row;
use crate::protocol::Message;

/// When data last went between nodes.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    last: (u64, &'static str),
}

impl Quiet {
    /// A message was sent.
    pub(super) fn sent(&mut self, now: u64, message: &Message) {
        let what = match message {
            Message::Append(_) => "Append",
            Message::Repair { rows, .. } if !rows.is_empty() && rows.iter().all(is_only_told) => {
                return;
            }
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

    /// When data last went, and in which message.
    pub(super) fn last(&self) -> (u64, &'static str) {
        self.last
    }
}

/// Whether what differs may be that a share of the operation is collected here and not yet there: replicas collect at
/// different times, and who reads the operation after one has tells the others, once.
fn is_only_told((_, row): &(crate::model::RowKey, Row)) -> bool {
    matches!(row, Row::Once(once) if !once.gone.is_empty())
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
