//! Digests: what lets two replicas of a partition find where they differ, at the cost of the difference.
//!
//! A leaf is the wrapping sum of the hashes of the rows in its range of tokens, and every node above is the
//! sum of its children, so a change costs two additions on each level. Nothing local goes into a hash: no
//! sequence number, no time of arrival. A tombstone counts as nothing, so that collecting it, which replicas do
//! at different times, changes no digest.

mod row;
mod tree;

pub use row::{leaf_of, row_hash};
pub use tree::Tree;
