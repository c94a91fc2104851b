//! The links of a development cluster, as its HTTP endpoints show and change them.

use std::sync::Arc;

use crate::model::{Duration, RegionId};
use crate::placement::{LinkShape, Topology};
use crate::server::{LinkChange, LinkControl, LinkState, NoLink};
use crate::sim::wan::Wan;

/// The links of a topology, emulated by a WAN.
#[derive(Debug)]
pub(super) struct Links {
    topology: Arc<Topology>,
    wan: Wan,
}

impl Links {
    pub(super) fn new(topology: Arc<Topology>, wan: Wan) -> Self {
        Self { topology, wan }
    }

    fn name(&self, region: RegionId) -> String {
        self.topology
            .region(region)
            .map(|region| region.name.clone())
            .unwrap_or_default()
    }

    fn state(&self, between: (RegionId, RegionId)) -> Option<LinkState> {
        let links = self.wan.links();
        let is_it = |link: &&crate::sim::wan::LinkView| {
            link.between == between || link.between == (between.1, between.0)
        };
        let link = links.iter().find(is_it)?;
        Some(LinkState {
            a: self.name(between.0),
            b: self.name(between.1),
            rtt_ms: link.shape.rtt.as_secs_f64() * 1e3,
            jitter_ms: link.shape.jitter.as_secs_f64() * 1e3,
            loss: link.shape.loss,
            bandwidth_mbit: link.shape.bandwidth_bits.map(mbit),
            cut: link.is_cut,
        })
    }
}

impl LinkControl for Links {
    fn links(&self) -> Vec<LinkState> {
        self.topology
            .links
            .iter()
            .filter_map(|link| self.state(link.between))
            .collect()
    }

    fn change(&self, a: &str, b: &str, change: LinkChange) -> Result<LinkState, NoLink> {
        let between = (RegionId::of(a), RegionId::of(b));
        let before = self.state(between).ok_or(NoLink)?;
        let span = |millis: f64| Duration::from_secs_f64((millis / 1e3).clamp(0.0, 3_600.0));
        let bandwidth = change.bandwidth_mbit.unwrap_or(before.bandwidth_mbit);
        let old = self
            .wan
            .links()
            .into_iter()
            .find(|link| link.between == between || link.between == (between.1, between.0));
        let shape = LinkShape {
            rtt: span(change.rtt_ms.unwrap_or(before.rtt_ms)),
            jitter: span(change.jitter_ms.unwrap_or(before.jitter_ms)),
            loss: change.loss.unwrap_or(before.loss),
            reorder: old.map_or(0.0, |link| link.shape.reorder),
            bandwidth_bits: bandwidth.map(bits),
        };
        self.wan.set(between.0, between.1, shape);
        match change.cut {
            Some(true) => self.wan.cut(between.0, between.1),
            Some(false) => self.wan.heal(between.0, between.1),
            None => true,
        };
        tracing::info!(a, b, ?shape, cut = ?change.cut, "link changed");
        self.state(between).ok_or(NoLink)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "megabits for people; a bit more or less does not matter"
)]
fn mbit(bits: u64) -> f64 {
    bits as f64 / 1e6
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the server has checked that it is positive, and the cast saturates"
)]
fn bits(mbit: f64) -> u64 {
    (mbit * 1e6) as u64
}
