//! What replicas hold of a selection of rows, and what is right if they differ: pure.
//!
//! A replica's position is a causal context of its whole partition. So what it has not, though its position covers
//! it, was deleted there and collected.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use crate::model::{
    Actor, Collection, Context, Dot, Incarnation, NodeId, Part, Place, Position, Row, RowKey,
    Summary, share_prefix,
};

use crate::model::planted::{Guard, is_left_out};

/// What one replica holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Side {
    /// Never newer than the rows.
    pub(super) position: Position,
    /// The rows.
    pub(super) rows: BTreeMap<RowKey, Row>,
    /// Rows beyond this subkey were not looked at.
    pub(super) next: Option<Bytes>,
}

impl Side {
    pub(super) fn new(position: Position, rows: Vec<(RowKey, Row)>, next: Option<Bytes>) -> Self {
        let rows = rows.into_iter().collect();
        Self {
            position,
            rows,
            next: next.map(|next| page_end(&next)),
        }
    }

    /// What a replica tells in place of its rows, given the floor by which it last collected: equal on two replicas if a
    /// client would see the same, and each has met what the other has seen go. The upper half is of the rows, the lower of
    /// what was seen go.
    pub(super) fn state(&self, collected: &BTreeMap<Actor, u64>) -> u128 {
        (u128::from(self.shown()) << 64) | u128::from(self.seen_gone(collected))
    }

    /// Whether these are the rows in place of which this was told.
    pub(super) fn is_of(&self, state: u128) -> bool {
        u128::from(self.shown()) == state >> 64
    }

    fn shown(&self) -> u64 {
        let mut hasher = Xxh3::with_seed(1);
        for (key, row) in &self.rows {
            let length = u64::try_from(key.subkey.len()).unwrap_or(u64::MAX);
            hasher.update(&length.to_be_bytes());
            hasher.update(&key.subkey);
            hasher.update(&row_shown(row).to_be_bytes());
        }
        hasher.digest()
    }

    /// What these rows have seen go, but for what is collected and so was met by every replica.
    fn seen_gone(&self, collected: &BTreeMap<Actor, u64>) -> u64 {
        let is_everywhere = |dot: &Dot| {
            let floor = collected.get(&dot.actor);
            self.position.has_retired(dot.actor) || floor.is_some_and(|n| dot.n <= *n)
        };
        let mut hasher = Xxh3::with_seed(2);
        for (index, row) in (0_u64..).zip(self.rows.values()) {
            let Row::Siblings(row) = row else { continue };
            hasher.update(&index.to_be_bytes());
            let seen = row.seen_gone().seen.iter();
            let dots = seen.map(|(actor, n)| Dot {
                actor: *actor,
                n: *n,
            });
            for dot in dots.filter(|dot| !is_everywhere(dot)) {
                hasher.update(&dot.actor.node.0.to_be_bytes());
                hasher.update(&dot.actor.incarnation.0.to_be_bytes());
                hasher.update(&dot.n.to_be_bytes());
            }
        }
        hasher.digest()
    }

    /// Merges what another replica holds of the same selection into this, by the positions of both. Where one was
    /// not looked at as far as the other, both end there.
    pub(super) fn join(&mut self, other: &Self) {
        let mut other = other.clone();
        let ends = [self.next.as_ref(), other.next.as_ref()];
        if let Some(end) = ends.into_iter().flatten().min().cloned() {
            self.cut(&end);
            other.cut(&end);
        }
        let keys: BTreeSet<RowKey> = self.rows.keys().chain(other.rows.keys()).cloned().collect();
        let merged = keys.into_iter().filter_map(|key| {
            let row = match (self.rows.get(&key), other.rows.get(&key)) {
                (Some(mine), Some(theirs)) => {
                    both((mine, &self.position), (theirs, &other.position))
                }
                (Some(row), None) => left(row, &other.position)?,
                (None, Some(row)) => left(row, &self.position)?,
                (None, None) => return None,
            };
            Some((key, row))
        });
        self.rows = merged.collect();
        self.position.join(&other.position);
    }

    /// Takes away what the clears among the rows cover.
    pub(super) fn apply_clears(&mut self) {
        let cleared: BTreeMap<Collection, Context> = self
            .rows
            .iter()
            .filter_map(|(key, row)| match (key.part()?, row) {
                (Part::Clear(collection), Row::Clear(clear)) => {
                    Some((collection, clear.cleared.clone()))
                }
                _ => None,
            })
            .collect();
        self.rows.retain(|key, row| {
            let collection = key.part().and_then(|part| part.collection());
            let Some(cleared) = collection.and_then(|collection| cleared.get(&collection)) else {
                return true;
            };
            row.clear(cleared);
            !row.is_cleared_by(cleared)
        });
    }

