//! The sending side of streams: for each receiver that wants an actor's log, a cursor, a window, and pieces
//! from memory or from the log on disk.
//!
//! A stream holds no data. What is not acknowledged is on disk, and a receiver that is away costs nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use crate::model::{Actor, Answer, Duration, LogPage, LogQuery, NodeId, PartitionId, Query, Time};

use crate::model::planted::{Guard, is_left_out};

use super::core::{Core, Counter, Purpose, REWIND_EVERY, send};
use super::message::{Ack, Append, Lane, Mark, Message, Want};
use super::recent::{Piece, Recent};
use super::step::{Now, Output};
use super::timers::Timer;

/// While something is in flight to another region, fresh changes wait so long for company.
const LINGER: Duration = Duration::from_millis(2);
/// Or until there are so many.
const LINGER_CHANGES: u64 = 16;
/// A page of log that the disk did not give is asked for again after this.
const UNREADABLE_PAUSE: Duration = Duration::from_millis(250);
/// Pieces in flight on one stream; beyond it the window is full whatever their bytes.
const PIECES_MAX: usize = 1024;

/// The streams of one log.
fn of_log(partition: PartitionId, actor: Actor) -> RangeInclusive<StreamId> {
    let to = |peer| StreamId {
        partition,
        actor,
        peer: NodeId(peer),
    };
    to(0)..=to(u32::MAX)
}

/// One receiver of one log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct StreamId {
    pub(super) partition: PartitionId,
    pub(super) actor: Actor,
    pub(super) peer: NodeId,
}

/// A page of log that is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reading {
    /// No other page has this: one that was asked for before may lack what came since.
    id: u64,
    after: u64,
}

/// A stream's state.
#[derive(Debug)]
struct Stream {
    /// Where it began: the receiver was complete up to here.
    start: u64,
    /// Sent up to here.
    sent: u64,
    /// A page of log passed over numbers whose rows stand under greater ones, up to here at most: only a
    /// receiver that has got so far is complete.
    gaps_until: u64,
    /// Up to here all that was sent was sent as complete.
    whole: u64,
    /// What was sent after that may have passed over rows that came here later, in another pass over the log: it must be
    /// sent again from there, once this replica is complete beyond this number.
    torn: Option<u64>,
    /// Whether the receiver was told that it is complete up to `sent`.
    is_completed: bool,
    /// Where pieces in flight lead, and their bytes.
    in_flight: VecDeque<(u64, usize)>,
    in_flight_bytes: usize,
    /// Does not go back to the same number again before this, or to one before it: questions that were held up on their
    /// way may come all at once.
    rewind_after: Time,
    last_sent: Time,
    /// The page of log that is being read for it.
    reading: Option<Reading>,
    /// The disk did not give a page: none is asked for before this.
    paused_until: Time,
    /// Whether it is behind what memory holds: its pieces go on the catch-up lane.
    is_catching_up: bool,
}

/// All streams that this node sends.
#[derive(Debug)]
pub(super) struct Sender {
    streams: BTreeMap<StreamId, Stream>,
    in_flight: BTreeMap<NodeId, usize>,
    dirty: BTreeSet<StreamId>,
    /// Logs that are passed over anew, until this replica is complete up to more of them.
    torn: BTreeSet<(PartitionId, Actor)>,
    pub(super) recent: Recent,
}

