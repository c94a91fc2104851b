//! One run: faults under load, then healing, then rest; and the checks at each of these.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Collection, Context, Dot, NodeId, Part, PartitionId, Place, Position, RegionId, Row, RowKey,
    Wall,
};

use crate::placement::Topology;

use super::Bug;
use super::actions;
use super::check::{self, Dump};
use super::clients::Task;
use super::clock::EPOCH_MICROS;
use super::guard;
use super::history::check::{Graves, Rest, Shown, Sight};
use super::history::{self, Action, Ending, History, Violation};
use super::kinds::{Kind, Tally};
use super::paths;
use super::plan::Plan;
use super::world::World;

/// Nodes may take so long to serve before faults begin, in microseconds.
pub(crate) const START: u64 = 2_000_000;
/// Clients go on for so long after faults have ended.
const TAIL: u64 = 1_500_000;
/// After that the cluster must come to rest within this time, if its windows hold its logs.
const REST_MAX: u64 = 120_000_000;
/// Bytes of a change in a message, roughly.
const CHANGE_BYTES: u64 = 256;
/// Between looks whether it has.
const REST_LOOK: u64 = 500_000;
/// Clients' last operations take at most this long, beside the pauses between them.
const FINAL_MAX: u64 = 20_000_000;

/// Clocks are off by so much at most, there and back, and answers take a while.
const SLACK: u64 = 1_500_000;
/// With a clock that is beyond what the cluster allows.
const INSANE_SLACK: u64 = 12_000_000;
/// Values that live as long as their keyspace says do so from when they are stamped, not from when they were sent.
const TTL_SLACK: u64 = 4_000_000;

/// What clients read of each key in the end.
const FINAL_READS: [Action; 4] = [
    Action::Get,
    Action::Count(Place::Key),
    Action::List(Collection::Set),
    Action::List(Collection::Map),
];

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// A bug planted in the harness.
    pub bug: Option<Bug>,
    /// Lines of the trace to keep; 0 for none.
    pub trace_lines: usize,
}

/// How operations ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcomes {
    /// OK.
    pub ok: u64,
    /// FAILED.
    pub failed: u64,
    /// UNKNOWN, or a read that was never answered.
    pub unknown: u64,
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The first thing that was wrong.
    pub violation: Option<Violation>,
    /// Equal for two runs of a seed.
    pub hash: u64,
    /// Virtual time, in microseconds.
    pub virtual_micros: u64,
    /// Virtual time from healing to rest, in microseconds.
    pub rest_micros: u64,
    /// How operations ended.
    pub outcomes: Outcomes,
    /// What was injected and reported.
    pub tally: Tally,
    /// The last lines of the trace.
    pub lines: Vec<String>,
}

/// Runs a seed.
pub fn run(options: &Options) -> Report {
    let Options {
        seed,
        bug,
        trace_lines,
    } = *options;
    run_plan(&Plan::of_seed(seed), bug, trace_lines)
}

/// Runs a seed; gives its history's lines, too.
pub fn run_with_history(options: &Options) -> (Report, Vec<String>) {
    let plan = Plan::of_seed(options.seed);
    let world = World::new(&plan, options.bug, options.trace_lines);
    let (report, history, topology) = run_world(world);
    (report, history.to_lines(&topology))
}

/// Runs a plan. A panic of what is tested is a violation, where it can be caught.
pub fn run_plan(plan: &Plan, bug: Option<Bug>, trace_lines: usize) -> Report {
    let run = || run_world(World::new(plan, bug, trace_lines)).0;
    guard::named(plan.seed(), run).unwrap_or_else(|words| Report {
        seed: plan.seed(),
        violation: Some(Violation {
            check: "panic",
            at: 0,
            words,
        }),
        hash: 0,
        virtual_micros: 0,
        rest_micros: 0,
        outcomes: Outcomes::default(),
        tally: Tally::default(),
        lines: Vec::new(),
    })
}

