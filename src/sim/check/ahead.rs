//! No row is taken from a peer that was stamped further ahead of this node's clock than is allowed (C8).

use std::collections::BTreeMap;

use crate::model::{Change, Effect, Limits, Ticket, Timestamp, Wall};
use crate::sim::cluster::NodeIndex;

/// Watches repairs on their way through the door.
#[derive(Debug)]
pub(super) struct Ahead {
    max_offset: u64,
    given: BTreeMap<(NodeIndex, Ticket), Timestamp>,
}

impl Ahead {
    /// A watch over nodes with these limits.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            max_offset: u64::try_from(limits.max_offset.as_micros()).unwrap_or(u64::MAX),
            given: BTreeMap::new(),
        }
    }

    /// A node begins a new life: what was given to its door is lost.
    pub(super) fn opened(&mut self, node: NodeIndex) {
        self.given.retain(|(of, _), _| *of != node);
    }

    /// A change was given to a node's door.
    pub(super) fn given(&mut self, node: NodeIndex, ticket: Ticket, change: &Change) {
        if let Change::Repair { row, .. } = change {
            let timestamp = row.stamp().timestamp;
            self.given.insert((node, ticket), timestamp);
        }
    }

    /// The door decided on it, by this clock.
    pub(super) fn staged(
        &mut self,
        node: NodeIndex,
        wall: Wall,
        (ticket, effect): &(Ticket, Effect),
    ) -> Result<(), String> {
        let Some(timestamp) = self.given.remove(&(node, *ticket)) else {
            return Ok(());
        };
        let limit = wall.0.saturating_add(self.max_offset);
        if matches!(effect, Effect::Repaired { .. }) && limit < timestamp.micros {
            return Err(format!(
                "n{node} takes a row that was stamped at {timestamp}, and its clock says {wall:?}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::samples::{key, partition, row};
    use super::*;

    #[test]
    fn a_row_from_the_future_is_found() {
        let repaired = Effect::Repaired {
            summary: None,
            written: Vec::new(),
            lost: BTreeMap::new(),
        };
        let early = Effect::Early {
            partition: partition(),
            timestamp: Timestamp::ZERO,
        };
        let (key, row) = (key("a"), row(9_000_000, Some(1)));
        let stamped = row.stamp().timestamp.micros;
        let change = Change::Repair { key, row };
        let is_good = |wall: u64, effect: &Effect| {
            let mut ahead = Ahead::new(&Limits::default());
            ahead.given(0, Ticket(1), &change);
            let staged = (Ticket(1), effect.clone());
            ahead.staged(0, Wall(wall), &staged).is_ok()
        };
        assert!(is_good(stamped, &repaired));
        assert!(is_good(0, &early));
        assert!(!is_good(0, &repaired));
    }
}
