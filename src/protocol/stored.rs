//! What the store did with what it was given: each effect and answer goes to whoever waits for it.

use crate::model::{Answer, Effect, Ticket};

use super::answer;
use super::core::{Purpose, reply, report, send};
use super::machine::Machine;
use super::message::{Lane, Message};
use super::own;
use super::step::{Now, Output, Report};
use super::upkeep;

impl Machine {
    pub(super) fn on_staged(
        &mut self,
        now: Now,
        ticket: Ticket,
        effect: Effect,
        outputs: &mut Vec<Output>,
    ) {
        let core = &mut self.core;
        // Taken out and put back, for a piece of log is too much to copy.
        let purpose = core.tickets.remove(&ticket);
        match &purpose {
            Some(Purpose::Write(id)) => {
                self.writes
                    .on_staged(core, &mut self.sender, (*id, ticket), &effect, outputs);
            }
            Some(Purpose::Append(arrival)) => {
                self.receiver
                    .on_staged(now, core, &mut self.sender, arrival, &effect, outputs);
                own::on_staged(core, &mut self.sender, &effect);
            }
            Some(Purpose::Raise(partition, position)) if matches!(effect, Effect::Done) => {
                let replica = core.replicas.get_mut(partition);
                let risen = replica.map(|replica| replica.stage_raised(position));
                for actor in risen.into_iter().flatten() {
                    self.sender.on_raised(*partition, actor);
                }
            }
            Some(_) => own::on_staged(core, &mut self.sender, &effect),
            None => {}
        }
        if let Some(purpose) = purpose {
            self.core.tickets.insert(ticket, purpose);
        }
        self.staged.insert(ticket, effect);
    }

    pub(super) fn on_durable(&mut self, now: Now, ticket: Ticket, outputs: &mut Vec<Output>) {
        let Some(effect) = self.staged.remove(&ticket) else {
            return;
        };
        let Some(purpose) = self.core.tickets.remove(&ticket) else {
            return;
        };
        self.has_moved = true;
        let core = &mut self.core;
        let held = if let Effect::Repaired { summary, .. } = &effect {
            summary.clone()
        } else {
            None
        };
        let is_applied = !matches!(effect, Effect::Early { .. } | Effect::Refused { .. });
        own::on_durable(now, core, &mut self.sender, &effect);
        match purpose {
            Purpose::Write(id) => {
                if let Effect::Written { items, .. } = effect {
                    let last = items.last().map(|last| last.n);
                    self.writes.on_durable(core, id, last, outputs);
                }
            }
            Purpose::Append(arrival) => {
                self.receiver.on_durable(now, core, &arrival, effect);
                let append = &arrival.append;
                self.sender.touch(append.partition, append.actor);
            }
            Purpose::ReadRepair(id) if is_applied => {
                let me = core.me;
                self.reads.on_repaired(core, id, me, held.as_ref(), outputs);
            }
            Purpose::SelectRepair(id) if is_applied => {
                let me = core.me;
                self.selects
                    .on_repaired(core, id, me, held.as_ref(), outputs);
            }
            Purpose::SelectRepair(id) => self.selects.on_unrepaired(core, id, outputs),
            Purpose::PeerRepair {
                peer,
                id,
                lane,
                is_last,
            } => {
                if !is_applied {
                    core.spoilt.insert((peer, id));
                }
                // All of them, not only the last, must be on disk for the peer to count this replica.
                if is_last && !core.spoilt.remove(&(peer, id)) {
                    send(outputs, peer, lane, Message::Repaired { id, held });
                }
            }
            Purpose::Mend(partition, session) if is_applied => {
                self.reconciler
                    .on_mended(now, core, (partition, session), outputs);
            }
            Purpose::Mend(partition, session) => self.reconciler.abandon(partition, session),
            Purpose::Raise(partition, position) if is_applied => {
                if let Some(replica) = core.replicas.get_mut(&partition) {
                    replica.on_raised(now.wall, &position);
                }
                self.sender.on_retired(core, partition);
                self.sender.touch_all(partition);
                self.receiver.on_retired(core, partition);
                self.receiver.on_raised(now, core, partition, outputs);
            }
            Purpose::Upkeep => {
                if let Effect::Swept {
                    partition,
                    has_more: true,
                } = effect
                {
                    upkeep::on_swept(now, core, partition);
                }
                if let Effect::Trimmed {
                    partition,
                    actor,
                    to,
                } = effect
                    && let Some(replica) = core.replicas.get_mut(&partition)
                {
                    let trimmed = replica.trimmed.entry(actor).or_default();
                    *trimmed = (*trimmed).max(to);
                }
            }
            Purpose::Serve(partition) if is_applied => {
                // It may have been fenced since it was to serve.
                let replica = core.replicas.get_mut(&partition);
                if let Some(replica) = replica.filter(|replica| replica.is_about_to_serve) {
                    replica.is_about_to_serve = false;
                    replica.begin_to_serve();
                    report(outputs, Report::Serving(partition));
                }
            }
            Purpose::Retire(partition, node, upto) if is_applied => {
                if let Some(replica) = core.replicas.get_mut(&partition) {
                    replica.retire(node, upto);
                }
                self.sender.on_retired(core, partition);
                self.receiver.on_retired(core, partition);
            }
            Purpose::ReadRepair(_)
            | Purpose::Raise(..)
            | Purpose::Serve(_)
            | Purpose::Retire(..)
            | Purpose::Read(_)
            | Purpose::Select(_)
            | Purpose::SelectOperations(_)
            | Purpose::PeerSelect { .. }
            | Purpose::Count(_)
            | Purpose::List(_)
            | Purpose::LogPage(..)
            | Purpose::PeerRead { .. }
            | Purpose::PeerDigest { .. }
            | Purpose::PeerSums(_)
            | Purpose::Reconcile(..) => {}
        }
    }

