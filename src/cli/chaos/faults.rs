//! What is done to the cluster: one loop for each scenario. Each undoes what it did before it ends.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::scenario::Scenario;
use super::site::{REGIONS, Way};
use super::stage::{Claim, Stage};

/// A node is ready so long after its start, on a busy machine.
pub(super) const READY_MAX: Duration = Duration::from_secs(90);
/// A node that is refused, or asked to stop, has ended after so long.
const ENDED_MAX: Duration = Duration::from_secs(30);
/// Longer than any timeout: of clients, of silence, of connections.
const PAUSE: std::ops::RangeInclusive<u64> = 4_500..=6_500;
/// Wall clocks are off by no more than this, so that two differ by less than `max_offset`.
const OFFSET_MS_MAX: i32 = 220;
/// What a node says that is started on another's data.
const FOREIGN: &str = "written by another node";

/// Why a scenario did not go as it must.
pub(super) type Outcome = Result<(), String>;

/// Does a scenario's work until faults end, or for so many rounds.
pub(super) async fn act(
    stage: &Stage,
    scenario: Scenario,
    rounds: Option<u32>,
    mut rng: fastrand::Rng,
) -> Outcome {
    if scenario == Scenario::Relay {
        return relay(stage).await;
    }
    let mut round = 0;
    loop {
        let pause = Duration::from_millis(rng.u64(300..=1_800));
        if rounds == Some(round) || !stage.wait(pause).await {
            return Ok(());
        }
        round += 1;
        match scenario {
            Scenario::Calm | Scenario::Relay => {}
            Scenario::Kill => kill(stage, &mut rng).await?,
            Scenario::KillAll => kill_all(stage, &mut rng).await?,
            Scenario::Pause => pause_one(stage, &mut rng).await?,
            Scenario::Restart => restart(stage, &mut rng).await?,
            Scenario::Cut => cut(stage, &mut rng).await,
            Scenario::OneWay => one_way(stage, &mut rng).await,
            Scenario::Loss | Scenario::Slow => shape(stage, scenario, &mut rng).await,
            Scenario::Clock => clock(stage, &mut rng).await,
            Scenario::DiskFull => disk_full(stage, &mut rng).await?,
            Scenario::Swap => swap(stage, &mut rng).await?,
            Scenario::Wipe => wipe(stage, &mut rng).await?,
            Scenario::OldCopy => old_copy(stage, &mut rng).await?,
            Scenario::Certificates => certificates(stage, &mut rng).await?,
        }
    }
}

fn span(rng: &mut fastrand::Rng, millis: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rng.u64(millis))
}

/// A node that nothing else is done to, if there is one.
fn one<'a>(stage: &'a Stage, rng: &mut fastrand::Rng) -> Option<(Claim<'a>, usize)> {
    let claim = stage.claim_one(rng)?;
    let node = claim.nodes.first().copied()?;
    Some((claim, node))
}

async fn start(stage: &Stage, node: usize) -> Outcome {
    stage.site.start(node)?;
    stage.site.ready(node, READY_MAX).await
}

async fn kill(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let Some((_claim, node)) = one(stage, rng) else {
        return Ok(());
    };
    stage.strike(
        Scenario::Kill,
        &format!("kill -9 {}", stage.site.name(node)),
    );
    stage.site.kill(&[node])?;
    stage.wait(span(rng, 0..=2_500)).await;
    start(stage, node).await
}

async fn kill_all(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let claim = stage.claim_all();
    stage.strike(
        Scenario::KillAll,
        &format!("kill -9 {} nodes", claim.nodes.len()),
    );
    stage.site.kill(&claim.nodes)?;
    stage.wait(span(rng, 0..=600)).await;
    for node in &claim.nodes {
        stage.site.start(*node)?;
    }
    for node in &claim.nodes {
        stage.site.ready(*node, READY_MAX).await?;
    }
    stage.say("all are ready again");
    drop(claim);
    // At times so long that the lives that are over can be retired.
    stage.wait(span(rng, 1_000..=6_000)).await;
    Ok(())
}

async fn pause_one(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let Some((_claim, node)) = one(stage, rng) else {
        return Ok(());
    };
    stage.strike(
        Scenario::Pause,
        &format!("SIGSTOP {}", stage.site.name(node)),
    );
    stage.site.signal(node, "-STOP")?;
    stage.wait(span(rng, PAUSE)).await;
    stage.site.signal(node, "-CONT")
}

/// All nodes, one after the other.
async fn restart(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let Some((_claim, node)) = one(stage, rng) else {
        return Ok(());
    };
    let name = stage.site.name(node);
    stage.strike(Scenario::Restart, &format!("restart {name}"));
    stop(stage, node).await?;
    start(stage, node).await
}

/// Stops a node cleanly.
async fn stop(stage: &Stage, node: usize) -> Outcome {
    stage.site.signal(node, "-TERM")?;
    let status = stage.site.ended(node, ENDED_MAX).await?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{} stopped with {status}", stage.site.name(node)))
}

