//! A node's disk: changes queue up, are staged together, and become durable an fsync later.
//!
//! The engine outlives the node. What was staged but not synced when the node crashed is gone, unless the
//! sync had just ended. The world decides when each of these happens.

use std::collections::{BTreeMap, VecDeque};

use crate::model::Ticket;
use crate::model::{
    Answer, Change, Duration, Effect, KeyspaceId, Limits, NodeId, PartitionId, Position, Query,
    Row, RowKey, Wall,
};
use bytes::Bytes;

use crate::storage::{
    Batch, Door, Engine, Error, Memory, MemoryDisk, OpenOptions, Opened, Snapshot, Space, Trouble,
};

use super::Bug;

/// Rows that a clear takes with it: so few that also a small collection is swept for a while.
const SWEEP_ROWS: usize = 2;

/// The ticket of changes that a planted bug makes.
pub(crate) const FORGED: Ticket = Ticket(u64::MAX);

/// The rows of a partition.
pub(crate) type Rows = BTreeMap<RowKey, Row>;

/// Where a batch stands.
#[derive(Debug)]
enum Phase {
    /// Nothing is under way.
    Idle,
    /// The world will stage what is queued.
    Waiting,
    /// Staged, not yet on disk.
    Syncing(Vec<(Ticket, Effect)>),
}

/// What a crash did to a batch that was staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// There was none.
    Nothing,
    /// It is gone.
    Unsynced,
    /// It had just become durable, and nobody was told.
    Untold,
}

/// What a node's door is opened with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The node.
    pub(crate) node: NodeId,
    /// The partitions it holds.
    pub(crate) partitions: Vec<PartitionId>,
    /// Partitions of every keyspace.
    pub(crate) partition_count: u16,
    /// The limits.
    pub(crate) limits: Limits,
    /// How long keyspaces keep versions that lost.
    pub(crate) conflicts_kept: BTreeMap<KeyspaceId, Duration>,
}

/// A copy of a disk, as it was when it was taken.
#[derive(Debug)]
pub(crate) struct DiskCopy(MemoryDisk);

impl DiskCopy {
    /// Whether a node ever started on it.
    pub(crate) fn has_life(&self) -> bool {
        let life = self.0.engine().snapshot().get(Space::Meta, LIFE_KEY);
        life.is_ok_and(|life| life.is_some())
    }
}

