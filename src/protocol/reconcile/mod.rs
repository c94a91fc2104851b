//! Reconciliation by digest, of one partition with one peer at a time: from the root down where hashes
//! differ, then listings of leaves, then rows.
//!
//! Routine rounds run all the time and mend what no log will bring. A refill follows a log that was trimmed
//! past our position: it takes all that is newer, and then takes over the peer's position.

mod compare;
mod session;

use std::collections::BTreeMap;

use crate::model::{
    Actor, Answer, Change, Duration, NodeId, PartitionId, Position, RegionId, Row, RowKey, Summary,
    Time,
};

use super::core::{Core, Counter, Purpose, report};
use super::step::{Now, Output, Report};
use super::timers::Timer;

use compare::Listing;
use session::Session;

pub(super) use session::{LEAF_ROWS_MAX, is_reasonable, within};

/// Routine sessions at a time: they share one budget, and more would only take turns.
const ROUTINE_MAX: usize = 2;
/// Refills at a time.
const REFILLS_MAX: usize = 4;
/// A session whose peer is silent for so long is given up; the next round begins anew.
const SILENCE: Duration = Duration::from_secs(5);
/// Between looks at what is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a session runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// To mend what no log will bring.
    Routine,
    /// To catch up where the log does not reach.
    Refill,
}

/// This node's own half of a step, with the id of the question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Half {
    /// Digests or a listing.
    Compare(u64),
    /// Rows to give away.
    Push(u64),
}

/// What a peer told.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Told {
    /// Hashes of children.
    Digest(Position, Vec<Vec<u128>>),
    /// A page of a leaf.
    Leaf(Position, Vec<(RowKey, Summary)>, bool),
    /// Rows that were asked for: perhaps only the first of them.
    Rows(Vec<Option<Row>>),
    /// Rows that were given are on disk there.
    Repaired,
}

/// Bytes that may be spent now.
#[derive(Debug)]
struct Budget {
    bytes: i64,
    filled: Time,
    per_second: u64,
}

impl Budget {
    fn fill(&mut self, now: Time) {
        let micros = now.since(self.filled).as_micros();
        let earned = micros.saturating_mul(u128::from(self.per_second)) / 1_000_000;
        if earned == 0 {
            return;
        }
        self.filled = now;
        let most = i64::try_from(self.per_second / 4)
            .unwrap_or(i64::MAX)
            .max(1);
        self.bytes = self
            .bytes
            .saturating_add(i64::try_from(earned).unwrap_or(i64::MAX))
            .min(most);
    }