impl Sender {
    pub(super) fn new(recent_bytes_max: usize) -> Self {
        Self {
            streams: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            dirty: BTreeSet::new(),
            torn: BTreeSet::new(),
            recent: Recent::new(recent_bytes_max),
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight.values().sum()
    }

    /// The streams of one log have, perhaps, more to send.
    pub(super) fn touch(&mut self, partition: PartitionId, actor: Actor) {
        let of_log = self.streams.range(of_log(partition, actor));
        self.dirty.extend(of_log.map(|(id, _)| *id));
    }

    /// A log is passed over anew here: what its streams sent while it was not complete
    /// may lack rows that have moved on in the one pass and not in the other. So may what they send until it is complete further,
    /// for a page may have been read before.
    pub(super) fn tear(&mut self, partition: PartitionId, actor: Actor) {
        self.torn.insert((partition, actor));
        for (id, stream) in self.streams.range_mut(of_log(partition, actor)) {
            if stream.whole < stream.sent {
                stream.torn = Some(0);
                stream.reading = None;
                self.dirty.insert(*id);
            }
        }
    }

    /// A log is complete here up to a number, and was not before: what its streams sent meanwhile may have passed over rows
    /// that stand anywhere up to there, so only a receiver that has got so far is complete.
    pub(super) fn hold_until(&mut self, partition: PartitionId, actor: Actor, complete: u64) {
        self.torn.remove(&(partition, actor));
        for (_, stream) in self.streams.range_mut(of_log(partition, actor)) {
            if stream.whole < stream.sent {
                stream.gaps_until = stream.gaps_until.max(complete);
            }
        }
    }

    /// A log is complete here further than before, and its rows came without it: what its streams sent meanwhile is sent
    /// anew, and what they send from now on is whole up to there.
    pub(super) fn on_raised(&mut self, partition: PartitionId, actor: Actor) {
        self.tear(partition, actor);
        self.torn.remove(&(partition, actor));
    }

    /// The streams of all logs of a partition have, perhaps, more to send.
    pub(super) fn touch_all(&mut self, partition: PartitionId) {
        let of_partition = self.streams.keys().filter(|id| id.partition == partition);
        self.dirty.extend(of_partition.copied());
    }

    /// Lives of a node need not be counted any more: their streams end.
    pub(super) fn on_retired(&mut self, core: &Core, partition: PartitionId) {
        let Some(replica) = core.replicas.get(&partition) else {
            return;
        };
        let is_over = |actor: Actor| replica.position.has_retired(actor);
        let in_flight = &mut self.in_flight;
        self.streams.retain(|id, stream| {
            let is_kept = id.partition != partition || !is_over(id.actor);
            if !is_kept && let Some(total) = in_flight.get_mut(&id.peer) {
                *total = total.saturating_sub(stream.in_flight_bytes);
            }
            is_kept
        });
        self.torn
            .retain(|(of, actor)| *of != partition || !is_over(*actor));
        self.recent
            .retain(|of, actor| of != partition || !is_over(actor));
    }

    /// A stream has waited long enough.
    pub(super) fn on_linger(&mut self, id: StreamId) {
        if self.streams.contains_key(&id) {
            self.dirty.insert(id);
        }
    }

    /// Everything on its way to a peer is lost; its wants will tell where to resume.
    pub(super) fn on_peer_lost(&mut self, peer: NodeId) {
        self.streams.retain(|id, _| id.peer != peer);
        self.dirty.retain(|id| id.peer != peer);
        self.in_flight.remove(&peer);
    }

    /// All that a peer wants: streams it does not want any more end.
    pub(super) fn on_all_wants(&mut self, now: Now, core: &Core, peer: NodeId, wants: &[Want]) {
        let wanted: BTreeSet<(PartitionId, Actor)> = wants
            .iter()
            .map(|want| (want.partition, want.actor))
            .collect();
        let in_flight = self.in_flight.entry(peer).or_default();
        self.streams.retain(|id, stream| {
            let is_kept = id.peer != peer || wanted.contains(&(id.partition, id.actor));
            if !is_kept {
                *in_flight = in_flight.saturating_sub(stream.in_flight_bytes);
            }
            is_kept
        });
        for want in wants {
            self.on_want(now, core, peer, *want);
        }
    }

    /// A peer wants a log from its position on.
    pub(super) fn on_want(&mut self, now: Now, core: &Core, peer: NodeId, want: Want) {
        let is_held = core.replicas.get(&want.partition).is_some_and(|replica| {
            // Who still wants a log that is retired here finds out by our heartbeats.
            replica.is_replica(peer) && !replica.position.has_retired(want.actor)
        });
        if !is_held {
            return;
        }
        let id = StreamId {
            partition: want.partition,
            actor: want.actor,
            peer,
        };
        let is_new = !self.streams.contains_key(&id);
        let stream = self
            .streams
            .entry(id)
            .or_insert_with(|| Stream::new(want.complete));
        let total = self.in_flight.entry(peer).or_default();
        let is_repeated = now.time < stream.rewind_after && want.complete <= stream.start;
        let goes_back = want.rewind && !is_repeated;
        if goes_back {
            stream.rewind_after = now.time.after(REWIND_EVERY);
            stream.start = want.complete;
            stream.go_back(want.complete, total);
        } else {
            stream.acknowledge(want.applied, total);
            // It got further by another way: what it has need not be sent.
            if stream.sent < want.complete {
                stream.skip_to(want.complete);
            }
        }
        // It has all entries and does not know that nothing was passed over: what said so was lost.
        if want.applied >= stream.sent && want.complete < stream.sent && stream.in_flight.is_empty()
        {
            stream.is_completed = false;
        }
        // What is stable may have risen by a heartbeat, which touches no stream.
        let has_more = core
            .replicas
            .get(&want.partition)
            .is_some_and(|replica| stream.sent < replica.staged(want.actor));
        if is_new || goes_back || has_more || !stream.is_completed {
            self.dirty.insert(id);
        }
    }

    /// A peer has a log on its disk up to here.
    pub(super) fn on_ack(&mut self, peer: NodeId, ack: &Ack) {
        let id = StreamId {
            partition: ack.partition,
            actor: ack.actor,
            peer,
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.acknowledge(ack.applied, self.in_flight.entry(peer).or_default());
            self.dirty.insert(id);
        }
    }

    /// Sends what may be sent on every stream that was touched.
    pub(super) fn flush(&mut self, now: Now, core: &mut Core, outputs: &mut Vec<Output>) {
        core.vouch();
        for id in std::mem::take(&mut self.dirty) {
            while self.pump(now, core, id, outputs) {}
        }
    }

    /// Sends one piece, or asks the log for one. Says whether to go on.
    fn pump(&mut self, now: Now, core: &mut Core, id: StreamId, outputs: &mut Vec<Output>) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        let Some(replica) = core.replicas.get(&id.partition) else {
            return false;
        };
        let total = self.in_flight.get(&id.peer).copied().unwrap_or(0);
        let is_local = core.is_here(id.peer);
        let staged = replica.staged(id.actor);
        let durable = replica.position.reach(id.actor).applied;
        let head = if is_local {
            staged
        } else if core.is_here(id.actor.node) && !is_left_out(Guard::StableFirst) {
            // Stable on a regional quorum before it leaves the region.
            durable
                .min(replica.stable(id.actor))
                .min(core.decided(id.partition, id.actor))
        } else {
            durable
        };
        let is_paused = now.time < stream.paused_until;
        if is_paused || stream.reading.is_some() || stream.is_full(total, &core.limits) {
            return false;
        }
        let is_due = |beyond: u64| stream.whole.max(beyond) < replica.staged_complete(id.actor);
        if stream.torn.is_some_and(is_due) {
            let whole = stream.whole;
            stream.go_back(whole, self.in_flight.entry(id.peer).or_default());
        }
        if stream.sent >= head {
            // Our own log became complete after its entries had been passed on: say so.
            if !stream.is_completed
                && stream.completes(replica.staged_complete(id.actor), stream.sent)
            {
                let piece = Piece {
                    from: stream.sent,
                    to: stream.sent,
                    items: Vec::new(),
                };
                let is_end = piece.to == staged;
                self.send_piece(now, core, id, piece, is_end, outputs);
            }
            return false;
        }
        let trimmed = replica.trimmed.get(&id.actor).copied().unwrap_or(0);
        if stream.sent < trimmed {
            say_trimmed(id, outputs);
            stream.skip_to(head);
            return false;
        }
        if !is_local && !stream.in_flight.is_empty() && head - stream.sent < LINGER_CHANGES {
            let due = stream.last_sent.after(LINGER);
            if now.time < due {
                core.timers.set(due, Timer::Stream(id));
                return false;
            }
        }
        let bytes_max = core.limits.batch_bytes_max;
        let is_kept = self.recent.holds(id.partition, id.actor, stream.sent);
        if is_kept && stream.is_catching_up && !stream.in_flight.is_empty() {
            // On another lane it would overtake what is under way.
            return false;
        }
        if let Some(piece) = self
            .recent
            .read(id.partition, id.actor, stream.sent, head, bytes_max)
        {
            let is_end = piece.to == staged;
            stream.is_catching_up = false;
            if id.actor.node != core.me && !is_local {
                core.count(Counter::Relayed, 1);
            }
            self.send_piece(now, core, id, piece, is_end, outputs);
            return true;
        }
        if stream.sent < durable && (stream.is_catching_up || stream.in_flight.is_empty()) {
            let page = core.id();
            stream.reading = Some(Reading {
                id: page,
                after: stream.sent,
            });
            stream.is_catching_up = true;
            core.count(Counter::LogPages, 1);
            let query = LogQuery {
                partition: id.partition,
                actor: id.actor,
                after: stream.sent,
                upto: head.min(durable),
                bytes_max,
            };
            core.query(outputs, Purpose::LogPage(id, page), Query::Log(query));
        }
        false
    }

