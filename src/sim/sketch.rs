//! The description of a simulated cluster in plain numbers: drawn from a seed, or read from a scenario.
//!
//! It knows no ids and no placement; [`super::cluster`] builds them. What a drawn cluster is like: 1 to 5 regions of
//! 1 to 5 nodes, regions without a link between them as long as all hang together, keyspaces of every policy that
//! live in some regions with a replication factor of their own, and limits that are now and then tiny.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::model::{Duration, Limits};

/// Bytes of the shortest key that must still fit.
const KEY_BYTES_MIN: usize = 16;

/// A cluster in plain numbers. Times are milliseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Sketch {
    /// Nodes of each region.
    pub(crate) regions: Vec<usize>,
    /// Partitions of every keyspace.
    pub(crate) partitions: u16,
    /// Keys of every keyspace.
    pub(crate) keys: usize,
    /// The limits.
    pub(crate) limits: LimitsSketch,
    /// Pairs of regions that are linked.
    pub(crate) links: Vec<LinkSketch>,
    /// Keyspaces.
    pub(crate) keyspaces: Vec<KeyspaceSketch>,
}

/// A link between two regions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LinkSketch {
    /// The regions.
    pub(crate) between: (usize, usize),
    /// There and back.
    pub(crate) rtt: u64,
    /// At most so much more.
    pub(crate) jitter: u64,
}

/// A keyspace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct KeyspaceSketch {
    /// Its name.
    pub(crate) name: String,
    /// Whether concurrent writes stand side by side.
    pub(crate) is_siblings: bool,
    /// The regions it lives in.
    pub(crate) regions: Vec<usize>,
    /// Replicas in each region.
    pub(crate) replication: u16,
    /// How long values live; 0 for ever.
    pub(crate) ttl: u64,
    /// How long what lost is kept; 0 for not at all.
    pub(crate) conflicts_kept: u64,
}

/// Limits in plain numbers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LimitsSketch {
    pub(crate) key_bytes_max: usize,
    pub(crate) value_bytes_max: usize,
    pub(crate) siblings_max: usize,
    pub(crate) parts_max: usize,
    pub(crate) operation_window: u64,
    pub(crate) requests_max: usize,
    pub(crate) batch_bytes_max: usize,
    pub(crate) window_bytes_max: usize,
    pub(crate) recent_bytes_max: usize,
    pub(crate) log_bytes_max: u64,
    pub(crate) reconcile_bytes_per_second: u64,
    pub(crate) max_offset: u64,
    pub(crate) heartbeat_every: u64,
    pub(crate) silence_max: u64,
    pub(crate) reconcile_every: u64,
    pub(crate) upkeep_every: u64,
}

impl LimitsSketch {
    /// The limits that this describes.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        self.set(&mut limits);
        limits
    }

    /// Limits that are not named here stay as they are.
    fn set(&self, limits: &mut Limits) {
        let ms = Duration::from_millis;
        limits.key_bytes_max = self.key_bytes_max;
        limits.value_bytes_max = self.value_bytes_max;
        limits.siblings_max = self.siblings_max;
        limits.parts_max = self.parts_max;
        limits.operation_window = ms(self.operation_window);
        limits.requests_max = self.requests_max;
        limits.batch_bytes_max = self.batch_bytes_max;
        limits.window_bytes_max = self.window_bytes_max;
        limits.recent_bytes_max = self.recent_bytes_max;
        limits.log_bytes_max = self.log_bytes_max;
        limits.reconcile_bytes_per_second = self.reconcile_bytes_per_second;
        limits.max_offset = ms(self.max_offset);
        limits.heartbeat_every = ms(self.heartbeat_every);
        limits.silence_max = ms(self.silence_max);
        limits.reconcile_every = ms(self.reconcile_every);
        limits.upkeep_every = ms(self.upkeep_every);
    }

    fn of(limits: &Limits) -> Self {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        // The text form of numbers ends at the greatest signed one.
        let capped = |number: u64| number.min(1 << 40);
        Self {
            key_bytes_max: limits.key_bytes_max,
            value_bytes_max: limits.value_bytes_max,
            siblings_max: limits.siblings_max,
            parts_max: limits.parts_max,
            operation_window: ms(limits.operation_window),
            requests_max: limits.requests_max,
            batch_bytes_max: limits.batch_bytes_max,
            window_bytes_max: limits.window_bytes_max,
            recent_bytes_max: limits.recent_bytes_max,
            log_bytes_max: capped(limits.log_bytes_max),
            reconcile_bytes_per_second: capped(limits.reconcile_bytes_per_second),
            max_offset: ms(limits.max_offset),
            heartbeat_every: ms(limits.heartbeat_every),
            silence_max: ms(limits.silence_max),
            reconcile_every: ms(limits.reconcile_every),
            upkeep_every: ms(limits.upkeep_every),
        }
    }
}

