//! How many replicas a request waits for, and where: quorum arithmetic as a value.

use std::collections::BTreeSet;

use crate::model::{Level, NodeId, RegionId};

/// Some replicas, of which `need` must answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub(super) replicas: Vec<NodeId>,
    pub(super) need: usize,
}

/// All groups must be met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Quorum {
    pub(super) groups: Vec<Group>,
}

/// What the request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Read,
    Write,
}

impl Quorum {
    /// The quorum of a level for a partition whose replicas stand in `regions`, asked for in region `here`.
    pub(super) fn new(
        kind: Kind,
        level: Level,
        here: RegionId,
        me: NodeId,
        regions: &[(RegionId, Vec<NodeId>)],
    ) -> Self {
        let group = |nodes: &[NodeId], need: usize| Group {
            replicas: nodes.to_vec(),
            need,
        };
        let majority = |nodes: &[NodeId]| group(nodes, nodes.len() / 2 + 1);
        let local = regions.iter().filter(|(region, _)| *region == here);
        let groups = match (kind, level) {
            (Kind::Read, Level::One | Level::UnsafeOne) | (Kind::Write, Level::UnsafeOne) => {
                vec![group(&[me], 1)]
            }
            (Kind::Write, Level::One) | (_, Level::LocalQuorum) => {
                local.map(|(_, nodes)| majority(nodes)).collect()
            }
            (_, Level::EachQuorum) => regions.iter().map(|(_, nodes)| majority(nodes)).collect(),
            (_, Level::All) => regions
                .iter()
                .map(|(_, nodes)| group(nodes, nodes.len()))
                .collect(),
        };
        Self { groups }
    }

    /// Whom to ask first: this node, and of each group as many others that serve as it needs, those that are asked last only if need be.
    pub(super) fn first(
        &self,
        me: NodeId,
        is_serving: impl Fn(NodeId) -> bool,
        is_last: impl Fn(NodeId) -> bool,
    ) -> BTreeSet<NodeId> {
        let mut asked = BTreeSet::from([me]);
        for group in &self.groups {
            let own = usize::from(group.replicas.contains(&me));
            let others = group.replicas.iter().copied().filter(|node| *node != me);
            let serving = others.filter(|node| is_serving(*node));
            let (last, first): (Vec<NodeId>, Vec<NodeId>) =
                serving.partition(|node| is_last(*node));
            let line = first.into_iter().chain(last);
            asked.extend(line.take(group.need.saturating_sub(own)));
        }
        asked
    }

    /// Whether enough replicas satisfy `has`.
    pub(super) fn is_met(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.groups
            .iter()
            .all(|group| group.replicas.iter().filter(|node| has(**node)).count() >= group.need)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> Vec<(RegionId, Vec<NodeId>)> {
        vec![
            (RegionId(1), vec![NodeId(11), NodeId(12), NodeId(13)]),
            (RegionId(2), vec![NodeId(21), NodeId(22)]),
        ]
    }

    fn quorum(kind: Kind, level: Level) -> Quorum {
        Quorum::new(kind, level, RegionId(1), NodeId(11), &regions())
    }

    #[test]
    fn levels_wait_for_what_they_say() {
        let met =
            |kind, level, nodes: &[u32]| quorum(kind, level).is_met(|node| nodes.contains(&node.0));
        for (kind, level, nodes, expected) in [
            (Kind::Read, Level::One, &[11][..], true),
            (Kind::Write, Level::One, &[11], false),
            (Kind::Write, Level::UnsafeOne, &[11], true),
            (Kind::Write, Level::LocalQuorum, &[11, 13], true),
            (Kind::Write, Level::LocalQuorum, &[11, 21, 22], false),
            (Kind::Write, Level::EachQuorum, &[11, 12, 21], false),
            (Kind::Write, Level::EachQuorum, &[11, 12, 21, 22], true),
            (Kind::Read, Level::All, &[11, 12, 21, 22], false),
            (Kind::Read, Level::All, &[11, 12, 13, 21, 22], true),
        ] {
            assert_eq!(
                met(kind, level, nodes),
                expected,
                "{kind:?} {level} {nodes:?}"
            );
        }
    }

    #[test]
    fn slow_replicas_are_asked_last() {
        let first = |serving: &[u32], slow: &[u32]| {
            quorum(Kind::Read, Level::LocalQuorum).first(
                NodeId(11),
                |node| serving.contains(&node.0),
                |node| slow.contains(&node.0),
            )
        };
        let asked = |others: &[u32]| [11].iter().chain(others).copied().map(NodeId).collect();
        assert_eq!(first(&[11, 12, 13], &[]), asked(&[12]));
        assert_eq!(first(&[11, 12, 13], &[12]), asked(&[13]));
        assert_eq!(first(&[11, 12], &[12]), asked(&[12]));
    }

    #[test]
    fn any_two_local_quorums_share_a_replica() {
        for size in 1..=7u32 {
            let nodes: Vec<NodeId> = (0..size).map(NodeId).collect();
            let regions = vec![(RegionId(1), nodes)];
            let quorum = Quorum::new(
                Kind::Write,
                Level::LocalQuorum,
                RegionId(1),
                NodeId(0),
                &regions,
            );
            let need = quorum.groups.iter().map(|group| group.need).sum::<usize>();
            assert!(2 * need > regions.iter().map(|(_, nodes)| nodes.len()).sum::<usize>());
        }
    }
}
