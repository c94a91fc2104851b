//! What clients choose to do, by chance.

use crate::model::{Collection, Place, RowKey};
use crate::placement::MergePolicy;

use super::clock::EPOCH_MICROS;
use super::history::{Action, Ending, Wishes, place_of};
use super::world::World;

/// Members of a set, and fields of a map.
const NAMES: u8 = 5;
/// A context may be as many operations old.
const CONTEXT_AGE_MAX: usize = 200;
/// Of how many increments with an id that did not end well one is not tried again.
const GIVES_UP_EACH: u8 = 4;

/// What an operation is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Read,
    Write,
    Remove,
}

impl World {
    /// What a client does next, and with which key.
    pub(crate) fn random_action(&mut self, client: usize) -> Option<(Action, RowKey)> {
        let keys = self.clients.get(client)?.keys.clone();
        let key = self.rng.choice(keys)?;
        let profile = &self.cluster.profile;
        let reads = self.rng.u8(0..100) < profile.read_percent;
        let removes = self.rng.u8(0..100) < profile.delete_percent;
        let deed = match (reads, removes) {
            (true, _) => Deed::Read,
            (false, true) => Deed::Remove,
            (false, false) => Deed::Write,
        };
        let is_plain = self.rng.u8(0..100) < profile.plain_percent;
        let action = if is_plain {
            self.random_plain(&key, deed)
        } else {
            match self.rng.u8(0..3) {
                0 => self.random_count(&key, deed),
                1 => self.random_members(deed),
                _ => self.random_fields(&key, deed),
            }
        };
        Some((action, key))
    }

    fn random_plain(&mut self, key: &RowKey, deed: Deed) -> Action {
        let token = self.history.next_id();
        let is_register = self.cluster.merge_of(key.keyspace) == Some(MergePolicy::Lww);
        match (deed, is_register) {
            (Deed::Read, _) => Action::Get,
            (Deed::Remove, true) => Action::Delete,
            (Deed::Write, true) => Action::Put(token),
            (Deed::Remove, false) => {
                let seen = self.random_seen(key);
                Action::DeleteSiblings { seen }
            }
            (Deed::Write, false) => {
                let seen = self.random_seen(key);
                Action::PutSibling { token, seen }
            }
        }
    }

    /// A read of the key that is not long ago; mostly the last one.
    fn random_seen(&mut self, key: &RowKey) -> Option<u64> {
        if self.rng.u8(0..5) == 0 {
            return None;
        }
        let skips = if self.rng.bool() {
            0
        } else {
            self.rng.usize(0..4)
        };
        let records = self.history.records().iter().rev().take(CONTEXT_AGE_MAX);
        let mut reads = records.filter(|record| {
            let shows = matches!(record.ending, Ending::Siblings(..) | Ending::Read(None));
            record.key == *key && shows && record.action == Action::Get
        });
        reads.nth(skips).map(|record| record.id)
    }

    /// Counters of every other key are never reset, so that every increment can be followed to the end.
    fn random_count(&mut self, key: &RowKey, deed: Deed) -> Action {
        let place = Place::Key;
        if deed == Deed::Read {
            return Action::Count(place);
        }
        if deed == Deed::Remove && is_reset_allowed(key) {
            return Action::Reset(place);
        }
        let id = self.rng.bool().then(|| self.history.next_id());
        let delta = self.rng.i64(-3..=9);
        Action::Add { place, delta, id }
    }