    /// A page of log came for a stream.
    pub(super) fn on_page(
        &mut self,
        now: Now,
        core: &mut Core,
        (id, page): (StreamId, u64),
        answer: Answer,
        outputs: &mut Vec<Output>,
    ) {
        core.vouch();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // The stream went back while the disk was read: another page is on its way.
        let Some(Reading { after, .. }) = stream.reading.filter(|reading| reading.id == page)
        else {
            return;
        };
        stream.reading = None;
        let Answer::Log(page) = answer else {
            stream.paused_until = now.time.after(UNREADABLE_PAUSE);
            core.timers.set(stream.paused_until, Timer::Stream(id));
            self.dirty.remove(&id);
            return;
        };
        if self.take_page(now, core, (id, after), page, outputs) {
            self.dirty.insert(id);
        } else {
            self.dirty.remove(&id);
        }
    }

    /// Sends what a page holds, if it still serves. Says whether there may be more to do for its stream now.
    fn take_page(
        &mut self,
        now: Now,
        core: &Core,
        (id, after): (StreamId, u64),
        page: LogPage,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        // The receiver has gone on by another way.
        if after != stream.sent {
            return true;
        }
        if stream.sent < page.trimmed {
            say_trimmed(id, outputs);
            return false;
        }
        if page.to <= stream.sent {
            return true;
        }
        let replica = core.replicas.get(&id.partition);
        let staged = replica.map_or(0, |replica| replica.staged(id.actor));
        let complete = replica.map_or(0, |replica| replica.staged_complete(id.actor));
        let durable = replica.map_or(0, |replica| replica.position.reach(id.actor).complete);
        // It was read before that was there which has filled its holes since: it is read again, once that is on disk
        // (see `docs/protocol.md`).
        if page.complete_upto < page.to.min(complete) {
            return complete <= durable;
        }
        if !page.complete {
            stream.gaps_until = stream.gaps_until.max(staged);
        }
        let piece = Piece {
            from: stream.sent,
            to: page.to,
            items: page.items,
        };
        let is_end = piece.to == staged;
        self.send_piece(now, core, id, piece, is_end, outputs);
        true
    }

