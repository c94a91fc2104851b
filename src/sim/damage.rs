//! Faults of disks: what they do, how a node that stops because of them comes back, and how much may be lost at
//! once.
//!
//! A node whose disk says that it is damaged gets an empty one, as its operator would do. Never are more disks lost
//! than the promises allow: of the replicas of a partition in a region, a majority keep theirs and serve.

use std::collections::BTreeMap;

use crate::model::{NodeId, PartitionId, Position};
use crate::storage::{Error, Space, Trouble};

use super::cluster::NodeIndex;
use super::disk::DiskCopy;
use super::faults::Undo;
use super::kinds::Kind;
use super::node::{Armed, Hurt};
use super::strike::Strike;
use super::world::{Event, World};

/// A node that could not start tries again after so long, in microseconds.
const START_AGAIN: u64 = 300_000;

impl World {
    /// A strike at a disk.
    pub(crate) fn strike_disk(&mut self, strike: &Strike) {
        let (kind, node) = (strike.kind, strike.node);
        if kind == Kind::SlowSync {
            self.tally.count(kind);
            if let Some(node) = self.nodes.get_mut(node) {
                node.sync_extra = strike.amount.unsigned_abs();
            }
            self.undo_later(strike.lasts, Undo::QuickDisk(node));
        } else if let Kind::Rot | Kind::Misplace | Kind::LoseBatch = kind {
            self.spoil(strike);
        } else if kind == Kind::Shorten {
            self.begin_to_shorten(strike);
        } else if kind == Kind::Foreign {
            self.swap_disks(strike);
        } else if kind == Kind::OldCopy {
            self.turn_back_disk(node);
        } else if kind == Kind::OldRegion {
            self.turn_back_region(node);
        } else if kind != Kind::Wipe {
            self.trouble(strike);
        } else if self.may_lose_disk(node) {
            self.tally.count(kind);
            self.kill(node, false);
            self.wipe_and_fill(node);
        }
    }

    fn trouble(&mut self, strike: &Strike) {
        let kind = strike.kind;
        let Some(node) = self.nodes.get_mut(strike.node) else {
            return;
        };
        let mut trouble = node.disk.trouble();
        if kind == Kind::FailSync {
            trouble.fails_next = Some(strike.amount % 2 == 1);
        } else if kind == Kind::FailRead {
            trouble.refuses_reads = true;
        } else {
            trouble.refuses_commits = true;
        }
        node.is_troubled = true;
        self.tally.count(kind);
        node.disk.set_trouble(trouble);
        if kind != Kind::FailSync {
            self.undo_later(strike.lasts, Undo::Sound(strike.node));
        }
    }

