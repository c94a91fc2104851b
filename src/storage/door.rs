//! The door: opening, committing, closing. What each change does is found from `stage`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::hlc::Hlc;
use crate::model::{
    Actor, Duration, Incarnation, KeyspaceId, Limits, NodeId, PartitionId, PartitionState,
    Timestamp, Wall,
};

use super::engine::{Batch, Engine, Snapshot, Space};
use super::form::{self, MarksForm};
use super::load::{load_life, load_partition, load_remembered, next_life};
use super::partition::Partition;
use super::published::{Published, Shared};
use super::{Error, Reader, Tail, keys, ring};

/// How to open a store.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whose store it is.
    pub node: NodeId,
    /// The partitions it holds; what is stored of others is left alone.
    pub partitions: Vec<PartitionId>,
    /// Partitions of every keyspace.
    pub partition_count: u16,
    /// The limits.
    pub limits: Limits,
    /// How long keyspaces keep this node's versions that lost to concurrent ones; one that is not named keeps none.
    pub conflicts_kept: BTreeMap<KeyspaceId, Duration>,
    /// The wall clock, for a new incarnation.
    pub wall: Wall,
    /// Chance: 20 bits of it are for a new incarnation, and it is the seed of when and where the scrub begins.
    pub chance: u64,
    /// Rows that a clear takes away with it, and a piece of its sweep later: what other writes may have to wait for.
    pub sweep_rows: usize,
}

/// As many as one batch may well take: some milliseconds.
pub const SWEEP_ROWS: usize = 1000;

/// What was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Opened {
    /// This life of the node.
    pub actor: Actor,
    /// Whether the last stop was clean, so that nothing that was staged is lost.
    pub was_clean: bool,
    /// Whether the disk was empty.
    pub is_new: bool,
    /// The partitions, in the order asked.
    pub partitions: Vec<PartitionState>,
}

/// The one door of every change. One thread owns it.
///
/// Invariant: a dot is given once. Numbers go up within an incarnation, and every start takes a new one, durably,
/// before anything else.
#[derive(Debug)]
pub struct Door<E: Engine> {
    pub(super) engine: E,
    pub(super) actor: Actor,
    pub(super) partition_count: u16,
    pub(super) limits: Limits,
    pub(super) conflicts_kept: BTreeMap<KeyspaceId, Duration>,
    pub(super) sweep_rows: usize,
    pub(super) clock: Hlc,
    clock_bound: Timestamp,
    batch_sequence: u64,
    /// The last committed state, under what is staged.
    pub(super) snapshot: E::Snapshot,
    /// Rows, log entries and graves that are staged.
    pub(super) staged: Batch,
    /// Marks as staged; those in `dirty` are not yet in the batch.
    pub(super) partitions: BTreeMap<PartitionId, Partition>,
    pub(super) dirty: BTreeSet<(PartitionId, Actor)>,
    pub(super) dirty_partitions: BTreeSet<PartitionId>,
    /// What is to be added to leaves.
    pub(super) leaves: BTreeMap<(PartitionId, u16), u128>,
    shared: Shared<E::Snapshot>,
    is_broken: bool,
}

