//! The receiving side of streams: from which peer to take each actor's log, what to do with a piece that
//! comes, and when to ask again.
//!
//! Sources are chosen by the receiver alone, from what it hears: so a dead coordinator, a dead neighbour and
//! a cut link are one case, and any replica may be a source. Two replicas that choose badly cost traffic,
//! never correctness.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Actor, Change, Duration, Effect, NodeId, PartitionId, Reach, Time, Timestamp};

use crate::model::planted::{Guard, is_left_out};

use super::core::{Arrival, Core, Counter, Purpose, REWIND_EVERY, report, send};
use super::message::{Ack, Append, Lane, Mark, Message, Want};
use super::recent::Piece;
use super::replica::Replica;
use super::sender::Sender;
use super::step::{Now, Output, Report};

/// A log on which nothing moves for so long, while somebody is known to be ahead, is taken from elsewhere.
const STALL: Duration = Duration::from_secs(2);
/// A peer whose clock is ahead is asked again after so long.
const AHEAD_PAUSE: Duration = Duration::from_secs(1);

/// Where a log is taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Source {
    peer: NodeId,
    /// Not asked to go back again before this.
    rewind_after: Time,
}

/// How a log stands here while somebody else is ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Behind {
    reach: Reach,
    since: Time,
}

/// Pieces of a log that came from one peer, each where the one before it ended or earlier: what lies between was not lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    peer: NodeId,
    from: u64,
    to: u64,
}

type Log = (PartitionId, Actor);

/// What entries of a piece met here; see [`Effect::Appended`].
#[derive(Debug, Default)]
struct Met {
    newer: Vec<(u64, Timestamp)>,
    stood: Vec<u64>,
    crossed: Vec<u64>,
}

/// All sources of this node.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    sources: BTreeMap<Log, Source>,
    behind: BTreeMap<Log, Behind>,
    /// Of each log, ranges that do not hang together are acknowledged one by one.
    acks: BTreeMap<(NodeId, Log), Vec<Ack>>,
    /// The last run of pieces of each log.
    runs: BTreeMap<Log, Run>,
    /// How far pieces were given to the door that has not decided on them yet.
    given: BTreeMap<Log, u64>,
    /// Nodes whose clocks were reported as ahead; taken out when a change of theirs is applied.
    ahead: BTreeSet<NodeId>,
}

impl Receiver {
    pub(super) fn is_dirty(&self) -> bool {
        !self.acks.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }

    /// All that this node wants from a peer.
    pub(super) fn wants(&self, core: &Core, peer: NodeId) -> Vec<Want> {
        self.sources
            .iter()
            .filter(|(_, source)| source.peer == peer)
            .filter_map(|(log, _)| want(core, *log, false))
            .collect()
    }