    /// A disk that failed is sound again.
    pub(crate) fn end_trouble(&mut self, index: NodeIndex) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.disk.set_trouble(Trouble::default());
        }
    }

    /// What is stored is damaged. It is met by whoever reads it, or at the next start, or when the operator looks.
    fn spoil(&mut self, strike: &Strike) {
        let index = strike.node;
        if !self.may_lose_disk(index) {
            return;
        }
        let pick = strike.amount.unsigned_abs();
        let space = match pick % 3 {
            0 => Space::Rows,
            1 => Space::Log,
            _ => Space::Meta,
        };
        let restarts = strike.kind == Kind::LoseBatch || pick.is_multiple_of(4);
        if restarts {
            self.kill(index, false);
        }
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let disk = node.disk.disk();
        let is_hurt = if strike.kind == Kind::Rot {
            disk.rot(space, pick)
        } else if strike.kind == Kind::Misplace {
            disk.misplace(space, pick)
        } else {
            disk.lose_batch(pick)
        };
        if is_hurt {
            node.hurt = if strike.kind == Kind::LoseBatch {
                Hurt::Unfit
            } else {
                Hurt::Somewhere
            };
            self.tally.count(strike.kind);
            self.undo_later(strike.lasts, Undo::Scrub(index));
        }
    }

    /// Somebody looks whether the disk of a node is damaged, and replaces it if so.
    pub(crate) fn scrub(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        if node.hurt == Hurt::No || node.is_dead {
            return;
        }
        if node.running.is_none() {
            // Opening it may not show.
            if !node.is_dead {
                self.undo_later(START_AGAIN, Undo::Scrub(index));
            }
            return;
        }
        match node.disk.scrub() {
            Ok(()) => node.hurt = Hurt::No,
            Err(Error::Corrupt { what }) => {
                self.trace.note(self.now, [22, index as u64, 0], || {
                    format!("n{index} is found damaged: {what}")
                });
                self.tally.take(super::paths::CHECKSUM);
                self.replace_disk(index);
            }
            // The disk fails just now: later.
            Err(_) => self.undo_later(START_AGAIN, Undo::Scrub(index)),
        }
    }

    fn replace_disk(&mut self, index: NodeIndex) {
        self.tally.take(super::paths::REPLACED);
        self.kill(index, false);
        self.wipe_and_fill(index);
    }

    /// A node that is down gets an empty disk, which counts as lost until it holds what its neighbours hold.
    fn wipe_and_fill(&mut self, index: NodeIndex) {
        let held = self.held_by_mates(index);
        self.wipe(index);
        if let Some(node) = self.nodes.get_mut(index) {
            node.refill = Some(held);
        }
    }

    /// The end of a journal will be lost: the disk goes back by a moment at a restart.
    fn begin_to_shorten(&mut self, strike: &Strike) {
        let index = strike.node;
        if let Some(node) = self.nodes.get(index)
            && node.hurt == Hurt::No
        {
            self.nemesis.tails.insert(index, node.disk.copy());
            self.undo_later(strike.lasts, Undo::Shorten(index));
        }
    }

    /// The end of a journal is lost.
    pub(crate) fn shorten(&mut self, index: NodeIndex) {
        let copy = self.nemesis.tails.remove(&index);
        if let Some(copy) = copy
            && self.faults_on
            && self.may_turn_back(index)
        {
            self.tally.count(Kind::Shorten);
            self.turn_back(index, &copy);
        }
    }

    /// A node is started on the disk of another. It must say so, and touch nothing.
    fn swap_disks(&mut self, strike: &Strike) {
        let (index, other) = (strike.node, strike.other);
        let Some(copy) = self.nodes.get(other).map(|other| other.disk.copy()) else {
            return;
        };
        if index == other || !copy.has_life() || self.life_of(index).is_none() {
            return;
        }
        self.tally.count(Kind::Foreign);
        self.kill(index, false);
        let wall = self.nodes.get(index).map(|node| node.clock.wall(self.now));
        let (Some(node), Some(wall)) = (self.nodes.get(index), wall) else {
            return;
        };
        match node.disk.try_other(&copy, wall) {
            Err(Error::Foreign { .. }) => {}
            // It cannot be read: that is a refusal, too.
            Err(Error::Corrupt { .. } | Error::Lost { .. }) if self.is_hurt(other) => {}
            other => {
                let words = format!("n{index} on the disk of n{other:?} does not refuse it");
                self.fail("disk", words);
            }
        }
    }

    fn is_hurt(&self, index: NodeIndex) -> bool {
        let node = self.nodes.get(index);
        node.is_some_and(|node| node.hurt != Hurt::No)
    }

    /// A copy of a disk is taken, and the last one that was taken is put back: for a disk that has gone back in time
    /// the same holds as for one that is empty.
    fn turn_back_disk(&mut self, index: NodeIndex) {
        let may = self.may_turn_back(index);
        let Some(node) = self
            .nodes
            .get_mut(index)
            .filter(|node| node.hurt == Hurt::No)
        else {
            return;
        };
        let copy = node.disk.copy();
        let old = self.nemesis.copies.insert(index, copy);
        if let Some(old) = old
            && may
        {
            self.tally.count(Kind::OldCopy);
            self.turn_back(index, &old);
        }
    }

    /// Whether a disk may lose something in silence: only peers that remember can tell, so all of its region are there, and
    /// stay until it has caught up (see [`World::is_witness`]).
    fn may_turn_back(&self, index: NodeIndex) -> bool {
        let id = self.id_of(index);
        let mates = self.cluster.region_mates(index).into_iter();
        let mut mates = mates.filter(|mate| *mate != index);
        let remembers = |mate: NodeIndex| {
            let node = self.nodes.get(mate);
            let is_sound = node.is_some_and(|node| {
                let hears = node.hears_all(self.now, id.as_slice());
                hears && node.disk.trouble() == Trouble::default() && node.armed.is_none()
            });
            is_sound && !self.is_paused(mate) && !self.is_witness(mate)
        };
        self.may_lose_disk(index) && mates.all(remembers)
    }

    /// Whether another node of its region stands on a disk that has lost something in silence. This one may be the only one
    /// that knows, so it is not stopped until the other has caught up: that would be two failures at once.
    pub(crate) fn is_witness(&self, index: NodeIndex) -> bool {
        let mates = self.cluster.region_mates(index).into_iter();
        let mut others = mates.filter(|mate| *mate != index);
        others.any(|mate| (self.nodes.get(mate)).is_some_and(|node| node.is_turned_back))
    }

    fn turn_back(&mut self, index: NodeIndex, old: &DiskCopy) {
        let held = self.held_by_mates(index);
        self.kill(index, false);
        self.put_back(index, old);
        if let Some(node) = self.nodes.get_mut(index) {
            node.refill = Some(held);
        }
    }

    /// What the replicas of a node's partitions in its region hold.
    fn held_by_mates(&self, index: NodeIndex) -> BTreeMap<PartitionId, Position> {
        let mates = self.cluster.region_mates(index).into_iter();
        let mates: Vec<NodeIndex> = mates.filter(|mate| *mate != index).collect();
        self.held_by(&mates)
    }

    /// What any of these nodes holds.
    fn held_by(&self, nodes: &[NodeIndex]) -> BTreeMap<PartitionId, Position> {
        let mut held: BTreeMap<PartitionId, Position> = BTreeMap::new();
        let nodes = nodes.iter().filter_map(|node| self.nodes.get(*node));
        for (partition, position) in nodes.flat_map(|node| node.disk.positions()) {
            held.entry(partition).or_default().join(&position);
        }
        held
    }

    /// Copies of all disks of a region are taken, and the last ones are put back, if all that the region has is in
    /// another one, too.
    fn turn_back_region(&mut self, node: NodeIndex) {
        let mates = self.cluster.region_mates(node);
        let Some(first) = mates.first().copied() else {
            return;
        };
        let may = mates.iter().all(|mate| self.is_whole(*mate)) && self.is_held_elsewhere(&mates);
        if mates
            .iter()
            .filter_map(|mate| self.nodes.get(*mate))
            .any(|mate| mate.hurt != Hurt::No || mate.refill.is_some())
        {
            return;
        }
        let copy = |mate: &NodeIndex| Some((*mate, self.nodes.get(*mate)?.disk.copy()));
        let copies = mates.iter().filter_map(copy).collect();
        let old = self.nemesis.region_copies.insert(first, copies);
        if let Some(old) = old
            && may
        {
            self.tally.count(Kind::OldRegion);
            let held = self.held_by(&mates);
            for (mate, copy) in &old {
                self.turn_back(*mate, copy);
            }
            for (mate, _) in &old {
                if let Some(node) = self.nodes.get_mut(*mate) {
                    node.refill = Some(held.clone());
                }
            }
        }
    }

    /// Whether a majority of the replicas of some other region has all that these nodes have.
    fn is_held_elsewhere(&self, nodes: &[NodeIndex]) -> bool {
        self.held_by(nodes).iter().all(|(partition, position)| {
            let regions = self.cluster.placement.regions(*partition).iter();
            regions
                .filter(|(_, replicas)| {
                    let is_here = |id: &NodeId| {
                        self.cluster
                            .index_of(*id)
                            .is_some_and(|i| nodes.contains(&i))
                    };
                    !replicas.iter().any(is_here)
                })
                .any(|(_, replicas)| {
                    let has = |id: &&NodeId| {
                        self.cluster.index_of(**id).is_some_and(|index| {
                            self.is_whole(index) && self.has_reached(index, *partition, position)
                        })
                    };
                    replicas.len() < 2 * replicas.iter().filter(has).count()
                })
        })
    }

    fn has_reached(&self, index: NodeIndex, partition: PartitionId, position: &Position) -> bool {
        let positions = self.nodes.get(index).map(|node| node.disk.positions());
        positions
            .into_iter()
            .flatten()
            .any(|(id, mine)| id == partition && mine.includes(position))
    }

    /// Whether a node runs on a sound disk that lacks nothing, and serves.
    pub(crate) fn is_whole(&self, index: NodeIndex) -> bool {
        self.nodes.get(index).is_some_and(|node| {
            let is_sound = node.refill.is_none() && node.hurt == Hurt::No;
            is_sound && !node.is_dead && node.is_serving(self.now)
        })
    }

    /// Whether a node's disk may go: of the replicas of each of its partitions in its region a majority is left that
    /// is whole.
    pub(crate) fn may_lose_disk(&self, node: NodeIndex) -> bool {
        let Some(region) = self.cluster.region_of(node) else {
            return false;
        };
        let Some(id) = self.id_of(node) else {
            return false;
        };
        let placement = &self.cluster.placement;
        let mut partitions = placement.partitions_of(id).iter();
        partitions.all(|partition| {
            let replicas = placement.replicas(*partition, region.id);
            let is_left = |id: &&NodeId| {
                let index = self.cluster.index_of(**id);
                index.is_some_and(|index| index != node && self.is_whole(index))
            };
            replicas.len() < 2 * replicas.iter().filter(is_left).count()
        })
    }

    /// A node's store has failed: it stops, and comes back as its error says. Only disks that were struck may fail.
    pub(crate) fn on_disk_error(&mut self, index: NodeIndex, deed: &str, error: &Error) {
        self.trace.note(self.now, [23, index as u64, 0], || {
            format!("n{index} cannot {deed}: {error}")
        });
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let is_explained = match error {
            Error::Corrupt { .. } | Error::Lost { .. } => node.hurt != Hurt::No,
            Error::Engine { .. } => node.is_troubled,
            Error::Foreign { .. }
            | Error::InUse
            | Error::File { .. }
            | Error::Panicked { .. }
            | Error::Hangs { .. }
            | Error::Damaged { .. }
            | Error::Thread(_)
            | Error::Stopped => false,
        };
        if !is_explained {
            let words = format!("{deed} on n{index}: {error}");
            return self.fail("disk", words);
        }
        if !node.disk.has_stopped() {
            let words = format!("the store of n{index} goes on after it could not {deed}");
            return self.fail("disk", words);
        }
        self.tally.take(super::paths::STOPPED);
        if node.running.is_some() {
            self.crash(index, false);
        } else {
            node.disk.close();
        }
        if let Error::Corrupt { .. } | Error::Lost { .. } = error {
            self.tally.take(super::paths::CHECKSUM);
            self.tally.take(super::paths::REPLACED);
            self.wipe_and_fill(index);
        }
        let at = self.now + START_AGAIN + self.rng.u64(0..=START_AGAIN);
        self.schedule(at, Event::Start { node: index });
    }

    /// A node that was armed to die while its disk works does so.
    pub(crate) fn dies_amid_sync(&mut self, index: NodeIndex, armed: Option<Armed>, sync: u64) {
        if armed == Some(Armed::AmidSync) {
            if let Some(node) = self.nodes.get_mut(index) {
                node.armed = None;
            }
            let at = self.now + self.rng.u64(0..=sync);
            self.schedule(at, Event::Torn { node: index });
        }
    }
}
