//! An operation of a client, or of a peer that passed it on: refusals first, then to whom it goes.

use crate::model::{Level, Limits, PartitionId, RowKey, Time, WriteOp};

use super::core::{Core, Origin, reply};
use super::forward::ForwardRequest;
use super::list::ListRequest;
use super::machine::Machine;
use super::message::{Operation, Outcome, Refusal, Request, Unavailable};
use super::read::ReadRequest;
use super::step::{Now, Output};
use super::write::WriteRequest;

/// An operation, and how it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) origin: Origin,
    pub(super) request: Request,
    pub(super) deadline: Time,
}

impl Machine {
    /// An operation of a client, or of a peer that passed it on: refusals first.
    pub(super) fn on_operation(&mut self, now: Now, asked: Asked, outputs: &mut Vec<Output>) {
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
        let requests = self.requests();
        let core = &mut self.core;
        let Some(partition) = partition_of(core, &operation) else {
            return reply(outputs, origin, Outcome::Refused(Refusal::Selection));
        };
        let keyspace = partition.keyspace;
        let Some(space) = core.placement.keyspace(keyspace) else {
            return reply(outputs, origin, Outcome::Refused(Refusal::NoKeyspace));
        };
        let level = level.unwrap_or(space.consistency);
        if !space.regions.contains(&core.region) {
            return reply(
                outputs,
                origin,
                Outcome::Refused(Refusal::KeyspaceElsewhere),
            );
        }
        if let Some(refusal) = refusal(&core.limits, &operation, level) {
            return reply(outputs, origin, Outcome::Refused(refusal));
        }
        if requests >= core.limits.requests_max {
            return reply(
                outputs,
                origin,
                Outcome::Unavailable(Unavailable::Overloaded),
            );
        }
        if core
            .replicas
            .get(&partition)
            .is_none_or(|replica| !replica.is_serving)
        {
            match origin {
                Origin::Client(_) => {
                    let request = ForwardRequest {
                        origin,
                        partition,
                        operation,
                        level,
                        gate,
                        deadline,
                    };
                    self.forwards.start(now, core, request, outputs);
                }
                Origin::Peer(..) => {
                    reply(outputs, origin, Outcome::Unavailable(Unavailable::Replicas));
                }
            }
            return;
        }
        match operation {
            Operation::Get { key } => {
                let request = ReadRequest {
                    origin,
                    key,
                    level,
                    deadline,
                };
                self.reads.start(now, core, partition, request, outputs);
            }
            Operation::Write(write) => {
                let request = WriteRequest {
                    origin,
                    write: *write,
                    level,
                    deadline,
                };
                self.writes.start(core, request, outputs);
            }
            Operation::Select { .. } | Operation::Count { .. } | Operation::Wait { .. } => {
                reply(outputs, origin, Outcome::Unavailable(Unavailable::Replicas));
            }
            Operation::List {
                keyspace,
                wanted,
                index,
                after,
                rows_max,
                bytes_max,
            } => {
                let rows_max = usize::try_from(rows_max).unwrap_or(usize::MAX);
                let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                let request = ListRequest {
                    origin,
                    keyspace,
                    wanted,
                    index,
                    after,
                    rows_max,
                    bytes_max,
                };
                self.lists.start(core, request, outputs);
            }
        }
    }
}

/// Why an operation cannot be taken, if so.
fn refusal(limits: &Limits, operation: &Operation, level: Level) -> Option<Refusal> {
    let is_wrong = |key: &RowKey| key.key.is_empty() || key.key.len() > limits.key_bytes_max;
    match operation {
        Operation::Get { key } if is_wrong(key) => Some(Refusal::KeySize),
        Operation::Write(write) if is_wrong(&write.key) => Some(Refusal::KeySize),
        Operation::Get { .. } if level == Level::UnsafeOne => Some(Refusal::Level),
        Operation::Write(write) => match &write.op {
            WriteOp::Put(value) | WriteOp::PutSibling { value, .. }
                if value.len() > limits.value_bytes_max =>
            {
                Some(Refusal::ValueSize)
            }
            _ => None,
        },
        _ => None,
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
