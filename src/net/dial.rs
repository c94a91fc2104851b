//! Dialling one peer, again and again: connect, run the session, wait a little, connect.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use quinn::{ClientConfig, ConnectError, Connection, ConnectionError, Endpoint};
use tokio_util::sync::CancellationToken;

use crate::model::Duration;

use super::config::NetConfig;
use super::peer::Peer;
use super::session::{Ended, Inbox, Session, SessionError};
use super::tls::Tls;
use super::transport::{Distance, transport};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The name in the TLS hello: who is called is told by certificates, not by host names.
const SERVER_NAME: &str = "sterna";

/// What it takes to dial.
#[derive(Debug)]
pub(super) struct Dialler {
    pub(super) config: Arc<NetConfig>,
    pub(super) endpoint: Endpoint,
    pub(super) tls: Arc<ArcSwap<Tls>>,
    pub(super) peer: Arc<Peer>,
    pub(super) inbox: Inbox,
    pub(super) stop: CancellationToken,
}

/// Why a try failed.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("look up {address}: {error}")]
    Address { address: String, error: io::Error },
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("{0}")]
    Session(#[from] SessionError),
    #[error("no answer within {0:?}")]
    Silent(Duration),
}

impl Dialler {
    /// Dials until the network stops.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut logged = String::new();
        while !self.stop.is_cancelled() {
            let dialled = tokio::select! {
                () = self.stop.cancelled() => return,
                dialled = self.dial() => dialled,
            };
            match dialled {
                Ok(session) => {
                    backoff = Backoff::default();
                    logged.clear();
                    let never = std::future::pending();
                    let ended = session
                        .run(&self.peer, &self.inbox, &self.stop, never)
                        .await;
                    match ended {
                        Ended::Lost => {}
                        Ended::Stopped | Ended::Replaced(_) => return,
                    }
                }
                Err(error) => self.log(&error, &mut logged),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    /// Logs a failure unless the last one was the same.
    fn log(&self, error: &DialError, logged: &mut String) {
        let reason = error.to_string();
        if *logged != reason {
            let (peer, address) = (&self.peer.info.name, &self.peer.info.address);
            tracing::warn!(peer, address, reason, "cannot connect; trying on");
            *logged = reason;
        }
    }

    async fn dial(&self) -> Result<Session, DialError> {
        let time_max = self.config.handshake_max;
        let connection = tokio::time::timeout(time_max, self.connect())
            .await
            .map_err(|_elapsed| DialError::Silent(time_max))??;
        Ok(Session::establish(connection, time_max).await?)
    }

    async fn connect(&self) -> Result<Connection, DialError> {
        let info = &self.peer.info;
        let unknown = |error| DialError::Address {
            address: info.address.clone(),
            error,
        };
        let mut addresses = tokio::net::lookup_host(&info.address)
            .await
            .map_err(unknown)?;
        let is_ipv4 = self.endpoint.local_addr().is_ok_and(|own| own.is_ipv4());
        let address = addresses
            .find(|address| address.is_ipv4() || !is_ipv4)
            .ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))?;
        let tls = self.tls.load().client(self.peer.node)?;
        let mut config = ClientConfig::new(tls);
        let distance = Distance::of(address, info.is_remote);
        config.transport_config(Arc::new(transport(distance, self.config.idle_max)));
        let connecting = self.endpoint.connect_with(config, address, SERVER_NAME)?;
        Ok(connecting.await?)
    }
}

/// Waits that double from [`BACKOFF_MIN`] to [`BACKOFF_MAX`], each by chance between half and whole, so that
/// nodes that lost a peer together do not come back together.
#[derive(Debug)]
struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: BACKOFF_MIN }
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(BACKOFF_MAX);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[0] >= BACKOFF_MIN / 2 && waits[0] <= BACKOFF_MIN);
        assert!(waits[19] >= BACKOFF_MAX / 2 && waits[19] <= BACKOFF_MAX);
    }
}