fn run_world(mut world: World) -> (Report, History, Topology) {
    let mut rest_micros = 0;
    act(&mut world);
    world.heal();
    let healed = world.now;
    world.run_until(healed + TAIL);
    for client in &mut world.clients {
        client.is_active = false;
    }
    if rest(&mut world) {
        rest_micros = world.now - healed;
        finish(&mut world);
    }
    coverage(&mut world);
    let history = std::mem::take(&mut world.history);
    let topology = world.cluster.topology.clone();
    let report = Report {
        seed: world.seed,
        hash: world.trace.hash(),
        virtual_micros: world.now,
        rest_micros,
        outcomes: outcomes(&history),
        violation: world.violation.take(),
        tally: std::mem::take(&mut world.tally),
        lines: world.trace.into_lines(),
    };
    (report, history, topology)
}

/// The cluster starts, clients come, and things go wrong.
fn act(world: &mut World) {
    world.run_until(START);
    world.add_clients(true, world.cluster.profile.clients);
    world.add_roamers(world.cluster.profile.roamers);
    world.begin_faults();
    let end = world.now + world.cluster.profile.fault_phase;
    world.run_until(end);
}

/// Waits until nothing moves any more; says whether it came to that.
pub(crate) fn rest(world: &mut World) -> bool {
    let reconcile = world.cluster.topology.limits.reconcile_every;
    let window = 2 * u64::try_from(reconcile.as_micros()).unwrap_or(0) + 1_000_000;
    let limit = world.now + rest_max(world);
    while world.violation.is_none() {
        world.run_until(world.now + REST_LOOK);
        let unrest = match unrest(world, window) {
            Ok(()) => return true,
            Err(unrest) => unrest,
        };
        if limit < world.now {
            let (check, words) = unrest;
            world.fail(
                check,
                format!("still after {} us: {words}", rest_max(world)),
            );
        }
    }
    false
}

/// How long the cluster may take to come to rest, in microseconds. Random limits may be so small that every change
/// takes its own round trip to another region, and a replica may lack all of them.
fn rest_max(world: &World) -> u64 {
    let topology = &world.cluster.topology;
    let rtt = topology.links.iter().map(|link| link.shape.rtt).max();
    let rtt = u64::try_from(rtt.unwrap_or_default().as_micros()).unwrap_or(0);
    let positions = world.nodes.iter().flat_map(|node| node.disk.positions());
    let changes = positions.map(|(_, position)| {
        let reaches = position.reaches.values();
        reaches.map(|reach| reach.applied).sum::<u64>()
    });
    let changes = changes.max().unwrap_or(0);
    let window = u64::try_from(topology.limits.window_bytes_max).unwrap_or(u64::MAX);
    let trips = changes.min(changes * CHANGE_BYTES / window.max(1));
    let hops = u64::try_from(topology.regions.len()).unwrap_or(u64::MAX);
    REST_MAX + trips * rtt * hops
}

/// What keeps the cluster from rest.
fn unrest(world: &World, window: u64) -> Result<(), (&'static str, String)> {
    if world.clients.iter().any(|client| !client.is_idle()) {
        return Err(("answers", "clients wait".to_owned()));
    }
    if !world.is_connected() {
        return Err(("quiet", "nodes are not connected".to_owned()));
    }
    for (index, node) in world.nodes.iter().enumerate() {
        if node.is_dead {
            continue;
        }
        let peers = world.live_peers(index).into_iter();
        let peers: Vec<NodeId> = peers.filter_map(|peer| world.id_of(peer)).collect();
        if !node.hears_all(world.now, &peers) {
            return Err(("quiet", format!("n{index} does not hear all its peers")));
        }
        if world.is_paused(index) || !node.is_serving(world.now) {
            return Err(("quiet", format!("n{index} does not serve")));
        }
    }
    let (last, what) = world.checks.last_traffic();
    let is_quiet = window < world.now.saturating_sub(last);
    let dumps = dumps(world)?;
    let rows = dumps.iter().flat_map(|dump| dump.rows.iter());
    if let Some((key, row)) = rows
        .into_iter()
        .find(|(_, row)| row.next_expiry().is_some())
    {
        return Err(("expiry", format!("{key:?} will expire: {row:?}")));
    }
    check::at_rest(&comparable(world, dumps))?;
    if !is_quiet {
        return Err(("quiet", format!("{what} was sent at {last} us")));
    }
    Ok(())
}

