//! The laws of merging, proven over states that operations lead to: enumerated where they are few, drawn from
//! seeds where they are many. Nothing here knows a store, a network or how a door stages its rows.

use super::{Actor, Dot, Incarnation, NodeId, Siblings, Stamp, Timestamp, Version};

mod coded;
mod counters;
mod enumerated;
mod histories;
mod merging;
mod oracle;
mod replicas;
mod sessions;

/// The first actor of a node.
fn actor(node: usize) -> Actor {
    Actor {
        node: NodeId(u32::try_from(node).unwrap() + 1),
        incarnation: Incarnation(1),
    }
}

fn stamp(micros: u64, actor: Actor, n: u64) -> Stamp {
    Stamp {
        timestamp: Timestamp { micros, logical: 0 },
        dot: Dot { actor, n },
    }
}

/// A version whose value is its dot, so that no two are alike.
fn version(stamp: Stamp) -> Version {
    let value = format!("{}:{}", stamp.dot.actor, stamp.dot.n);
    Version::new(stamp, Some(value.into()))
}

/// The dots of the versions, in order.
fn dots(row: &Siblings) -> Vec<Dot> {
    row.versions().iter().map(|version| version.dot).collect()
}

/// How many histories to draw: what is named in the environment, or a number that takes a moment.
fn histories(usual: u64) -> u64 {
    std::env::var("LAW_HISTORIES").map_or(usual, |text| text.parse().unwrap())
}

/// Runs histories of these seeds, or the one that `LAW_SEED` names; a failure names its seed.
fn each_seed(usual: u64, run: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("LAW_SEED") {
        run(seed.parse().unwrap());
        return;
    }
    for seed in 0..histories(usual) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        if let Err(why) = outcome {
            eprintln!("the history of LAW_SEED={seed} breaks a law");
            std::panic::resume_unwind(why);
        }
    }
}
