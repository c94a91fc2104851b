//! A node of the simulated cluster and its lives: start, crash, clean stop, wipe, pause.

use std::collections::BTreeMap;

use crate::model::Ticket;
use crate::model::{Effect, NodeId, PartitionId, Position, Time};
use crate::protocol::{Config, Input, Machine, Now, PeerView, RequestId};

use super::clock::Clock;
use super::cluster::NodeIndex;
use super::disk::{Disk, DiskCopy, FORGED, Loss};
use super::kinds::Kind;
use super::world::{Event, World};

/// Where in its work a node will crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Armed {
    /// Between two outputs of one step, by a fault of this kind.
    AmidOutputs(Kind),
    /// When changes queue up before its disk.
    Queued,
    /// While its disk writes a batch.
    AmidSync,
    /// After staging, before the sync ends.
    BeforeSync,
    /// After the sync, before the machine hears of it.
    AfterSync,
}

/// Whether a disk was damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hurt {
    /// It was not, or is another by now.
    No,
    /// Somewhere.
    Somewhere,
    /// So that it must be refused when it is opened.
    Unfit,
}

/// A node.
#[expect(
    clippy::struct_excessive_bools,
    reason = "what was once wrong with its disk, what is, and whether it is down for good do not hang together"
)]
#[derive(Debug)]
pub(crate) struct SimNode {
    /// Its id.
    pub(crate) id: NodeId,
    /// Counts its lives; events of an older life are void.
    pub(crate) life: u32,
    /// Its disk.
    pub(crate) disk: Disk,
    /// Its wall clock.
    pub(crate) clock: Clock,
    /// What runs, unless it is down.
    pub(crate) running: Option<Running>,
    /// Its events wait until then.
    pub(crate) paused_until: u64,
    /// Added to each fsync.
    pub(crate) sync_extra: u64,
    /// Each of its steps takes so long, in microseconds.
    pub(crate) step_micros: u64,
    /// Its events wait until its last step is done.
    pub(crate) busy_until: u64,
    /// Until then it may be late because it was slow.
    pub(crate) slow_until: u64,
    /// Where it will crash.
    pub(crate) armed: Option<Armed>,
    /// Its disk was wiped or went back in time: what it must hold again before it counts as filled.
    pub(crate) refill: Option<BTreeMap<PartitionId, Position>>,
    /// Its disk is an old copy, or has lost its end, and lacks something still.
    pub(crate) is_turned_back: bool,
    /// Whether its disk was damaged.
    pub(crate) hurt: Hurt,
    /// Its disk once failed.
    pub(crate) is_troubled: bool,
    /// It stays down to the end.
    pub(crate) is_dead: bool,
}

/// One life of a node.
#[derive(Debug)]
pub(crate) struct Running {
    /// The machine.
    pub(crate) machine: Machine,
    /// The node's monotonic time is the world's plus this.
    pub(crate) time_offset: u64,
    /// When the next wake event comes.
    pub(crate) wake_at: Option<u64>,
    /// Requests in flight: client, and the operation's id.
    pub(crate) requests: BTreeMap<RequestId, (usize, u64)>,
    /// The next request's name.
    pub(crate) next_request: u64,
    /// The generation of the connection to each peer, as far as the machine was told.
    pub(crate) peers: Vec<Option<u64>>,
}

impl SimNode {
    /// A node that is down and has an empty disk.
    pub(crate) fn new(id: NodeId, disk: Disk, clock: Clock) -> Self {
        Self {
            id,
            life: 0,
            disk,
            clock,
            running: None,
            paused_until: 0,
            sync_extra: 0,
            step_micros: 0,
            busy_until: 0,
            slow_until: 0,
            armed: None,
            refill: None,
            is_turned_back: false,
            hurt: Hurt::No,
            is_troubled: false,
            is_dead: false,
        }
    }

    /// The present as this node's loop reads it.
    pub(crate) fn now(&self, now: u64) -> Now {
        let offset = self.running.as_ref().map_or(0, |life| life.time_offset);
        Now {
            time: Time(now + offset),
            wall: self.clock.wall(now),
        }
    }

    /// Whether it runs and every partition on it serves.
    pub(crate) fn is_serving(&self, now: u64) -> bool {
        let at = self.now(now);
        self.running.as_ref().is_some_and(|running| {
            let view = running.machine.view(at);
            view.serving == view.partitions
        })
    }
}

impl SimNode {
    /// Whether it runs and hears all these peers.
    pub(crate) fn hears_all(&self, now: u64, peers: &[NodeId]) -> bool {
        let at = self.now(now);
        self.running.as_ref().is_some_and(|running| {
            let view = running.machine.view(at);
            let heard = |peer: &&PeerView| peers.contains(&peer.node);
            view.peers.iter().filter(heard).all(|peer| peer.is_up)
        })
    }