/// At rest: every replica is looked at, and clients read everything once more.
fn finish(world: &mut World) {
    if let Err((check, words)) = check_rest(world) {
        return world.fail(check, words);
    }
    if let Ok(dumps) = dumps(world) {
        coverage_at_rest(world, &dumps);
    }
    let since = world.now;
    world.history.set_rest(since);
    let slack = slack(world);
    world.history.set_slack(slack);
    let first = world.clients.len();
    world.add_clients(false, 1);
    for client in world.clients.iter_mut().skip(first) {
        let keys = world.cluster.keys_in(client.region);
        let keyspaces = world.cluster.topology.keyspaces.iter();
        let here = keyspaces.filter(|keyspace| keyspace.regions.contains(&client.region));
        client
            .tasks
            .extend(here.map(|keyspace| Task::List(keyspace.id, 0, None)));
        for key in keys {
            let tasks = FINAL_READS.map(|action| Task::Read(action, key.clone()));
            client.tasks.extend(tasks);
        }
    }
    let asked = world.clients.iter().map(|client| client.tasks.len()).max();
    let pauses = u64::try_from(asked.unwrap_or(0)).unwrap_or(0) * 2 * world.cluster.profile.think;
    let limit = world.now + FINAL_MAX + pauses;
    while world.violation.is_none()
        && world.now < limit
        && world.clients.iter().any(|client| !client.is_idle())
    {
        world.run_until(world.now + REST_LOOK / 10);
    }
    if world.violation.is_none()
        && let Err((check, words)) = check_finals(world, since, first)
    {
        world.fail(check, words);
    }
}

fn check_rest(world: &World) -> Result<(), (&'static str, String)> {
    for (index, node) in world.nodes.iter().enumerate() {
        match node.disk.verify_digests() {
            Ok(wrong) if wrong.is_empty() => {}
            Ok(wrong) => {
                return Err((
                    "converge",
                    format!("digests of n{index} are not those of its rows: {wrong:?}"),
                ));
            }
            Err(error) => return Err(("disk", format!("verify digests of n{index}: {error}"))),
        }
    }
    let dumps = dumps(world)?;
    check_history(world, &dumps)
}

fn check_history(world: &World, dumps: &[Dump]) -> Result<(), (&'static str, String)> {
    let state = state(dumps);
    let tombstones = world.checks.tombstones();
    let rest = Rest {
        shown: &shown(world, &state),
        graves: Graves::Told(&tombstones),
        views: views(world, &state),
        slack: slack(world),
    };
    history::check::check(world.history.records(), rest)
}

/// What is left of every register that was asked for, or stands.
fn shown(world: &World, state: &BTreeMap<RowKey, Row>) -> Shown {
    let keys = world.history.records().iter().map(|record| &record.key);
    let mut shown: Shown = keys.map(|key| (key.clone(), None)).collect();
    let registers = state.iter();
    let registers = registers.filter(|(_, row)| matches!(row, Row::Register(_)));
    shown.extend(registers.map(|(key, row)| (key.clone(), Some(history::seen(row)))));
    shown
}

/// What the replicas show of every key.
fn views(world: &World, state: &BTreeMap<RowKey, Row>) -> Vec<Sight> {
    let now = Wall(EPOCH_MICROS.saturating_add(world.now));
    let mut views = Vec::new();
    for key in &world.cluster.keys {
        for action in FINAL_READS {
            let ending = actions::at_rest(state, key, &action, now);
            let view = |ending| Sight::at_rest(key.clone(), action.clone(), world.now, ending);
            views.extend(ending.map(view));
        }
    }
    views
}

/// How far clocks may have been off.
fn slack(world: &World) -> u64 {
    let mut strikes = world.nemesis.strikes.iter();
    let is_beyond = strikes.any(|strike| matches!(strike.kind, Kind::Insane | Kind::Freeze));
    let mut keyspaces = world.cluster.topology.keyspaces.iter();
    let has_ttl = keyspaces.any(|keyspace| keyspace.ttl.is_some());
    let base = if is_beyond { INSANE_SLACK } else { SLACK };
    base + if has_ttl { TTL_SLACK } else { 0 }
}