    /// Chooses a source for every log of every partition here; asks new ones at once.
    pub(super) fn choose(&mut self, now: Now, core: &Core, outputs: &mut Vec<Output>) {
        let live: BTreeSet<Actor> = core
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_up)
            .filter_map(|(node, peer)| {
                Some(Actor {
                    node,
                    incarnation: peer.incarnation?,
                })
            })
            .collect();
        let mut fresh: BTreeMap<NodeId, Vec<Want>> = BTreeMap::new();
        for (partition, replica) in &core.replicas {
            let held = live
                .iter()
                .copied()
                .filter(|actor| replica.is_replica(actor.node));
            let actors: BTreeSet<Actor> = replica.actors().into_iter().chain(held).collect();
            for actor in actors.into_iter().filter(|actor| *actor != core.actor) {
                let log = (*partition, actor);
                let chosen = self.choose_one(now, core, replica, log, live.contains(&actor));
                let current = self.sources.get(&log).map(|source| source.peer);
                if chosen == current {
                    continue;
                }
                self.runs.remove(&log);
                let Some(peer) = chosen else {
                    self.sources.remove(&log);
                    continue;
                };
                self.sources.insert(
                    log,
                    Source {
                        peer,
                        rewind_after: now.time.after(REWIND_EVERY),
                    },
                );
                fresh
                    .entry(peer)
                    .or_default()
                    .extend(want(core, log, false));
            }
        }
        for (peer, wants) in fresh {
            send(outputs, peer, Lane::Control, Message::Wants(wants));
        }
    }

    /// Lives of a node need not be counted any more: nobody is asked for their logs.
    pub(super) fn on_retired(&mut self, core: &Core, partition: PartitionId) {
        let Some(replica) = core.replicas.get(&partition) else {
            return;
        };
        let is_kept = |log: &Log| log.0 != partition || !replica.position.has_retired(log.1);
        self.sources.retain(|log, _| is_kept(log));
        self.behind.retain(|log, _| is_kept(log));
        self.runs.retain(|log, _| is_kept(log));
        self.given.retain(|log, _| is_kept(log));
        self.acks.retain(|(_, log), _| is_kept(log));
    }

    /// Everything on its way from a peer is lost.
    pub(super) fn on_peer_lost(&mut self, peer: NodeId) {
        self.runs.retain(|_, run| run.peer != peer);
    }

    /// Follows the pieces that come from a peer. Says from where on they have come without a hole.
    fn follow(&mut self, from: NodeId, append: &Append) -> u64 {
        let run = self.runs.entry((append.partition, append.actor));
        let new = Run {
            peer: from,
            from: append.from,
            to: append.to,
        };
        let run = run.or_insert(new);
        if run.peer == from && run.from <= append.from && append.from <= run.to {
            run.to = run.to.max(append.to);
        } else {
            *run = new;
        }
        run.from
    }

    fn choose_one(
        &mut self,
        now: Now,
        core: &Core,
        replica: &Replica,
        log: Log,
        is_live: bool,
    ) -> Option<NodeId> {
        let (_, actor) = log;
        let mine = replica.staged_reach(actor);
        let current = self
            .sources
            .get(&log)
            .map(|source| source.peer)
            .filter(|peer| core.peers.is_up(*peer));
        let best = best_ahead(core, replica, actor, mine);
        let is_stalled = self.is_stalled(now, log, mine, best.is_some());
        if is_live && core.is_here(actor.node) {
            return Some(actor.node);
        }
        if is_stalled {
            return best.or(current);
        }
        // One replica a region takes a log from afar; the others take it from that one.
        let gateway = gateway(core, replica, actor);
        if gateway != core.me {
            return Some(gateway);
        }
        if is_live {
            return Some(actor.node);
        }
        current.or(best)
    }

    fn is_stalled(&mut self, now: Now, log: Log, reach: Reach, is_behind: bool) -> bool {
        if !is_behind {
            self.behind.remove(&log);
            return false;
        }
        let behind = self.behind.entry(log).or_insert(Behind {
            reach,
            since: now.time,
        });
        if behind.reach != reach {
            *behind = Behind {
                reach,
                since: now.time,
            };
        }
        now.time.since(behind.since) >= STALL
    }

    /// A piece of log came: check where it begins, and give it to the door.
    pub(super) fn on_append(
        &mut self,
        now: Now,
        core: &mut Core,
        from: NodeId,
        append: Append,
        outputs: &mut Vec<Output>,
    ) {
        let Some(replica) = core.replicas.get_mut(&append.partition) else {
            return;
        };
        // Nobody but we can add to our own log, and nobody to one that is retired.
        if append.actor == core.actor || replica.position.has_retired(append.actor) {
            return;
        }
        let log = (append.partition, append.actor);
        if let Some(micros) = append.mark_micros {
            replica.on_mark(now.wall, append.actor, append.to, micros);
        }
        let staged = replica.staged(append.actor);
        // Pieces that follow each other closely wait for the door together.
        let given = self.given.get(&log).copied().unwrap_or(0).max(staged);
        if append.from > given && !is_left_out(Guard::AppendGap) {
            core.count(Counter::Gaps, 1);
            self.rewind(now, core, from, log, outputs);
            return;
        }
        // What is applied but perhaps not complete is merged again: it may bring what was passed over.
        if append.to <= replica.staged_complete(append.actor) {
            core.count(Counter::AppendsDuplicate, 1);
            self.acknowledge(core, from, log, staged, Met::default());
            return;
        }
        self.given.insert(log, given.max(append.to));
        // It is vouched for those who got all that was sent before: not if some of it was lost, and what is applied
        // here had come from another peer.
        let unbroken = self.follow(from, &append);
        let change = Change::Append {
            partition: append.partition,
            actor: append.actor,
            from: append.from,
            to: append.to,
            complete_from: append.complete_from.map(|complete| complete.max(unbroken)),
            items: append.items.clone(),
        };
        core.change(outputs, Purpose::Append(Arrival { from, append }), change);
    }

    /// The door decided on a piece.
    pub(super) fn on_staged(
        &mut self,
        now: Now,
        core: &mut Core,
        sender: &mut Sender,
        arrival: &Arrival,
        effect: &Effect,
        outputs: &mut Vec<Output>,
    ) {
        let Arrival { from, append } = arrival;
        let log = (append.partition, append.actor);
        match effect {
            Effect::Appended { reach, .. } => {
                let Some(replica) = core.replicas.get_mut(&append.partition) else {
                    return;
                };
                if self
                    .given
                    .get(&log)
                    .is_some_and(|given| *given <= reach.applied)
                {
                    self.given.remove(&log);
                }
                // The log was retired before the piece came to the door: there is nothing to pass on.
                if *reach == Reach::ALL {
                    return;
                }
                let Reach {
                    applied: before,
                    complete,
                } = replica.staged_reach(append.actor);
                replica.stage(append.actor, *reach);
                if append.from < before && complete < before {
                    sender.tear(append.partition, append.actor);
                }
                if complete < reach.complete {
                    sender.hold_until(append.partition, append.actor, reach.complete);
                }
                self.ahead.remove(&append.actor.node);
                sender.touch(append.partition, append.actor);
                if append.complete_from.is_some() && reach.complete < append.to {
                    self.rewind(now, core, *from, log, outputs);
                }
                if reach.applied <= before {
                    return;
                }
                if reach.complete < reach.applied {
                    // A piece that passes over something must not be handed on as if it were whole.
                    sender.recent.forget(append.partition, append.actor);
                    return;
                }
                let piece = Piece {
                    from: before,
                    to: reach.applied,
                    items: append
                        .items
                        .iter()
                        .filter(|item| item.n > before)
                        .cloned()
                        .collect(),
                };
                sender.recent.push(append.partition, append.actor, piece);
            }
            Effect::Gap { .. } => {
                self.given.remove(&log);
                self.rewind(now, core, *from, log, outputs);
            }
            Effect::Early { .. } => {
                self.given.remove(&log);
                core.count(Counter::ClockAhead, 1);
                if let Some(source) = self.sources.get_mut(&log) {
                    source.rewind_after = now.time.after(AHEAD_PAUSE);
                }
                if self.ahead.insert(append.actor.node) {
                    report(outputs, Report::ClockAhead(append.actor.node));
                }
            }
            Effect::Refused { .. } => {
                self.given.remove(&log);
            }
            Effect::Written { .. }
            | Effect::Denied(_)
            | Effect::Repaired { .. }
            | Effect::Trimmed { .. }
            | Effect::Swept { .. }
            | Effect::Done => {}
        }
    }

    /// A piece is on disk: acknowledge it.
    pub(super) fn on_durable(
        &mut self,
        now: Now,
        core: &mut Core,
        arrival: &Arrival,
        effect: Effect,
    ) {
        let Arrival { from, append } = arrival;
        let Effect::Appended {
            partition,
            actor,
            reach,
            newer,
            stood,
            crossed,
            written: _,
            lost,
        } = effect
        else {
            return;
        };
        core.count(Counter::AppendsApplied, 1);
        core.count_lost(&lost);
        let Some(replica) = core.replicas.get_mut(&partition) else {
            return;
        };
        let before = replica.position.reach(actor).applied.max(append.from);
        replica.reach(now.wall, actor, reach);
        let met = Met {
            newer,
            stood,
            crossed,
        };
        self.acknowledge(core, *from, (partition, actor), before, met);
        self.pass_on(core, (partition, actor), *from);
    }

    /// A neighbour has a log on its disk: tell the source that the region is that far.
    pub(super) fn on_neighbour_ack(&mut self, core: &Core, log: Log) {
        let applied = core
            .replicas
            .get(&log.0)
            .map_or(0, |replica| replica.position.reach(log.1).applied);
        if let Some(source) = self
            .sources
            .get(&log)
            .copied()
            .filter(|source| !core.is_here(source.peer))
        {
            self.acknowledge(core, source.peer, log, applied, Met::default());
        }
    }

    fn pass_on(&mut self, core: &Core, log: Log, told: NodeId) {
        if self
            .sources
            .get(&log)
            .is_some_and(|source| source.peer != told)
        {
            self.on_neighbour_ack(core, log);
        }
    }

    fn acknowledge(&mut self, core: &Core, to: NodeId, log: Log, from: u64, met: Met) {
        let Some(replica) = core.replicas.get(&log.0) else {
            return;
        };
        let Reach { applied, complete } = replica.position.reach(log.1);
        let mut reached = vec![(core.me, core.actor.incarnation, complete)];
        if !core.is_here(to) {
            let neighbours = replica.neighbours.iter();
            reached.extend(neighbours.filter_map(|node| {
                let incarnation = replica.other(*node)?.incarnation;
                Some((*node, incarnation, replica.complete_at(*node, log.1)))
            }));
        }
        let acks = self.acks.entry((to, log)).or_default();
        let is_serving = replica.is_serving;
        // Numbers in between came from another source, which was told what was newer.
        let is_other = |ack: &Ack| from > ack.applied || ack.is_serving != is_serving;
        if acks.last().is_none_or(is_other) {
            acks.push(Ack {
                partition: log.0,
                actor: log.1,
                reached: Vec::new(),
                from,
                applied,
                newer: Vec::new(),
                stood: Vec::new(),
                crossed: Vec::new(),
                is_serving,
            });
        }
        if let Some(ack) = acks.last_mut() {
            ack.from = ack.from.min(from);
            ack.reached = reached;
            ack.applied = applied;
            ack.newer.extend(met.newer);
            ack.stood.extend(met.stood);
            ack.crossed.extend(met.crossed);
        }
    }

    /// Sends the acknowledgements that have gathered.
    pub(super) fn flush(&mut self, outputs: &mut Vec<Output>) {
        let mut by_peer: BTreeMap<NodeId, Vec<Ack>> = BTreeMap::new();
        for ((peer, _), acks) in std::mem::take(&mut self.acks) {
            by_peer.entry(peer).or_default().extend(acks);
        }
        for (peer, acks) in by_peer {
            send(outputs, peer, Lane::Control, Message::Acks(acks));
        }
    }

    /// Watermarks came with a heartbeat; one that is ahead of a log on which nothing moves means a loss.
    pub(super) fn on_marks(
        &mut self,
        now: Now,
        core: &mut Core,
        from: NodeId,
        marks: &[Mark],
        outputs: &mut Vec<Output>,
    ) {
        let mut lost = Vec::new();
        for mark in marks {
            let log = (mark.partition, mark.actor);
            let Some(replica) = core.replicas.get_mut(&mark.partition) else {
                continue;
            };
            if mark.micros > 0 {
                replica.on_mark(now.wall, mark.actor, mark.n, mark.micros);
            }
            let reach = replica.staged_reach(mark.actor);
            let is_source = self
                .sources
                .get(&log)
                .is_some_and(|source| source.peer == from);
            if !is_source || reach.applied >= mark.n {
                continue;
            }
            // All of it was sent before the heartbeat; what does not come with the next one either is lost.
            let behind = self.behind.entry(log).or_insert(Behind {
                reach,
                since: now.time,
            });
            if behind.reach != reach {
                *behind = Behind {
                    reach,
                    since: now.time,
                };
            } else if now.time.since(behind.since) > core.limits.heartbeat_every * 2 {
                lost.push(log);
            }
        }
        for log in lost {
            self.rewind(now, core, from, log, outputs);
        }
    }

    /// Asks a source to go back to our position; not too often, for what is on its way may still come.
    fn rewind(
        &mut self,
        now: Now,
        core: &mut Core,
        from: NodeId,
        log: Log,
        outputs: &mut Vec<Output>,
    ) {
        let rtt = core.rtt(from).unwrap_or(Duration::ZERO);
        let Some(source) = self
            .sources
            .get_mut(&log)
            .filter(|source| source.peer == from)
        else {
            return;
        };
        if now.time < source.rewind_after {
            return;
        }
        source.rewind_after = now.time.after(REWIND_EVERY + rtt * 2);
        self.runs.remove(&log);
        core.count(Counter::Rewinds, 1);
        let wants = want(core, log, true).into_iter().collect();
        send(outputs, from, Lane::Control, Message::Wants(wants));
    }

    /// The position was raised by reconciliation: go on from there.
    pub(super) fn on_raised(
        &mut self,
        now: Now,
        core: &mut Core,
        partition: PartitionId,
        outputs: &mut Vec<Output>,
    ) {
        let logs: Vec<(Log, NodeId)> = self
            .sources
            .iter()
            .filter(|(log, _)| log.0 == partition)
            .map(|(log, source)| (*log, source.peer))
            .collect();
        for (log, peer) in logs {
            if let Some(source) = self.sources.get_mut(&log) {
                source.rewind_after = now.time;
            }
            self.rewind(now, core, peer, log, outputs);
        }
    }
}

