//! Logs that are sent to peers.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::model::{
    Actor, Answer, Change, DIGEST_FANOUT, Effect, LogItem, LogPage, NodeId, Position, Query, Reach,
    Ticket, Write, WriteOp,
};
use crate::protocol::{Append, Input, Message, Operation, Output, Want};

use super::bench::{Bench, actor, key, register};

/// The pieces of log that were sent since it was asked last.
fn appends(bench: &mut Bench) -> Vec<Append> {
    let outputs = std::mem::take(&mut bench.outputs);
    let append = |output| match output {
        Output::Send {
            message: Message::Append(append),
            ..
        } => Some(append),
        Output::Send { .. }
        | Output::Change { .. }
        | Output::Query { .. }
        | Output::Reply { .. }
        | Output::Report(_) => None,
    };
    outputs.into_iter().filter_map(append).collect()
}

/// A page that was read before the receiver went back does not say what comes after the number it went back to.
#[test]
fn a_page_of_log_is_sent_only_to_where_it_was_asked_for() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let partition = bench.partition("lww");
    let item = |n| LogItem {
        n,
        key: key("lww"),
        row: register(me, n, b"v"),
    };
    let op = WriteOp::Put(Bytes::from_static(b"v"));
    bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), op))));
    let (ticket, _) = bench.change().unwrap();
    let items = vec![item(15)];
    bench.stage(ticket, Effect::Written { partition, items });
    bench.sync(ticket);
    let mut want = |n, rewind| {
        let want = Want {
            partition,
            actor: actor(me),
            applied: n,
            complete: n,
            rewind,
        };
        bench.hear(near, Message::Wants(vec![want]));
        bench.tick();
        let (ticket, query) = bench.query().expect("a page is read");
        assert!(matches!(query, Query::Log(query) if query.after == n));
        ticket
    };
    let late = want(13, false);
    let asked = want(9, true);
    let page = |items| {
        Answer::Log(LogPage {
            to: 15,
            complete: true,
            complete_upto: 15,
            trimmed: 0,
            items,
        })
    };
    let answer = page(vec![item(15)]);
    bench.step(Input::Answered {
        ticket: late,
        answer,
    });
    bench.tick();
    assert_eq!(appends(&mut bench), []);
    let answer = page(vec![item(10), item(15)]);
    bench.step(Input::Answered {
        ticket: asked,
        answer,
    });
    let sent = appends(&mut bench);
    let [append] = &sent[..] else {
        panic!("not one piece: {sent:?}")
    };
    assert_eq!((append.from, append.to, append.items.len()), (9, 15, 2));
}

/// A log is relayed while it has holes; then they are filled by another pass over it, and what was sent before is not
/// what fills them.
#[test]
fn what_another_pass_over_a_log_brought_is_relayed_before_it_is_vouched_for() {
    let mut bench = Bench::new(0);
    let line = bench.line("a");
    let (source, near) = (line[1], line[2]);
    let partition = bench.partition("lww");
    let item = |n| LogItem {
        n,
        key: key("lww"),
        row: register(source, n, b"v"),
    };
    let piece = |complete_from, items| Append {
        partition,
        actor: actor(source),
        from: 0,
        to: 2,
        complete_from,
        mark_micros: None,
        items,
    };
    let page = |complete, items| {
        Answer::Log(LogPage {
            to: 2,
            complete,
            complete_upto: if complete { 2 } else { 0 },
            trimmed: 0,
            items,
        })
    };
    let want = Want {
        partition,
        actor: actor(source),
        applied: 0,
        complete: 0,
        rewind: false,
    };
    let take = |bench: &mut Bench, append, complete| {
        bench.hear(source, Message::Append(append));
        let (ticket, _) = bench.change().unwrap();
        let reach = Reach {
            applied: 2,
            complete,
        };
        let effect = Effect::Appended {
            partition,
            actor: actor(source),
            reach,
            newer: Vec::new(),
            stood: Vec::new(),
            crossed: Vec::new(),
            written: Vec::new(),
            lost: std::collections::BTreeMap::new(),
        };
        bench.stage(ticket, effect);
        bench.sync(ticket);
        bench.tick();
    };
    let read = |bench: &mut Bench, answer| {
        let (ticket, query) = bench.query().expect("a page is read");
        assert!(matches!(query, Query::Log(query) if query.after == 0));
        bench.step(Input::Answered { ticket, answer });
        bench.tick();
        let sent = appends(bench);
        let [append] = &sent[..] else {
            panic!("not one piece: {sent:?}")
        };
        (append.items.len(), append.complete_from)
    };
    bench.hear(near, Message::Wants(vec![want]));
    // The second entry's row stands in the log again, under a number that has not come.
    take(&mut bench, piece(None, vec![item(1)]), 0);
    assert_eq!(read(&mut bench, page(false, vec![item(1)])), (1, None));
    // Another has not got so far, and its log still has the entry.
    take(&mut bench, piece(Some(0), vec![item(1), item(2)]), 2);
    assert_eq!(
        read(&mut bench, page(true, vec![item(1), item(2)])),
        (2, Some(0))
    );
}