    fn send_piece(
        &mut self,
        now: Now,
        core: &Core,
        id: StreamId,
        piece: Piece,
        is_end: bool,
        outputs: &mut Vec<Output>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let bytes = 64
            + piece
                .items
                .iter()
                .map(crate::model::LogItem::size)
                .sum::<usize>();
        let complete = core
            .replicas
            .get(&id.partition)
            .map_or(0, |replica| replica.staged_complete(id.actor));
        stream.is_completed = stream.completes(complete, piece.to);
        if stream.is_completed {
            stream.whole = piece.to;
        } else {
            // Now it would be the same again.
            let is_passed_over = self.torn.contains(&(id.partition, id.actor));
            stream.torn = stream.torn.or_else(|| is_passed_over.then_some(complete));
        }
        let complete_from = stream.is_completed.then_some(stream.start);
        stream.sent = piece.to;
        stream.in_flight.push_back((piece.to, bytes));
        stream.in_flight_bytes += bytes;
        stream.last_sent = now.time;
        *self.in_flight.entry(id.peer).or_default() += bytes;
        let mark_micros = mark_micros(core, id, piece.to, is_end);
        let lane = if stream.is_catching_up {
            Lane::CatchUp
        } else {
            Lane::Fresh
        };
        let append = Append {
            partition: id.partition,
            actor: id.actor,
            from: piece.from,
            to: piece.to,
            complete_from,
            mark_micros,
            items: piece.items,
        };
        send(outputs, id.peer, lane, Message::Append(append));
    }

