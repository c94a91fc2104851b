//! The hash tree of one partition, in memory.

use std::collections::BTreeMap;

use crate::model::{DIGEST_FANOUT, DIGEST_LEVELS, DigestNode};

/// A tree of sums. Nodes that are zero are not kept, so that an empty partition costs nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<DigestNode, u128>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds to a leaf (wrapping; to take something out, add its negative).
    pub fn add(&mut self, leaf: u16, delta: u128) {
        let mut index = leaf;
        for level in (0..=DIGEST_LEVELS).rev() {
            let node = DigestNode { level, index };
            let sum = self.nodes.entry(node).or_default();
            *sum = sum.wrapping_add(delta);
            if *sum == 0 {
                self.nodes.remove(&node);
            }
            index /= DIGEST_FANOUT;
        }
    }

    /// The sum of everything.
    pub fn root(&self) -> u128 {
        self.hash(DigestNode { level: 0, index: 0 })
    }

    /// The sum of one leaf.
    pub fn leaf(&self, leaf: u16) -> u128 {
        self.hash(DigestNode {
            level: DIGEST_LEVELS,
            index: leaf,
        })
    }

    /// The hashes of the children of a node; nothing for a leaf or a node that does not exist.
    pub fn children(&self, node: DigestNode) -> Option<Vec<u128>> {
        if node.level >= DIGEST_LEVELS || node.index >= width(node.level) {
            return None;
        }
        let first = node.index * DIGEST_FANOUT;
        let level = node.level + 1;
        let children = first..first + DIGEST_FANOUT;
        Some(
            children
                .map(|index| self.hash(DigestNode { level, index }))
                .collect(),
        )
    }

    /// Leaves that are not zero, in order.
    pub fn leaves(&self) -> impl Iterator<Item = (u16, u128)> {
        let first = DigestNode {
            level: DIGEST_LEVELS,
            index: 0,
        };
        self.nodes
            .range(first..)
            .map(|(node, sum)| (node.index, *sum))
    }

    fn hash(&self, node: DigestNode) -> u128 {
        self.nodes.get(&node).copied().unwrap_or_default()
    }
}

/// Nodes of a level.
fn width(level: u8) -> u16 {
    DIGEST_FANOUT.saturating_pow(u32::from(level))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::DIGEST_LEAVES;

    #[test]
    fn the_levels_fit_the_leaves() {
        assert_eq!(width(DIGEST_LEVELS), DIGEST_LEAVES);
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let mut tree = Tree::new();
        tree.add(7, 5);
        tree.add(4095, u128::MAX);
        tree.add(7, 5u128.wrapping_neg());
        tree.add(4095, 1);
        assert_eq!(tree, Tree::new());
    }

    #[test]
    fn there_are_no_children_of_leaves_or_beyond_the_width() {
        let tree = Tree::new();
        assert!(tree.children(DigestNode { level: 3, index: 0 }).is_none());
        assert!(
            tree.children(DigestNode {
                level: 1,
                index: 16
            })
            .is_none()
        );
        assert!(
            tree.children(DigestNode {
                level: 2,
                index: 255
            })
            .is_some()
        );
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_the_path_leads_to_the_leaf(
            changes in proptest::collection::vec((0u16..DIGEST_LEAVES, any::<u128>()), 1..50)
        ) {
            let mut forward = Tree::new();
            let mut backward = Tree::new();
            for (leaf, delta) in &changes {
                forward.add(*leaf, *delta);
            }
            for (leaf, delta) in changes.iter().rev() {
                backward.add(*leaf, *delta);
            }
            prop_assert_eq!(&forward, &backward);

            let mut nodes = vec![DigestNode { level: 0, index: 0 }];
            for level in 1..=DIGEST_LEVELS {
                let mut below = Vec::new();
                for node in nodes {
                    let hashes = forward.children(node).unwrap();
                    let sum = hashes.iter().fold(0u128, |a, b| a.wrapping_add(*b));
                    prop_assert_eq!(sum, forward.hash(node));
                    for (at, hash) in (0u16..).zip(hashes) {
                        if hash != 0 {
                            below.push(DigestNode { level, index: node.index * DIGEST_FANOUT + at });
                        }
                    }
                }
                nodes = below;
            }
            let found: Vec<_> = nodes.into_iter().map(|n| (n.index, forward.hash(n))).collect();
            prop_assert_eq!(found, forward.leaves().collect::<Vec<_>>());
        }
    }
}
