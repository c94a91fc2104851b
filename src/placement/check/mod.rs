//! What must hold of a topology file. The first mistake is refused with its line and what to do about it;
//! whatever passes here is consistent, and nobody checks again. Shapes and plain types are `form`'s.

mod fields;
mod limits;

use std::collections::BTreeMap;

use crate::model::{Duration, KeyspaceId, Level, NodeId, RegionId};

use super::form::{At, FileForm, KeyspaceForm, LinkForm, NodeForm, RegionForm};
use super::topology::{
    Keyspace, Link, LinkShape, MergePolicy, Node, Region, Topology, TopologyError,
};
use fields::{Seen, Source};

/// Replicas in a region, if the file is silent and every region has as many nodes.
/// Ten years.
const SECONDS_MAX: i64 = 315_360_000;

const REPLICATION_DEFAULT: usize = 3;

/// See [`Topology::parse`].
pub(super) fn parse(file: &str, text: &str) -> Result<Topology, TopologyError> {
    let source = Source { file, text };
    let form: FileForm = toml::from_str(text).map_err(|error| source.unreadable(&error))?;
    let cluster = source.name("cluster", &form.cluster)?;
    let partitions = source.whole("partitions", &form.partitions, 1, 4096)?;
    let limits = limits::limits(&source, &form.limits)?;
    let regions = regions(&source, &form.region)?;
    let keyspaces = keyspaces(&source, &form.keyspace, &regions)?;
    let links = links(&source, &form.link, &regions)?;
    Ok(Topology {
        cluster,
        partitions,
        regions,
        keyspaces,
        links,
        limits,
    })
}

fn regions(source: &Source<'_>, forms: &[At<RegionForm>]) -> Result<Vec<Region>, TopologyError> {
    if forms.is_empty() {
        return Err(source.refuse(0, "there is no region: add a `[[region]]` with its nodes"));
    }
    let mut names = Seen::new("region");
    let mut nodes = Seen::new("node");
    let mut addresses = BTreeMap::new();
    let mut regions = Vec::with_capacity(forms.len());
    for at in forms {
        let form = at.get_ref();
        let name = source.name("region", &form.name)?;
        let id = RegionId::of(&name);
        source.unique(&mut names, id.0, &form.name)?;
        if form.node.is_empty() {
            return Err(source.refuse(
                at.span().start,
                format!("region `{name}` has no nodes: add a `[[region.node]]` below it"),
            ));
        }
        let mut members = Vec::with_capacity(form.node.len());
        for form in &form.node {
            members.push(node(source, form, &mut nodes, &mut addresses)?);
        }
        regions.push(Region {
            id,
            name,
            nodes: members,
        });
    }
    Ok(regions)
}

fn node<'a>(
    source: &Source<'_>,
    form: &'a NodeForm,
    nodes: &mut Seen<'a>,
    addresses: &mut BTreeMap<String, usize>,
) -> Result<Node, TopologyError> {
    let name = source.name("node", &form.id)?;
    let id = NodeId::of(&name);
    source.unique(nodes, id.0, &form.id)?;
    let zone = source.name("zone", &form.zone)?;
    let http = source.address("http", &form.http, addresses)?;
    let peer = source.address("peer", &form.peer, addresses)?;
    let weight = match &form.weight {
        Some(at) => source.whole("weight", at, 1, 1000)?,
        None => 1,
    };
    Ok(Node {
        id,
        name,
        zone,
        http,
        peer,
        weight,
    })
}

fn keyspaces(
    source: &Source<'_>,
    forms: &[At<KeyspaceForm>],
    regions: &[Region],
) -> Result<Vec<Keyspace>, TopologyError> {
    if forms.is_empty() {
        return Err(source.refuse(0, "there is no keyspace: add a `[[keyspace]]`"));
    }
    let mut names = Seen::new("keyspace");
    let mut keyspaces = Vec::with_capacity(forms.len());
    for form in forms {
        let form = form.get_ref();
        let name = source.name("keyspace", &form.name)?;
        let id = KeyspaceId::of(&name);
        source.unique(&mut names, id.0, &form.name)?;
        let homes = homes(source, form, regions)?;
        keyspaces.push(Keyspace {
            id,
            name,
            merge: merge(source, &form.merge)?,
            regions: homes.iter().map(|region| region.id).collect(),
            replication: replication(source, form.replication.as_ref(), &homes)?,
            consistency: consistency(source, form.consistency.as_ref())?,
            ttl: seconds(source, "ttl_s", form.ttl_s.as_ref())?,
            conflicts_kept: seconds(source, "conflicts_kept_s", form.conflicts_kept_s.as_ref())?,
        });
    }
    Ok(keyspaces)
}

