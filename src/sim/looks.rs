//! Looking on: twice a second the checkers see what every node says of itself.

use crate::model::Change;

use super::Bug;
use super::disk::FORGED;
use super::world::{Event, World};

/// Between looks of the checkers, in microseconds.
pub(crate) const LOOK_EVERY: u64 = 500_000;

impl World {
    pub(crate) fn on_look(&mut self) {
        let now = self.now;
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(index) else {
                continue;
            };
            let at = node.now(now);
            let queued = node.disk.queued();
            let Some(running) = node.running.as_ref() else {
                continue;
            };
            let view = running.machine.view(at);
            let is_refilling = node.refill.is_some();
            if is_refilling && view.serving == view.partitions && node.has_all_again() {
                node.refill = None;
                node.is_turned_back = false;
                self.tally.take(super::paths::REFILLED);
            }
            self.checks.on_looked(index, &view, queued);
        }
        if self.bug == Some(Bug::DropTombstonesEarly) && self.faults_on {
            self.collect_early();
        }
        self.check_now();
        self.schedule(now + LOOK_EVERY, Event::Look);
    }

    /// The planted bug [`Bug::DropTombstonesEarly`]: each node takes its own position for everybody's.
    fn collect_early(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(life) = self.life_of(index) else {
                continue;
            };
            for (partition, position) in self.checks.positions_of(index) {
                let floor = position
                    .reaches
                    .iter()
                    .map(|(actor, reach)| (*actor, reach.applied));
                let floor = floor.collect();
                let change = Change::Collect { partition, floor };
                if let Some(node) = self.live(index, life)
                    && node.disk.push(FORGED, change)
                {
                    self.schedule_stage(index, life);
                }
            }
        }
    }
}