    /// Logs that it has something of.
    pub(crate) fn logs(&self) -> usize {
        let positions = self.disk.positions().into_iter();
        positions.map(|(_, position)| position.reaches.len()).sum()
    }

    /// Whether it has again what was to be filled in.
    pub(crate) fn has_all_again(&self) -> bool {
        let positions: BTreeMap<PartitionId, Position> =
            self.disk.positions().into_iter().collect();
        self.refill.iter().flatten().all(|(partition, wanted)| {
            let mine = positions.get(partition);
            mine.is_none_or(|mine| mine.includes(wanted))
        })
    }
}

impl World {
    /// A node starts on what its disk holds.
    pub(crate) fn on_start(&mut self, index: NodeIndex) {
        let now = self.now;
        let chance = self.rng.u64(..);
        let time_offset = self.rng.u64(1_000_000_000..=2_000_000_000);
        let count = self.nodes.len();
        let placement = self.cluster.placement.clone();
        let limits = self.cluster.topology.limits.clone();
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        if node.running.is_some() || node.is_dead {
            return;
        }
        let opened = match node.disk.open(node.clock.wall(now), chance) {
            Ok(opened) => opened,
            Err(error) => return self.on_disk_error(index, "open", &error),
        };
        if node.hurt == Hurt::Unfit {
            let words = format!("n{index} starts although a batch is missing");
            return self.fail("disk", words);
        }
        node.life += 1;
        let life = node.life;
        let config = Config {
            node: node.id,
            actor: opened.actor,
            placement,
            limits,
        };
        let at = Now {
            time: Time(now + time_offset),
            wall: node.clock.wall(now),
        };
        self.checks.on_opened(index, &opened.partitions);
        node.running = Some(Running {
            machine: Machine::new(at, config, opened.partitions),
            time_offset,
            wake_at: None,
            requests: BTreeMap::new(),
            next_request: 1,
            peers: vec![None; count],
        });
        let facts = [1, index as u64, opened.actor.incarnation.0];
        let clean = opened.was_clean;
        self.trace.note(now, facts, || {
            format!(
                "n{index} starts, life {life}, actor {}, clean {clean}",
                opened.actor
            )
        });
        self.schedule_wake(index);
        self.look_at_pairs_of(index);
        self.check_now();
    }

