//! Every queue has a limit: entries in the machine, changes before the disk, bytes of log on their way (P10).

use crate::model::Limits;
use crate::protocol::View;
use crate::sim::cluster::NodeIndex;

/// No queue of a machine may be longer in these small worlds, whatever its own limit is.
const ENTRIES_MAX: usize = 20_000;
/// Changes that may wait for a disk.
const QUEUED_MAX: usize = 20_000;
/// A single write is always sent, however small the window.
const ROW_BYTES_MAX: usize = 8_192;

/// Watches queues.
#[derive(Debug)]
pub(super) struct Bounds {
    in_flight_max: usize,
    /// One piece of log.
    piece_max: usize,
    /// Of queues that count bytes (`…_bytes`).
    bytes_max: usize,
}

impl Bounds {
    /// Bounds that follow from the limits: a new connection may send a whole window again while the old
    /// one's parcels still fly.
    pub(super) fn new(limits: &Limits) -> Self {
        let window = limits.window_bytes_max + limits.batch_bytes_max + ROW_BYTES_MAX;
        Self {
            in_flight_max: 4 * window,
            piece_max: limits.batch_bytes_max + ROW_BYTES_MAX,
            bytes_max: 4 * window + limits.recent_bytes_max + ROW_BYTES_MAX,
        }
    }

    /// Bytes of log on their way between two nodes. However small the window, each of the sender's logs may have one piece
    /// under way.
    pub(super) fn in_flight(
        &self,
        (from, to): (NodeIndex, NodeIndex),
        bytes: usize,
        logs: impl FnOnce() -> usize,
    ) -> Result<(), String> {
        if bytes <= self.in_flight_max {
            return Ok(());
        }
        let most = self.in_flight_max + logs() * self.piece_max;
        if bytes <= most {
            return Ok(());
        }
        Err(format!(
            "{bytes} bytes of log fly from n{from} to n{to}, at most {most} may"
        ))
    }

    /// What a node says of its queues.
    pub(super) fn looked(&self, node: NodeIndex, view: &View, queued: usize) -> Result<(), String> {
        if QUEUED_MAX < queued {
            return Err(format!("{queued} changes wait for the disk of n{node}"));
        }
        let mut streams = view.queues.iter().filter(|(name, _)| *name == "streams");
        let streams = streams.next().map_or(0, |(_, count)| *count);
        // However small the window, each stream may have one piece under way.
        let pieces = streams.saturating_mul(self.piece_max);
        let limit = |name: &str| match name {
            "in_flight_bytes" => self.bytes_max.saturating_add(pieces),
            _ if name.ends_with("_bytes") => self.bytes_max,
            _ => ENTRIES_MAX,
        };
        match view
            .queues
            .iter()
            .find(|(name, length)| limit(name) < *length)
        {
            Some((name, length)) => Err(format!("queue {name} of n{node} holds {length}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_queues_and_full_ways_are_found() {
        let bounds = Bounds::new(&Limits::default());
        let mut view = View::default();
        assert!(bounds.looked(0, &view, 10).is_ok());
        assert!(bounds.looked(0, &view, QUEUED_MAX + 1).is_err());
        view.queues.push(("requests", ENTRIES_MAX + 1));
        assert!(bounds.looked(0, &view, 10).is_err());
        view.queues = vec![("in_flight_bytes", bounds.bytes_max + 1)];
        assert!(bounds.looked(0, &view, 10).is_err());
        view.queues.push(("streams", 1));
        assert!(bounds.looked(0, &view, 10).is_ok());
        assert!(bounds.in_flight((0, 1), 1_000, || 0).is_ok());
        assert!(bounds.in_flight((0, 1), 1 << 30, || 9).is_err());
    }
}