impl<E: Engine> Door<E> {
    /// Opens the store on an engine. When this returns, the incarnation is on disk and the mark of a clean stop
    /// is not.
    ///
    /// # Errors
    /// The stored state is damaged or another node's, or the engine fails.
    pub fn open(mut engine: E, options: OpenOptions) -> Result<(Self, Opened), Error> {
        let snapshot = engine.snapshot();
        let known = load_life(&snapshot, &options)?;
        let was_clean = known.is_some() && snapshot.get(Space::Meta, keys::CLEAN)?.is_some();
        let tail = engine.tail();
        let life = next_life(known, tail, &options);
        let clock_bound = match snapshot.get(Space::Meta, keys::CLOCK)? {
            Some(value) => form::open(Space::Meta, keys::CLOCK, &value)?,
            None => Timestamp::ZERO,
        };
        let batch_sequence = ring::load(&snapshot, tail)? + 1;
        let mut published = BTreeMap::new();
        let mut states = Vec::new();
        for partition in &options.partitions {
            let known = load_partition(&snapshot, *partition, options.partition_count)?;
            let remembered = load_remembered(&snapshot, *partition)?;
            states.push(known.partition.state(*partition, remembered));
            published.insert(*partition, known);
        }

        let mut batch = Batch::default();
        let life_value = form::seal(Space::Meta, keys::LIFE, &life)?;
        batch.put(Space::Meta, keys::LIFE.to_vec(), life_value);
        batch.remove(Space::Meta, keys::CLEAN.to_vec());
        ring::stage(&mut batch, batch_sequence)?;
        engine.commit(batch)?;
        engine.note_tail(Tail {
            incarnation: life.incarnation,
            number: batch_sequence,
        });

        let actor = Actor {
            node: options.node,
            incarnation: Incarnation(life.incarnation),
        };
        let opened = Opened {
            actor,
            was_clean,
            is_new: known.is_none(),
            partitions: states,
        };
        let partitions = published
            .iter()
            .map(|(id, known)| (*id, known.partition.clone()));
        let partitions = partitions.collect();
        let snapshot = engine.snapshot();
        let door = Self {
            engine,
            actor,
            partition_count: options.partition_count,
            clock: Hlc::new(clock_bound, options.limits.max_offset),
            limits: options.limits,
            conflicts_kept: options.conflicts_kept,
            sweep_rows: options.sweep_rows.max(1),
            clock_bound,
            batch_sequence,
            snapshot: snapshot.clone(),
            staged: Batch::default(),
            partitions,
            dirty: BTreeSet::new(),
            dirty_partitions: BTreeSet::new(),
            leaves: BTreeMap::new(),
            shared: Shared::new(Published {
                snapshot,
                partitions: published,
            }),
            is_broken: false,
        };
        Ok((door, opened))
    }

    /// Decides what each change does, in order; later ones see earlier ones. Nothing is on disk or seen by
    /// readers before [`Door::commit`].
    ///
    /// # Errors
    /// A stored row is damaged or the engine fails; the store must not be used any more.
    pub fn stage(
        &mut self,
        wall: Wall,
        changes: &[crate::model::Change],
    ) -> Result<Vec<crate::model::Effect>, Error> {
        self.check()?;
        let effects = changes
            .iter()
            .map(|change| self.stage_one(wall, change))
            .collect();
        self.note_failure(effects)
    }

