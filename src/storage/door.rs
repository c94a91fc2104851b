//! The door: opening, committing, closing. What each change does is in `stage`, `append` and `sweep`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::digest::Tree;
use crate::hlc::Hlc;
use crate::model::{
    Actor, Incarnation, Limits, NodeId, PartitionId, PartitionState, Timestamp, Wall,
};

use super::engine::{Batch, Engine, Snapshot, Space};
use super::form::{self, LifeForm, MarksForm, PartitionForm};
use super::partition::Partition;
use super::published::{Published, PublishedPartition, Shared};
use super::{Error, Reader, keys};

/// Batches whose sequence numbers are kept: among them a lost one is noticed when the store is opened. More than
/// an engine's journal usually holds would cost more than it shows.
const BATCHES_KEPT: u64 = 8192;

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
    /// The wall clock, for a new incarnation.
    pub wall: Wall,
    /// Chance, for a new incarnation; 20 bits of it are used.
    pub chance: u64,
}

/// What was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Opened {
    /// This life of the node.
    pub actor: Actor,
    /// Whether the last stop was clean, so that the incarnation is the one before.
    pub was_clean: bool,
    /// Whether the disk was empty.
    pub is_new: bool,
    /// The partitions, in the order asked.
    pub partitions: Vec<PartitionState>,
}

/// The one door of every change. One thread owns it.
///
/// Invariant: a dot is given once. Numbers go up within an incarnation, and an incarnation is taken up again only
/// after a clean stop, whose mark is removed, durably, before anything else.
#[derive(Debug)]
pub struct Door<E: Engine> {
    pub(super) engine: E,
    pub(super) actor: Actor,
    pub(super) partition_count: u16,
    pub(super) limits: Limits,
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
        let life = next_life(known, was_clean, &options);
        let clock_bound = match snapshot.get(Space::Meta, keys::CLOCK)? {
            Some(value) => form::open(Space::Meta, keys::CLOCK, &value)?,
            None => Timestamp::ZERO,
        };
        let batch_sequence = load_batch_sequence(&snapshot)?;
        let mut published = BTreeMap::new();
        for partition in &options.partitions {
            published.insert(*partition, load_partition(&snapshot, *partition)?);
        }

        let mut batch = Batch::default();
        let life_value = form::seal(Space::Meta, keys::LIFE, &life)?;
        batch.put(Space::Meta, keys::LIFE.to_vec(), life_value);
        batch.remove(Space::Meta, keys::CLEAN.to_vec());
        engine.commit(batch)?;

        let actor = Actor {
            node: options.node,
            incarnation: Incarnation(life.incarnation),
        };
        let opened = Opened {
            actor,
            was_clean,
            is_new: known.is_none(),
            partitions: options
                .partitions
                .iter()
                .filter_map(|id| Some(published.get(id)?.partition.state(*id)))
                .collect(),
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

    /// Commits what is staged and marks the stop as clean, so that the next start keeps the incarnation.
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
        self.engine.commit(batch)
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
        self.stage_sequence()?;
        self.engine.commit(std::mem::take(&mut self.staged))?;
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
            let form = MarksForm::from(known.marks(*actor));
            let value = form::seal(Space::Meta, &key, &form)?;
            self.staged.put(Space::Meta, key, value);
        }
        for partition in &self.dirty_partitions {
            let is_serving = self
                .partitions
                .get(partition)
                .is_some_and(|known| known.is_serving);
            let key = keys::partition(*partition);
            let value = form::seal(Space::Meta, &key, &PartitionForm { is_serving })?;
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

    fn stage_sequence(&mut self) -> Result<(), Error> {
        self.batch_sequence += 1;
        let slot = u16::try_from(self.batch_sequence % BATCHES_KEPT).unwrap_or(0);
        let key = keys::batch(slot);
        let value = form::seal(Space::Meta, &key, &self.batch_sequence)?;
        self.staged.put(Space::Meta, key, value);
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
            let marks = self
                .partitions
                .get(&partition)
                .map(|known| known.marks(actor));
            if let (Some(known), Some(marks)) = (published.partitions.get_mut(&partition), marks) {
                known.partition.logs.insert(actor, marks);
            }
        }
        for partition in std::mem::take(&mut self.dirty_partitions) {
            let is_serving = self
                .partitions
                .get(&partition)
                .is_some_and(|known| known.is_serving);
            if let Some(known) = published.partitions.get_mut(&partition) {
                known.partition.is_serving = is_serving;
            }
        }
    }
}