/// A node's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    setup: Setup,
    bug: Option<Bug>,
    disk: MemoryDisk,
    door: Option<Door<Memory>>,
    queue: VecDeque<(Ticket, Change)>,
    phase: Phase,
    /// What the disk said of the life before the present one.
    old_life: Option<Bytes>,
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(setup: Setup, bug: Option<Bug>) -> Self {
        Self {
            setup,
            bug,
            disk: new_disk(bug),
            door: None,
            queue: VecDeque::new(),
            phase: Phase::Idle,
            old_life: None,
        }
    }

    /// Opens the door on what survived.
    pub(crate) fn open(&mut self, wall: Wall, chance: u64) -> Result<Opened, Error> {
        let options = self.options(wall, chance);
        let options = if self.bug == Some(Bug::ReuseDot) {
            self.old_life = self.disk.engine().snapshot().get(Space::Meta, LIFE_KEY)?;
            // A new incarnation is one more than the one before.
            OpenOptions {
                wall: Wall(0),
                chance: 0,
                ..options
            }
        } else {
            options
        };
        let (door, opened) = Door::open(self.disk.engine(), options)?;
        self.disk.sync();
        self.door = Some(door);
        Ok(opened)
    }

    fn options(&self, wall: Wall, chance: u64) -> OpenOptions {
        OpenOptions {
            node: self.setup.node,
            partitions: self.setup.partitions.clone(),
            partition_count: self.setup.partition_count,
            limits: self.setup.limits.clone(),
            conflicts_kept: self.setup.conflicts_kept.clone(),
            wall,
            chance,
            sweep_rows: SWEEP_ROWS,
        }
    }

    /// Opens this node's door on the disk of another.
    pub(crate) fn try_other(&self, other: &DiskCopy, wall: Wall) -> Result<(), Error> {
        Door::open(other.0.engine(), self.options(wall, 0)).map(|_| ())
    }

    /// The disk itself, to be damaged.
    pub(crate) fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    /// What is wrong with the disk.
    pub(crate) fn trouble(&self) -> Trouble {
        self.disk.trouble()
    }

    /// What is wrong with the disk from now on.
    pub(crate) fn set_trouble(&self, trouble: Trouble) {
        self.disk.set_trouble(trouble);
    }

    /// Reads everything: an error says what is damaged.
    pub(crate) fn scrub(&self) -> Result<(), Error> {
        self.disk.verify()?;
        match self.verify_digests()?.first() {
            Some(_) => Err(Error::Corrupt {
                what: "a digest is not that of its rows",
            }),
            None => Ok(()),
        }
    }

    /// Whether the store takes nothing any more: it failed, or is closed.
    pub(crate) fn has_stopped(&mut self) -> bool {
        match self.door.as_mut() {
            Some(door) => door.stage(Wall(0), &[]).is_err(),
            None => true,
        }
    }

    /// Whether a batch is on its way to the disk.
    pub(crate) fn is_syncing(&self) -> bool {
        matches!(self.phase, Phase::Syncing(_))
    }

    /// Queues a change; true if the world must call [`Self::stage`] soon.
    pub(crate) fn push(&mut self, ticket: Ticket, change: Change) -> bool {
        self.queue.push_back((ticket, change));
        self.wants_stage()
    }

    /// Whether the world must call [`Self::stage`] soon; says so once.
    pub(crate) fn wants_stage(&mut self) -> bool {
        let wants = matches!(self.phase, Phase::Idle) && !self.queue.is_empty();
        if wants {
            self.phase = Phase::Waiting;
        }
        wants
    }

    /// Changes that wait to be staged.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Stages everything that is queued.
    pub(crate) fn stage(&mut self, wall: Wall) -> Result<Vec<(Ticket, Effect)>, Error> {
        let Some(door) = self.door.as_mut() else {
            return Ok(Vec::new());
        };
        let (tickets, changes): (Vec<Ticket>, Vec<Change>) = self.queue.drain(..).unzip();
        let effects = door.stage(wall, &changes)?;
        if self.bug == Some(Bug::AckBeforeSync) {
            door.commit()?;
        }
        let staged: Vec<_> = tickets.into_iter().zip(effects).collect();
        self.phase = Phase::Syncing(staged.clone());
        Ok(staged)
    }

    /// The sync ended: what is durable now.
    pub(crate) fn sync(&mut self) -> Result<Vec<(Ticket, Effect)>, Error> {
        let Some(door) = self.door.as_mut() else {
            return Ok(Vec::new());
        };
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle | Phase::Waiting => Ok(Vec::new()),
            Phase::Syncing(staged) => {
                // A no-op on a disk that lies: there the commit came first, and this is the sync.
                door.commit()?;
                self.disk.sync();
                Ok(staged)
            }
        }
    }

    /// Answers from the last durable snapshot; nothing if the door is closed.
    pub(crate) fn answer(&self, query: &Query) -> Option<Answer> {
        Some(self.door.as_ref()?.reader().answer(query))
    }

    /// How far each partition is on disk.
    pub(crate) fn positions(&self) -> Vec<(PartitionId, Position)> {
        let position = |partition: PartitionId| {
            let nodes = Vec::new();
            match self.answer(&Query::Digest { partition, nodes })? {
                Answer::Digest { position, .. } => Some((partition, position)),
                Answer::Rows(_)
                | Answer::Selected { .. }
                | Answer::Count(_)
                | Answer::Graves { .. }
                | Answer::Log(_)
                | Answer::Leaf { .. }
                | Answer::Sums { .. }
                | Answer::Scan { .. }
                | Answer::Unreadable { .. } => None,
            }
        };
        let partitions = self.setup.partitions.iter().copied();
        partitions.filter_map(position).collect()
    }

    /// All rows of a partition, tombstones included, and the root of its digest; nothing if the door is
    /// closed or the partition is not here.
    pub(crate) fn dump(&self, partition: PartitionId) -> Result<Option<(Rows, u128)>, Error> {
        let Some(reader) = self.door.as_ref().map(Door::reader) else {
            return Ok(None);
        };
        let mut rows = BTreeMap::new();
        reader.for_each_row(partition, |key, row| {
            rows.insert(key, row);
        })?;
        Ok(reader.root(partition).map(|root| (rows, root)))
    }

    /// The partitions whose digests are not those of their rows.
    pub(crate) fn verify_digests(&self) -> Result<Vec<PartitionId>, Error> {
        match &self.door {
            Some(door) => door.reader().verify_digests(),
            None => Ok(Vec::new()),
        }
    }

    /// The node dies. If a batch was staged, `is_synced` says whether it reached the disk in time.
    pub(crate) fn crash(&mut self, is_synced: bool) -> Result<Loss, Error> {
        let staged = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle | Phase::Waiting => false,
            Phase::Syncing(_) => true,
        };
        self.queue.clear();
        let Some(mut door) = self.door.take() else {
            return Ok(Loss::Nothing);
        };
        if staged
            && is_synced
            && let Err(error) = door.commit()
        {
            self.disk.crash(0);
            return Err(error);
        }
        if staged && is_synced {
            self.disk.sync();
        }
        drop(door);
        self.disk.crash(0);
        if self.bug == Some(Bug::ReuseDot) {
            self.forge_life()?;
        }
        Ok(match (staged, is_synced) {
            (false, _) => Loss::Nothing,
            (true, false) => Loss::Unsynced,
            (true, true) => Loss::Untold,
        })
    }

    /// The node stops as it should: what was staged becomes durable, and the next life goes on with the same
    /// incarnation.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.sync()?;
        self.queue.clear();
        self.phase = Phase::Idle;
        match self.door.take() {
            Some(door) => door.close(),
            None => Ok(()),
        }
    }

    /// The node is gone, and what was not synced with it.
    pub(crate) fn close(&mut self) {
        self.queue.clear();
        self.phase = Phase::Idle;
        self.door = None;
        self.disk.crash(0);
    }

    /// The disk is replaced by an empty one, on which only the last life is noted. Only while the door is closed.
    pub(crate) fn wipe(&mut self) {
        self.disk = self.disk.emptied();
        self.disk.set_lazy(self.bug == Some(Bug::AckBeforeSync));
    }

    /// A copy of what is on the disk now.
    pub(crate) fn copy(&self) -> DiskCopy {
        DiskCopy(self.disk.copy())
    }

    /// The disk is replaced by a copy that was taken before. Only while the door is closed.
    pub(crate) fn put_back(&mut self, copy: &DiskCopy) {
        self.disk = copy.0.copy();
        self.disk.crash(0);
    }

    /// Whether changes are reported as durable as soon as they are staged.
    pub(crate) fn lies(&self) -> bool {
        self.bug == Some(Bug::AckBeforeSync)
    }

    /// The planted bug [`Bug::ReuseDot`]: puts back what the disk said of the life before, so that the next one is
    /// the present one again.
    fn forge_life(&mut self) -> Result<(), Error> {
        let mut batch = Batch::default();
        self.disk.forget_life();
        if let Some(life) = self.old_life.clone() {
            batch.put(Space::Meta, LIFE_KEY.to_vec(), life);
            self.disk.engine().commit(batch)?;
            self.disk.sync();
        }
        Ok(())
    }
}

/// Where the store keeps the last life of the node.
const LIFE_KEY: &[u8] = b"I";

fn new_disk(bug: Option<Bug>) -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.set_lazy(bug == Some(Bug::AckBeforeSync));
    disk
}
