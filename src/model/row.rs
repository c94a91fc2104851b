//! Rows, and the one function that merges two states of a row.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{
    Clear, Conflict, Context, Dot, Expiry, KeyspaceId, Once, Part, PartitionId, Share, Siblings,
    Stamp, Timestamp, Token, Version, Wall,
};

/// The name of a row. Ordered as rows are stored: keyspace, token, key, subkey.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct RowKey {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The hash of `key`; for a row of the partition itself, the partition's first token.
    pub token: Token,
    /// The client's key: any bytes, at least one. Empty for a row of the partition itself.
    pub key: Bytes,
    /// Empty for a plain value; names a part of the key otherwise (see [`Part`]).
    pub subkey: Bytes,
}

impl RowKey {
    /// The row of a plain value.
    pub fn plain(keyspace: KeyspaceId, key: Bytes) -> Self {
        Self {
            keyspace,
            token: Token::of(&key),
            key,
            subkey: Bytes::new(),
        }
    }

    /// The row of another part of the same key.
    #[must_use]
    pub fn with(&self, part: &Part) -> Self {
        Self {
            subkey: part.subkey(),
            ..self.clone()
        }
    }

    /// The row of a partition, of `count`, that says up to when its rows have expired.
    pub fn of_expiry(partition: PartitionId, count: u16) -> Self {
        Self {
            keyspace: partition.keyspace,
            token: Token::leaf_start(partition.index, count, 0, 1),
            key: Bytes::new(),
            subkey: Part::Expiry.subkey(),
        }
    }

    /// What this row is of its key; nothing if there is no such part.
    pub fn part(&self) -> Option<Part> {
        Part::of(&self.subkey)
    }

    /// The partition of this row in a cluster of `count` partitions.
    pub fn partition(&self, count: u16) -> PartitionId {
        PartitionId {
            keyspace: self.keyspace,
            index: self.token.partition_index(count),
        }
    }

    /// Bytes this name takes, roughly, in memory and in a message.
    pub fn size(&self) -> usize {
        self.key.len() + self.subkey.len() + 16
    }
}

/// The state of a row: a sum over the types of data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Row {
    /// A register of an `lww` keyspace: the greatest (timestamp, dot) wins.
    Register(Version),
    /// A register of a `siblings` keyspace, a member of a set, or a register field of a map.
    Siblings(Siblings),
    /// An actor's share of a counter.
    Share(Share),
    /// An increment with an operation id.
    Once(Once),
    /// What was deleted of a collection as a whole.
    Clear(Clear),
    /// Up to when rows of the partition have expired.
    Expiry(Expiry),
    /// A version that lost.
    Conflict(Conflict),
}

/// What must be known of a row to tell whether two replicas hold the same state of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The greatest timestamp in the row.
    pub timestamp: Timestamp,
    /// The dot of that change.
    pub dot: Dot,
    /// Whether the row holds no value.
    pub is_tombstone: bool,
    /// Whether the last writer wins, so that the greater of two summaries is all there is to know.
    pub is_register: bool,
    /// A hash of the state: equal on two replicas if and only if a client would see the same, deletes included.
    pub state: u64,
    /// Dots of the state beside `dot`.
    pub others: Box<[Dot]>,
}

impl Row {
    /// Merges another state of the same row into this one: associative, commutative, idempotent, and it
    /// never drops a change that it has not seen. Says whether this state changed.
    ///
    /// States of two kinds do not merge: the later kind in the order of [`Row`] stays. The door refuses a row
    /// whose kind does not fit its name, so that this happens only if nodes disagree on a keyspace's policy.
    pub fn merge(&mut self, other: &Self) -> bool {
        if let (Self::Register(mine), Self::Register(theirs)) = (&mut *self, other) {
            let wins = theirs.stamp() > mine.stamp();
            // Of one change, the state without a value is the later one: it has expired.
            let has_expired =
                theirs.stamp() == mine.stamp() && theirs.value.is_none() && mine.value.is_some();
            if wins || has_expired {
                *mine = theirs.clone();
            }
            return wins || has_expired;
        }
        if *self == *other {
            return false;
        }
        let before = self.clone();
        match (&mut *self, other) {
            (Self::Siblings(mine), Self::Siblings(theirs)) => mine.merge(theirs),
            (Self::Share(mine), Self::Share(theirs)) => mine.merge(theirs),
            (Self::Once(mine), Self::Once(theirs)) => mine.merge(theirs),
            (Self::Clear(mine), Self::Clear(theirs)) => {
                mine.stamp = mine.stamp.max(theirs.stamp);
                mine.cleared.join(&theirs.cleared);
            }
            (Self::Expiry(mine), Self::Expiry(theirs)) => {
                mine.stamp = mine.stamp.max(theirs.stamp);
                mine.upto = mine.upto.max(theirs.upto);
            }
            (Self::Conflict(mine), Self::Conflict(theirs)) => {
                // Written once; one without its version has expired.
                if theirs.stamp > mine.stamp
                    || (theirs.stamp == mine.stamp && theirs.loser.is_none())
                {
                    *mine = theirs.clone();
                }
            }
            (mine, theirs) => {
                if theirs.rank() > mine.rank() {
                    *mine = theirs.clone();
                }
            }
        }
        *self != before
    }

