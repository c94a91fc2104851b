//! An operation of a client, or of a peer that passed it on: refusals first, then who carries it out, and when.

use crate::model::{
    Actor, Behind, Context, Denial, Gate, Level, Limits, NodeId, PartitionId, Query, RowKey,
    Selection, Time, Wall, Write, WriteOp,
};
use crate::placement::{Keyspace, MergePolicy};

use super::answer::is_of_one_key;
use crate::model::planted::{Guard, is_left_out};

use super::core::{Core, Counter, Origin, Purpose, reply};
use super::forward::Why;
use super::gate::{self, Verdict};
use super::list::ListRequest;
use super::machine::Machine;
use super::message::{Operation, Outcome, Refusal, Request, Unavailable};
use super::read::ReadRequest;
use super::read_quorum::Terms;
use super::replica::Replica;
use super::select::{Asker, SelectRequest};
use super::step::{Now, Output, Room};
use super::wait::WaitRequest;
use super::write::WriteRequest;

/// An operation, and how it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) origin: Origin,
    pub(super) request: Request,
    pub(super) deadline: Time,
}

/// An operation on one partition, or beginning with it, that nothing speaks against.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Accepted {
    pub(super) origin: Origin,
    pub(super) partition: PartitionId,
    pub(super) operation: Operation,
    pub(super) level: Level,
    pub(super) gate: Gate,
    pub(super) deadline: Time,
}

impl Accepted {
    /// The same, if it has waited long enough for what it must have seen.
    pub(super) fn without_wait(mut self) -> Self {
        self.gate.wait_micros = 0;
        self
    }
}

impl Machine {
    /// An operation of a client, or of a peer that passed it on.
    pub(super) fn on_operation(&mut self, now: Now, asked: Asked, outputs: &mut Vec<Output>) {
        let origin = asked.origin;
        if self.core.is_stopping && matches!(origin, Origin::Peer(..)) {
            let outcome = Outcome::Unavailable(Unavailable::Replicas);
            return reply(outputs, origin, outcome);
        }
        if self.requests() >= self.core.limits.requests_max {
            let outcome = Outcome::Unavailable(Unavailable::Overloaded);
            return reply(outputs, origin, outcome);
        }
        if let Operation::Wait { regions } = asked.request.operation {
            let request = WaitRequest {
                origin,
                regions,
                session: asked.request.gate.session,
                deadline: asked.deadline,
            };
            let core = &mut self.core;
            return self.waits.start(now.time, core, request, outputs);
        }
        match accept(&self.core, asked) {
            Ok(accepted) => self.route(now, accepted, outputs),
            Err(refusal) => reply(outputs, origin, Outcome::Refused(refusal)),
        }
    }

    /// Sends an operation where it belongs: to another replica, to the gate, or on its way.
    pub(super) fn route(&mut self, now: Now, accepted: Accepted, outputs: &mut Vec<Output>) {
        let core = &mut self.core;
        let replica = core.replicas.get(&accepted.partition);
        let is_serving = replica.is_some_and(|replica| replica.is_serving);
        if !is_serving || is_for_another(core, &accepted) {
            match accepted.origin {
                Origin::Client(_) => {
                    let why = Why::NotHere;
                    self.forwards.start(now, core, why, accepted, outputs);
                }
                Origin::Peer(..) => {
                    let outcome = Outcome::Unavailable(Unavailable::Replicas);
                    reply(outputs, accepted.origin, outcome);
                }
            }
            return;
        }
        if core.paces.is_slow(core.me) && may_go_elsewhere(&accepted) {
            if let Some(back) = self.forwards.offer(now, core, accepted, outputs) {
                self.admit(now, back, outputs);
            }
            return;
        }
        self.admit(now, accepted, outputs);
    }

    /// A neighbour answered what was passed on to it.
    pub(super) fn on_forwarded(
        &mut self,
        now: Now,
        from: NodeId,
        (id, outcome): (u64, Outcome),
        outputs: &mut Vec<Output>,
    ) {
        let core = &mut self.core;
        let back = self
            .forwards
            .on_outcome(now, core, id, from, outcome, outputs);
        let Some(back) = back else { return };
        let replica = core.replicas.get(&back.partition);
        if replica.is_some_and(|replica| replica.is_serving) {
            self.admit(now, back, outputs);
        } else {
            let outcome = Outcome::Unavailable(Unavailable::Replicas);
            reply(outputs, back.origin, outcome);
        }
    }