fn name(region: usize) -> &'static str {
    REGIONS.get(region).copied().unwrap_or("?")
}

async fn set_cut(stage: &Stage, a: usize, b: usize, is_cut: bool) {
    stage.site.set_way(a, b, |way| way.is_cut = is_cut).await;
    stage.site.set_way(b, a, |way| way.is_cut = is_cut).await;
}

/// Whether a pair is cut off for the whole run, so that others leave it alone.
fn is_relayed(stage: &Stage, a: usize, b: usize) -> bool {
    stage.has(Scenario::Relay) && a.abs_diff(b) == REGIONS.len() - 1
}

async fn cut(stage: &Stage, rng: &mut fastrand::Rng) {
    let lone = rng.usize(0..REGIONS.len());
    let others: Vec<usize> = (0..REGIONS.len()).filter(|other| *other != lone).collect();
    // A whole region, or one pair.
    let count = rng.usize(1..=others.len());
    let others: Vec<usize> = others.into_iter().take(count).collect();
    let names: Vec<&str> = others.iter().map(|region| name(*region)).collect();
    let words = format!("cut {} from {}", name(lone), names.join(" and "));
    stage.strike(Scenario::Cut, &words);
    for other in &others {
        set_cut(stage, lone, *other, true).await;
    }
    stage.wait(span(rng, 2_000..=7_000)).await;
    for other in others {
        if !is_relayed(stage, lone, other) {
            set_cut(stage, lone, other, false).await;
        }
    }
    stage.say("healed");
}

async fn one_way(stage: &Stage, rng: &mut fastrand::Rng) {
    let from = rng.usize(0..REGIONS.len());
    let to = (from + rng.usize(1..REGIONS.len())) % REGIONS.len();
    let words = format!("{} does not reach {}", name(from), name(to));
    stage.strike(Scenario::OneWay, &words);
    stage.site.set_way(from, to, |way| way.is_cut = true).await;
    stage.wait(span(rng, 2_000..=7_000)).await;
    if !is_relayed(stage, from, to) {
        stage.site.set_way(from, to, |way| way.is_cut = false).await;
    }
    stage.say("healed");
}

async fn relay(stage: &Stage) -> Outcome {
    let last = REGIONS.len() - 1;
    let words = format!("cut {} from {} for good", name(0), name(last));
    stage.strike(Scenario::Relay, &words);
    set_cut(stage, 0, last, true).await;
    stage.healing.cancelled().await;
    Ok(())
}

async fn shape(stage: &Stage, scenario: Scenario, rng: &mut fastrand::Rng) {
    let a = rng.usize(0..REGIONS.len());
    let b = (a + rng.usize(1..REGIONS.len())) % REGIONS.len();
    let Some(usual) = stage.site.way(a, b) else {
        return;
    };
    let changed = if scenario == Scenario::Loss {
        Way {
            loss: 0.02 + rng.f64() * 0.3,
            ..usual
        }
    } else {
        Way {
            rtt_ms: usual.rtt_ms * (2.0 + rng.f64() * 10.0),
            mbit: 0.2 + rng.f64() * 4.0,
            ..usual
        }
    };
    let words = format!(
        "{} and {}: loss {:.0} %, {:.0} ms, {:.1} Mbit/s",
        name(a),
        name(b),
        changed.loss * 100.0,
        changed.rtt_ms,
        changed.mbit
    );
    stage.strike(scenario, &words);
    let set = |to: Way| {
        move |way: &mut Way| {
            (way.loss, way.rtt_ms, way.mbit) = (to.loss, to.rtt_ms, to.mbit);
        }
    };
    stage.site.set_way(a, b, set(changed)).await;
    stage.site.set_way(b, a, set(changed)).await;
    stage.wait(span(rng, 2_000..=7_000)).await;
    stage.site.set_way(a, b, set(usual)).await;
    stage.site.set_way(b, a, set(usual)).await;
}

async fn clock(stage: &Stage, rng: &mut fastrand::Rng) {
    let node = rng.usize(0..stage.site.places.len());
    let offset = rng.i32(-OFFSET_MS_MAX..=OFFSET_MS_MAX);
    let words = format!("clock of {} is off by {offset} ms", stage.site.name(node));
    stage.strike(Scenario::Clock, &words);
    stage.site.set_offset(node, offset).await;
}

/// The node whose disk is small.
pub(super) const SMALL: usize = 4;