    /// Merges a state from a replica elsewhere, given which dots are known here: a version of theirs that is known
    /// here and not in this state was seen and replaced, even if this state does not remember it.
    pub fn absorb(&mut self, other: &Self, is_known: impl Fn(Dot) -> bool) -> bool {
        match (&*self, other) {
            (Self::Siblings(mine), Self::Siblings(theirs)) => {
                let here = |dot| mine.versions().iter().any(|version| version.dot == dot);
                let left = theirs.without(|dot| is_known(dot) && !here(dot));
                self.merge(&Self::Siblings(left))
            }
            _ => self.merge(other),
        }
    }

    /// What is left of a state for a replica that has no such row, given which dots it knows: what it knows and
    /// has not was deleted and collected there. Nothing if all of it was.
    pub fn unknown(&self, is_known: impl Fn(Dot) -> bool) -> Option<Self> {
        if self.dots().iter().all(|dot| is_known(*dot)) {
            return None;
        }
        match self {
            Self::Siblings(row) => Some(Self::Siblings(row.without(is_known))),
            Self::Register(_)
            | Self::Share(_)
            | Self::Once(_)
            | Self::Clear(_)
            | Self::Expiry(_)
            | Self::Conflict(_) => Some(self.clone()),
        }
    }

    /// Recalls changes that the replica of this state has seen and not in it: they were replaced there, and the
    /// state may have been compacted since.
    pub fn recall(&mut self, seen: &[Dot]) {
        if let Self::Siblings(row) = self {
            row.learn(seen);
        }
    }

    /// Takes away the values that have expired at a cut that all replicas agree on.
    pub fn expire(&mut self, cut: Wall) {
        match self {
            Self::Register(version) => version.expire(cut),
            Self::Siblings(row) => row.expire(cut),
            Self::Once(once) => once.is_spent |= once.expires <= cut,
            Self::Conflict(conflict) => {
                if conflict.expires <= cut {
                    conflict.loser = None;
                }
            }
            Self::Share(_) | Self::Clear(_) | Self::Expiry(_) => {}
        }
    }

    /// When the next value in it expires.
    pub fn next_expiry(&self) -> Option<Wall> {
        match self {
            Self::Register(version) => version.expires.filter(|_| version.value.is_some()),
            Self::Siblings(row) => row.versions().iter().filter_map(|v| v.expires).min(),
            Self::Once(once) => Some(once.expires).filter(|_| !once.is_spent),
            Self::Conflict(conflict) => Some(conflict.expires).filter(|_| conflict.loser.is_some()),
            Self::Share(_) | Self::Clear(_) | Self::Expiry(_) => None,
        }
    }

    /// Takes away the versions that a clear of the whole collection covers.
    pub fn clear(&mut self, cleared: &Context) {
        if let Self::Siblings(row) = self {
            row.clear(cleared);
        }
    }

    /// Whether a clear covers all that there ever was of this row, so that the clear speaks for it.
    pub fn is_cleared_by(&self, cleared: &Context) -> bool {
        matches!(self, Self::Siblings(row) if row.versions().is_empty() && cleared.includes(&row.context()))
    }

    /// Forgets what every replica has seen go.
    pub fn compact(&mut self, stable: &Context) {
        if let Self::Siblings(row) = self {
            row.compact(stable);
        }
    }

    /// The greatest stamp in it.
    pub fn stamp(&self) -> Stamp {
        let none = Stamp {
            timestamp: Timestamp::ZERO,
            dot: Dot::NONE,
        };
        match self {
            Self::Register(version) => version.stamp(),
            Self::Siblings(row) => row.latest().unwrap_or(none),
            Self::Share(Share { stamp, .. })
            | Self::Once(Once { stamp, .. })
            | Self::Clear(Clear { stamp, .. })
            | Self::Expiry(Expiry { stamp, .. })
            | Self::Conflict(Conflict { stamp, .. }) => *stamp,
        }
    }

