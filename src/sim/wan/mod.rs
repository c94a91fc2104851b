//! A WAN for real sockets: delays, loses, reorders and caps the datagrams between two regions.
//!
//! It stands between QUIC and the UDP socket and works on what a node sends, so each process shapes its own
//! way out, and nodes that share a [`Wan`] share its links. It knows no connection, no message and no node:
//! only addresses and the regions behind them.

mod link;
mod socket;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::model::RegionId;
use crate::placement::LinkShape;

use link::Link;
use socket::{Line, WanSocket};

/// The links between regions, shared by the sockets of a process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Wan {
    links: Arc<Mutex<Links>>,
    tasks: TaskTracker,
}

/// One link, as it is now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LinkView {
    /// The two regions, the smaller id first.
    pub between: (RegionId, RegionId),
    /// What it does to datagrams.
    pub shape: LinkShape,
    /// Whether nothing passes.
    pub is_cut: bool,
    /// Datagrams that this process gave to it, both ways.
    pub datagrams: u64,
    /// Of them, those that were lost: by chance, by a full buffer, or by a cut.
    pub lost: u64,
    /// Bytes of datagrams that passed.
    pub bytes: u64,
}

#[derive(Debug)]
struct Links {
    links: BTreeMap<(RegionId, RegionId), Link>,
    chance: fastrand::Rng,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// There is no link to pass: it goes at once.
    Direct,
    /// It arrives at this time.
    Due(Instant),
    /// It never arrives.
    Lost,
}

fn ordered(a: RegionId, b: RegionId) -> (RegionId, RegionId) {
    if a <= b { (a, b) } else { (b, a) }
}

impl Wan {
    /// A WAN without links: everything passes at once. One seed, one sequence of chances.
    pub fn new(seed: u64) -> Self {
        Self {
            links: Arc::new(Mutex::new(Links {
                links: BTreeMap::new(),
                chance: fastrand::Rng::with_seed(seed),
            })),
            tasks: TaskTracker::new(),
        }
    }

    /// Shapes the link between two regions, in both directions; whether it is cut stays as it was.
    pub fn set(&self, a: RegionId, b: RegionId, shape: LinkShape) {
        if a != b {
            let mut links = self.lock();
            let link = links.links.entry(ordered(a, b));
            link.or_insert_with(|| Link::new(shape)).reshape(shape);
        }
    }

    /// From now on nothing sent passes between the two regions; says whether there is such a link.
    /// What is under way still arrives.
    pub fn cut(&self, a: RegionId, b: RegionId) -> bool {
        self.set_cut(a, b, true)
    }

    /// Ends a cut; says whether there is such a link.
    pub fn heal(&self, a: RegionId, b: RegionId) -> bool {
        self.set_cut(a, b, false)
    }

    /// All links, in order of their regions.
    pub fn links(&self) -> Vec<LinkView> {
        let links = self.lock();
        let view = |(between, link): (&_, &Link)| link.view(*between);
        links.links.iter().map(view).collect()
    }

    /// Wraps a UDP socket of a node in `own`: what it sends to `addresses` passes the link to their region.
    /// To other addresses, and inside the region, it sends at once. To be called inside a tokio runtime.
    pub fn socket(
        &self,
        socket: UdpSocket,
        own: RegionId,
        addresses: BTreeMap<SocketAddr, RegionId>,
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        let line = Arc::new(Line::default());
        self.tasks
            .spawn(Arc::clone(&line).deliver(Arc::clone(&inner)));
        let wan = self.clone();
        Ok(Arc::new(WanSocket::new(inner, wan, own, addresses, line)))
    }

    fn set_cut(&self, a: RegionId, b: RegionId, is_cut: bool) -> bool {
        let mut links = self.lock();
        let link = links.links.get_mut(&ordered(a, b));
        link.map(|link| link.is_cut = is_cut).is_some()
    }

    /// Decides what becomes of a datagram from one region to another.
    fn pass(&self, now: Instant, from: RegionId, to: RegionId, bytes: usize) -> Fate {
        let mut links = self.lock();
        let Links { links, chance } = &mut *links;
        match links.get_mut(&ordered(from, to)) {
            Some(link) => link.pass(now, from < to, bytes, chance),
            None => Fate::Direct,
        }
    }

    /// Counts a datagram as lost that passed the link but found no room in the sender's memory.
    fn count_lost(&self, from: RegionId, to: RegionId) {
        if let Some(link) = self.lock().links.get_mut(&ordered(from, to)) {
            link.count_lost();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