    /// The rows of the merged state that this replica has not got, operations before shares.
    pub(super) fn lacks(&self, merged: &Self) -> Vec<(RowKey, Row)> {
        let has = |key: &RowKey, row: &Row| match self.rows.get(key) {
            Some(mine) => {
                row_shown(mine) == row_shown(row) && knows(&self.position, Some(mine), row)
            }
            // It has collected the delete. And of operations only those are shown that are not known to be there.
            None => {
                let may_be_absent = row.is_tombstone() || matches!(row, Row::Once(_));
                may_be_absent && row.dots().iter().all(|dot| self.position.covers(*dot))
            }
        };
        let lacks = |key: &RowKey, row: &Row| !has(key, row) || is_left_out(Guard::RepairLacking);
        let lacking = merged.rows.iter().filter(|(key, row)| lacks(key, row));
        lacking
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect()
    }

    /// The row, if it is a register and the only one that was found. Registers are plain values: whoever reads one beside
    /// other rows must read it by itself.
    pub(super) fn register(&self) -> Option<&Row> {
        let row = self.rows.values().next().filter(|_| self.rows.len() == 1);
        row.filter(|row| matches!(row, Row::Register(_)))
    }

    /// Whether a replica at this position that holds rows of the same states has also seen go what these rows have
    /// seen go. It may not have met it at all, and would show it when it comes.
    pub(super) fn is_known_at(&self, position: &Position) -> bool {
        self.rows.values().all(|row| knows(position, None, row))
    }

    /// Merges operations that this replica holds beside what was selected.
    pub(super) fn add_operations(&mut self, rows: Vec<(RowKey, Row)>) {
        for (key, row) in rows {
            match self.rows.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(row)),
                Entry::Occupied(mut entry) => drop(entry.get_mut().merge(&row)),
            }
        }
    }

    /// The counters of which it holds anything.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.rows.keys().filter_map(|key| match key.part()? {
            Part::Share(place, _) | Part::Once(place, _) => Some(place),
            Part::Plain
            | Part::Clear(_)
            | Part::Member(_)
            | Part::Field(_)
            | Part::Conflict(_)
            | Part::Expiry => None,
        })
    }

    /// The operations among its rows.
    pub(super) fn operations(&self) -> impl Iterator<Item = &RowKey> {
        let rows = self.rows.iter();
        let once = rows.filter(|(_, row)| matches!(row, Row::Once(_)));
        once.map(|(key, _)| key)
    }

    /// Forgets what lies beyond a subkey.
    fn cut(&mut self, end: &Bytes) {
        self.next = Some(end.clone());
        self.rows.retain(|key, _| match key.part() {
            Some(Part::Clear(_)) => true,
            // It stands with the shares of its counter.
            Some(Part::Once(place @ Place::Field(_), _)) => share_prefix(&place) <= *end,
            Some(_) | None => key.subkey <= *end,
        });
    }
}

/// Whether a replica to which a register was brought holds something newer, or has deleted and collected it: then it may
/// never have been the newest there, and its writer may yet stamp it again, above what has replaced it. A delete that is
/// not there has been collected there, so every replica has it.
pub(super) fn is_hidden(held: Option<&Summary>, sent: &Row) -> bool {
    let is_newest = match held {
        Some(held) => held.stamp() <= sent.stamp(),
        None => sent.is_tombstone(),
    };
    !is_newest && !is_left_out(Guard::Hidden)
}

/// Whether whoever has this position, and this row, has seen all that another state of the row has seen.
fn knows(position: &Position, mine: Option<&Row>, row: &Row) -> bool {
    let Row::Siblings(row) = row else {
        return true;
    };
    let mine = match mine {
        Some(Row::Siblings(mine)) => mine.context(),
        Some(_) | None => Context::default(),
    };
    let seen = row.context();
    let is_seen = |(actor, n): (&Actor, &u64)| {
        let (actor, n) = (*actor, *n);
        position.covers(Dot { actor, n }) || mine.covers(Dot { actor, n })
    };
    let is_retired = |(node, upto): (&NodeId, &Incarnation)| {
        let retired = [&position.retired, &mine.retired];
        retired
            .iter()
            .any(|retired| retired.get(node).is_some_and(|mine| mine >= upto))
    };
    seen.seen.iter().all(is_seen) && seen.retired.iter().all(is_retired)
}

/// What is left of a row that a replica at this position has not shown: what it knows, and has not, was deleted there and
/// collected. Operations of a counter say nothing by not being there, for only those are shown that somebody may lack.
fn left(row: &Row, position: &Position) -> Option<Row> {
    match row {
        Row::Once(_) => Some(row.clone()),
        Row::Register(_)
        | Row::Siblings(_)
        | Row::Share(_)
        | Row::Clear(_)
        | Row::Expiry(_)
        | Row::Conflict(_) => row.unknown(|dot| position.covers(dot)),
    }
}

