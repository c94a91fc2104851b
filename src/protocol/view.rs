//! What a machine sees, for status and metrics.

use std::collections::BTreeSet;

use crate::model::{Actor, Duration, Level, NodeId, RegionId};

use super::core::Core;
use super::read_quorum::served;
use super::reconcile::Reconciler;
use super::replica::Replica;
use super::step::Now;

/// So long a node that has started waits for nodes of its region that keep silent before it says that it is ready: longer than a
/// dialler pauses.
const SETTLE_MAX: Duration = Duration::from_secs(6);

/// What a node sees of itself and of others, for status and metrics.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct View {
    /// This node's actor, in words.
    pub actor: String,
    /// Partitions here.
    pub partitions: usize,
    /// Of them, those that serve.
    pub serving: usize,
    /// Of those, the ones that a quorum of this region serves.
    pub available: usize,
    /// Whether that is so of every partition here. After a start, all nodes of the region must have been heard, too, unless one
    /// keeps silent for long: the one that is restarted next may be the only one that is heard.
    pub is_ready: bool,
    /// Whether this node's own disk is slow: then it offers its clients' writes to a neighbour.
    pub is_slow: bool,
    /// Requests in flight.
    pub requests: usize,
    /// Per peer.
    pub peers: Vec<PeerView>,
    /// Per region that this node receives changes of, other than its own.
    pub regions: Vec<RegionView>,
    /// Versions that lost to ones written without knowledge of them, counted at their coordinator since the start:
    /// (region of the winner, region of the loser: this one, count).
    pub lost: Vec<(RegionId, RegionId, u64)>,
    /// Counters since the start, by stable name (`reads_repaired_total`, …).
    pub counters: Vec<(&'static str, u64)>,
    /// Entries in flight or queued, by stable name; each has a limit.
    pub queues: Vec<(&'static str, usize)>,
}

/// A peer, as this node sees it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each may be so without the others"
)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// The peer.
    pub node: NodeId,
    /// Whether it is heard in both directions.
    pub is_up: bool,
    /// Whether its disk is slow. Then, or if it is late, it is asked after others.
    pub is_slow: bool,
    /// Whether it answers late.
    pub is_late: bool,
    /// Changes in this node's own log, stable here, that the peer has not got, over all partitions it holds.
    pub backlog: u64,
}

/// Another region, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionView {
    /// The region.
    pub region: RegionId,
    /// Age of the oldest watermark of that region's live actors satisfied here, in milliseconds: the lag.
    pub lag_ms: Option<u64>,
    /// Changes of this node's own log, stable here, that no quorum of that region is known to have.
    pub backlog: u64,
    /// Rows found different and not in flight in the last round of reconciliation with that region.
    pub divergence: u64,
}
/// Builds the view.
pub(super) fn view(
    now: Now,
    core: &Core,
    reconciler: &Reconciler,
    requests: usize,
    counters: Vec<(&'static str, u64)>,
    queues: Vec<(&'static str, usize)>,
) -> View {
    let regions: BTreeSet<RegionId> = core.placement.nodes().values().copied().collect();
    let peers = core.peers.iter().map(|(node, peer)| PeerView {
        node,
        is_up: peer.is_up,
        is_slow: core.paces.is_slow(node),
        is_late: core.paces.is_late(node),
        backlog: core
            .replicas
            .values()
            .filter(|replica| replica.is_replica(node))
            .map(|replica| {
                replica
                    .stable(core.actor)
                    .saturating_sub(replica.complete_at(node, core.actor))
            })
            .sum(),
    });
    let available = core
        .replicas
        .values()
        .filter(|replica| is_available(core, replica))
        .count();
    View {
        actor: core.actor.to_string(),
        partitions: core.replicas.len(),
        serving: core
            .replicas
            .values()
            .filter(|replica| replica.is_serving)
            .count(),
        available,
        is_ready: available == core.replicas.len() && has_settled_in(now, core),
        is_slow: core.paces.is_slow(core.me),
        requests,
        peers: peers.collect(),
        regions: regions
            .into_iter()
            .filter(|region| *region != core.region)
            .map(|region| RegionView {
                region,
                lag_ms: lag_ms(now, core, region),
                backlog: core
                    .replicas
                    .values()
                    .map(|replica| backlog(core, replica, region))
                    .sum(),
                divergence: reconciler.divergence(region),
            })
            .collect(),
        lost: (core.lost.iter())
            .map(|(winner, count)| (*winner, core.region, *count))
            .collect(),
        counters,
        queues,
    }
}

/// Whether this node has heard all of its region, or has been here for long.
fn has_settled_in(now: Now, core: &Core) -> bool {
    let mut neighbours = core.peers.iter();
    now.time.since(core.began) >= SETTLE_MAX
        || neighbours.all(|(_, peer)| peer.is_up || peer.region != core.region)
}

/// Whether a partition serves here, and a quorum of this region with it.
fn is_available(core: &Core, replica: &Replica) -> bool {
    replica.is_serving && served(core, replica, Level::LocalQuorum).is_some()
}

/// Changes of our own log, stable here, that no quorum of a region is known to have.
fn backlog(core: &Core, replica: &Replica, region: RegionId) -> u64 {
    let mut marks: Vec<u64> = replica
        .replicas_in(region)
        .iter()
        .map(|node| replica.complete_at(*node, core.actor))
        .collect();
    marks.sort_unstable_by(|a, b| b.cmp(a));
    let quorum = marks.get(marks.len() / 2).copied();
    quorum.map_or(0, |n| replica.stable(core.actor).saturating_sub(n))
}

/// The greatest age of a region's watermarks: of its live nodes, or of all if none is live.
fn lag_ms(now: Now, core: &Core, region: RegionId) -> Option<u64> {
    let nodes = core.peers.iter().filter(|(_, peer)| peer.region == region);
    let actors: Vec<(NodeId, Actor, bool)> = nodes
        .filter_map(|(node, peer)| {
            Some((
                node,
                Actor {
                    node,
                    incarnation: peer.incarnation?,
                },
                peer.is_up,
            ))
        })
        .collect();
    let is_any_up = actors.iter().any(|(_, _, is_up)| *is_up);
    let counted = actors.iter().filter(|(_, _, is_up)| *is_up || !is_any_up);
    counted
        .flat_map(|(node, actor, _)| {
            let held = core
                .replicas
                .values()
                .filter(|replica| replica.is_replica(*node));
            held.filter_map(|replica| lag_micros(now, core, replica, *actor))
        })
        .max()
        .map(|micros| micros / 1000)
}

/// What the last watermark took to be satisfied; or its age, if none came for longer than heartbeats explain.
fn lag_micros(now: Now, core: &Core, replica: &Replica, actor: Actor) -> Option<u64> {
    let mark = replica.mark(actor)?;
    let took = mark.satisfied.0.saturating_sub(mark.micros);
    let age = now.wall.0.saturating_sub(mark.micros);
    let silence = now.wall.0.saturating_sub(mark.satisfied.0);
    let usual = u64::try_from((core.limits.heartbeat_every * 3).as_micros()).unwrap_or(u64::MAX);
    Some(if silence > usual { age } else { took })
}