    /// Makes everything that is staged durable, as a whole, and shows it to readers.
    ///
    /// # Errors
    /// The engine fails; the store must not be used any more, and what was staged may or may not be there after
    /// a restart.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.check()?;
        let result = self.commit_staged();
        self.note_failure(result)
    }

    /// A way to ask; cheap.
    pub fn reader(&self) -> Reader<E::Snapshot> {
        Reader::new(self.shared.clone(), self.partition_count)
    }

    /// The data folder of the engine.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.engine.folder().map(Path::to_owned)
    }

    /// Commits what is staged and marks the stop as clean, so that the next start can say so.
    ///
    /// # Errors
    /// As [`Door::commit`]; the stop is then not clean.
    pub fn close(mut self) -> Result<(), Error> {
        self.commit()?;
        let mut batch = Batch::default();
        let clean = form::seal(Space::Meta, keys::CLEAN, &self.actor.incarnation.0)?;
        batch.put(Space::Meta, keys::CLEAN.to_vec(), clean);
        let reading = self.clock.reading();
        batch.put(
            Space::Meta,
            keys::CLOCK.to_vec(),
            form::seal_clock(reading)?,
        );
        self.commit_batch(batch)
    }

    /// Rows, log entries and notes that are staged.
    pub(super) fn staged_records(&self) -> usize {
        self.staged.len()
    }

    /// Batches that were committed.
    #[cfg(test)]
    pub(super) fn batch_sequence(&self) -> u64 {
        self.batch_sequence
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_broken {
            return Err(Error::Stopped);
        }
        Ok(())
    }

    fn note_failure<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.is_broken |= result.is_err();
        result
    }

    fn commit_staged(&mut self) -> Result<(), Error> {
        self.stage_records()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        self.stage_clock_bound()?;
        let batch = std::mem::take(&mut self.staged);
        self.commit_batch(batch)?;
        self.snapshot = self.engine.snapshot();
        self.publish();
        Ok(())
    }

    /// Puts marks, partitions' records and leaf sums into the batch.
    fn stage_records(&mut self) -> Result<(), Error> {
        for (partition, actor) in &self.dirty {
            let Some(known) = self.partitions.get(partition) else {
                continue;
            };
            let key = keys::marks(*partition, *actor);
            if known.has_retired(*actor) {
                self.staged.remove(Space::Meta, key);
                continue;
            }
            let form = MarksForm::from(known.marks(*actor));
            let value = form::seal(Space::Meta, &key, &form)?;
            self.staged.put(Space::Meta, key, value);
        }
        for partition in &self.dirty_partitions {
            let Some(known) = self.partitions.get(partition) else {
                continue;
            };
            let key = keys::partition(*partition);
            let value = form::seal(Space::Meta, &key, &known.form())?;
            self.staged.put(Space::Meta, key, value);
        }
        let published = self.shared.read();
        for ((partition, leaf), delta) in &self.leaves {
            let before = published
                .partitions
                .get(partition)
                .map_or(0, |known| known.tree.leaf(*leaf));
            let sum = before.wrapping_add(*delta);
            let key = keys::leaf(*partition, *leaf);
            if sum == 0 {
                self.staged.remove(Space::Meta, key);
            } else {
                let value = form::seal(Space::Meta, &key, &sum)?;
                self.staged.put(Space::Meta, key, value);
            }
        }
        Ok(())
    }

    /// Keeps the stored bound at or above the clock. It leads by a part of `max_offset`, so that not every batch
    /// need write it, and a restart does not set the clock further ahead than peers accept.
    fn stage_clock_bound(&mut self) -> Result<(), Error> {
        let reading = self.clock.reading();
        if reading <= self.clock_bound {
            return Ok(());
        }
        let lead = u64::try_from(self.limits.max_offset.as_micros() / 4).unwrap_or(0);
        self.clock_bound = Timestamp {
            micros: reading.micros.saturating_add(lead),
            logical: reading.logical,
        };
        let value = form::seal_clock(self.clock_bound)?;
        self.staged.put(Space::Meta, keys::CLOCK.to_vec(), value);
        Ok(())
    }

    /// Commits a batch under its number. Every batch of a store is committed here or when it is opened.
    fn commit_batch(&mut self, mut batch: Batch) -> Result<(), Error> {
        self.batch_sequence += 1;
        ring::stage(&mut batch, self.batch_sequence)?;
        self.engine.commit(batch)?;
        self.engine.note_tail(Tail {
            incarnation: self.actor.incarnation.0,
            number: self.batch_sequence,
        });
        Ok(())
    }

    /// Shows the committed state to readers.
    fn publish(&mut self) {
        let mut published = self.shared.write();
        published.snapshot = self.snapshot.clone();
        for ((partition, leaf), delta) in std::mem::take(&mut self.leaves) {
            if let Some(known) = published.partitions.get_mut(&partition) {
                known.tree.add(leaf, delta);
            }
        }
        for (partition, actor) in std::mem::take(&mut self.dirty) {
            let known = self.partitions.get(&partition);
            let marks = known.and_then(|known| known.logs.get(&actor).copied());
            if let (Some(known), Some(marks)) = (published.partitions.get_mut(&partition), marks) {
                known.partition.logs.insert(actor, marks);
            }
        }
        for partition in std::mem::take(&mut self.dirty_partitions) {
            let shown = published.partitions.get_mut(&partition);
            if let (Some(shown), Some(known)) = (shown, self.partitions.get(&partition)) {
                shown.partition = known.clone();
            }
        }
    }
}