/// What stands beyond a hole was applied, and what is in the hole is in no log any more.
#[test]
fn a_hole_that_no_log_fills_is_filled_by_digest() {
    let mut bench = Bench::new(0);
    let (partition, near, other) = (
        bench.partition("lww"),
        bench.line("a")[1],
        bench.line("a")[2],
    );
    let reach = Reach {
        applied: 23,
        complete: 12,
    };
    let actor = actor(other);
    let item = LogItem {
        n: 23,
        key: key("lww"),
        row: register(other, 23, b"v"),
    };
    let append = Append {
        partition,
        actor,
        from: 0,
        to: 23,
        complete_from: Some(0),
        mark_micros: None,
        items: vec![item],
    };
    bench.beat(other, &[(other, 23)], &[(23, 1)]);
    bench.tick();
    bench.hear(other, Message::Append(append));
    let (ticket, _) = bench.change().expect("it is applied");
    let effect = Effect::Appended {
        partition,
        actor,
        reach,
        newer: Vec::new(),
        stood: Vec::new(),
        crossed: Vec::new(),
        written: Vec::new(),
        lost: std::collections::BTreeMap::new(),
    };
    bench.stage(ticket, effect);
    bench.sync(ticket);
    bench.beat(near, &[(other, 23)], &[]);
    bench.messages();
    bench.hear(near, Message::Trimmed { partition, actor });
    let asks = bench.outputs.iter().any(|output| {
        matches!(output, Output::Report(crate::protocol::Report::Reconciling(filled, from)) if *filled == partition && *from == near)
    });
    assert!(asks, "{:?}", bench.outputs);
}

/// Fills the partition by digest from a peer that has nothing else; gives the change that takes over its position.
fn refill(bench: &mut Bench, peer: NodeId, log: Actor, upto: u64) -> Ticket {
    let partition = bench.partition("lww");
    let position: Position = [(log, Reach::upto(upto))].into_iter().collect();
    let asked = |bench: &mut Bench| {
        let sent = std::mem::take(&mut bench.outputs).into_iter();
        let id = |output| match output {
            Output::Send {
                message: Message::DigestAsk { id, .. } | Message::GravesAsk { id, .. },
                ..
            } => Some(id),
            Output::Query {
                ticket,
                query: Query::Digest { .. },
            } => {
                let hashes = vec![vec![0; usize::from(DIGEST_FANOUT)]];
                let position = Position::default();
                let answer = Answer::Digest { position, hashes };
                bench.step(Input::Answered { ticket, answer });
                None
            }
            Output::Send { .. }
            | Output::Query { .. }
            | Output::Change { .. }
            | Output::Reply { .. }
            | Output::Report(_) => None,
        };
        let ids: Vec<u64> = sent.filter_map(id).collect();
        let [id] = ids[..] else {
            panic!("one question: {ids:?}")
        };
        id
    };
    bench.hear(
        peer,
        Message::Trimmed {
            partition,
            actor: log,
        },
    );
    let told = Message::DigestTell {
        id: asked(bench),
        position,
        hashes: vec![vec![0; usize::from(DIGEST_FANOUT)]],
    };
    bench.hear(peer, told);
    let told = Message::GravesTell {
        id: asked(bench),
        rows: Vec::new(),
        next: None,
    };
    bench.hear(peer, told);
    let (ticket, change) = bench.change().expect("the position is taken over");
    assert!(matches!(change, Change::Raise { .. }), "{change:?}");
    ticket
}

