//! The network as a value: how long each message takes, and whether it comes at all, twice, or late.
//!
//! It decides about parcels and connections and moves nothing: the world schedules what it decides.
//! Messages of one lane keep their order unless a fault says otherwise, as on a QUIC stream.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::protocol::{Lane, Message};

use super::cluster::{Cluster, NodeIndex, Profile};
use super::kinds::{Kind, Tally};

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    /// Sender.
    pub(crate) from: NodeIndex,
    /// Receiver.
    pub(crate) to: NodeIndex,
    /// The sender's life when it was sent.
    pub(crate) from_life: u32,
    /// The receiver's life when it was sent.
    pub(crate) to_life: u32,
    /// The connection that it was sent on.
    pub(crate) generation: u64,
    /// Its stream.
    pub(crate) lane: Lane,
    /// What it says.
    pub(crate) message: Message,
    /// Whether it is a copy that may outlive its connection.
    pub(crate) is_replay: bool,
    /// Bytes of log in it, for the bound on what is in flight; 0 for a copy.
    pub(crate) log_bytes: usize,
    /// Its bytes, if its way passes few of them.
    pub(crate) bytes: usize,
}

/// What a cut does with messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CutMode {
    /// They are lost.
    Lose,
    /// They wait and come all at once when the cut ends.
    Hold,
}

/// One direction between two nodes.
#[derive(Debug, Default)]
struct Way {
    latency: u64,
    jitter: u64,
    extra: u64,
    cuts_losing: u32,
    cuts_holding: u32,
    held: Vec<Parcel>,
    lane_free: [u64; 5],
    log_bytes: usize,
    /// Bytes a second; 0 for no cap.
    rate: u64,
    /// Until then the cap is used up by what was sent.
    full_until: u64,
}

/// A connection between two nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Connection {
    /// Counts connections of this pair.
    pub(crate) generation: u64,
    /// The lives of both ends, the lesser index first.
    pub(crate) lives: (u32, u32),
}

/// Two nodes.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    /// Connections so far.
    pub(crate) generations: u64,
    /// The present one.
    pub(crate) connection: Option<Connection>,
    /// Since when packets do not pass in both directions.
    pub(crate) bad_since: Option<u64>,
}

/// All ways between all nodes.
#[derive(Debug)]
pub(crate) struct Network {
    count: usize,
    ways: Vec<Way>,
    pairs: Vec<Pair>,
    /// Whether chance may lose, double and reorder messages.
    pub(crate) is_faulty: bool,
    /// The parcels that were last sent, some of which come again.
    recorded: VecDeque<Parcel>,
}

const RECORDED_MAX: usize = 64;
/// The buffer before a way with little bandwidth holds as much as passes in this time, in microseconds.
const BUFFER_MICROS: u64 = 2_000_000;

impl Network {
    /// The network of a cluster: LAN within a region, the topology's links between regions.
    pub(crate) fn new(rng: &mut Rng, cluster: &Cluster) -> Self {
        let count = cluster.nodes.len();
        let mut ways = Vec::new();
        let mut pairs = Vec::new();
        for from in 0..count {
            for to in 0..count {
                ways.push(way(rng, cluster, from, to));
                pairs.push(Pair::default());
            }
        }
        Self {
            count,
            ways,
            pairs,
            is_faulty: false,
            recorded: VecDeque::new(),
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a way for every pair of node indices was pushed in `new`"
    )]
    fn way(&mut self, from: NodeIndex, to: NodeIndex) -> &mut Way {
        &mut self.ways[from * self.count + to]
    }

