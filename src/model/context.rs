//! Causal contexts: which changes somebody had seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Actor, Dot, Incarnation, NodeId, Position};

/// A set of changes: of every actor, all up to a number.
///
/// Over a partition it says what a replica had applied. Over one row it says what a client, or a version, had
/// seen of that row: an actor's own row holds all its earlier changes of it, so a number stands for all below
/// (Preguiça, Almeida et al., "Dotted Version Vectors", 2010).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Context {
    /// By actor, the greatest number that was seen.
    pub seen: BTreeMap<Actor, u64>,
    /// Of these nodes, everything that they did in this incarnation or an earlier one (see [`Position::retired`]).
    pub retired: BTreeMap<NodeId, Incarnation>,
}

impl Context {
    /// Whether this change was seen.
    pub fn covers(&self, dot: Dot) -> bool {
        self.seen.get(&dot.actor).is_some_and(|n| dot.n <= *n) || self.has_retired(dot.actor)
    }

    /// Adds a change, and with it all earlier ones of its actor.
    pub fn add(&mut self, dot: Dot) {
        if !self.covers(dot) {
            self.seen.insert(dot.actor, dot.n);
        }
    }

    /// Adds all that another has seen.
    pub fn join(&mut self, other: &Self) {
        for (node, incarnation) in &other.retired {
            let mine = self.retired.entry(*node).or_insert(*incarnation);
            *mine = (*mine).max(*incarnation);
        }
        for (actor, n) in &other.seen {
            self.add(Dot {
                actor: *actor,
                n: *n,
            });
        }
        let retired = &self.retired;
        self.seen.retain(|actor, _| {
            retired
                .get(&actor.node)
                .is_none_or(|upto| actor.incarnation > *upto)
        });
    }

    /// Whether everything that `other` has seen was seen.
    pub fn includes(&self, other: &Self) -> bool {
        let seen = other.seen.iter().all(|(actor, n)| {
            self.covers(Dot {
                actor: *actor,
                n: *n,
            })
        });
        let retired = |(node, upto): (&NodeId, &Incarnation)| {
            self.retired.get(node).is_some_and(|mine| mine >= upto)
        };
        seen && other.retired.iter().all(retired)
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.retired.is_empty()
    }

    /// How many actors and nodes it names.
    pub fn len(&self) -> usize {
        self.seen.len() + self.retired.len()
    }

    fn has_retired(&self, actor: Actor) -> bool {
        self.retired
            .get(&actor.node)
            .is_some_and(|upto| actor.incarnation <= *upto)
    }
}

impl From<&Position> for Context {
    /// All that a replica at this position has certainly applied.
    fn from(position: &Position) -> Self {
        let seen = position.reaches.iter();
        Self {
            seen: seen
                .filter(|(_, reach)| reach.complete > 0)
                .map(|(actor, reach)| (*actor, reach.complete))
                .collect(),
            retired: position.retired.clone(),
        }
    }
}

impl FromIterator<Dot> for Context {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::default();
        for dot in dots {
            context.add(dot);
        }
        context
    }
}