/// A position was taken over, and is not on disk yet, when the next piece of log comes: the entries between are in no
/// log here, and nobody may be told that there are none (simulator, seed 1101774).
#[test]
fn what_a_refill_passed_over_is_not_sent_as_if_it_were_nothing() {
    let mut bench = Bench::new(0);
    let line = bench.line("a");
    let (source, near) = (line[1], line[2]);
    let partition = bench.partition("lww");
    let log = actor(source);
    bench.beat(source, &[(source, 9)], &[]);
    bench.tick();
    let raise = refill(&mut bench, source, log, 9);
    let want = Want {
        partition,
        actor: log,
        applied: 0,
        complete: 0,
        rewind: false,
    };
    bench.hear(near, Message::Wants(vec![want]));
    let append = Append {
        partition,
        actor: log,
        from: 0,
        to: 1,
        complete_from: Some(0),
        mark_micros: None,
        items: vec![LogItem {
            n: 1,
            key: key("lww"),
            row: register(source, 1, b"v"),
        }],
    };
    bench.hear(source, Message::Append(append));
    let (piece, _) = bench.change().expect("it is applied");
    let effect = Effect::Appended {
        partition,
        actor: log,
        reach: Reach::upto(9),
        newer: Vec::new(),
        stood: Vec::new(),
        crossed: Vec::new(),
        written: Vec::new(),
        lost: std::collections::BTreeMap::new(),
    };
    bench.stage(raise, Effect::Done);
    bench.stage(piece, effect);
    bench.tick();
    bench.sync(raise);
    bench.sync(piece);
    bench.tick();
    let is_told = bench.outputs.iter().any(|output| {
        matches!(output, Output::Send { to, message: Message::Trimmed { .. }, .. } if *to == near)
    });
    assert!(is_told, "that the log does not reach back");
    assert_eq!(appends(&mut bench), []);
}

/// A log is relayed while a row of it stands under a number that has not come. When that comes, and is not on disk yet,
/// nobody who lacks it is complete (simulator, seed 2000324).
#[test]
fn what_was_relayed_with_a_hole_is_vouched_for_only_with_what_fills_it() {
    let mut bench = Bench::new(0);
    let afar = bench.line("b");
    let (source, far) = (afar[0], afar[1]);
    let partition = bench.partition("lww");
    let log = actor(source);
    let piece = |from, to, complete_from| Append {
        partition,
        actor: log,
        from,
        to,
        complete_from,
        mark_micros: None,
        items: vec![LogItem {
            n: to,
            key: key("lww"),
            row: register(source, to, b"v"),
        }],
    };
    let effect = |applied, complete| Effect::Appended {
        partition,
        actor: log,
        reach: Reach { applied, complete },
        newer: Vec::new(),
        stood: Vec::new(),
        crossed: Vec::new(),
        written: Vec::new(),
        lost: std::collections::BTreeMap::new(),
    };
    let want = Want {
        partition,
        actor: log,
        applied: 0,
        complete: 0,
        rewind: false,
    };
    bench.hear(far, Message::Wants(vec![want]));
    bench.hear(source, Message::Append(piece(0, 2, None)));
    let (ticket, _) = bench.change().unwrap();
    bench.stage(ticket, effect(2, 0));
    bench.sync(ticket);
    bench.tick();
    let (ticket, _) = bench.query().expect("a page is read");
    let answer = Answer::Log(LogPage {
        to: 2,
        complete: false,
        complete_upto: 0,
        trimmed: 0,
        items: piece(0, 2, None).items,
    });
    bench.step(Input::Answered { ticket, answer });
    bench.tick();
    let whole = |sent: &[Append]| {
        let ends = sent.iter().map(|append| (append.to, append.complete_from));
        ends.collect::<Vec<_>>()
    };
    assert_eq!(whole(&appends(&mut bench)), [(2, None)]);
    bench.hear(far, Message::Wants(vec![Want { applied: 2, ..want }]));
    bench.hear(source, Message::Append(piece(2, 5, Some(0))));
    let (ticket, _) = bench.change().unwrap();
    bench.stage(ticket, effect(5, 5));
    bench.pass(10 * super::bench::MILLISECOND);
    assert_eq!(whole(&appends(&mut bench)), []);
    bench.sync(ticket);
    bench.pass(10 * super::bench::MILLISECOND);
    assert_eq!(whole(&appends(&mut bench)), [(5, Some(0))]);
}

