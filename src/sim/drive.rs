//! Driving a node: inputs go into its machine, and what the machine says is carried out.
//!
//! Nothing is decided here but when things arrive. A node may be killed between two outputs of one step.

use crate::model::Ticket;
use crate::model::{Answer, NodeId, Query};
use crate::protocol::{Input, Lane, Message, Outcome, Output, Report, RequestId};

use super::cluster::NodeIndex;
use super::kinds::Kind;
use super::messages;
use super::network::Parcel;
use super::node::{Armed, SimNode};
use super::world::{Event, World};

/// A node that is armed to die under load does when so many changes wait for its disk.
const QUEUED: usize = 3;

impl World {
    /// Lets a node's disk stage soon.
    pub(crate) fn schedule_stage(&mut self, node: NodeIndex, life: u32) {
        let at = self.now + self.rng.u64(1..=100);
        self.schedule(at, Event::Stage { node, life });
    }

    /// Lets a node's timer ring when its machine wants it.
    pub(crate) fn schedule_wake(&mut self, index: NodeIndex) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let life = node.life;
        let Some(running) = node.running.as_mut() else {
            return;
        };
        let deadline = running.machine.next_deadline().0;
        // What comes close together is taken in together, as the node's loop does.
        let gathers = now + self.rng.u64(1..=60);
        let at = deadline.saturating_sub(running.time_offset).max(gathers);
        if running.wake_at.is_none_or(|wake| at < wake) {
            running.wake_at = Some(at);
            self.schedule(at, Event::Wake { node: index, life });
        }
    }

    pub(crate) fn on_wake(&mut self, index: NodeIndex, life: u32) {
        let now = self.now;
        let Some(node) = self.live(index, life) else {
            return;
        };
        if let Some(running) = node.running.as_mut() {
            if running.wake_at.is_none_or(|wake| now < wake) {
                return;
            }
            running.wake_at = None;
        }
        self.step(index, Input::Tick);
    }

    /// Steps a node's machine and carries out what it says.
    pub(crate) fn step(&mut self, index: NodeIndex, input: Input) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let (at, life) = (node.now(now), node.life);
        let Some(running) = node.running.as_mut() else {
            return;
        };
        let mut outputs = Vec::new();
        running.machine.step(at, input, &mut outputs);
        if 0 < node.step_micros {
            node.busy_until = now + node.step_micros;
        }
        let mut crash_after = None;
        if let Some(Armed::AmidOutputs(kind)) = node.armed
            && 1 < outputs.len()
        {
            crash_after = Some((self.rng.usize(0..outputs.len()), kind));
        }
        if node.armed == Some(Armed::Queued) && QUEUED <= node.disk.queued() {
            self.tally.count(Kind::OutOfMemory);
            return self.kill(index, false);
        }
        for (place, output) in outputs.into_iter().enumerate() {
            if let Some((after, kind)) = crash_after
                && after == place
            {
                if kind == Kind::Panic {
                    self.tally.count(kind);
                }
                return self.kill(index, false);
            }
            if self.life_of(index) != Some(life) {
                return;
            }
            self.carry_out(index, life, output);
        }
        self.schedule_wake(index);
    }

    fn carry_out(&mut self, index: NodeIndex, life: u32, output: Output) {
        let now = self.now;
        match output {
            Output::Send { to, lane, message } => self.send(index, to, lane, message),
            Output::Change { ticket, mut change } => {
                if self.bug.is_some_and(|bug| !bug.spoil_change(&mut change)) {
                    return;
                }
                self.tally.see_change(&change);
                self.trace.note(now, [20, index as u64, ticket.0], || {
                    format!("n{index} changes {ticket:?}: {change:?}")
                });
                self.checks.on_given(index, ticket, &change);
                let Some(node) = self.live(index, life) else {
                    return;
                };
                if node.disk.push(ticket, change) {
                    self.schedule_stage(index, life);
                }
            }
            Output::Query { ticket, query } => {
                self.tally.see_query(&query);
                let is_early = self.rng.bool();
                let at = now + self.rng.u64(1..=300);
                let Some(node) = self.live(index, life) else {
                    return;
                };
                let answer = if is_early {
                    node.disk.answer(&query)
                } else {
                    None
                };
                let node = index;
                let (query, answer) = (Box::new(query), answer.map(Box::new));
                self.schedule(
                    at,
                    Event::Answered {
                        node,
                        life,
                        ticket,
                        query,
                        answer,
                    },
                );
            }
            Output::Reply { id, outcome } => self.reply(index, id, outcome),
            Output::Report(report) => self.report(index, &report),
        }
    }

    fn send(&mut self, from: NodeIndex, to: NodeId, lane: Lane, mut message: Message) {
        let now = self.now;
        if let Some(bug) = self.bug {
            bug.spoil_message(&mut message);
        }
        let Some(to) = self.cluster.index_of(to) else {
            return self.fail(
                "bounds",
                format!("node {from} sends to a stranger: {message:?}"),
            );
        };
        #[cfg(test)]
        if self.script.loses((from, to), &message) {
            return;
        }
        if let Message::Trimmed { .. } = message {
            self.tally.take(super::paths::TRIMMED);
        }
        self.checks.on_sent(now, (from, to), &message);
        self.check_now();
        let (Some(generation), Some(from_life)) =
            (self.known_connection(from, to), self.life_of(from))
        else {
            return;
        };
        let Some(to_life) = self.nodes.get(to).map(|node| node.life) else {
            return;
        };
        if self.faults_on
            && super::network::happens(&mut self.rng, self.cluster.profile.flip_ppm)
            && messages::breaks(&message, &mut self.rng)
        {
            // The session ends when its bytes make no sense.
            self.tally.count(Kind::Flip);
            return self.reset(from, to);
        }
        let bytes = if self.network.is_capped(from, to) {
            messages::size_of(&message)
        } else {
            0
        };
        let message = if self.cluster.profile.is_encoded {
            match messages::through_bytes(&message) {
                Some(read) => read,
                None => return self.fail("coding", format!("does not come back: {message:?}")),
            }
        } else {
            message
        };
        let facts = [9, (from * 1000 + to) as u64, lane as u64];
        self.trace.note(now, facts, || {
            format!("n{from} -> n{to} {lane:?}: {message:?}")
        });
        let log_bytes = messages::log_bytes_of(&message);
        let parcel = Parcel {
            from,
            to,
            from_life,
            to_life,
            generation,
            lane,
            message,
            is_replay: false,
            log_bytes,
            bytes,
        };
        let profile = &self.cluster.profile;
        let arrivals = self
            .network
            .send(now, &mut self.rng, profile, &mut self.tally, parcel);
        let in_flight = self.network.log_bytes(from, to);
        if self.cluster.topology.limits.window_bytes_max <= in_flight {
            self.tally.take(super::paths::WINDOW);
        }
        let node = self.nodes.get(from);
        let logs = || node.map_or(0, SimNode::logs);
        self.checks.on_in_flight((from, to), in_flight, logs);
        self.check_now();
        self.schedule_arrivals(arrivals);
    }

    /// Lets parcels arrive.
    pub(crate) fn schedule_arrivals(&mut self, arrivals: Vec<(u64, Parcel)>) {
        for (at, parcel) in arrivals {
            self.schedule(at, Event::Deliver(Box::new(parcel)));
        }
    }

    pub(crate) fn on_deliver(&mut self, parcel: Parcel) {
        self.network.arrived(&parcel);
        let Parcel {
            from,
            to,
            generation,
            ..
        } = parcel;
        if self.life_of(to) != Some(parcel.to_life) {
            return;
        }
        match self.known_connection(to, from) {
            Some(known) if known == generation => {}
            Some(known) if generation < known => {
                let same_sender = self.life_of(from) == Some(parcel.from_life);
                if !(parcel.is_replay && same_sender) {
                    return;
                }
            }
            // The connection stands, but the receiver has not been told: it hears of it first.
            Some(_) | None => {
                let current = self.network.pair(from, to).connection;
                if current.is_none_or(|current| current.generation != generation) {
                    return;
                }
                self.on_connected(to, from, generation);
            }
        }
        let facts = [10, (from * 1000 + to) as u64, parcel.lane as u64];
        self.trace.note(self.now, facts, || {
            format!("n{to} <- n{from} {:?}", messages::name_of(&parcel.message))
        });
        if let Some(from) = self.id_of(from) {
            let message = parcel.message;
            self.step(to, Input::Message { from, message });
        }
    }

    pub(crate) fn on_answered(
        &mut self,
        index: NodeIndex,
        life: u32,
        ticket: Ticket,
        (query, answer): (&Query, Option<Answer>),
    ) {
        let Some(node) = self.live(index, life) else {
            return;
        };
        if let Some(answer) = answer.or_else(|| node.disk.answer(query)) {
            if let Answer::Unreadable { .. } = answer {
                self.tally.take(super::paths::UNREADABLE);
            }
            self.step(index, Input::Answered { ticket, answer });
        }
    }

    fn reply(&mut self, index: NodeIndex, id: RequestId, outcome: Outcome) {
        let running = self
            .nodes
            .get_mut(index)
            .and_then(|node| node.running.as_mut());
        match running.and_then(|running| running.requests.remove(&id)) {
            Some(op) => self.on_reply(index, op, outcome),
            None => self.fail(
                "answers",
                format!("n{index} answers {id:?}, which nobody asked"),
            ),
        }
    }

    fn report(&mut self, index: NodeIndex, report: &Report) {
        let name = match report {
            Report::PeerUp(_) => "peer up",
            Report::PeerDown(_) => "peer down",
            Report::ClockAhead(_) => "clock ahead",
            Report::Serving(_) => "serving",
            Report::Reconciling(..) => "reconciling",
            Report::Reconciled { .. } => "reconciled",
            Report::Fenced(_) => "fenced",
            Report::Impossible(..) => "impossible",
            Report::Slow(_) => "slow",
            Report::Well(_) => "well",
        };
        self.tally.saw(name);
        let facts = [11, index as u64, name.len() as u64];
        self.trace
            .note(self.now, facts, || format!("n{index} reports {report:?}"));
    }
}