    /// Two nodes, in any order.
    #[expect(
        clippy::indexing_slicing,
        reason = "a pair for every two node indices was pushed in `new`"
    )]
    pub(crate) fn pair(&mut self, a: NodeIndex, b: NodeIndex) -> &mut Pair {
        &mut self.pairs[a.min(b) * self.count + a.max(b)]
    }

    /// Takes a message; says when it, and copies of it, arrive. What is held back comes out of [`Self::heal`].
    pub(crate) fn send(
        &mut self,
        now: u64,
        rng: &mut Rng,
        profile: &Profile,
        tally: &mut Tally,
        parcel: Parcel,
    ) -> Vec<(u64, Parcel)> {
        let way = self.way(parcel.from, parcel.to);
        if 0 < way.cuts_losing {
            return Vec::new();
        }
        if 0 < way.cuts_holding {
            way.log_bytes += parcel.log_bytes;
            way.held.push(parcel);
            return Vec::new();
        }
        if 0 < way.rate && BUFFER_MICROS < way.full_until.saturating_sub(now) {
            return Vec::new();
        }
        if !self.is_faulty {
            return vec![self.arrival(now, rng, parcel, false)];
        }
        if happens(rng, profile.drop_ppm) {
            tally.count(Kind::Drop);
            return Vec::new();
        }
        let mut arrivals = Vec::new();
        if happens(rng, profile.duplicate_ppm) {
            tally.count(Kind::Duplicate);
            let copy = copy_of(&parcel, false);
            let (at, copy) = self.arrival(now, rng, copy, true);
            arrivals.push((at + rng.u64(0..=200_000), copy));
        }
        if happens(rng, profile.replay_ppm) {
            self.record(rng, &parcel);
            if let Some(old) = self.recorded_parcel(rng, parcel.from, parcel.to) {
                tally.count(Kind::Replay);
                arrivals.push((now + rng.u64(1_000..=2_000_000), old));
            }
        }
        let overtakes = happens(rng, profile.reorder_ppm);
        if overtakes {
            tally.count(Kind::Reorder);
        }
        let (mut at, parcel) = self.arrival(now, rng, parcel, overtakes);
        if overtakes {
            at += rng.u64(0..=300_000);
        }
        arrivals.push((at, parcel));
        arrivals
    }

    fn record(&mut self, rng: &mut Rng, parcel: &Parcel) {
        if self.recorded.len() == RECORDED_MAX {
            self.recorded.remove(rng.usize(0..RECORDED_MAX));
        }
        self.recorded.push_back(copy_of(parcel, true));
    }

    fn recorded_parcel(&self, rng: &mut Rng, from: NodeIndex, to: NodeIndex) -> Option<Parcel> {
        let same = |parcel: &&Parcel| (parcel.from, parcel.to) == (from, to);
        let count = self.recorded.iter().filter(same).count();
        if count == 0 {
            return None;
        }
        let place = rng.usize(0..count);
        self.recorded.iter().filter(same).nth(place).cloned()
    }

    fn arrival(&mut self, now: u64, rng: &mut Rng, parcel: Parcel, is_free: bool) -> (u64, Parcel) {
        let way = self.way(parcel.from, parcel.to);
        way.log_bytes += parcel.log_bytes;
        let mut at = now + way.latency + way.extra + rng.u64(0..=way.jitter);
        let bytes = u64::try_from(parcel.bytes).unwrap_or(u64::MAX);
        if let Some(takes) = bytes.saturating_mul(1_000_000).checked_div(way.rate) {
            way.full_until = way.full_until.max(now).saturating_add(takes);
            at += way.full_until - now;
        }
        if !is_free && let Some(free) = way.lane_free.get_mut(lane_index(parcel.lane)) {
            at = at.max(*free);
            *free = at;
        }
        (at, parcel)
    }

    /// A message left the network, delivered or not.
    pub(crate) fn arrived(&mut self, parcel: &Parcel) {
        let way = self.way(parcel.from, parcel.to);
        way.log_bytes = way.log_bytes.saturating_sub(parcel.log_bytes);
    }

    /// Bytes of log on their way between two nodes.
    pub(crate) fn log_bytes(&mut self, from: NodeIndex, to: NodeIndex) -> usize {
        self.way(from, to).log_bytes
    }

    /// Whether a packet passes now.
    pub(crate) fn is_open(&mut self, from: NodeIndex, to: NodeIndex) -> bool {
        let way = self.way(from, to);
        way.cuts_losing == 0 && way.cuts_holding == 0
    }

    /// How long a packet usually takes.
    pub(crate) fn latency(&mut self, from: NodeIndex, to: NodeIndex) -> u64 {
        let way = self.way(from, to);
        way.latency + way.extra
    }

    /// Makes a way slower by `extra` microseconds; 0 mends it.
    pub(crate) fn set_extra(&mut self, from: NodeIndex, to: NodeIndex, extra: u64) {
        self.way(from, to).extra = extra;
    }

    /// Lets a way pass so many bytes a second, through a deep buffer; 0 for any number.
    pub(crate) fn set_rate(&mut self, from: NodeIndex, to: NodeIndex, rate: u64) {
        let way = self.way(from, to);
        way.rate = rate;
        way.full_until = 0;
    }

    /// Whether a way passes few bytes.
    pub(crate) fn is_capped(&mut self, from: NodeIndex, to: NodeIndex) -> bool {
        0 < self.way(from, to).rate
    }

    /// Cuts a way; cuts add up.
    pub(crate) fn cut(&mut self, from: NodeIndex, to: NodeIndex, mode: CutMode) {
        let way = self.way(from, to);
        match mode {
            CutMode::Lose => way.cuts_losing += 1,
            CutMode::Hold => way.cuts_holding += 1,
        }
    }

    /// Ends one cut; what was held back and now passes is returned with its arrival.
    pub(crate) fn heal(
        &mut self,
        now: u64,
        rng: &mut Rng,
        (from, to): (NodeIndex, NodeIndex),
        mode: CutMode,
    ) -> Vec<(u64, Parcel)> {
        let way = self.way(from, to);
        match mode {
            CutMode::Lose => way.cuts_losing = way.cuts_losing.saturating_sub(1),
            CutMode::Hold => way.cuts_holding = way.cuts_holding.saturating_sub(1),
        }
        if 0 < way.cuts_holding {
            return Vec::new();
        }
        let held = std::mem::take(&mut way.held);
        for parcel in &held {
            way.log_bytes = way.log_bytes.saturating_sub(parcel.log_bytes);
        }
        held.into_iter()
            .map(|parcel| self.arrival(now, rng, parcel, false))
            .collect()
    }
}