/// A log with a hole at this node, which relays it: another pass brings what was in the hole.
struct Relay {
    bench: Bench,
    source: NodeId,
    near: NodeId,
}

impl Relay {
    fn new() -> Self {
        let bench = Bench::new(0);
        let (source, near) = (bench.line("b")[0], bench.line("a")[1]);
        let mut relay = Self {
            bench,
            source,
            near,
        };
        let holed = relay.take(0..=2, None, &[1], 0);
        relay.bench.sync(holed);
        relay
    }

    fn piece(
        &self,
        span: &RangeInclusive<u64>,
        complete_from: Option<u64>,
        items: &[u64],
    ) -> Append {
        let item = |n: &u64| LogItem {
            n: *n,
            key: key("lww"),
            row: register(self.source, *n, b"v"),
        };
        Append {
            partition: self.bench.partition("lww"),
            actor: actor(self.source),
            from: *span.start(),
            to: *span.end(),
            complete_from,
            mark_micros: None,
            items: items.iter().map(item).collect(),
        }
    }

    /// A piece is staged, by which the log is complete up to here.
    fn take(
        &mut self,
        span: RangeInclusive<u64>,
        complete_from: Option<u64>,
        items: &[u64],
        complete: u64,
    ) -> Ticket {
        let piece = self.piece(&span, complete_from, items);
        let reach = Reach {
            applied: piece.to,
            complete,
        };
        let effect = Effect::Appended {
            partition: piece.partition,
            actor: piece.actor,
            reach,
            newer: Vec::new(),
            stood: Vec::new(),
            crossed: Vec::new(),
            written: Vec::new(),
            lost: std::collections::BTreeMap::new(),
        };
        self.bench.hear(self.source, Message::Append(piece));
        let (ticket, _) = self.bench.change().unwrap();
        self.bench.stage(ticket, effect);
        ticket
    }

    fn want(&mut self) {
        let want = Want {
            partition: self.bench.partition("lww"),
            actor: actor(self.source),
            applied: 0,
            complete: 0,
            rewind: false,
        };
        self.bench.hear(self.near, Message::Wants(vec![want]));
        self.bench.tick();
    }

    fn asked(&mut self) -> Option<Ticket> {
        let (ticket, query) = self.bench.query()?;
        assert!(matches!(query, Query::Log(query) if query.after == 0));
        Some(ticket)
    }

    /// A page comes, of a snapshot that was complete up to here.
    fn answer(&mut self, ticket: Ticket, to: u64, complete_upto: u64, items: &[u64]) {
        let answer = Answer::Log(LogPage {
            to,
            complete: complete_upto == to,
            complete_upto,
            trimmed: 0,
            items: self.piece(&(0..=to), None, items).items,
        });
        self.bench.step(Input::Answered { ticket, answer });
        self.bench.tick();
    }

    /// What was vouched for since; pages that are asked for meanwhile are of the store before.
    fn vouched(&mut self) -> usize {
        self.bench.tick();
        while let Some(ticket) = self.asked() {
            self.answer(ticket, 2, 0, &[1]);
        }
        let sent = appends(&mut self.bench);
        let vouched = sent.iter().filter(|append| append.complete_from.is_some());
        vouched.count()
    }

    /// All of it is on disk: what is sent now has all, and says so.
    fn ends_with(&mut self, ticket: Ticket, to: u64, items: &[u64]) {
        self.bench.sync(ticket);
        self.bench.tick();
        let page = self.asked().expect("another page is read");
        self.answer(page, to, to, items);
        let whole = self.piece(&(0..=to), Some(0), items);
        assert_eq!(appends(&mut self.bench), [whole]);
    }
}

