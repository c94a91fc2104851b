//! Clients: each has one operation in flight, chooses by chance, and writes down what it asked and saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::history::{Action, Ending, Record, Wishes, place_of};
use crate::model::{Collection, KeyspaceId, Level, NodeId, Place, RegionId, RowKey, Session};
use crate::node::Clock;

use super::ask::{Answer, Extras, LWW, SIBLINGS, ask};
use super::site::REGIONS;
use super::stage::Stage;

/// Keys are left behind after so long, so that each has a history of bounded length.
const KEYS_LAST: Duration = Duration::from_secs(8);
/// Members of a set, and fields of a map.
const NAMES: u8 = 5;
/// An operation that was not answered well is followed by a pause up to this.
const SORROW_MAX_MS: u64 = 120;
/// Between two operations of a client.
const THINK_MAX_MS: u64 = 12;
/// Clocks that are put off are off by less.
const OFFSET_MAX: Duration = Duration::from_millis(600);

/// What stands under a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Register,
    /// Written once, by whoever comes first.
    Lock,
    Siblings,
    Counter,
    Set,
    Map,
}

/// Kinds, their names, and how many keys there are of each at a time.
pub(super) const KINDS: [(Kind, &str, u64); 6] = [
    (Kind::Register, "reg", 4),
    (Kind::Lock, "lock", 3),
    (Kind::Siblings, "sib", 3),
    (Kind::Counter, "cnt", 4),
    (Kind::Set, "set", 3),
    (Kind::Map, "map", 3),
];

impl Kind {
    /// How such a key is read.
    pub(super) fn read(self) -> Action {
        match self {
            Self::Register | Self::Lock | Self::Siblings => Action::Get,
            Self::Counter => Action::Count(Place::Key),
            Self::Set => Action::List(Collection::Set),
            Self::Map => Action::List(Collection::Map),
        }
    }

    /// The kind of a key, by its name.
    pub(super) fn of(key: &RowKey) -> Option<Self> {
        let kinds = KINDS.iter();
        let mut found = kinds.filter(|(_, name, _)| key.key.starts_with(name.as_bytes()));
        found.next().map(|(kind, ..)| *kind)
    }
}

/// A client.
pub(super) struct Caller {
    stage: Arc<Stage>,
    rng: fastrand::Rng,
    /// Its region; one that roams has a session and goes everywhere.
    region: usize,
    roams: bool,
    process: usize,
    session: Option<String>,
    /// The last read of siblings: its id and context.
    seen: BTreeMap<RowKey, (u64, Option<String>)>,
    /// The state of registers that were read or written last.
    states: BTreeMap<RowKey, u64>,
    /// An addition to be tried again.
    retry: Option<(Action, RowKey)>,
}

/// Every process of a history is another.
static PROCESSES: AtomicUsize = AtomicUsize::new(0);

fn next_process() -> usize {
    PROCESSES.fetch_add(1, Ordering::Relaxed)
}

impl Caller {
    pub(super) fn new(stage: Arc<Stage>, number: usize, seed: u64) -> Self {
        let roams = number % 4 == 3;
        Self {
            stage,
            rng: fastrand::Rng::with_seed(seed),
            region: number % REGIONS.len(),
            roams,
            process: next_process(),
            session: roams.then(String::new),
            seen: BTreeMap::new(),
            states: BTreeMap::new(),
            retry: None,
        }
    }

    /// Goes on until the stage is cleared.
    pub(super) async fn run(mut self) {
        while !self.stage.closing.is_cancelled() {
            let is_ok = self.turn().await;
            let pause = if is_ok { THINK_MAX_MS } else { SORROW_MAX_MS };
            let pause = Duration::from_millis(self.rng.u64(0..=pause));
            tokio::time::sleep(pause).await;
        }
    }

    async fn turn(&mut self) -> bool {
        let (action, key) = match self.retry.take() {
            Some(again) => again,
            None => self.choose(),
        };
        let (mut wishes, extras) = self.wish(&action, &key);
        wishes.session = extras.session.is_some().then(Session::default);
        let is_everywhere = self.roams || self.rng.u8(0..6) == 0;
        let region = if is_everywhere {
            self.rng.usize(0..REGIONS.len())
        } else {
            self.region
        };
        let nodes = self.stage.site.nodes_of(region);
        let node = self.rng.choice(nodes).unwrap_or(0);
        let level = match self.rng.u8(0..100) {
            0..10 => Level::One,
            10..86 => Level::LocalQuorum,
            86..96 => Level::EachQuorum,
            _ => Level::All,
        };
        let site = &self.stage.site;
        let record = self.stage.recorder.invoke(|id, now| Record {
            id,
            client: self.process,
            region: RegionId::of(REGIONS.get(region).copied().unwrap_or("")),
            node: NodeId::of(site.name(node)),
            level,
            key,
            action: with_token(action, id),
            wishes: Wishes {
                expires: extras
                    .ttl
                    .map(|ttl| now + u64::try_from(ttl.as_micros()).unwrap_or(0)),
                ..wishes
            },
            invoked: now,
            ended: None,
            ending: Ending::Pending,
        });
        let answer = ask(&site.client(node), &record, &extras).await;
        self.hear(&record, answer)
    }