impl Sketch {
    /// A cluster by chance.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let regions = regions(rng);
        let links = links(rng, regions.len());
        let keyspaces = keyspaces(rng, &regions, &links);
        let nodes = regions.iter().sum();
        Self {
            partitions: rng.u16(1..=4),
            keys: rng.usize(2..=12),
            limits: LimitsSketch::of(&limits(rng, nodes)),
            regions,
            links,
            keyspaces,
        }
    }

    /// Nodes of all regions.
    pub(crate) fn nodes(&self) -> usize {
        self.regions.iter().sum()
    }
}

fn regions(rng: &mut Rng) -> Vec<usize> {
    let count = match rng.u8(0..20) {
        0..=3 => 1,
        4..=9 => 2,
        10..=15 => 3,
        16..=17 => 4,
        _ => 5,
    };
    let node_counts = (0..count).map(|_| match rng.u8(0..20) {
        0..=1 => 1,
        2..=4 => 2,
        5..=16 => 3,
        17 => 4,
        _ => 5,
    });
    node_counts.collect()
}

/// All regions are linked with each other, but for some pairs in some seeds; never so that they fall apart.
fn links(rng: &mut Rng, regions: usize) -> Vec<LinkSketch> {
    let mut links = Vec::new();
    for a in 0..regions {
        for b in a + 1..regions {
            links.push(LinkSketch {
                between: (a, b),
                rtt: rng.u64(20..=300),
                jitter: rng.u64(0..=20),
            });
        }
    }
    if rng.u8(0..3) == 0 {
        let mut place = links.len();
        while 0 < place {
            place -= 1;
            if rng.bool() {
                let link = links.remove(place);
                if !hangs_together(&links, &(0..regions).collect::<Vec<usize>>()) {
                    links.insert(place, link);
                }
            }
        }
    }
    links
}

fn is_linked(links: &[LinkSketch], a: usize, b: usize) -> bool {
    links
        .iter()
        .any(|link| link.between == (a, b) || link.between == (b, a))
}

/// Whether each of these regions is reached from the first by links between them.
fn hangs_together(links: &[LinkSketch], regions: &[usize]) -> bool {
    let mut left: BTreeSet<usize> = regions.iter().copied().collect();
    let mut reached: Vec<usize> = left.pop_first().into_iter().collect();
    while let Some(a) = reached.pop() {
        let next: Vec<usize> = left
            .iter()
            .copied()
            .filter(|b| is_linked(links, a, *b))
            .collect();
        for b in next {
            left.remove(&b);
            reached.push(b);
        }
    }
    left.is_empty()
}

/// The first keyspace lives everywhere; others live everywhere, in the first region alone, or in some that hang
/// together.
fn keyspaces(rng: &mut Rng, regions: &[usize], links: &[LinkSketch]) -> Vec<KeyspaceSketch> {
    let everywhere: Vec<usize> = (0..regions.len()).collect();
    let mut keyspaces = vec![keyspace(rng, "everywhere", everywhere.clone(), regions)];
    if rng.u8(0..3) != 0 {
        let beside = keyspace(rng, "beside", everywhere.clone(), regions);
        keyspaces.push(KeyspaceSketch {
            is_siblings: true,
            ..beside
        });
    }
    if rng.u8(0..4) == 0 {
        keyspaces.push(keyspace(rng, "home", vec![0], regions));
    }
    if rng.u8(0..4) == 0 {
        let some: Vec<usize> = everywhere.into_iter().filter(|_| rng.bool()).collect();
        if !some.is_empty() && hangs_together(links, &some) {
            let mixed = keyspace(rng, "some", some, regions);
            let is_siblings = rng.bool();
            keyspaces.push(KeyspaceSketch {
                is_siblings,
                ..mixed
            });
        }
    }
    keyspaces
}