fn want(core: &Core, log: Log, rewind: bool) -> Option<Want> {
    let replica = core.replicas.get(&log.0)?;
    if replica.position.has_retired(log.1) {
        return None;
    }
    let Reach { applied, complete } = replica.position.reach(log.1);
    Some(Want {
        partition: log.0,
        actor: log.1,
        applied,
        complete,
        rewind,
    })
}

/// The live replica of this region that takes an actor's log from afar: the neighbours in line, starting
/// with the one that has the actor's own rank, so that the work is spread.
fn gateway(core: &Core, replica: &Replica, actor: Actor) -> NodeId {
    let replicas = replica.replicas_in(core.region);
    let home = core
        .region_of(actor.node)
        .map_or(&[][..], |region| replica.replicas_in(region));
    let rank = home
        .iter()
        .position(|node| *node == actor.node)
        .unwrap_or(0);
    let line = replicas
        .iter()
        .cycle()
        .skip(rank % replicas.len().max(1))
        .take(replicas.len());
    line.copied()
        .find(|node| core.is_live(*node))
        .unwrap_or(core.me)
}

/// The nearest live replica known to be ahead of us in a log.
fn best_ahead(core: &Core, replica: &Replica, actor: Actor, mine: Reach) -> Option<NodeId> {
    let is_ahead = |theirs: Reach| theirs.applied > mine.applied || theirs.complete > mine.complete;
    replica
        .others()
        // Who has retired a log cannot send it.
        .filter(|(_, other)| !other.position.has_retired(actor))
        .filter(|(node, other)| core.peers.is_up(*node) && is_ahead(other.position.reach(actor)))
        .map(|(node, _)| (core.rtt(node), node))
        .min()
        .map(|(_, node)| node)
}