/// Seed 25000739.
#[test]
fn a_page_that_was_read_before_its_holes_were_filled_is_read_again() {
    let mut relay = Relay::new();
    relay.want();
    let early = relay.asked().expect("a page is read");
    let whole = relay.take(0..=2, Some(0), &[1, 2], 2);
    relay.answer(early, 2, 0, &[1]);
    assert!(relay.asked().is_none(), "it would not be there yet");
    assert_eq!(relay.vouched(), 0);
    relay.ends_with(whole, 2, &[1, 2]);
}

#[test]
fn a_page_that_was_read_beside_another_pass_is_read_again_when_that_is_done() {
    let mut relay = Relay::new();
    relay.want();
    let early = relay.asked().expect("a page is read");
    let filled = relay.take(0..=2, None, &[1, 2], 0);
    relay.bench.sync(filled);
    relay.answer(early, 2, 0, &[1]);
    let rest = relay.take(2..=3, Some(0), &[3], 3);
    assert_eq!(relay.vouched(), 0);
    relay.ends_with(rest, 3, &[1, 2, 3]);
}

/// (Architect.)
#[test]
fn a_page_that_is_asked_for_before_another_pass_is_on_disk_is_read_again_when_that_is_done() {
    let mut relay = Relay::new();
    let filled = relay.take(0..=2, None, &[1, 2], 0);
    relay.want();
    let early = relay.asked().expect("a page is read");
    relay.answer(early, 2, 0, &[1]);
    relay.bench.sync(filled);
    let rest = relay.take(2..=3, Some(0), &[3], 3);
    assert_eq!(relay.vouched(), 0);
    relay.ends_with(rest, 3, &[1, 2, 3]);
}

/// What would be the same again is not sent again (simulator, seed 29001546).
#[test]
fn a_torn_stream_goes_back_only_when_more_is_complete() {
    let mut relay = Relay::new();
    for complete_from in [Some(0), None] {
        let ticket = relay.take(0..=2, complete_from, &[1], 1);
        relay.bench.sync(ticket);
    }
    relay.want();
    let page = relay.asked().expect("a page is read");
    relay.answer(page, 2, 1, &[1]);
    assert_eq!(
        appends(&mut relay.bench),
        [relay.piece(&(0..=2), None, &[1])]
    );
    for _ in 0..5 {
        relay.bench.tick();
        assert!(relay.asked().is_none());
    }
    let rest = relay.take(0..=2, Some(0), &[1, 2], 2);
    relay.ends_with(rest, 2, &[1, 2]);
}

/// A link that was jammed lets everything go at once (simulator, seed 2101265).
#[test]
fn a_sender_goes_back_once_however_often_it_was_asked_meanwhile() {
    let mut bench = Bench::new(0);
    let (me, near) = (bench.me, bench.line("a")[1]);
    let partition = bench.partition("lww");
    let op = WriteOp::Put(Bytes::from_static(b"v"));
    bench.ask_for(Operation::Write(Box::new(Write::new(key("lww"), op))));
    let (ticket, _) = bench.change().unwrap();
    let items = vec![LogItem {
        n: 1,
        key: key("lww"),
        row: register(me, 1, b"v"),
    }];
    bench.stage(ticket, Effect::Written { partition, items });
    bench.sync(ticket);
    let mut ask = |pause| {
        let want = Want {
            partition,
            actor: actor(me),
            applied: 0,
            complete: 0,
            rewind: true,
        };
        bench.hear(near, Message::Wants(vec![want]));
        bench.pass(pause);
        appends(&mut bench).len()
    };
    let second = 1_000 * super::bench::MILLISECOND;
    assert_eq!([ask(1), ask(1), ask(second), ask(1)], [1, 0, 0, 1]);
}

/// A disk that cannot be read is not asked again in the same breath.
#[test]
fn a_page_that_was_not_read_is_asked_for_again_after_a_pause() {
    let mut relay = Relay::new();
    relay.want();
    let ticket = relay.asked().expect("a page is read");
    let reason = "its checksum is wrong";
    let answer = Answer::Unreadable { reason };
    relay.bench.step(Input::Answered { ticket, answer });
    relay.bench.tick();
    assert!(relay.asked().is_none());
    relay.bench.pass(300 * super::bench::MILLISECOND);
    let ticket = relay.asked().expect("and again");
    relay.answer(ticket, 2, 0, &[1]);
    assert_eq!(appends(&mut relay.bench).len(), 1);
}
