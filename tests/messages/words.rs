//! What messages are made of: one of each kind, with numbers that take several bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sterna::model::{
    Actor, Behind, Clear, Conflict, Context, Dot, Expiry, Gate, Incarnation, KeyspaceId, NodeId,
    Once, Part, PartitionId, Position, Reach, RegionId, Row, RowKey, Seen, Session, Share,
    Siblings, Stamp, Summary, Tally, Timestamp, Version, Wall,
};

pub(super) const PARTITION: PartitionId = PartitionId {
    keyspace: KeyspaceId(0xcafe),
    index: 3,
};
pub(super) const ACTOR: Actor = Actor {
    node: NodeId(0x0102_0304),
    incarnation: Incarnation(0x0a0b_0c0d_0e0f),
};
pub(super) const OTHER: Actor = Actor {
    node: NodeId(5),
    incarnation: Incarnation(6),
};
pub(super) const TIMESTAMP: Timestamp = Timestamp {
    micros: 1_700_000_000_000_001,
    logical: 2,
};
pub(super) const DOT: Dot = Dot {
    actor: ACTOR,
    n: 300,
};
pub(super) const STAMP: Stamp = Stamp {
    timestamp: TIMESTAMP,
    dot: DOT,
};
pub(super) const REGION: RegionId = RegionId(0xbeef);
const EXPIRES: Wall = Wall(1_800_000_000_000_000);

pub(super) fn key() -> RowKey {
    RowKey {
        subkey: Bytes::from("sub"),
        ..plain()
    }
}

pub(super) fn plain() -> RowKey {
    RowKey::plain(KeyspaceId(0xcafe), Bytes::from_static(b"a\0key"))
}

pub(super) fn part(part: &Part) -> RowKey {
    plain().with(part)
}

pub(super) fn row(value: Option<&'static str>) -> Row {
    Row::Register(Version::new(STAMP, value.map(Bytes::from)))
}

fn wished() -> Version {
    Version {
        replaced: Timestamp {
            micros: TIMESTAMP.micros - 1,
            logical: 0,
        },
        expires: Some(EXPIRES),
        after: Some(Box::new(session())),
        ..Version::new(STAMP, Some(Bytes::from("value")))
    }
}

/// A row of every kind, with its names in the golden file.
pub(super) fn rows() -> Vec<(&'static str, Row)> {
    let tally = |n, sum| Tally { n, since: 290, sum };
    let mut siblings = Siblings::default();
    siblings.put(
        Version::new(
            Stamp {
                dot: Dot { actor: OTHER, n: 7 },
                ..STAMP
            },
            Some(Bytes::from("tea")),
        ),
        &context(),
    );
    siblings.put(wished(), &Context::default());
    let mut removed = siblings.clone();
    let seen = removed.context();
    removed.remove(
        Stamp {
            timestamp: TIMESTAMP.next(),
            dot: Dot {
                actor: ACTOR,
                n: 301,
            },
        },
        &seen,
    );
    let share = Share {
        stamp: STAMP,
        own: tally(300, -5),
        reset: tally(295, 1_000),
    };
    let once = Once {
        stamp: STAMP,
        applied: BTreeMap::from([(DOT, -5), (Dot { actor: OTHER, n: 9 }, -5)]),
        gone: BTreeSet::from([DOT]),
        expires: EXPIRES,
        is_spent: false,
    };
    let clear = Clear {
        stamp: STAMP,
        cleared: context(),
    };
    let expiry = Expiry {
        stamp: STAMP,
        upto: EXPIRES,
    };
    let conflict = |loser| Conflict {
        stamp: STAMP,
        winner: Stamp {
            timestamp: TIMESTAMP.next(),
            dot: Dot {
                actor: OTHER,
                n: 10,
            },
        },
        loser,
        expires: EXPIRES,
    };
    vec![
        ("register", Row::Register(wished())),
        ("siblings", Row::Siblings(siblings)),
        ("removed siblings", Row::Siblings(removed)),
        ("share", Row::Share(share)),
        ("once", Row::Once(once)),
        ("clear", Row::Clear(clear)),
        ("expiry", Row::Expiry(expiry)),
        ("conflict", Row::Conflict(conflict(Some(wished())))),
        ("spent conflict", Row::Conflict(conflict(None))),
    ]
}

pub(super) fn summary() -> Summary {
    row(None).summary()
}

pub(super) fn position() -> Position {
    let reach = Reach {
        applied: 300,
        complete: 299,
    };
    let mut position = Position::from_iter([(ACTOR, reach)]);
    position.retire(OTHER.node, OTHER.incarnation);
    position
}

pub(super) fn context() -> Context {
    Context::from(&position())
}

pub(super) fn session() -> Session {
    let seen = Seen {
        node: ACTOR.node,
        micros: TIMESTAMP.micros,
        rest: 300,
    };
    Session {
        regions: BTreeMap::from([(REGION, seen)]),
    }
}

pub(super) fn gate(behind: Behind) -> Gate {
    Gate {
        session: session(),
        fresh_as_of: Some(EXPIRES),
        behind,
        wait_micros: 50_000,
    }
}
