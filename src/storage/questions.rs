//! Questions that wait for readers, in two lines: what a client waits for is never behind pages of log, sums and scans,
//! of which hundreds come at once when a node catches up.

use std::sync::Arc;

use crate::model::{Query, Ticket};

use super::queue::{Limit, Queue};

/// Questions that may wait in each line.
const QUERIES: Limit = Limit {
    items: 16_384,
    bytes: usize::MAX,
};

/// One line.
pub(super) type Line = Arc<Queue<(Ticket, Query)>>;

/// Both.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    /// About a row, or those of one key.
    pub(super) short: Line,
    /// That read as much as they may.
    pub(super) long: Line,
}

impl Questions {
    pub(super) fn new() -> Self {
        Self {
            short: Arc::new(Queue::new(QUERIES)),
            long: Arc::new(Queue::new(QUERIES)),
        }
    }

    /// Gives back what was not taken.
    pub(super) fn push(&self, queries: Vec<(Ticket, Query)>) -> Result<(), Vec<(Ticket, Query)>> {
        let (long, short) = queries.into_iter().partition(|(_, query)| is_long(query));
        let lines = [(&self.short, short), (&self.long, long)];
        let pushed = lines.map(|(line, queries)| line.push(queries, |_| 1));
        let left: Vec<_> = pushed
            .into_iter()
            .filter_map(Result::err)
            .flatten()
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    }

    /// Takes nothing in any more.
    pub(super) fn close(&self) {
        self.short.close();
        self.long.close();
    }
}

fn is_long(query: &Query) -> bool {
    match query {
        // Many rows at a time are asked for by reconciliation only.
        Query::Rows(keys) => keys.len() > 1,
        Query::Select { .. } | Query::Operations { .. } => false,
        Query::Log(_)
        | Query::Digest { .. }
        | Query::Leaf { .. }
        | Query::Sums { .. }
        | Query::Count { .. }
        | Query::Graves { .. }
        | Query::Scan { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyspaceId, PartitionId};

    #[test]
    fn a_row_does_not_wait_behind_what_is_long() {
        let questions = Questions::new();
        let partition = PartitionId {
            keyspace: KeyspaceId(1),
            index: 0,
        };
        let graves = Query::Graves {
            partition,
            after: None,
            rows_max: 1,
        };
        let mut queries = vec![(Ticket(0), graves); 100];
        queries.push((Ticket(1), Query::Rows(Vec::new())));
        assert_eq!(questions.push(queries), Ok(()));
        let one = Limit {
            items: 1,
            bytes: usize::MAX,
        };
        let first = questions.short.take(one).unwrap();
        assert_eq!(first[0].0, Ticket(1));
        assert_eq!(questions.long.size().0, 100);
    }

    #[test]
    fn what_one_line_cannot_take_comes_back_and_the_other_takes_its_own() {
        let questions = Questions::new();
        let rows = (Ticket(1), Query::Rows(Vec::new()));
        assert_eq!(questions.push(vec![rows.clone(); QUERIES.items]), Ok(()));
        let count = (
            Ticket(2),
            Query::Count {
                key: crate::model::RowKey::plain(KeyspaceId(1), bytes::Bytes::from_static(b"k")),
                collection: crate::model::Collection::Set,
                now: crate::model::Wall(0),
            },
        );
        let both = vec![rows.clone(), count];
        assert_eq!(questions.push(both), Err(vec![rows]));
        assert_eq!(questions.long.size().0, 1);
    }
}