    /// Marks for a heartbeat to a peer: how far each stream has been sent, with a time where it has sent all
    /// there is.
    pub(super) fn marks(&self, core: &Core, peer: NodeId) -> Vec<Mark> {
        let mark = |(id, stream): (&StreamId, &Stream)| {
            let staged = core.replicas.get(&id.partition)?.staged(id.actor);
            let is_end = stream.sent >= staged;
            let micros = mark_micros(core, *id, stream.sent, is_end);
            Some(Mark {
                partition: id.partition,
                actor: id.actor,
                n: stream.sent,
                micros: micros.unwrap_or(0),
            })
        };
        let streams = self.streams.iter().filter(|(id, _)| id.peer == peer);
        streams.filter_map(mark).collect()
    }
}

/// The log does not reach back as far as a stream's receiver needs it.
fn say_trimmed(id: StreamId, outputs: &mut Vec<Output>) {
    let StreamId {
        partition,
        actor,
        peer,
    } = id;
    let trimmed = Message::Trimmed { partition, actor };
    send(outputs, peer, Lane::Control, trimmed);
}

/// The time of the watermark at a number of a log: of our own, at its end, the present; of another's, what we were
/// told. Whoever gets it waits until it has all up to that number, so we need not have it.
fn mark_micros(core: &Core, id: StreamId, n: u64, is_end: bool) -> Option<u64> {
    if id.actor == core.actor {
        return is_end.then(|| core.vouchable());
    }
    core.replicas.get(&id.partition)?.told(id.actor, n)
}

impl Stream {
    /// A stream to a receiver that is complete up to here.
    fn new(complete: u64) -> Self {
        Self {
            start: complete,
            sent: complete,
            gaps_until: 0,
            whole: complete,
            torn: None,
            is_completed: true,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            rewind_after: Time::default(),
            paused_until: Time::default(),
            last_sent: Time::default(),
            reading: None,
            is_catching_up: false,
        }
    }

    /// Whether a receiver that has got up to `to` on this stream lacks nothing, given how far we are complete.
    fn completes(&self, complete: u64, to: u64) -> bool {
        (self.torn.is_none() && self.gaps_until <= to && to <= complete)
            || is_left_out(Guard::WholeStream)
    }

    /// Leaves out what comes before this number: of that the stream vouches for nothing.
    fn skip_to(&mut self, to: u64) {
        self.start = to;
        self.sent = to;
        self.whole = to;
        self.gaps_until = 0;
        self.torn = None;
    }

    /// Sends again what comes after this number. What is under way is not waited for: its acknowledgement would be one of
    /// the pieces to come, and if it was lost, none of them.
    fn go_back(&mut self, to: u64, total: &mut usize) {
        *total = total.saturating_sub(self.in_flight_bytes);
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.sent = to;
        self.whole = to;
        self.gaps_until = 0;
        self.is_completed = true;
        self.torn = None;
        self.reading = None;
    }

    fn acknowledge(&mut self, applied: u64, total: &mut usize) {
        while let Some((to, bytes)) = self.in_flight.front().copied() {
            if to > applied {
                return;
            }
            self.in_flight.pop_front();
            self.in_flight_bytes -= bytes;
            *total = total.saturating_sub(bytes);
        }
    }

    /// A stream may hold a quarter of its peer's window, so that one that is stuck does not stop the others.
    fn is_full(&self, total: usize, limits: &crate::model::Limits) -> bool {
        let bytes =
            self.in_flight_bytes >= limits.window_bytes_max / 4 || total >= limits.window_bytes_max;
        (bytes && !self.in_flight.is_empty()) || self.in_flight.len() >= PIECES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece of the pass before was lost, and lay before all that came after it (simulator, seed 10000946).
    #[test]
    fn who_goes_back_waits_for_nothing_that_is_under_way() {
        let mut stream = Stream::new(0);
        stream.sent = 19;
        stream.in_flight.push_back((19, 800));
        stream.in_flight_bytes = 800;
        let mut total = 1_000;
        stream.go_back(0, &mut total);
        assert_eq!((stream.sent, stream.in_flight_bytes, total), (0, 0, 200));
        stream.in_flight.push_back((10, 200));
        stream.in_flight_bytes = 200;
        stream.acknowledge(17, &mut total);
        assert!(stream.in_flight.is_empty());
    }
}
