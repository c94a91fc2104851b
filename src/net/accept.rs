//! Accepting connections: check who it is, and hand the session to the task of that peer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, ServerConfig};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{Duration, NodeId};

use super::config::NetConfig;
use super::peer::Peer;
use super::session::{CLOSE_MISBEHAVED, Ended, Inbox, Session, SessionError};
use super::tls::{Known, Refused, Tls};
use super::transport::{Distance, transport};

/// Handshakes at one time; beyond it callers are turned away and come again.
const HANDSHAKES_MAX: usize = 64;
/// Connections of one peer whose lanes are not all open yet: what comes on them is held in memory before it is read.
const OPENING_MAX: usize = 2;
/// Looking up the peers' addresses takes at most so long; callers wait meanwhile.
const LOOKUP_MAX: Duration = Duration::from_secs(1);
/// Addresses whose last refusal is remembered, so that it is logged once.
const REFUSALS_MAX: usize = 256;

/// What it takes to accept.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) config: Arc<NetConfig>,
    pub(super) endpoint: Endpoint,
    pub(super) tls: Arc<ArcSwap<Tls>>,
    pub(super) known: Arc<Known>,
    /// The tasks of the peers that dial us.
    pub(super) callers: BTreeMap<NodeId, Caller>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// A peer that dials us.
#[derive(Debug)]
pub(super) struct Caller {
    sessions: mpsc::Sender<Session>,
    opening: Semaphore,
}

impl Caller {
    /// Hands its sessions to its task.
    pub(super) fn new(sessions: mpsc::Sender<Session>) -> Self {
        Self {
            sessions,
            opening: Semaphore::new(OPENING_MAX),
        }
    }
}

/// Why a caller was turned away.
#[derive(Debug, thiserror::Error)]
enum AcceptError {
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("it should wait to be dialled: of two nodes the one with the smaller id dials")]
    Direction,
    #[error("it has other connections that it does not open its lanes on")]
    Opening,
    #[error("{0}")]
    Session(#[from] SessionError),
}

/// The last refusal of each caller: a known address, or a host whatever its port (then the port is 0).
#[derive(Debug, Default)]
struct Refusals(Mutex<BTreeMap<SocketAddr, String>>);

impl Refusals {
    /// Logs why a caller was turned away, unless it was turned away for the same reason before.
    fn log(&self, address: SocketAddr, caller: SocketAddr, error: &AcceptError) {
        let reason = error.to_string();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&caller) == Some(&reason) {
            return;
        }
        if last.len() >= REFUSALS_MAX {
            last.clear();
        }
        tracing::warn!(%address, reason, "refused a connection");
        last.insert(caller, reason);
    }

    /// A caller was accepted: its next refusal is news.
    fn forget(&self, caller: SocketAddr) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.remove(&caller);
    }
}

impl Acceptor {
    /// Accepts until the network stops.
    pub(super) async fn run(self) {
        let this = Arc::new(self);
        let distances = this.distances().await;
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let refusals = Arc::new(Refusals::default());
        loop {
            let incoming = tokio::select! {
                () = this.stop.cancelled() => return,
                incoming = this.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else {
                return;
            };
            let Ok(turn) = Arc::clone(&handshakes).try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let address = incoming.remote_address();
            let distance = distances.get(&canonical(address)).copied();
            let caller = match distance {
                Some(_) => canonical(address),
                None => canonical(SocketAddr::new(address.ip(), 0)),
            };
            let task = Arc::clone(&this);
            let refusals = Arc::clone(&refusals);
            this.tasks.spawn(async move {
                let distance = distance.unwrap_or(Distance::Remote);
                let accepted = tokio::select! {
                    () = task.stop.cancelled() => return,
                    accepted = task.accept(incoming, distance) => accepted,
                };
                match accepted {
                    Ok(()) => refusals.forget(caller),
                    Err(error) => refusals.log(address, caller, &error),
                }
                drop(turn);
            });
        }
    }

    /// How far away each known address is. A peer calling from elsewhere counts as remote.
    async fn distances(&self) -> BTreeMap<SocketAddr, Distance> {
        let mut distances = BTreeMap::new();
        let peers = self.known.peers.values();
        let lookups = peers
            .clone()
            .map(|peer| tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host(&peer.address)));
        for (peer, found) in peers.clone().zip(join_all(lookups).await) {
            for address in found.into_iter().flatten().flatten() {
                let distance = Distance::of(address, peer.is_remote);
                distances.insert(canonical(address), distance);
            }
        }
        distances
    }

    async fn accept(&self, incoming: Incoming, distance: Distance) -> Result<(), AcceptError> {
        let mut config = ServerConfig::with_crypto(self.tls.load().server());
        config.transport_config(Arc::new(transport(distance, self.config.idle_max)));
        config.migration(false);
        let time_max = self.config.handshake_max;
        let connection = tokio::time::timeout(time_max, incoming.accept_with(Arc::new(config))?)
            .await
            .map_err(|_elapsed| SessionError::Handshake(time_max))??;
        let node = self.known.identify(&certificate(&connection)?)?;
        let Some(caller) = self.callers.get(&node) else {
            let error = AcceptError::Direction;
            connection.close(CLOSE_MISBEHAVED, error.to_string().as_bytes());
            return Err(error);
        };
        let Ok(opening) = caller.opening.try_acquire() else {
            let error = AcceptError::Opening;
            connection.close(CLOSE_MISBEHAVED, error.to_string().as_bytes());
            return Err(error);
        };
        let session = Session::establish(connection, time_max).await?;
        drop(opening);
        // An error means that the network stops: then the session goes with it.
        let _is_handed_over = caller.sessions.send(session).await.is_ok();
        Ok(())
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The certificate that the verifier accepted.
fn certificate(connection: &Connection) -> Result<CertificateDer<'static>, Refused> {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .and_then(|chain| chain.into_iter().next())
        .ok_or(Refused::Unnamed)
}

/// Runs the sessions of one peer that dials us, one at a time; a newer one takes the place of an older.
pub(super) async fn serve_caller(
    peer: Arc<Peer>,
    inbox: Inbox,
    stop: CancellationToken,
    mut sessions: mpsc::Receiver<Session>,
) {
    let mut next = None;
    loop {
        let session = match next.take() {
            Some(session) => session,
            None => tokio::select! {
                () = stop.cancelled() => return,
                session = sessions.recv() => match session {
                    Some(session) => session,
                    None => return,
                },
            },
        };
        let newer = async {
            match sessions.recv().await {
                Some(session) => session,
                None => std::future::pending().await,
            }
        };
        match session.run(&peer, &inbox, &stop, newer).await {
            Ended::Stopped => return,
            Ended::Replaced(session) => next = Some(session),
            Ended::Lost => {}
        }
    }
}