    /// A node dies now. Whether a staged batch was synced in time is up to `is_synced`.
    pub(crate) fn crash(&mut self, index: NodeIndex, is_synced: bool) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let Some(running) = node.running.take() else {
            return;
        };
        let at = Now {
            time: Time(self.now + running.time_offset),
            wall: node.clock.wall(self.now),
        };
        self.tally.bank(&running.machine.view(at));
        node.paused_until = 0;
        node.busy_until = 0;
        node.armed = None;
        let loss = match node.disk.crash(is_synced) {
            Ok(loss) => loss,
            // It failed while it died: nobody was told of the batch.
            Err(_) => Loss::Unsynced,
        };
        match loss {
            Loss::Nothing => {}
            Loss::Unsynced => self.tally.count(Kind::LoseUnsynced),
            Loss::Untold => self.tally.count(Kind::KillAfterSync),
        }
        self.trace.note(self.now, [2, index as u64, 0], || {
            format!("n{index} crashes, batch: {loss:?}")
        });
        self.look_at_pairs_of(index);
    }

    /// A node crashes and starts again after a while.
    pub(crate) fn kill(&mut self, index: NodeIndex, is_synced: bool) {
        if self.life_of(index).is_none() {
            return;
        }
        self.crash(index, is_synced);
        let most = if self.rng.bool() { 300_000 } else { 4_000_000 };
        let at = self.now + self.rng.u64(20_000..=most);
        self.schedule(at, Event::Start { node: index });
    }

    /// A node stops as it should.
    pub(crate) fn stop(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let at = node.now(self.now);
        let Some(running) = node.running.take() else {
            return;
        };
        self.tally.bank(&running.machine.view(at));
        node.paused_until = 0;
        node.busy_until = 0;
        node.armed = None;
        if let Err(error) = node.disk.stop() {
            return self.on_disk_error(index, "stop", &error);
        }
        self.trace
            .note(self.now, [3, index as u64, 0], || format!("n{index} stops"));
        self.look_at_pairs_of(index);
    }

    /// A node that is down gets an empty disk.
    pub(crate) fn wipe(&mut self, index: NodeIndex) {
        if let Some(node) = self.nodes.get_mut(index)
            && node.running.is_none()
        {
            node.disk.wipe();
            node.refill = Some(BTreeMap::new());
            node.is_turned_back = false;
            node.hurt = Hurt::No;
            self.checks.on_wiped(index);
            self.trace.note(self.now, [4, index as u64, 0], || {
                format!("n{index} is wiped")
            });
        }
    }

    /// A node that is down gets an old copy of its disk.
    pub(crate) fn put_back(&mut self, index: NodeIndex, copy: &DiskCopy) {
        if let Some(node) = self.nodes.get_mut(index)
            && node.running.is_none()
        {
            node.disk.put_back(copy);
            node.refill = Some(BTreeMap::new());
            node.is_turned_back = true;
            node.hurt = Hurt::No;
            self.checks.on_wiped(index);
            self.trace.note(self.now, [21, index as u64, 0], || {
                format!("n{index} gets an old copy of its disk")
            });
        }
    }

    /// A node dies while its disk writes a batch, if it still does: the batch is there as a whole, or not at all.
    pub(crate) fn on_torn(&mut self, index: NodeIndex) {
        let is_writing = self
            .nodes
            .get(index)
            .is_some_and(|node| node.running.is_some() && node.disk.is_syncing());
        if is_writing && self.faults_on {
            self.tally.count(Kind::Torn);
            let is_synced = self.rng.bool();
            self.kill(index, is_synced);
        }
    }

    /// A node's disk stages what is queued.
    pub(crate) fn on_stage(&mut self, index: NodeIndex, life: u32) {
        let now = self.now;
        let Some(node) = self.live(index, life) else {
            return;
        };
        let wall = node.clock.wall(now);
        let staged = match node.disk.stage(wall) {
            Ok(staged) => staged,
            Err(error) => return self.on_disk_error(index, "stage", &error),
        };
        let lies = node.disk.lies();
        let staged = without_forged(staged);
        let (extra, armed) = (node.sync_extra, node.armed);
        let positions = if lies {
            node.disk.positions()
        } else {
            Vec::new()
        };
        if 1 < staged.len() {
            self.tally.take(super::paths::GROUPED);
        }
        self.tally.see_effects(&staged);
        self.checks.on_staged(index, wall, &staged);
        self.checks.on_believed(index, &positions);
        let profile = &self.cluster.profile;
        let mut sync = self.rng.u64(50..=profile.sync_micros_max) + extra;
        if self.faults_on && super::network::happens(&mut self.rng, profile.slow_sync_ppm) {
            self.tally.count(Kind::SlowSync);
            sync += self.rng.u64(100_000..=400_000);
        }
        self.schedule(now + sync, Event::Sync { node: index, life });
        self.dies_amid_sync(index, armed, sync);
        let tickets: Vec<Ticket> = staged.iter().map(|(ticket, _)| *ticket).collect();
        let count = staged.len();
        self.trace.note(now, [5, index as u64, count as u64], || {
            format!("n{index} stages {staged:?}")
        });
        self.step(index, Input::Staged(staged));
        if lies {
            self.step(index, Input::Durable(tickets));
        }
        if armed == Some(Armed::BeforeSync) {
            self.kill(index, false);
        }
        self.check_now();
    }

    /// A node's sync ended.
    pub(crate) fn on_sync(&mut self, index: NodeIndex, life: u32) {
        let now = self.now;
        let Some(node) = self.live(index, life) else {
            return;
        };
        let staged = match node.disk.sync() {
            Ok(staged) => staged,
            Err(error) => return self.on_disk_error(index, "commit", &error),
        };
        let (lies, armed) = (node.disk.lies(), node.armed);
        let wants_stage = node.disk.wants_stage();
        let positions = node.disk.positions();
        let staged = without_forged(staged);
        self.checks.on_synced(index, &positions);
        let facts = [6, index as u64, staged.len() as u64];
        self.trace.note(now, facts, || {
            format!("n{index} synced {} changes", staged.len())
        });
        if armed == Some(Armed::AfterSync) && !staged.is_empty() {
            self.tally.count(Kind::KillAfterSync);
            return self.kill(index, true);
        }
        if !lies {
            let tickets = staged.into_iter().map(|(ticket, _)| ticket).collect();
            let later = self.rng.u64(1..=100);
            let told = Event::Durable {
                node: index,
                life,
                tickets,
            };
            self.schedule(now + later, told);
        }
        if wants_stage {
            self.schedule_stage(index, life);
        }
        self.check_now();
    }
}

/// A planted bug's own changes are no business of the machine's.
fn without_forged(mut staged: Vec<(Ticket, Effect)>) -> Vec<(Ticket, Effect)> {
    staged.retain(|(ticket, _)| *ticket != FORGED);
    staged
}