fn load_life<S: Snapshot>(snapshot: &S, options: &OpenOptions) -> Result<Option<LifeForm>, Error> {
    let Some(value) = snapshot.get(Space::Meta, keys::LIFE)? else {
        if !is_empty(snapshot)? {
            return Err(Error::Corrupt {
                what: "there are records, but none says whose",
            });
        }
        return Ok(None);
    };
    let life: LifeForm = form::open(Space::Meta, keys::LIFE, &value)?;
    if life.node != options.node.0 {
        return Err(Error::Foreign {
            what: "it was written by another node",
        });
    }
    if life.partition_count != options.partition_count {
        return Err(Error::Foreign {
            what: "it was written under another number of partitions, which is fixed when a cluster is made",
        });
    }
    Ok(Some(life))
}

fn is_empty<S: Snapshot>(snapshot: &S) -> Result<bool, Error> {
    let mut is_empty = true;
    for space in Space::ALL {
        let all = keys::Span {
            from: Vec::new(),
            to: None,
        };
        snapshot.range(space, all.start(), all.end(), &mut |_, _| {
            is_empty = false;
            ControlFlow::Break(())
        })?;
    }
    Ok(is_empty)
}

/// The same life after a clean stop; otherwise a later one.
fn next_life(known: Option<LifeForm>, was_clean: bool, options: &OpenOptions) -> LifeForm {
    let millis = (options.wall.0 / 1000) & ((1 << 44) - 1);
    let fresh = (millis << 20) | (options.chance & ((1 << 20) - 1));
    let incarnation = match known {
        Some(life) if was_clean => life.incarnation,
        Some(life) => fresh.max(life.incarnation.saturating_add(1)),
        None => fresh,
    };
    LifeForm {
        node: options.node.0,
        incarnation,
        partition_count: options.partition_count,
    }
}

/// The sequence number of the last batch. The numbers of the last [`BATCHES_KEPT`] batches must all be there: a
/// gap means that the engine lost a batch out of the middle of its journal, and that marks, which later batches
/// wrote, claim rows that are not there.
fn load_batch_sequence<S: Snapshot>(snapshot: &S) -> Result<u64, Error> {
    let mut found = BTreeSet::new();
    for_each(snapshot, Space::Meta, &keys::batch_span(), |key, value| {
        found.insert(form::open::<u64>(Space::Meta, key, value)?);
        Ok(())
    })?;
    let last = found.last().copied().unwrap_or(0);
    let first_kept = last.saturating_sub(BATCHES_KEPT);
    let kept = found.range(first_kept + 1..).count();
    if u64::try_from(kept).unwrap_or(0) != last - first_kept {
        return Err(Error::Corrupt {
            what: "a batch of changes is missing",
        });
    }
    Ok(last)
}

fn load_partition<S: Snapshot>(
    snapshot: &S,
    partition: PartitionId,
) -> Result<PublishedPartition, Error> {
    let mut known = Partition::default();
    let key = keys::partition(partition);
    if let Some(value) = snapshot.get(Space::Meta, &key)? {
        let form: PartitionForm = form::open(Space::Meta, &key, &value)?;
        known.is_serving = form.is_serving;
    }
    for_each(
        snapshot,
        Space::Meta,
        &keys::marks_span(partition),
        |key, value| {
            let actor = keys::parse_actor(key).ok_or(Error::Corrupt {
                what: "the name of a record is too short",
            })?;
            let marks: MarksForm = form::open(Space::Meta, key, value)?;
            known.logs.insert(actor, marks.into());
            Ok(())
        },
    )?;
    Ok(PublishedPartition {
        partition: known,
        tree: load_tree(snapshot, partition)?,
    })
}

/// The digest of a partition, out of its stored leaves.
pub(super) fn load_tree<S: Snapshot>(snapshot: &S, partition: PartitionId) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    for_each(
        snapshot,
        Space::Meta,
        &keys::leaf_span(partition),
        |key, value| {
            let leaf = keys::parse_leaf(key).ok_or(Error::Corrupt {
                what: "the name of a record is too short",
            })?;
            tree.add(leaf, form::open(Space::Meta, key, value)?);
            Ok(())
        },
    )?;
    Ok(tree)
}

/// Visits a range, stopping at the first error.
pub(super) fn for_each<S: Snapshot>(
    snapshot: &S,
    space: Space,
    span: &keys::Span,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    snapshot.range(space, span.start(), span.end(), &mut |key, value| {
        outcome = visit(key, &value);
        if outcome.is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    outcome
}