    pub(super) fn on_answered(
        &mut self,
        now: Now,
        ticket: Ticket,
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        let Some(purpose) = self.core.tickets.remove(&ticket) else {
            return;
        };
        let core = &mut self.core;
        match purpose {
            Purpose::Read(id) => self.reads.on_own(core, id, answer, outputs),
            Purpose::Select(id) => self.selects.on_own(core, id, answer, outputs),
            Purpose::SelectOperations(id) => {
                self.selects.on_operations(core, id, answer, outputs);
            }
            Purpose::PeerSelect { peer, id, whole } => {
                let message = answer::selected(core, id, whole, answer);
                send(outputs, peer, Lane::Request, message);
            }
            Purpose::Count(origin) => reply(outputs, origin, answer::count(&answer)),
            Purpose::List(id) => self.lists.on_rows(core, id, answer, outputs),
            Purpose::LogPage(id, page) => {
                let page = (id, page);
                self.sender.on_page(now, core, page, answer, outputs);
            }
            Purpose::PeerRead {
                peer,
                id,
                whole,
                lane,
            } => {
                let message = answer::rows(core, id, whole, answer);
                send(outputs, peer, lane, message);
            }
            Purpose::PeerDigest { peer, id } => {
                let message = answer::digest(id, answer);
                send(outputs, peer, Lane::Reconcile, message);
            }
            Purpose::PeerSums(summing) => summing.go_on(core, answer, outputs),
            Purpose::Reconcile(partition, half) => {
                self.reconciler
                    .on_half(now, core, partition, half, answer, outputs);
            }
            Purpose::Write(_)
            | Purpose::Append(..)
            | Purpose::ReadRepair(_)
            | Purpose::SelectRepair(_)
            | Purpose::PeerRepair { .. }
            | Purpose::Mend(..)
            | Purpose::Raise(..)
            | Purpose::Upkeep
            | Purpose::Retire(..)
            | Purpose::Serve(_) => {}
        }
    }
}