    /// An operation on a partition that serves here: to the gate, or on its way.
    fn admit(&mut self, now: Now, accepted: Accepted, outputs: &mut Vec<Output>) {
        let core = &mut self.core;
        if let Operation::Write(write) = &accepted.operation {
            if !has_room(core, write) {
                core.count(Counter::NoRoom, 1);
                let outcome = Outcome::Unavailable(Unavailable::Disk);
                return reply(outputs, accepted.origin, outcome);
            }
            if !write.must_see_its_session() || is_left_out(Guard::WriteGate) {
                self.carry_out(now, accepted, outputs);
                return;
            }
        }
        match gate::verdict(core, &accepted) {
            Verdict::Open => self.carry_out(now, accepted, outputs),
            Verdict::Wait if self.gates.has_room(core) => {
                core.count(Counter::GatesWaited, 1);
                self.gates.wait(now.time, core, accepted);
            }
            Verdict::Wait => self.admit(now, accepted.without_wait(), outputs),
            Verdict::Forward(region) => {
                core.count(Counter::GatesForwarded, 1);
                let gate = Gate {
                    behind: Behind::Refuse,
                    wait_micros: 0,
                    ..accepted.gate
                };
                let accepted = Accepted { gate, ..accepted };
                let why = Why::Behind(region);
                self.forwards.start(now, core, why, accepted, outputs);
            }
            Verdict::Refuse => {
                core.count(Counter::GatesRefused, 1);
                reply(outputs, accepted.origin, Outcome::NotYet);
            }
        }
    }

    /// Carries out an operation on a partition that serves here.
    fn carry_out(&mut self, now: Now, accepted: Accepted, outputs: &mut Vec<Output>) {
        let Accepted {
            origin,
            partition,
            operation,
            level,
            gate,
            deadline,
        } = accepted;
        let core = &mut self.core;
        let terms = Terms {
            level,
            deadline,
            is_session: !gate.session.is_empty(),
        };
        match operation {
            Operation::Get { key } if is_register(core, &key) => {
                let request = ReadRequest { origin, key, terms };
                self.reads.start(core, partition, request, outputs);
            }
            Operation::Get { key } => {
                let request = SelectRequest {
                    asker: Asker::Row(origin),
                    selection: Selection::Rows(vec![key]),
                    terms,
                };
                self.selects.start(core, partition, request, outputs);
            }
            Operation::Select { selection } => {
                let request = SelectRequest {
                    asker: Asker::Rows(origin),
                    selection,
                    terms,
                };
                self.selects.start(core, partition, request, outputs);
            }
            Operation::Count { key, collection } => {
                let now = now.wall;
                let query = Query::Count {
                    key,
                    collection,
                    now,
                };
                core.query(outputs, Purpose::Count(origin), query);
            }
            Operation::Write(write) => match prepared(now.wall, core, *write, gate) {
                Ok(write) => {
                    let request = WriteRequest {
                        origin,
                        write,
                        level,
                        deadline,
                    };
                    self.writes.start(core, request, outputs);
                }
                Err(denial) => {
                    core.count(Counter::WritesDenied, 1);
                    reply(outputs, origin, Outcome::Denied(denial));
                }
            },
            Operation::List {
                keyspace,
                wanted,
                index,
                after,
                rows_max,
                bytes_max,
            } => {
                let request = ListRequest {
                    origin,
                    keyspace,
                    wanted,
                    index,
                    after,
                    rows_max: usize::try_from(rows_max).unwrap_or(usize::MAX),
                    bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
                    deadline,
                };
                self.lists.start(core, request, outputs);
            }
            Operation::Wait { .. } => {
                reply(outputs, origin, Outcome::Refused(Refusal::Selection));
            }
        }
    }
}