    fn spend(&mut self, bytes: usize) {
        self.bytes = self
            .bytes
            .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// All sessions that this node leads.
#[derive(Debug)]
pub(super) struct Reconciler {
    sessions: BTreeMap<PartitionId, Session>,
    budget: Budget,
    divergence: BTreeMap<(RegionId, PartitionId), u64>,
}

impl Reconciler {
    pub(super) fn new(now: Time, bytes_per_second: u64) -> Self {
        let bytes = i64::try_from(bytes_per_second / 4).unwrap_or(i64::MAX);
        let budget = Budget {
            bytes,
            filled: now,
            per_second: bytes_per_second,
        };
        Self {
            sessions: BTreeMap::new(),
            budget,
            divergence: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Rows that differed in the last round with a region.
    pub(super) fn divergence(&self, region: RegionId) -> u64 {
        let of_region = self
            .divergence
            .iter()
            .filter(|((name, _), _)| *name == region);
        of_region.map(|(_, rows)| *rows).sum()
    }

    /// A peer's log does not reach back to our position.
    pub(super) fn on_trimmed(
        &mut self,
        now: Now,
        core: &mut Core,
        peer: NodeId,
        partition: PartitionId,
        actor: Actor,
        outputs: &mut Vec<Output>,
    ) {
        let refills = self
            .sessions
            .values()
            .filter(|session| session.mode == Mode::Refill)
            .count();
        let is_running = self
            .sessions
            .get(&partition)
            .is_some_and(|session| session.mode == Mode::Refill);
        let is_held = core.replicas.contains_key(&partition);
        let is_behind = core.replicas.get(&partition).is_some_and(|replica| {
            replica.complete_at(peer, actor) > replica.position.reach(actor).applied
        });
        if is_running || refills >= REFILLS_MAX || !is_held || !is_behind {
            return;
        }
        core.count(Counter::Refills, 1);
        report(outputs, Report::Reconciling(partition, peer));
        self.sessions
            .insert(partition, Session::new(now.time, peer, Mode::Refill));
        self.advance(now, core, partition, outputs);
    }

    /// Looks at what is due, gives up what is stuck, and goes on with what waited for budget.
    pub(super) fn on_timer(&mut self, now: Now, core: &mut Core, outputs: &mut Vec<Output>) {
        core.timers
            .set(now.time.after(LOOK_EVERY), Timer::Reconcile);
        self.sessions
            .retain(|_, session| now.time.since(session.active_at) < SILENCE);
        let due: Vec<PartitionId> = core
            .replicas
            .values()
            .filter(|replica| now.time.since(replica.reconciled_at) >= core.limits.reconcile_every)
            .map(|replica| replica.partition)
            .collect();
        for partition in due {
            let routine = self
                .sessions
                .values()
                .filter(|session| session.mode == Mode::Routine);
            if routine.count() >= ROUTINE_MAX {
                break;
            }
            self.begin_round(now, core, partition);
        }
        let waiting: Vec<PartitionId> = self.sessions.keys().copied().collect();
        for partition in waiting {
            self.advance(now, core, partition, outputs);
        }
    }

    fn begin_round(&mut self, now: Now, core: &mut Core, partition: PartitionId) {
        if self.sessions.contains_key(&partition) {
            return;
        }
        let peers = partners(core, partition);
        let Some(replica) = core.replicas.get_mut(&partition) else {
            return;
        };
        replica.reconciled_at = now.time;
        replica.reconcile_turn = replica.reconcile_turn.wrapping_add(1);
        let turn = replica.reconcile_turn % peers.len().max(1);
        if let Some(peer) = peers.get(turn) {
            core.count(Counter::ReconcileRounds, 1);
            self.sessions
                .insert(partition, Session::new(now.time, *peer, Mode::Routine));
        }
    }

    /// Takes the next step of a session if there is budget for it.
    fn advance(
        &mut self,
        now: Now,
        core: &mut Core,
        partition: PartitionId,
        outputs: &mut Vec<Output>,
    ) {
        self.budget.fill(now.time);
        if self.budget.bytes <= 0 {
            return;
        }
        let Some(session) = self.sessions.get_mut(&partition) else {
            return;
        };
        let spent = session.advance(core, partition, outputs);
        self.spend(core, spent);
        if self.sessions.get(&partition).is_some_and(Session::is_done) {
            self.finish(now, core, partition, outputs);
        }
    }

    fn finish(
        &mut self,
        now: Now,
        core: &mut Core,
        partition: PartitionId,
        outputs: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.remove(&partition) else {
            return;
        };
        core.count(Counter::ReconcileRows, session.rows);
        match (session.mode, session.base) {
            (Mode::Refill, Some(position)) => {
                let peer = session.peer;
                report(
                    outputs,
                    Report::Reconciled {
                        partition,
                        peer,
                        rows: session.rows,
                    },
                );
                let purpose = Purpose::Raise(partition, position.clone());
                core.change(
                    outputs,
                    purpose,
                    Change::Raise {
                        partition,
                        position,
                    },
                );
            }
            (Mode::Refill, None) => {}
            (Mode::Routine, _) => {
                let Some(region) = core.region_of(session.peer) else {
                    return;
                };
                self.divergence.insert((region, partition), session.rows);
                // What differed is looked at again soon, so that a mended difference does not stand for long.
                if session.rows > 0
                    && let Some(replica) = core.replicas.get_mut(&partition)
                {
                    replica.reconcile_turn = replica.reconcile_turn.wrapping_sub(1);
                    replica.reconciled_at = now.time;
                }
            }
        }
    }

    /// This node's own half of a step is there.
    pub(super) fn on_half(
        &mut self,
        now: Now,
        core: &mut Core,
        partition: PartitionId,
        half: Half,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.get_mut(&partition) else {
            return;
        };
        if matches!(answer, Answer::Unreadable { .. }) {
            // What we cannot read we cannot compare: the position must not be raised over it.
            self.sessions.remove(&partition);
            return;
        }
        let spent = session.on_half(core, partition, half, answer, outputs);
        self.spend(core, spent);
        self.advance(now, core, partition, outputs);
    }

    /// Whether a question of ours to a peer has this id.
    pub(super) fn waits_for(&self, from: NodeId, id: u64) -> bool {
        self.sessions
            .values()
            .any(|session| session.peer == from && session.waits_for(id))
    }

    /// A peer told something; says whether the id was one of ours.
    pub(super) fn on_told(
        &mut self,
        now: Now,
        core: &mut Core,
        from: NodeId,
        id: u64,
        told: Told,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let found = self
            .sessions
            .iter_mut()
            .find(|(_, session)| session.peer == from && session.waits_for(id));
        let Some((partition, session)) = found else {
            return false;
        };
        let partition = *partition;
        session.active_at = now.time;
        let spent = session.on_told(core, partition, told, outputs);
        self.spend(core, spent);
        self.advance(now, core, partition, outputs);
        true
    }

    /// A row is mended on our disk.
    pub(super) fn on_mended(
        &mut self,
        now: Now,
        core: &mut Core,
        partition: PartitionId,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(session) = self.sessions.get_mut(&partition) {
            session.on_mended();
            self.advance(now, core, partition, outputs);
        }
    }

    /// A row could not be mended here: what follows from the session must not be.
    pub(super) fn abandon(&mut self, partition: PartitionId) {
        self.sessions.remove(&partition);
    }

    /// A peer cannot answer a question.
    pub(super) fn give_up(&mut self, peer: NodeId, id: u64) {
        self.sessions
            .retain(|_, session| session.peer != peer || !session.waits_for(id));
    }

    /// A peer is gone, and its sessions with it.
    pub(super) fn on_peer_lost(&mut self, peer: NodeId) {
        self.sessions.retain(|_, session| session.peer != peer);
    }

    fn spend(&mut self, core: &mut Core, bytes: usize) {
        self.budget.spend(bytes);
        core.count(
            Counter::ReconcileBytes,
            u64::try_from(bytes).unwrap_or(u64::MAX),
        );
    }
}

/// With whom a replica reconciles a partition: the next live neighbour in line; and, for the first live
/// replica of the region, one live replica of each other region.
fn partners(core: &Core, partition: PartitionId) -> Vec<NodeId> {
    let Some(replica) = core.replicas.get(&partition) else {
        return Vec::new();
    };
    let line = replica.replicas_in(core.region);
    let rank = line.iter().position(|node| *node == core.me).unwrap_or(0);
    let after = line
        .iter()
        .cycle()
        .skip(rank + 1)
        .take(line.len().saturating_sub(1));
    let next = after.copied().find(|node| core.peers.is_up(*node));
    let mut partners: Vec<NodeId> = next.into_iter().collect();
    let is_first = line.iter().find(|node| core.is_live(**node)) == Some(&core.me);
    if is_first {
        let afar = replica
            .regions()
            .iter()
            .filter(|(region, _)| *region != core.region);
        partners.extend(
            afar.filter_map(|(_, nodes)| {
                nodes.iter().copied().find(|node| core.peers.is_up(*node))
            }),
        );
    }
    partners
}

fn listing(position: Position, rows: Vec<(RowKey, Summary)>, more: bool) -> Listing {
    Listing {
        position,
        rows,
        more,
    }
}
