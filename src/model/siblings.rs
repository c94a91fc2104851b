//! Versions that were written concurrently, kept side by side: a dotted version vector set.
//!
//! The source is Preguiça, Almeida et al., "Dotted Version Vectors" (2010), and Almeida et al., "Scalable and
//! Accurate Causality Tracking for Eventually Consistent Stores" (2014). Values of a sibling keyspace, members
//! of a set and register fields of a map are all of this kind; a member is a version with an empty value.

use serde::{Deserialize, Serialize};

use super::planted::{Guard, is_left_out};
use super::{Context, Dot, Stamp, Version, Wall};

/// The state of a row whose versions merge by causality.
///
/// Invariant: each version has a value. A version of an actor stands for all its earlier changes of this row, so
/// `context` names only what the versions do not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Siblings {
    /// The versions that no other one has replaced, by dot.
    versions: Vec<Version>,
    /// What was seen and is gone.
    context: Context,
    /// The greatest stamp among what is gone, if no version is above it.
    gone: Option<Stamp>,
}

impl Siblings {
    /// The versions, by dot.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// All that was seen of this row: what a client gives back to say what it has read.
    pub fn context(&self) -> Context {
        let mut context = self.context.clone();
        for version in &self.versions {
            context.add(version.dot);
        }
        context
    }

    /// What was seen of this row and is gone.
    pub fn seen_gone(&self) -> &Context {
        &self.context
    }

    /// The version that a client sees that cannot hold siblings: the last written that has not expired.
    pub fn winner(&self, now: Wall) -> Option<&Version> {
        let live = self.versions.iter().filter(|version| version.is_live(now));
        live.max_by_key(|version| version.stamp())
    }

    /// The greatest stamp of all writes that are known.
    pub fn latest(&self) -> Option<Stamp> {
        let latest = self.versions.iter().map(Version::stamp).max();
        latest.max(self.gone)
    }

    /// A write: replaces what its writer had seen, and stands beside the rest.
    pub fn put(&mut self, version: Version, seen: &Context) {
        self.forget(seen);
        self.versions.push(version);
        self.normalise();
    }

    /// A delete: takes away what its writer had seen.
    pub fn remove(&mut self, stamp: Stamp, seen: &Context) {
        self.forget(seen);
        self.context.add(stamp.dot);
        self.gone = self.gone.max(Some(stamp));
        self.normalise();
    }

    /// Takes away the versions that a context covers; says whether there were any.
    pub fn forget(&mut self, seen: &Context) -> bool {
        let mut context = self.context();
        let count = self.versions.len();
        self.drop_versions(|version| seen.covers(version.dot));
        context.join(seen);
        self.context = context;
        self.normalise();
        self.versions.len() != count
    }

    /// Takes away the versions that a context covers, and learns nothing else from it.
    pub(super) fn clear(&mut self, cleared: &Context) {
        let context = self.context();
        self.drop_versions(|version| cleared.covers(version.dot));
        self.context = context;
        self.normalise();
    }

    /// Takes away what has expired at a cut that all replicas agree on.
    pub(super) fn expire(&mut self, cut: Wall) {
        let context = self.context();
        self.drop_versions(|version| version.expires.is_some_and(|at| at <= cut));
        self.context = context;
        self.normalise();
    }

    /// Merges another state: a version stays if both have it, or if the other side has not seen it.
    pub(super) fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (self.context(), other.context());
        let gone = self.latest().max(other.latest());
        let is_kept = |version: &Version, versions: &[Version], seen: &Context| {
            !seen.covers(version.dot) || versions.iter().any(|known| known.dot == version.dot)
        };
        let new: Vec<Version> = other
            .versions
            .iter()
            .filter(|version| !mine.covers(version.dot))
            .cloned()
            .collect();
        self.versions
            .retain(|version| is_kept(version, &other.versions, &theirs));
        self.versions.extend(new);
        self.context = mine;
        self.context.join(&theirs);
        self.gone = gone;
        self.normalise();
    }

    /// Learns of changes that whoever holds this state has seen, and takes nothing away.
    pub(super) fn learn(&mut self, seen: &[Dot]) {
        let mut context = self.context();
        for dot in seen {
            context.add(*dot);
        }
        self.context = context;
        self.normalise();
    }

    /// Takes away versions that whoever holds this state elsewhere has seen go.
    pub(super) fn without(&self, is_gone: impl Fn(Dot) -> bool) -> Self {
        let mut left = self.clone();
        let context = self.context();
        left.drop_versions(|version| is_gone(version.dot));
        left.context = context;
        left.normalise();
        left
    }

    /// Forgets what is gone, once every replica has seen it go and everything that was written before.
    pub fn compact(&mut self, stable: &Context) {
        if stable.includes(&self.context()) || is_left_out(Guard::Compact) {
            self.context = Context::default();
        }
    }

    /// What of a writer's context need be remembered of this row: all, until everything in the row is stable; after
    /// that, what is not stable itself, and the versions here that it covers. The rest is gone everywhere, and a
    /// client that shows an old context must not bring it back.
    pub fn relevant(&self, seen: &Context, stable: &Context) -> Context {
        if !stable.includes(&self.context()) {
            return seen.clone();
        }
        let here = self.versions.iter().map(|version| version.dot);
        let fresh = seen.seen.iter().map(|(actor, n)| Dot {
            actor: *actor,
            n: *n,
        });
        let here = here.filter(|dot| seen.covers(*dot));
        here.chain(fresh.filter(|dot| !stable.covers(*dot)))
            .collect()
    }

    fn drop_versions(&mut self, is_gone: impl Fn(&Version) -> bool) {
        let gone = self.versions.iter().filter(|version| is_gone(version));
        self.gone = self.gone.max(gone.map(Version::stamp).max());
        self.versions.retain(|version| !is_gone(version));
    }

    /// One form for one state.
    fn normalise(&mut self) {
        self.versions.sort_unstable_by_key(|version| version.dot);
        let versions = &self.versions;
        self.context.seen.retain(|actor, n| {
            let own = versions
                .iter()
                .filter(|version| version.dot.actor == *actor);
            own.map(|version| version.dot.n).max() < Some(*n)
        });
        let last = self.versions.iter().map(Version::stamp).max();
        if last >= self.gone {
            self.gone = None;
        }
    }

    pub(super) fn size(&self) -> usize {
        let versions = self.versions.iter().map(Version::size);
        versions.sum::<usize>() + self.context.len() * 20 + 40
    }
}