/// Refuses what cannot be done anywhere.
fn accept(core: &Core, asked: Asked) -> Result<Accepted, Refusal> {
    let Asked {
        origin,
        request,
        deadline,
    } = asked;
    let Request {
        operation,
        level,
        gate,
    } = request;
    let partition = partition_of(core, &operation).ok_or(Refusal::Selection)?;
    let space = core
        .placement
        .keyspace(partition.keyspace)
        .ok_or(Refusal::NoKeyspace)?;
    let level = level.unwrap_or(space.consistency);
    if !space.regions.contains(&core.region) {
        return Err(Refusal::KeyspaceElsewhere);
    }
    if let Some(refusal) = refusal(&core.limits, space, &operation, level) {
        return Err(refusal);
    }
    Ok(Accepted {
        origin,
        partition,
        operation,
        level,
        gate,
        deadline,
    })
}

/// Why an operation cannot be taken, if so.
fn refusal(
    limits: &Limits,
    space: &Keyspace,
    operation: &Operation,
    level: Level,
) -> Option<Refusal> {
    let is_wrong = |key: &RowKey| key.key.is_empty() || key.key.len() > limits.key_bytes_max;
    let is_read_level = level != Level::UnsafeOne;
    match operation {
        Operation::Get { key } | Operation::Count { key, .. } if is_wrong(key) => {
            Some(Refusal::KeySize)
        }
        Operation::Select { selection } if selection.key().is_some_and(is_wrong) => {
            Some(Refusal::KeySize)
        }
        Operation::Select { selection } if !is_of_one_key(selection) => Some(Refusal::Selection),
        Operation::Get { .. } | Operation::Select { .. } if !is_read_level => Some(Refusal::Level),
        Operation::Write(write) if is_wrong(&write.key) => Some(Refusal::KeySize),
        Operation::Write(write) if !write.key.subkey.is_empty() => Some(Refusal::Selection),
        Operation::Write(write) => match &write.op {
            WriteOp::Put(_) | WriteOp::Delete if space.merge == MergePolicy::Siblings => {
                Some(Refusal::MergePolicy)
            }
            WriteOp::PutSibling { .. } | WriteOp::DeleteSiblings { .. }
                if space.merge == MergePolicy::Lww =>
            {
                Some(Refusal::MergePolicy)
            }
            WriteOp::Put(value) | WriteOp::PutSibling { value, .. }
                if value.len() > limits.value_bytes_max =>
            {
                Some(Refusal::ValueSize)
            }
            WriteOp::Put(_)
            | WriteOp::Delete
            | WriteOp::PutSibling { .. }
            | WriteOp::DeleteSiblings { .. }
            | WriteOp::Add { .. }
            | WriteOp::Reset { .. }
            | WriteOp::Members { .. }
            | WriteOp::Fields { .. }
            | WriteOp::Clear { .. } => None,
        },
        Operation::Get { .. }
        | Operation::Select { .. }
        | Operation::Count { .. }
        | Operation::Wait { .. }
        | Operation::List { .. } => None,
    }
}

/// The partition that an operation is about, or begins with.
fn partition_of(core: &Core, operation: &Operation) -> Option<PartitionId> {
    match operation {
        Operation::Get { key } | Operation::Count { key, .. } => Some(core.partition(key)),
        Operation::Write(write) => Some(core.partition(&write.key)),
        Operation::Select { selection } => Some(core.partition(selection.key()?)),
        Operation::List {
            keyspace, index, ..
        } => Some(PartitionId {
            keyspace: *keyspace,
            index: *index,
        }),
        Operation::Wait { .. } => None,
    }
}

/// Whether a row is a register whose last writer wins.
fn is_register(core: &Core, key: &RowKey) -> bool {
    let space = core.placement.keyspace(key.keyspace);
    key.subkey.is_empty() && space.is_some_and(|space| space.merge == MergePolicy::Lww)
}

/// Whether a client's conditional write is for another replica: as long as all agree who is the first in line, one
/// coordinator looks at all conditions, one after the other. What a peer passed on is done here.
fn is_for_another(core: &Core, accepted: &Accepted) -> bool {
    let Operation::Write(write) = &accepted.operation else {
        return false;
    };
    let is_client = matches!(accepted.origin, Origin::Client(_));
    is_client
        && write.condition.is_some()
        && first_in_line(core, accepted.partition) != Some(core.me)
}