/// The regions that a keyspace lives in, in the order of the topology.
fn homes<'a>(
    source: &Source<'_>,
    form: &KeyspaceForm,
    regions: &'a [Region],
) -> Result<Vec<&'a Region>, TopologyError> {
    let Some(list) = &form.regions else {
        return Ok(regions.iter().collect());
    };
    if list.get_ref().is_empty() {
        return Err(source.refuse(
            list.span().start,
            "the keyspace lives in no region: name some, or leave `regions` out for all",
        ));
    }
    let mut seen = Seen::new("region");
    for name in list.get_ref() {
        let id = source.region(name, regions)?;
        source.unique(&mut seen, id.0, name)?;
    }
    let is_home = |region: &&Region| list.get_ref().iter().any(|at| *at.get_ref() == region.name);
    Ok(regions.iter().filter(is_home).collect())
}

fn merge(source: &Source<'_>, at: &At<String>) -> Result<MergePolicy, TopologyError> {
    match at.get_ref().as_str() {
        "lww" => Ok(MergePolicy::Lww),
        "siblings" => Ok(MergePolicy::Siblings),
        other => Err(source.refuse(
            at.span().start,
            format!(
                "no merge policy `{other}`: use \"lww\" (the last writer wins) or \"siblings\" (concurrent \
                 writes are kept)"
            ),
        )),
    }
}

/// Whole seconds, up to ten years, if the file names them.
fn seconds(
    source: &Source<'_>,
    what: &str,
    at: Option<&At<i64>>,
) -> Result<Option<Duration>, TopologyError> {
    at.map(|at| {
        source
            .whole(what, at, 1, SECONDS_MAX)
            .map(Duration::from_secs)
    })
    .transpose()
}

fn replication(
    source: &Source<'_>,
    at: Option<&At<i64>>,
    homes: &[&Region],
) -> Result<u16, TopologyError> {
    let smallest = homes.iter().min_by_key(|region| region.nodes.len());
    let nodes = smallest.map_or(0, |region| region.nodes.len());
    let Some(at) = at else {
        return Ok(u16::try_from(nodes.min(REPLICATION_DEFAULT)).unwrap_or(u16::MAX));
    };
    let wanted: u16 = source.whole("replication", at, 1, i64::from(u16::MAX))?;
    match smallest {
        Some(region) if usize::from(wanted) > nodes => Err(source.refuse(
            at.span().start,
            format!(
                "`replication` is {wanted}, but region `{}` has {nodes} node(s): use at most {nodes}, or add nodes",
                region.name
            ),
        )),
        Some(_) | None => Ok(wanted),
    }
}

fn consistency(source: &Source<'_>, at: Option<&At<String>>) -> Result<Level, TopologyError> {
    let Some(at) = at else {
        return Ok(Level::LocalQuorum);
    };
    let level: Level = at
        .get_ref()
        .parse()
        .map_err(|message: String| source.refuse(at.span().start, message))?;
    match level {
        Level::One | Level::LocalQuorum | Level::EachQuorum | Level::All => Ok(level),
        Level::UnsafeOne => Err(source.refuse(
            at.span().start,
            "`unsafe-one` may not be a keyspace's default: use local_quorum here, and name unsafe-one in those \
             requests that may be lost",
        )),
    }
}

fn links(
    source: &Source<'_>,
    forms: &[At<LinkForm>],
    regions: &[Region],
) -> Result<Vec<Link>, TopologyError> {
    let mut lines = BTreeMap::new();
    let mut links = Vec::with_capacity(forms.len());
    for form in forms {
        let form = form.get_ref();
        let start = form.between.span().start;
        let [a_name, b_name] = form.between.get_ref().as_slice() else {
            return Err(source.refuse(start, "`between` names two regions: write [\"a\", \"b\"]"));
        };
        let a = source.region(a_name, regions)?;
        let b = source.region(b_name, regions)?;
        let pair = format!("`{}` and `{}`", a_name.get_ref(), b_name.get_ref());
        if a == b {
            return Err(source.refuse(
                start,
                format!("the link {pair} leads back to itself: name two regions"),
            ));
        }
        if let Some(line) = lines.insert((a.min(b), a.max(b)), source.line(start)) {
            return Err(source.refuse(
                start,
                format!("the link between {pair} is already on line {line} (it counts both ways): remove one"),
            ));
        }
        links.push(Link {
            between: (a, b),
            shape: shape(source, form)?,
        });
    }
    Ok(links)
}

fn shape(source: &Source<'_>, form: &LinkForm) -> Result<LinkShape, TopologyError> {
    Ok(LinkShape {
        rtt: source.millis("rtt_ms", Some(&form.rtt_ms))?,
        jitter: source.millis("jitter_ms", form.jitter_ms.as_ref())?,
        loss: source.chance("loss", form.loss.as_ref())?,
        reorder: source.chance("reorder", form.reorder.as_ref())?,
        bandwidth_bits: source.bandwidth("bandwidth_mbit", form.bandwidth_mbit.as_ref())?,
    })
}
