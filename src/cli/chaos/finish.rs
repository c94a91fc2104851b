//! After the faults: all nodes up, all replicas equal, and every key read once more in every region.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep};

use crate::cli::Verdict;
use crate::cli::options::Connect;
use crate::cli::verify::VerifyArgs;
use crate::history::{Ending, Record, Wishes};
use crate::model::{Level, NodeId, RegionId, RowKey};

use super::ask::{Extras, ask};
use super::callers::Kind;
use super::faults::READY_MAX;
use super::scenario::Scenario;
use super::site::REGIONS;
use super::stage::Stage;

/// Replicas are equal so long after healing.
const EQUAL_MAX: Duration = Duration::from_secs(90);
/// After what has a time to live is gone: clocks, and the cut that replicas agree on.
const EXPIRY_GRACE: Duration = Duration::from_secs(3);
/// A key of a healed cluster is read in this time.
const READ_MAX: Duration = Duration::from_secs(15);
/// Keys read at the same time.
const READS_AT_ONCE: usize = 6;

/// Undoes all faults and starts whatever does not run.
pub(super) async fn heal(stage: &Stage) -> Result<(), String> {
    let relayed = stage.has(Scenario::Relay).then_some((0, REGIONS.len() - 1));
    for node in 0..stage.site.places.len() {
        if stage.site.is_running(node) {
            stage.site.signal(node, "-CONT")?;
        }
        stage.site.set_offset(node, 0).await;
    }
    stage.site.heal_links(relayed).await;
    stage.site.start_all(READY_MAX).await
}

/// Waits until nothing will expire any more and all replicas are equal again.
pub(super) async fn rest(stage: &Stage) -> Result<(), String> {
    sleep(stage.recorder.until_expired() + EXPIRY_GRACE).await;
    equal(stage).await?;
    stage.recorder.rest();
    Ok(())
}

/// Waits until all replicas are equal.
pub(super) async fn equal(stage: &Stage) -> Result<(), String> {
    let place = stage.site.places.first();
    let args = VerifyArgs {
        connect: Connect {
            endpoint: place.map_or_else(String::new, |place| place.http.clone()),
            timeout: None,
        },
        wait: EQUAL_MAX,
        all: false,
        json: false,
    };
    let mut said = Vec::new();
    match args.run(&mut said).await {
        Ok(Verdict::Good) => Ok(()),
        Ok(Verdict::Bad) => Err(format!(
            "not equal after {EQUAL_MAX:?}: {}",
            String::from_utf8_lossy(&said)
        )),
        Err(error) => Err(format!("verify: {error}")),
    }
}

/// Reads all keys in all regions.
pub(super) async fn read_all(stage: &Arc<Stage>) -> Result<(), String> {
    let history = stage.recorder.history();
    let mut kinds: BTreeMap<RowKey, Kind> = BTreeMap::new();
    for record in history.records() {
        if let Some(kind) = Kind::of(&record.key) {
            kinds.insert(record.key.clone(), kind);
        }
    }
    let mut wanted = Vec::new();
    for (n, (key, kind)) in kinds.into_iter().enumerate() {
        for region in 0..REGIONS.len() {
            wanted.push((n, region, key.clone(), kind));
        }
    }
    let reads = futures_util::stream::iter(wanted);
    let reads = reads.map(|(n, region, key, kind)| read(stage, n, region, key, kind));
    let mut reads = reads.buffer_unordered(READS_AT_ONCE);
    while let Some(read) = reads.next().await {
        read?;
    }
    Ok(())
}

async fn read(
    stage: &Stage,
    n: usize,
    region: usize,
    key: RowKey,
    kind: Kind,
) -> Result<(), String> {
    let nodes = stage.site.nodes_of(region);
    let until = Instant::now() + READ_MAX;
    let what = Record {
        id: 0,
        client: usize::MAX,
        region: RegionId::of(REGIONS.get(region).copied().unwrap_or("")),
        node: NodeId(0),
        level: Level::LocalQuorum,
        key,
        action: kind.read(),
        wishes: Wishes::default(),
        invoked: 0,
        ended: None,
        ending: Ending::Pending,
    };
    for node in nodes.into_iter().cycle().skip(n % 3) {
        let record = stage.recorder.invoke(|id, invoked| Record {
            id,
            invoked,
            node: NodeId::of(stage.site.name(node)),
            ..what.clone()
        });
        let answer = ask(&stage.site.client(node), &record, &Extras::default()).await;
        let is_ok = answer.ending.is_ok();
        let words = format!("{:?} {:?}", answer.ending, answer.code);
        stage.recorder.end(&record, answer);
        if is_ok {
            return Ok(());
        }
        if until < Instant::now() {
            return Err(format!("at rest {record} ended as {words}"));
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err("a region without nodes".to_owned())
}