    fn random_names(&mut self, most: u8) -> Vec<u8> {
        let count = self.rng.u8(1..=most);
        let mut names: Vec<u8> = (0..count).map(|_| self.rng.u8(0..NAMES)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn random_members(&mut self, deed: Deed) -> Action {
        match (deed, self.rng.u8(0..4)) {
            (Deed::Read, _) => Action::List(Collection::Set),
            (Deed::Remove, 0) => Action::Clear(Collection::Set),
            (Deed::Remove, _) => Action::Members {
                add: Vec::new(),
                remove: self.random_names(3),
            },
            (Deed::Write, _) => Action::Members {
                add: self.random_names(3),
                remove: Vec::new(),
            },
        }
    }

    fn random_fields(&mut self, key: &RowKey, deed: Deed) -> Action {
        let deed = if deed == Deed::Remove && !is_reset_allowed(key) {
            Deed::Write
        } else {
            deed
        };
        match (deed, self.rng.u8(0..4)) {
            (Deed::Read, _) => Action::List(Collection::Map),
            (Deed::Remove, 0) => Action::Clear(Collection::Map),
            (Deed::Remove, _) => Action::Fields {
                put: Vec::new(),
                add: Vec::new(),
                remove: self.random_names(3),
            },
            (Deed::Write, 0) => {
                let (name, delta) = (self.rng.u8(0..NAMES), self.rng.i64(-3..=9));
                let id = Some(self.history.next_id());
                let place = place_of(name);
                Action::Add { place, delta, id }
            }
            (Deed::Write, _) => {
                let token = self.history.next_id();
                let put = self.random_names(2).into_iter().map(|name| (name, token));
                let put = put.collect();
                let add = self.random_names(2).into_iter();
                let add = add.map(|name| (name, i64::from(name) + 1)).collect();
                let remove = Vec::new();
                Action::Fields { put, add, remove }
            }
        }
    }

    /// What else a client asks for.
    pub(crate) fn random_wishes(&mut self, client: usize, action: &Action, key: &RowKey) -> Wishes {
        let session = self
            .clients
            .get(client)
            .and_then(|client| client.session.clone());
        let mut wishes = Wishes {
            session,
            ..Wishes::default()
        };
        let profile = self.cluster.profile.clone();
        let expires = match action {
            Action::Put(_) | Action::PutSibling { .. } => true,
            Action::Members { add, .. } => !add.is_empty(),
            Action::Fields { put, add, .. } => !put.is_empty() && add.is_empty(),
            Action::Get
            | Action::Delete
            | Action::DeleteSiblings { .. }
            | Action::Count(_)
            | Action::Add { .. }
            | Action::Reset(_)
            | Action::List(_)
            | Action::Clear(_) => false,
        };
        if expires && self.rng.u8(0..100) < profile.ttl_percent {
            wishes.expires = Some(self.now + self.rng.u64(100_000..=4_000_000));
        }
        if let (true, None, Some(ttl)) = (
            lives(action),
            wishes.expires,
            self.cluster.ttl_of(key.keyspace),
        ) {
            wishes.expires = Some(self.now + ttl);
        }
        if let Action::Put(_) | Action::Delete = action
            && self.rng.u8(0..100) < profile.condition_percent
        {
            wishes.condition = self.last_state(key);
        }
        if *action == Action::Get && self.rng.u8(0..100) < profile.fresh_percent {
            let age = self.rng.u64(500_000..=5_000_000);
            wishes.fresh_as_of = Some((EPOCH_MICROS + self.now).saturating_sub(age));
        }
        wishes
    }

    /// The state of a register that was last read.
    fn last_state(&self, key: &RowKey) -> Option<u64> {
        let records = self.history.records().iter().rev().take(CONTEXT_AGE_MAX);
        let mine = records.filter(|record| record.key == *key);
        let mut states = mine.filter_map(|record| {
            let read = if let Ending::Read(Some(seen)) = &record.ending {
                Some(&seen.summary)
            } else {
                None
            };
            let summary = record.ending.written().or(read)?;
            (!summary.is_tombstone).then_some(summary.state)
        });
        states.next()
    }

    /// An increment with an id that did not end well is tried again, while its id is sure to be known.
    pub(crate) fn try_again(&mut self, client: usize, op: u64) {
        let window = self.cluster.topology.limits.operation_window;
        let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        let Some(record) = self.history.get(op) else {
            return;
        };
        let Action::Add { id: Some(id), .. } = record.action else {
            return;
        };
        let first = self.history.get(id).map_or(0, |first| first.invoked);
        let is_late = first + window / 3 < self.now;
        if record.is_ok() || is_late || self.rng.u8(0..GIVES_UP_EACH) == 0 {
            return;
        }
        let again = (record.action.clone(), record.key.clone());
        if let Some(client) = self.clients.get_mut(client) {
            client.retry = Some(again);
        }
    }
}

/// Whether an action writes what lives for the time of its keyspace.
fn lives(action: &Action) -> bool {
    match action {
        Action::Put(_) | Action::PutSibling { .. } => true,
        Action::Members { add, .. } => !add.is_empty(),
        Action::Fields { put, .. } => !put.is_empty(),
        Action::Get
        | Action::Delete
        | Action::DeleteSiblings { .. }
        | Action::Count(_)
        | Action::Add { .. }
        | Action::Reset(_)
        | Action::List(_)
        | Action::Clear(_) => false,
    }
}

/// Names of operations, as scenarios leave them out.
pub(crate) const NAMES_OF_ACTIONS: [&str; 12] = [
    "get",
    "put",
    "delete",
    "put-sibling",
    "delete-siblings",
    "count",
    "add",
    "reset",
    "list",
    "members",
    "fields",
    "clear",
];

/// The name of an operation.
pub(crate) fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Get => "get",
        Action::Put(_) => "put",
        Action::Delete => "delete",
        Action::PutSibling { .. } => "put-sibling",
        Action::DeleteSiblings { .. } => "delete-siblings",
        Action::Count(_) => "count",
        Action::Add { .. } => "add",
        Action::Reset(_) => "reset",
        Action::List(_) => "list",
        Action::Members { .. } => "members",
        Action::Fields { .. } => "fields",
        Action::Clear(_) => "clear",
    }
}

/// Whether counters and maps of this key may be reset.
pub(crate) fn is_reset_allowed(key: &RowKey) -> bool {
    key.key.last().is_some_and(|last| last % 2 == 0)
}