    fn hear(&mut self, record: &Record, answer: Answer) -> bool {
        let code = answer.code.as_deref().unwrap_or("");
        let is_known = self.stage.tolerates(code);
        if let Some(words) = answer.odd.as_ref() {
            self.stage.recorder.odd(format!("{words}: {record}"));
        } else if !code.is_empty() && !is_known {
            self.stage
                .recorder
                .odd(format!("answered `{code}`: {record}"));
        }
        if self.roams && code == "bad_session" {
            self.session = Some(String::new());
            self.process = next_process();
        } else if self.roams && answer.session.is_some() {
            self.session.clone_from(&answer.session);
        }
        match &answer.ending {
            Ending::Siblings(..) => {
                let seen = (record.id, answer.context.clone());
                self.seen.insert(record.key.clone(), seen);
            }
            Ending::Written(summary) if !summary.is_tombstone => {
                self.states.insert(record.key.clone(), summary.state);
            }
            Ending::Read(Some(seen)) if !seen.summary.is_tombstone => {
                self.states.insert(record.key.clone(), seen.summary.state);
            }
            Ending::Pending
            | Ending::Written(_)
            | Ending::Done
            | Ending::Read(_)
            | Ending::Counted(_)
            | Ending::Members(_)
            | Ending::Fields(_)
            | Ending::NotYet
            | Ending::Failed
            | Ending::Unknown => {}
        }
        let is_ok = answer.ending.is_ok();
        // An addition with an id is tried again, at some other node, until it is known to count.
        if let Action::Add { id: Some(_), .. } = record.action
            && !is_ok
            && self.rng.u8(0..12) != 0
        {
            self.retry = Some((record.action.clone(), record.key.clone()));
        }
        let is_denied = answer.is_denied();
        self.stage.recorder.end(record, answer);
        is_ok || is_denied
    }

    fn choose(&mut self) -> (Action, RowKey) {
        let kind = match self.rng.u8(0..100) {
            // Sessions are about registers.
            _ if self.roams && self.rng.u8(0..4) != 0 => 0,
            0..32 => 0,
            32..36 => 1,
            36..52 => 2,
            52..72 => 3,
            72..86 => 4,
            _ => 5,
        };
        let (kind, name, count) = KINDS
            .get(kind)
            .copied()
            .unwrap_or((Kind::Register, "reg", 1));
        let n = self.rng.u64(0..count);
        let age = self.stage.recorder.now() / u64::try_from(KEYS_LAST.as_micros()).unwrap_or(1);
        let keyspace = if kind == Kind::Siblings {
            SIBLINGS
        } else {
            LWW
        };
        let key = format!("{name}{n}-{age}");
        let key = RowKey::plain(KeyspaceId::of(keyspace), key.into_bytes().into());
        let action = self.action(kind, &key, n);
        (action, key)
    }