/// Two states of a row, each from a replica that knows what its position covers: a version stays if both have it,
/// or if the one that has it not does not know it.
fn both((mine, here): (&Row, &Position), (theirs, there): (&Row, &Position)) -> Row {
    let mut merged = mine.clone();
    merged.absorb(theirs, |dot| here.covers(dot));
    let mut reverse = theirs.clone();
    reverse.absorb(mine, |dot| there.covers(dot));
    merged.merge(&reverse);
    merged
}

/// What is to be seen of a row's state. Of siblings that are all gone it is the same whatever was the last of them:
/// after a clear, a replica remembers only what came later, and one that had that before the clear remembers all.
fn row_shown(row: &Row) -> u64 {
    match row {
        Row::Siblings(siblings) if siblings.versions().is_empty() => 0,
        Row::Siblings(_)
        | Row::Register(_)
        | Row::Share(_)
        | Row::Once(_)
        | Row::Clear(_)
        | Row::Expiry(_)
        | Row::Conflict(_) => row.summary().state,
    }
}

/// Where a page really ends that ends at this subkey: the shares of a counter are never parted, and another replica
/// may have more of them.
pub(super) fn page_end(subkey: &Bytes) -> Bytes {
    match Part::of(subkey) {
        Some(Part::Share(place, _)) => {
            let mut end = BytesMut::from(&share_prefix(&place)[..]);
            end.put_bytes(u8::MAX, 12);
            end.freeze()
        }
        Some(_) | None => subkey.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyspaceId, Reach, Siblings, Stamp, Timestamp, Version};

    fn dot(node: u32, n: u64) -> Dot {
        let actor = Actor {
            node: NodeId(node),
            incarnation: Incarnation(1),
        };
        Dot { actor, n }
    }

    fn key(part: &Part) -> RowKey {
        RowKey::plain(KeyspaceId(1), Bytes::from_static(b"k")).with(part)
    }

    fn member(name: &'static str) -> RowKey {
        key(&Part::Member(Bytes::from_static(name.as_bytes())))
    }

    fn row(dots: &[Dot]) -> Row {
        let mut row = Siblings::default();
        for dot in dots {
            row.put(version(*dot), &Context::default());
        }
        Row::Siblings(row)
    }

    fn version(dot: Dot) -> Version {
        let timestamp = Timestamp {
            micros: dot.n,
            logical: 0,
        };
        Version::new(Stamp { timestamp, dot }, Some(Bytes::new()))
    }

    fn nothing() -> BTreeMap<Actor, u64> {
        BTreeMap::new()
    }

    fn side(at: &[(u32, u64)], rows: &[(RowKey, Row)]) -> Side {
        let reach = |(node, n): &(u32, u64)| (dot(*node, 1).actor, Reach::upto(*n));
        Side::new(at.iter().map(reach).collect(), rows.to_vec(), None)
    }

    #[test]
    fn what_a_position_covers_and_a_side_has_not_was_deleted() {
        let (one, two) = (dot(1, 1), dot(2, 1));
        let mut mine = side(&[(1, 5)], &[]);
        let theirs = side(
            &[(2, 1)],
            &[(member("a"), row(&[one])), (member("b"), row(&[two]))],
        );
        mine.join(&theirs);
        assert_eq!(mine.rows.keys().collect::<Vec<_>>(), [&member("b")]);
        assert_eq!(side(&[(2, 1)], &[]).lacks(&mine).len(), 1);
        assert!(theirs.lacks(&mine).is_empty());
    }

    #[test]
    fn both_sides_take_away_what_they_saw_go_whoever_is_asked_first() {
        let (one, two, three) = (dot(1, 1), dot(2, 1), dot(3, 1));
        let mine = side(&[(1, 1), (2, 1)], &[(member("a"), row(&[one, three]))]);
        let theirs = side(&[(1, 1), (2, 1)], &[(member("a"), row(&[two, three]))]);
        for (first, second) in [(&mine, &theirs), (&theirs, &mine)] {
            let mut merged = first.clone();
            merged.join(second);
            assert_eq!(merged.rows[&member("a")].dots(), vec![three]);
        }
    }

    #[test]
    fn who_has_not_seen_a_version_at_all_has_not_seen_it_go() {
        let (old, new) = (dot(1, 1), dot(2, 2));
        let mut gone = Siblings::default();
        gone.put(version(old), &Context::default());
        gone.put(version(new), &[old].into_iter().collect());
        let merged = side(&[(1, 1), (2, 2)], &[(member("a"), Row::Siblings(gone))]);
        let theirs = side(&[], &[(member("a"), row(&[new]))]);
        assert_ne!(theirs.state(&nothing()), merged.state(&nothing()));
        assert_eq!(theirs.lacks(&merged).len(), 1);
        assert!(!merged.is_known_at(&theirs.position));
        let theirs = side(&[(1, 1), (2, 2)], &[(member("a"), row(&[new]))]);
        assert!(theirs.lacks(&merged).is_empty());
        assert!(merged.is_known_at(&theirs.position));
    }

    /// A removal that came before a clear on one replica, and after it on another (simulator, seed 31006688).
    #[test]
    fn what_is_all_gone_is_the_same_whatever_was_the_last() {
        let (cleared, late) = (dot(1, 3), dot(2, 2));
        let gone = |dots: &[Dot]| {
            let mut row = Siblings::default();
            for dot in dots {
                let stamp = version(*dot).stamp();
                row.remove(stamp, &Context::default());
            }
            (member("a"), Row::Siblings(row))
        };
        let at = [(1, 3), (2, 2)];
        let before = side(&at, &[gone(&[cleared, late])]);
        let after = side(&at, &[gone(&[late])]);
        assert_ne!(before.rows, after.rows);
        assert!(after.lacks(&before).is_empty());
        assert!(before.lacks(&after).is_empty());
        let collected = BTreeMap::from([(cleared.actor, 3), (late.actor, 2)]);
        assert_eq!(before.state(&collected), after.state(&collected));
        let behind = side(&[(2, 2)], &[gone(&[late])]);
        assert_eq!(behind.lacks(&before).len(), 1);
        assert!(!before.is_known_at(&behind.position));
    }

    /// A removal that one replica alone has, of a member that the other has not met: whoever asks the two of them must not
    /// take what is the same to see for the same, for a third one may show the member.
    #[test]
    fn who_has_seen_more_go_is_told_from_who_has_not() {
        let (old, member_dot, removal) = (dot(1, 1), dot(3, 7), dot(2, 5));
        let mut fewer = Siblings::default();
        fewer.remove(version(old).stamp(), &Context::default());
        let mut more = fewer.clone();
        more.remove(
            version(removal).stamp(),
            &[member_dot].into_iter().collect(),
        );
        let asks = side(&[(1, 1)], &[(member("m"), Row::Siblings(fewer))]);
        let tells = side(
            &[(1, 1), (2, 5), (3, 7)],
            &[(member("m"), Row::Siblings(more))],
        );
        assert_eq!(asks.shown(), tells.shown());
        assert!(tells.is_of(asks.state(&nothing())));
        assert!(asks.is_known_at(&tells.position));
        assert_ne!(asks.state(&nothing()), tells.state(&nothing()));
        assert_eq!(asks.lacks(&tells).len(), 1);
    }

    #[test]
    fn a_page_ends_where_the_shortest_does_and_keeps_counters_whole() {
        let share = |node| {
            key(&Part::Share(
                Place::Field(Bytes::from_static(b"n")),
                dot(node, 1).actor,
            ))
        };
        let once = key(&Part::Once(
            Place::Field(Bytes::from_static(b"n")),
            crate::model::OpId(1),
        ));
        let field = key(&Part::Field(Bytes::from_static(b"z")));
        let some = row(&[dot(1, 1)]);
        let mut mine = side(
            &[],
            &[
                (share(1), some.clone()),
                (share(9), some.clone()),
                (once.clone(), some.clone()),
                (field, some.clone()),
            ],
        );
        let theirs = Side::new(
            Position::default(),
            vec![(share(1), some)],
            Some(share(1).subkey),
        );
        mine.join(&theirs);
        assert_eq!(
            mine.rows.keys().collect::<Vec<_>>(),
            [&once, &share(1), &share(9)]
        );
        assert_eq!(mine.next, Some(page_end(&share(1).subkey)));
    }

    #[test]
    fn a_clear_takes_what_it_covers_of_either_side() {
        let clear = Row::Clear(crate::model::Clear {
            stamp: Stamp {
                timestamp: Timestamp::ZERO,
                dot: dot(1, 9),
            },
            cleared: [dot(2, 1)].into_iter().collect(),
        });
        let mut merged = side(&[], &[(key(&Part::Clear(Collection::Set)), clear)]);
        merged.join(&side(
            &[],
            &[
                (member("a"), row(&[dot(2, 1)])),
                (member("b"), row(&[dot(2, 2)])),
            ],
        ));
        merged.apply_clears();
        assert_eq!(merged.rows.len(), 2);
        assert!(merged.rows.contains_key(&member("b")));
    }
}