fn keyspace(rng: &mut Rng, name: &str, homes: Vec<usize>, regions: &[usize]) -> KeyspaceSketch {
    let nodes = homes.iter().filter_map(|home| regions.get(*home)).min();
    let most = u16::try_from(nodes.copied().unwrap_or(1)).unwrap_or(1);
    let replication = match rng.u8(0..8) {
        0..=1 => rng.u16(1..=most),
        2 => most,
        _ => most.min(3),
    };
    let ttl = if rng.u8(0..6) == 0 {
        rng.u64(1_000..=5_000)
    } else {
        0
    };
    let conflicts_kept = if rng.u8(0..3) == 0 {
        rng.u64(1_000..=4_000)
    } else {
        0
    };
    KeyspaceSketch {
        name: name.to_owned(),
        is_siblings: false,
        regions: homes,
        replication,
        ttl,
        conflicts_kept,
    }
}

/// Large clusters say less often that they live, as they would in earnest.
fn limits(rng: &mut Rng, nodes: usize) -> Limits {
    let mut limits = Limits {
        reconcile_every: Duration::from_millis(rng.u64(500..=2_000)),
        upkeep_every: Duration::from_millis(rng.u64(100..=800)),
        operation_window: Duration::from_millis(rng.u64(3_000..=6_000)),
        siblings_max: rng.usize(3..=20),
        ..Limits::default()
    };
    if 9 < nodes {
        limits.heartbeat_every = Duration::from_millis(400);
        limits.silence_max = Duration::from_millis(2_000);
    }
    if rng.bool() {
        limits.batch_bytes_max = rng.usize(100..=2_000);
        limits.window_bytes_max = limits.batch_bytes_max * rng.usize(1..=4);
    }
    if rng.u8(0..3) == 0 {
        limits.log_bytes_max = rng.u64(200..=4_000);
    }
    if rng.u8(0..3) == 0 {
        limits.recent_bytes_max = rng.usize(0..=1_000);
    }
    tiny(rng, &mut limits);
    limits
}

/// Limits that clients and repair run into.
fn tiny(rng: &mut Rng, limits: &mut Limits) {
    if rng.u8(0..6) == 0 {
        limits.parts_max = rng.usize(1..=3);
    }
    if rng.u8(0..6) == 0 {
        limits.requests_max = rng.usize(2..=12);
    }
    if rng.u8(0..6) == 0 {
        limits.siblings_max = rng.usize(1..=2);
    }
    if rng.u8(0..6) == 0 {
        limits.value_bytes_max = rng.usize(16..=100);
    }
    if rng.u8(0..6) == 0 {
        limits.reconcile_bytes_per_second = rng.u64(20_000..=200_000);
    }
    if rng.u8(0..8) == 0 {
        limits.key_bytes_max = KEY_BYTES_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_clusters_hang_together_and_are_of_every_size() {
        let (mut regions, mut nodes, mut without) = (BTreeSet::new(), BTreeSet::new(), 0);
        for seed in 0..500 {
            let sketch = Sketch::random(&mut Rng::with_seed(seed));
            regions.insert(sketch.regions.len());
            nodes.extend(sketch.regions.iter().copied());
            let all = sketch.regions.len() * (sketch.regions.len() - 1) / 2;
            without += usize::from(sketch.links.len() < all);
            for keyspace in &sketch.keyspaces {
                assert!(
                    hangs_together(&sketch.links, &keyspace.regions),
                    "seed {seed}"
                );
            }
        }
        assert_eq!(regions, (1..=5).collect());
        assert_eq!(nodes, (1..=5).collect());
        assert!(20 < without);
    }
}