    /// The summary of this state.
    pub fn summary(&self) -> Summary {
        let Stamp { timestamp, dot } = self.stamp();
        let is_register = matches!(self, Self::Register(_));
        let others: Box<[Dot]> = if is_register {
            Box::default()
        } else {
            let dots = self.dots().into_iter();
            dots.filter(|other| *other != dot).collect()
        };
        Summary {
            timestamp,
            dot,
            is_tombstone: self.is_tombstone(),
            is_register,
            state: self.state(),
            others,
        }
    }

    /// Whether the row holds no value: it is kept only until every replica has it.
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Register(version) => version.value.is_none(),
            Self::Siblings(row) => row.versions().is_empty(),
            Self::Share(share) => share.is_reset(),
            Self::Once(once) => once.is_spent && once.is_settled(),
            Self::Clear(_) => true,
            Self::Expiry(_) => false,
            Self::Conflict(conflict) => conflict.loser.is_none(),
        }
    }

    /// The dots of all changes that are seen in this state; that of the last one is among them.
    pub fn dots(&self) -> Vec<Dot> {
        let mut dots = match self {
            Self::Siblings(row) => row.versions().iter().map(|version| version.dot).collect(),
            Self::Once(once) => once.applied.keys().copied().collect(),
            Self::Register(_)
            | Self::Share(_)
            | Self::Clear(_)
            | Self::Expiry(_)
            | Self::Conflict(_) => Vec::new(),
        };
        let last = self.stamp().dot;
        if last != Dot::NONE && !dots.contains(&last) {
            dots.push(last);
        }
        dots
    }

    /// Bytes this state takes, roughly, in memory and in a message.
    pub fn size(&self) -> usize {
        match self {
            Self::Register(version) => version.size(),
            Self::Siblings(row) => row.size(),
            Self::Share(_) => 90,
            Self::Once(once) => once.applied.len() * 32 + once.gone.len() * 20 + 60,
            Self::Clear(clear) => clear.cleared.len() * 20 + 40,
            Self::Expiry(_) => 40,
            Self::Conflict(conflict) => conflict.loser.as_ref().map_or(0, Version::size) + 80,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Register(_) => 0,
            Self::Siblings(_) => 1,
            Self::Share(_) => 2,
            Self::Once(_) => 3,
            Self::Clear(_) => 4,
            Self::Expiry(_) => 5,
            Self::Conflict(_) => 6,
        }
    }

    /// See [`Summary::state`].
    fn state(&self) -> u64 {
        let mut hasher = Xxh3::with_seed(u64::from(self.rank()));
        let mut number = |n: u64| hasher.update(&n.to_be_bytes());
        let dot = |dot: Dot, number: &mut dyn FnMut(u64)| {
            number(u64::from(dot.actor.node.0));
            number(dot.actor.incarnation.0);
            number(dot.n);
        };
        match self {
            Self::Register(version) => {
                dot(version.dot, &mut number);
                number(u64::from(version.value.is_some()));
            }
            Self::Siblings(row) => {
                // A value, and the same one when it has expired, have one dot.
                number(u64::from(self.is_tombstone()));
                for version in row.versions() {
                    dot(version.dot, &mut number);
                }
                if row.versions().is_empty() {
                    dot(self.stamp().dot, &mut number);
                }
            }
            Self::Share(share) => {
                for tally in [share.own, share.observed()] {
                    number(tally.n);
                    number(tally.since);
                }
            }
            Self::Once(once) => {
                for applied in once.applied.keys() {
                    dot(*applied, &mut number);
                    number(u64::from(once.gone.contains(applied)));
                }
                number(u64::from(once.is_spent));
            }
            Self::Clear(clear) => {
                for (actor, n) in &clear.cleared.seen {
                    let (actor, n) = (*actor, *n);
                    dot(Dot { actor, n }, &mut number);
                }
                for (node, incarnation) in &clear.cleared.retired {
                    number(u64::from(node.0));
                    number(incarnation.0);
                }
                dot(clear.stamp.dot, &mut number);
            }
            Self::Expiry(expiry) => number(expiry.upto.0),
            Self::Conflict(conflict) => {
                dot(conflict.stamp.dot, &mut number);
                number(u64::from(conflict.loser.is_some()));
            }
        }
        hasher.digest()
    }
}

impl Summary {
    /// Its stamp.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            timestamp: self.timestamp,
            dot: self.dot,
        }
    }

    /// Whether a register of this summary would win over one of `other`.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.stamp() > other.stamp()
    }

    /// The dots of all changes that are seen in the state.
    pub fn dots(&self) -> impl Iterator<Item = Dot> {
        [self.dot].into_iter().chain(self.others.iter().copied())
    }
}