fn check_finals(world: &World, since: u64, first: usize) -> Result<(), (&'static str, String)> {
    let dumps = dumps(world)?;
    let mut listings: Vec<(RegionId, Vec<(RowKey, Row)>)> = Vec::new();
    for client in world.clients.iter().skip(first) {
        if !client.is_idle() || !client.failed_tasks.is_empty() {
            let words = format!("last operations failed: {:?}", client.failed_tasks);
            return Err(("answers", words));
        }
        listings.push((client.region, client.listed.clone()));
    }
    let mut expected: BTreeMap<RegionId, BTreeMap<RowKey, Row>> = BTreeMap::new();
    for dump in &dumps {
        let rows = dump.rows.clone().into_iter();
        let rows = rows.filter(|(key, row)| key.subkey.is_empty() && !row.is_tombstone());
        expected.entry(dump.region).or_default().extend(rows);
    }
    let records = world.history.records();
    check_history(world, &dumps)?;
    check::after_rest(records, since, &listings, &expected)?;
    let (last, what) = world.checks.last_traffic();
    if since < last {
        return Err((
            "quiet",
            format!("reads of a cluster at rest made it send {what}"),
        ));
    }
    Ok(())
}

/// What every live replica of every partition holds.
fn dumps(world: &World) -> Result<Vec<Dump>, (&'static str, String)> {
    let mut dumps = Vec::new();
    for (index, node) in world.nodes.iter().enumerate() {
        let Some(region) = world.cluster.region_of(index).filter(|_| !node.is_dead) else {
            continue;
        };
        let positions = node.disk.positions();
        for partition in world.cluster.placement.partitions_of(node.id) {
            match node.disk.dump(*partition) {
                Ok(Some((rows, root))) => dumps.push(Dump {
                    node: index,
                    region: region.id,
                    partition: *partition,
                    rows,
                    root,
                    position: position_of(&positions, *partition),
                }),
                Ok(None) => return Err(("quiet", format!("n{index} is closed"))),
                Err(error) => return Err(("disk", format!("dump n{index}: {error}"))),
            }
        }
    }
    Ok(dumps)
}

/// What must be equal at rest. While a node is away for good, each replica keeps a tombstone until it happens to hear
/// that all had it: then these do not count, nor what is noted when one is collected.
fn comparable(world: &World, mut dumps: Vec<Dump>) -> Vec<Dump> {
    leave_out_lost_deletes(&mut dumps);
    if world.nodes.iter().any(|node| node.is_dead) {
        for dump in &mut dumps {
            leave_out_collecting(&mut dump.rows);
        }
    }
    dumps
}

/// Leaves out deletes that no log names any more, or that stand for something that none does, for the only disk that had them was lost, though a read had brought the
/// row elsewhere. Nobody was promised them; they go once the node that made them has written in a later life.
fn leave_out_lost_deletes(dumps: &mut [Dump]) {
    let mut known: BTreeMap<PartitionId, Position> = BTreeMap::new();
    for dump in dumps.iter() {
        let known = known.entry(dump.partition).or_default();
        known.join(&dump.position);
    }
    for dump in dumps {
        let known = known.get(&dump.partition);
        let is_named =
            |key: &RowKey, row: &Row| known.is_some_and(|known| is_named(known, key, row));
        dump.rows
            .retain(|key, row| !row.is_tombstone() || is_named(key, row));
    }
}

/// Whether logs that some replica has tell of all that a tombstone stands for.
fn is_named(known: &Position, key: &RowKey, row: &Row) -> bool {
    let has_rest = match (key.part(), row) {
        (Some(Part::Share(_, actor)), Row::Share(share)) => {
            let n = share.reach();
            known.covers(Dot { actor, n })
        }
        (_, Row::Siblings(row)) => Context::from(known).includes(&row.context()),
        _ => true,
    };
    has_rest && known.covers(row.stamp().dot)
}

/// Leaves out what differs between a replica that has collected tombstones and one that has not.
fn leave_out_collecting(rows: &mut BTreeMap<RowKey, Row>) {
    rows.retain(|_, row| !row.is_tombstone());
}

fn position_of(positions: &[(PartitionId, Position)], partition: PartitionId) -> Position {
    let found = positions.iter().find(|(id, _)| *id == partition);
    found
        .map(|(_, position)| position.clone())
        .unwrap_or_default()
}

/// What replicas at rest agree on.
fn state(dumps: &[Dump]) -> BTreeMap<RowKey, Row> {
    dumps.iter().flat_map(|dump| dump.rows.clone()).collect()
}