async fn disk_full(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let name = stage.site.name(SMALL);
    let _disk = stage.disks.lock().await;
    let Some(_claim) = stage.claim(SMALL) else {
        return Ok(());
    };
    let ballast = stage.site.data(SMALL).join("ballast");
    stage.strike(Scenario::DiskFull, &format!("fill the disk of {name}"));
    fill(&ballast).map_err(|error| format!("fill the disk of {name}: {error}"))?;
    let mut is_down = false;
    for _ in 0..rng.u32(3..=8) {
        stage.wait(Duration::from_secs(1)).await;
        // What it has cleaned up is filled, too.
        let filled = fill(&ballast);
        filled.map_err(|error| format!("fill the disk of {name}: {error}"))?;
        is_down = is_down || !stage.site.is_running(SMALL);
    }
    if is_down {
        // Started on a full disk it must say why it cannot, or serve.
        stage.site.start(SMALL)?;
        stage.wait(Duration::from_secs(2)).await;
    }
    fs::remove_file(&ballast).map_err(|error| error.to_string())?;
    let words = if is_down {
        "ended, and is started again"
    } else {
        "went on"
    };
    stage.say(&format!("{name} {words}"));
    stage.wait(Duration::from_secs(1)).await;
    if !stage.site.is_running(SMALL) {
        stage.site.start(SMALL)?;
    }
    let ready = stage.site.ready(SMALL, Duration::from_secs(15)).await;
    if ready.is_ok() {
        return Ok(());
    }
    // A node that found its disk full may need a start.
    stage.say(&format!("{name} must be started again: {ready:?}"));
    stage.site.kill(&[SMALL])?;
    start(stage, SMALL).await
}

/// Writes until there is no room.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = fs::File::options().create(true).append(true).open(path)?;
    for bytes in [1 << 20, 4 << 10, 1] {
        let zeros = vec![0; bytes];
        while file.write_all(&zeros).is_ok() {}
    }
    Ok(())
}

async fn swap(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let (Some((_a, a)), Some((_b, b))) = (one(stage, rng), one(stage, rng)) else {
        return Ok(());
    };
    let site = &stage.site;
    let words = format!("{} and {} on each other's data", site.name(a), site.name(b));
    stage.strike(Scenario::Swap, &words);
    site.kill(&[a, b])?;
    for (node, other) in [(a, b), (b, a)] {
        let before = site.log(node).len();
        site.start_on(node, &site.data(other))?;
        let status = site.ended(node, ENDED_MAX).await?;
        let log = site.log(node);
        let said = log.get(before..).unwrap_or("");
        if status.success() || !said.contains(FOREIGN) {
            let name = site.name(node);
            return Err(format!(
                "{name} on another's data ended with {status}: {said}"
            ));
        }
    }
    site.start(a)?;
    site.start(b)?;
    site.ready(a, READY_MAX).await?;
    site.ready(b, READY_MAX).await
}

async fn wipe(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let _disk = stage.disks.lock().await;
    let Some((_claim, node)) = one(stage, rng) else {
        return Ok(());
    };
    stage.strike(Scenario::Wipe, &format!("wipe {}", stage.site.name(node)));
    stage.site.kill(&[node])?;
    empty(&stage.site.data(node)).map_err(|error| error.to_string())?;
    stage.wait(span(rng, 0..=2_000)).await;
    start(stage, node).await
}

async fn old_copy(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let _disk = stage.disks.lock().await;
    let Some((_claim, node)) = one(stage, rng) else {
        return Ok(());
    };
    let (site, name) = (&stage.site, stage.site.name(node));
    let (data, copy) = (site.data(node), site.dir.join(format!("copy-{name}")));
    let fail = |error: io::Error| format!("copy the data of {name}: {error}");
    stage.strike(
        Scenario::OldCopy,
        &format!("copy {name}, put the copy back later"),
    );
    site.kill(&[node])?;
    empty(&copy).map_err(fail)?;
    copy_all(&data, &copy).map_err(fail)?;
    start(stage, node).await?;
    stage.wait(span(rng, 1_500..=4_000)).await;
    site.kill(&[node])?;
    empty(&data).map_err(fail)?;
    copy_all(&copy, &data).map_err(fail)?;
    stage.say(&format!("{name} has its old data"));
    start(stage, node).await
}

/// Removes all that is in a folder, and makes it if there is none.
fn empty(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// With an expired certificate a node finds nobody; with a new one it is back.
async fn certificates(stage: &Stage, rng: &mut fastrand::Rng) -> Outcome {
    let Some((_claim, node)) = one(stage, rng) else {
        return Ok(());
    };
    let (site, name) = (&stage.site, stage.site.name(node));
    stage.strike(
        Scenario::Certificates,
        &format!("the certificate of {name} expires"),
    );
    stop(stage, node).await?;
    site.let_expire(node)?;
    site.start(node)?;
    stage.wait(Duration::from_secs(4)).await;
    let witness = (node + 1) % site.places.len();
    if !stage.healing.is_cancelled()
        && site.is_running(node)
        && let Ok(status) = site.client(witness).status().await
        && status.peers.iter().any(|peer| peer.node == name && peer.up)
    {
        return Err(format!("{name} is heard with an expired certificate"));
    }
    site.certify(node)?;
    if site.is_running(node) {
        stop(stage, node).await?;
    }
    stage.say(&format!("{name} has a new certificate"));
    start(stage, node).await
}