fn way(rng: &mut Rng, cluster: &Cluster, from: NodeIndex, to: NodeIndex) -> Way {
    let micros = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let region = |node| cluster.region_of(node).map(|region| region.id);
    let shape = match (region(from), region(to)) {
        (Some(a), Some(b)) if a != b => cluster
            .topology
            .links
            .iter()
            .find(|link| link.between == (a, b) || link.between == (b, a))
            .map(|link| link.shape),
        _ => None,
    };
    let (latency, jitter) = match shape {
        Some(shape) => (micros(shape.rtt) / 2, micros(shape.jitter)),
        None => (rng.u64(100..=800), rng.u64(20..=200)),
    };
    Way {
        latency,
        jitter,
        // Where there is no link nothing ever passes.
        cuts_losing: u32::from(!cluster.is_linked(from, to)),
        ..Way::default()
    }
}

fn copy_of(parcel: &Parcel, is_replay: bool) -> Parcel {
    Parcel {
        is_replay,
        log_bytes: 0,
        ..parcel.clone()
    }
}

fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Request => 1,
        Lane::Fresh => 2,
        Lane::CatchUp => 3,
        Lane::Reconcile => 4,
    }
}

/// Whether something of this chance, in millionths, happens.
pub(crate) fn happens(rng: &mut Rng, ppm: u32) -> bool {
    0 < ppm && rng.u32(0..1_000_000) < ppm
}