    fn action(&mut self, kind: Kind, key: &RowKey, n: u64) -> Action {
        let chance = self.rng.u8(0..100);
        let is_reset = n % 2 == 1;
        match (kind, chance) {
            (_, 0..40) => kind.read(),
            (Kind::Register, 40..85) | (Kind::Lock, _) => Action::Put(0),
            (Kind::Register, _) => Action::Delete,
            (Kind::Siblings, _) => {
                let seen = self.seen.get(key).map(|(id, _)| *id);
                let seen = seen.filter(|_| self.rng.u8(0..5) != 0);
                if chance < 88 {
                    return Action::PutSibling { token: 0, seen };
                }
                // Without a token there is no saying what was seen.
                let has_token = self.seen.get(key).is_some_and(|(_, token)| token.is_some());
                Action::DeleteSiblings {
                    seen: seen.filter(|_| has_token),
                }
            }
            (Kind::Counter, 90..) if is_reset => Action::Reset(Place::Key),
            (Kind::Counter, _) => Action::Add {
                place: Place::Key,
                delta: self.rng.i64(-3..=40),
                id: (self.rng.u8(0..4) != 0).then_some(0),
            },
            (Kind::Set, 40..75) => Action::Members {
                add: self.names(3),
                remove: Vec::new(),
            },
            (Kind::Set, 75..95) => Action::Members {
                add: Vec::new(),
                remove: self.names(2),
            },
            (Kind::Set, _) => Action::Clear(Collection::Set),
            (Kind::Map, 40..65) => Action::Fields {
                put: self.names(2).into_iter().map(|name| (name, 0)).collect(),
                add: Vec::new(),
                remove: Vec::new(),
            },
            (Kind::Map, 65..80) => Action::Add {
                place: place_of(self.rng.u8(0..NAMES)),
                delta: self.rng.i64(-3..=40),
                id: Some(0),
            },
            (Kind::Map, 80..88) if is_reset => Action::Fields {
                put: Vec::new(),
                add: Vec::new(),
                remove: self.names(2),
            },
            (Kind::Map, 97..) if is_reset => Action::Clear(Collection::Map),
            (Kind::Map, _) => {
                let names = self.names(2).into_iter();
                Action::Fields {
                    put: vec![(self.rng.u8(0..NAMES), 0)],
                    add: names.map(|name| (name, i64::from(name) + 1)).collect(),
                    remove: Vec::new(),
                }
            }
        }
    }

    fn names(&mut self, most: u8) -> Vec<u8> {
        let count = self.rng.u8(1..=most);
        let mut names: Vec<u8> = (0..count).map(|_| self.rng.u8(0..NAMES)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn wish(&mut self, action: &Action, key: &RowKey) -> (Wishes, Extras) {
        let mut wishes = Wishes::default();
        let mut extras = Extras {
            session: self.session.clone(),
            bytes: self.rng.usize(8..=600),
            ..Extras::default()
        };
        let kind = Kind::of(key);
        let is_short = self.rng.u8(0..100) < 12;
        let ttl = Duration::from_millis(self.rng.u64(300..=4_000));
        match action {
            Action::Get if kind == Some(Kind::Register) && self.rng.u8(0..100) < 4 => {
                let staleness = Duration::from_secs(self.rng.u64(2..=6));
                let least = Clock::wall().0;
                let age = u64::try_from((staleness + OFFSET_MAX).as_micros()).unwrap_or(u64::MAX);
                wishes.fresh_as_of = Some(least.saturating_sub(age));
                extras.staleness = Some(staleness);
            }
            Action::Put(_) if kind == Some(Kind::Lock) => {
                // The state of what is not there.
                wishes.condition = Some(0);
                extras.is_first = true;
            }
            Action::Put(_) | Action::Delete if self.rng.u8(0..100) < 15 => {
                wishes.condition = self.states.get(key).copied();
            }
            Action::Put(_) if is_short => extras.ttl = Some(ttl),
            Action::PutSibling { seen, .. } => {
                extras.context = self.context(key, *seen);
                extras.ttl = Some(ttl).filter(|_| is_short);
            }
            Action::DeleteSiblings { seen } => extras.context = self.context(key, *seen),
            Action::Members { add, .. } if is_short && !add.is_empty() => extras.ttl = Some(ttl),
            Action::Fields { put, add, .. } if is_short && !put.is_empty() && add.is_empty() => {
                extras.ttl = Some(ttl);
            }
            Action::Get
            | Action::Put(_)
            | Action::Delete
            | Action::Count(_)
            | Action::Add { .. }
            | Action::Reset(_)
            | Action::List(_)
            | Action::Members { .. }
            | Action::Fields { .. }
            | Action::Clear(_) => {}
        }
        (wishes, extras)
    }

    fn context(&self, key: &RowKey, seen: Option<u64>) -> Option<String> {
        seen?;
        self.seen.get(key).and_then(|(_, token)| token.clone())
    }
}

/// The action with the operation's id in the place of its tokens; one that is tried again has them already.
fn with_token(action: Action, token: u64) -> Action {
    match action {
        Action::Put(_) => Action::Put(token),
        Action::PutSibling { seen, .. } => Action::PutSibling { token, seen },
        Action::Fields { put, add, remove } => Action::Fields {
            put: put.into_iter().map(|(name, _)| (name, token)).collect(),
            add,
            remove,
        },
        Action::Add {
            place,
            delta,
            id: Some(0),
        } => Action::Add {
            place,
            delta,
            id: Some(token),
        },
        same @ (Action::Get
        | Action::Delete
        | Action::DeleteSiblings { .. }
        | Action::Count(_)
        | Action::Add { .. }
        | Action::Reset(_)
        | Action::List(_)
        | Action::Members { .. }
        | Action::Clear(_)) => same,
    }
}