/// Whether an operation is a client's write that may as well wait for another disk. Where conditions on a partition are
/// looked at, all are. Reads seldom wait for a disk to write, and need not hang on one neighbour.
fn may_go_elsewhere(accepted: &Accepted) -> bool {
    let is_free =
        matches!(&accepted.operation, Operation::Write(write) if write.condition.is_none());
    is_free && matches!(accepted.origin, Origin::Client(_))
}

/// Whether the disk has room for a write. One that takes data away makes room in the end.
fn has_room(core: &Core, write: &Write) -> bool {
    let is_removal = match &write.op {
        WriteOp::Delete | WriteOp::DeleteSiblings { .. } | WriteOp::Clear { .. } => true,
        WriteOp::Put(_)
        | WriteOp::PutSibling { .. }
        | WriteOp::Add { .. }
        | WriteOp::Reset { .. }
        | WriteOp::Members { .. }
        | WriteOp::Fields { .. } => false,
    };
    match core.room {
        Room::Enough => true,
        Room::Low => is_removal,
        Room::Full => false,
    }
}

/// The first replica of a partition in this region that serves.
fn first_in_line(core: &Core, partition: PartitionId) -> Option<NodeId> {
    let replica = core.replicas.get(&partition)?;
    let line = core.placement.replicas(partition, core.region).iter();
    line.copied().find(|node| core.is_serving(replica, *node))
}

/// Changes of one actor that a client may have seen in another region before this node has heard of them.
const CONTEXT_AHEAD: u64 = 4096;
/// Lives of nodes that it may have seen so.
const CONTEXT_NEWS: usize = 8;

/// A client's context without what nobody can have seen: nodes that do not hold the partition, and numbers far beyond
/// what any replica is known to have. A little beyond is news that has not come here yet. A forged context would
/// otherwise cover writes that are still to come, and make them vanish.
fn bound_context(replica: &Replica, seen: &mut Context) {
    let most = |actor: Actor| {
        let others = replica
            .others()
            .map(|(_, other)| other.position.reach(actor).applied);
        others.chain([replica.staged(actor)]).max().unwrap_or(0)
    };
    seen.retired.clear();
    seen.seen.retain(|actor, _| replica.is_replica(actor.node));
    for (actor, n) in &mut seen.seen {
        *n = (*n).min(most(*actor).saturating_add(CONTEXT_AHEAD));
    }
    let mut news = 0;
    seen.seen.retain(|actor, _| {
        news += usize::from(most(*actor) == 0);
        most(*actor) > 0 || news <= CONTEXT_NEWS
    });
}

/// A write with what its session and its keyspace add to it.
fn prepared(wall: Wall, core: &Core, mut write: Write, gate: Gate) -> Result<Write, Denial> {
    let ahead = u64::try_from(core.limits.max_offset.as_micros()).unwrap_or(u64::MAX);
    if gate.session.latest() > wall.0.saturating_add(ahead) {
        return Err(Denial::Ahead);
    }
    if !gate.session.is_empty() {
        write.after = Some(Box::new(gate.session));
    }
    let partition = core.partition(&write.key);
    if let (
        WriteOp::PutSibling {
            seen: Some(seen), ..
        }
        | WriteOp::DeleteSiblings { seen: Some(seen) },
        Some(replica),
    ) = (&mut write.op, core.replicas.get(&partition))
    {
        bound_context(replica, seen);
    }
    let space = core.placement.keyspace(write.key.keyspace);
    let lives = match &write.op {
        WriteOp::Put(_) | WriteOp::PutSibling { .. } => true,
        WriteOp::Members { add, .. } => !add.is_empty(),
        WriteOp::Fields { put, .. } => !put.is_empty(),
        WriteOp::Delete
        | WriteOp::DeleteSiblings { .. }
        | WriteOp::Add { .. }
        | WriteOp::Reset { .. }
        | WriteOp::Clear { .. } => false,
    };
    if let (true, None, Some(ttl)) = (lives, write.expires, space.and_then(|space| space.ttl)) {
        let micros = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        write.expires = Some(Wall(wall.0.saturating_add(micros)));
    }
    Ok(write)
}