fn outcomes(history: &History) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for record in history.records() {
        match record.ending {
            Ending::Failed | Ending::NotYet => outcomes.failed += 1,
            Ending::Unknown | Ending::Pending => outcomes.unknown += 1,
            Ending::Written(_)
            | Ending::Done
            | Ending::Read(_)
            | Ending::Siblings(..)
            | Ending::Counted(_)
            | Ending::Members(_)
            | Ending::Fields(_) => outcomes.ok += 1,
        }
    }
    outcomes
}

/// Takes over what machines have counted, and looks through the history for paths that were taken.
fn coverage(world: &mut World) {
    let now = world.now;
    for node in &world.nodes {
        if let Some(running) = &node.running {
            world.tally.bank(&running.machine.view(node.now(now)));
        }
    }
    let regions: BTreeMap<u64, RegionId> = world
        .history
        .records()
        .iter()
        .map(|record| (record.id, record.region))
        .collect();
    let mut unknown: BTreeSet<u64> = BTreeSet::new();
    let mut tries: BTreeMap<u64, (usize, bool)> = BTreeMap::new();
    for record in world.history.records() {
        if let (Action::Put(token), Ending::Unknown) = (&record.action, &record.ending) {
            unknown.insert(*token);
        }
        if let Action::Add { id: Some(id), .. } = record.action {
            let (count, is_ok) = tries.entry(id).or_default();
            *count += 1;
            *is_ok |= record.is_ok();
        }
        if let Ending::Read(Some(seen)) = &record.ending
            && seen.token.is_some_and(|token| unknown.contains(&token))
        {
            world.tally.take(paths::UNKNOWN_SEEN);
        }
        if let Ending::Siblings(tokens, _) = &record.ending {
            let regions: BTreeSet<RegionId> = tokens
                .iter()
                .filter_map(|token| regions.get(token).copied())
                .collect();
            if 3 <= regions.len() {
                world.tally.take(paths::THREE_REGIONS);
            }
        }
    }
    for (count, is_ok) in tries.into_values() {
        if 1 < count && is_ok {
            world.tally.take(paths::REPEATED);
        }
    }
}

/// Paths that only a cluster at rest shows.
fn coverage_at_rest(world: &mut World, dumps: &[Dump]) {
    let left = state(dumps);
    let graves = world.checks.tombstones();
    if world.nodes.iter().any(|node| node.is_dead) {
        world.tally.take(paths::CORE);
    } else if graves.keys().any(|key| !left.contains_key(key)) {
        world.tally.take(paths::COLLECTED);
    }
    let regions = world.cluster.topology.regions.len();
    if world.cluster.topology.links.len() < regions * regions.saturating_sub(1) / 2 {
        world.tally.take(paths::UNLINKED);
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::is_same;
    use super::*;
    use crate::model::{
        Actor, Dot, Incarnation, KeyspaceId, Once, OpId, Part, Share, Stamp, Tally, Timestamp,
    };

    fn dot(node: u32) -> Dot {
        let actor = Actor {
            node: NodeId(node),
            incarnation: Incarnation(1),
        };
        Dot { actor, n: 1 }
    }

    fn stamp(node: u32) -> Stamp {
        Stamp {
            timestamp: Timestamp::ZERO,
            dot: dot(node),
        }
    }

    #[test]
    fn who_has_collected_a_share_holds_the_same_operation() {
        let key = RowKey::plain(KeyspaceId(1), bytes::Bytes::from_static(b"k"));
        let id = key.with(&Part::Once(Place::Key, OpId(1)));
        let once = |gone: &[Dot]| {
            Row::Once(Once {
                stamp: stamp(1),
                applied: [(dot(1), 5), (dot(2), 5)].into(),
                gone: gone.iter().copied().collect(),
                expires: Wall(9),
                is_spent: true,
            })
        };
        let tally = Tally {
            n: 1,
            since: 1,
            sum: 5,
        };
        let share = Row::Share(Share {
            stamp: stamp(2),
            own: tally,
            reset: tally,
        });
        let reset = key.with(&Part::Share(Place::Key, dot(2).actor));
        let mut here: BTreeMap<RowKey, Row> = [(id.clone(), once(&[dot(2)]))].into();
        let mut there: BTreeMap<RowKey, Row> = [(id.clone(), once(&[])), (reset, share)].into();
        for rows in [&mut here, &mut there] {
            leave_out_collecting(rows);
            assert_eq!(rows.len(), 1);
        }
        assert!(is_same(here.get(&id), there.get(&id)));
    }
}
