//! Recent pieces of log, kept in memory so that what is hot is sent without reading the disk.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Actor, LogItem, PartitionId};

/// A piece of an actor's log, as it was staged here.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Piece {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) items: Vec<LogItem>,
}

impl Piece {
    fn size(&self) -> usize {
        64 + self.items.iter().map(LogItem::size).sum::<usize>()
    }
}

/// Pieces by log, each log's without a hole, all of them within one budget of bytes.
#[derive(Debug)]
pub(super) struct Recent {
    logs: BTreeMap<(PartitionId, Actor), VecDeque<Piece>>,
    order: VecDeque<(PartitionId, Actor)>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            logs: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a piece. If it does not follow the log's last one, what was kept of the log is dropped.
    pub(super) fn push(&mut self, partition: PartitionId, actor: Actor, piece: Piece) {
        let log = self.logs.entry((partition, actor)).or_default();
        if log.back().is_some_and(|last| last.to != piece.from) {
            self.bytes -= log.iter().map(Piece::size).sum::<usize>();
            log.clear();
        }
        self.bytes += piece.size();
        log.push_back(piece);
        self.order.push_back((partition, actor));
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            let dropped = self.logs.get_mut(&oldest).and_then(VecDeque::pop_front);
            self.bytes -= dropped.map_or(0, |piece| piece.size());
        }
        // A cleared log leaves its names in the queue; they must not pile up.
        if self.order.len() > 2 * self.logs.values().map(VecDeque::len).sum::<usize>() + 1024 {
            self.rebuild_order();
        }
    }

    /// Drops what is kept of a log.
    pub(super) fn forget(&mut self, partition: PartitionId, actor: Actor) {
        if let Some(log) = self.logs.remove(&(partition, actor)) {
            self.bytes -= log.iter().map(Piece::size).sum::<usize>();
        }
    }

    /// Keeps only some logs.
    pub(super) fn retain(&mut self, is_kept: impl Fn(PartitionId, Actor) -> bool) {
        let bytes = &mut self.bytes;
        self.logs.retain(|(partition, actor), log| {
            let stays = is_kept(*partition, *actor);
            if !stays {
                *bytes -= log.iter().map(Piece::size).sum::<usize>();
            }
            stays
        });
    }

    fn rebuild_order(&mut self) {
        self.order = self
            .logs
            .iter()
            .flat_map(|(log, pieces)| pieces.iter().map(|_| *log))
            .collect();
    }

    /// Whether what follows `after` in a log is kept.
    pub(super) fn holds(&self, partition: PartitionId, actor: Actor, after: u64) -> bool {
        let log = self.logs.get(&(partition, actor));
        log.and_then(VecDeque::front)
            .is_some_and(|first| first.from <= after)
            && log
                .and_then(VecDeque::back)
                .is_some_and(|last| after < last.to)
    }

    /// What follows `after` in a log, up to `upto` and about `bytes_max`; nothing if it is not kept.
    pub(super) fn read(
        &self,
        partition: PartitionId,
        actor: Actor,
        after: u64,
        upto: u64,
        bytes_max: usize,
    ) -> Option<Piece> {
        let log = self.logs.get(&(partition, actor))?;
        let start = log.partition_point(|piece| piece.to <= after);
        let mut found: Option<Piece> = None;
        let mut bytes = 0;
        for piece in log.range(start..) {
            if piece.to > upto || (bytes > 0 && bytes + piece.size() > bytes_max) {
                break;
            }
            bytes += piece.size();
            let joined = found.get_or_insert(Piece {
                from: after,
                to: after,
                items: Vec::new(),
            });
            if joined.to < piece.from {
                return None;
            }
            joined.to = piece.to;
            joined
                .items
                .extend(piece.items.iter().filter(|item| item.n > after).cloned());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Incarnation, KeyspaceId, NodeId};

    const P: PartitionId = PartitionId {
        keyspace: KeyspaceId(1),
        index: 0,
    };
    const A: Actor = Actor {
        node: NodeId(1),
        incarnation: Incarnation(1),
    };

    fn piece(from: u64, to: u64) -> Piece {
        Piece {
            from,
            to,
            items: Vec::new(),
        }
    }

    #[test]
    fn pieces_are_joined_and_a_hole_drops_what_was_kept() {
        let mut recent = Recent::new(1 << 20);
        recent.push(P, A, piece(0, 1));
        recent.push(P, A, piece(1, 5));
        assert_eq!(recent.read(P, A, 0, 9, 1 << 20), Some(piece(0, 5)));
        assert_eq!(recent.read(P, A, 1, 9, 1 << 20), Some(piece(1, 5)));
        assert_eq!(recent.read(P, A, 0, 4, 1 << 20), Some(piece(0, 1)));
        assert_eq!(recent.read(P, A, 5, 9, 1 << 20), None);
        recent.push(P, A, piece(7, 8));
        assert_eq!(recent.read(P, A, 0, 9, 1 << 20), None);
        assert_eq!(recent.read(P, A, 7, 9, 1 << 20), Some(piece(7, 8)));
    }

    #[test]
    fn the_budget_holds() {
        let mut recent = Recent::new(1000);
        for n in 0..1000 {
            recent.push(P, A, piece(n, n + 1));
            assert!(recent.bytes() <= 1000);
        }
        assert!(recent.order.len() < 5000);
        assert_eq!(recent.read(P, A, 0, 1000, 1 << 20), None);
        assert!(recent.read(P, A, 995, 1000, 1 << 20).is_some());
    }
}
