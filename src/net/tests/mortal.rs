//! A process that is killed says nothing; the next one under its name ends its connections.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::model::Duration;
use crate::net::direct;
use crate::protocol::Lane;

use super::harness::{Cluster, small};

/// A socket of a process that may be killed: from then on it sends nothing, and hears nothing.
#[derive(Debug)]
struct Mortal {
    inner: Arc<dyn AsyncUdpSocket>,
    is_dead: AtomicBool,
}

impl AsyncUdpSocket for Mortal {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_dead.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.is_dead.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[tokio::test]
async fn a_killed_nodes_connections_are_ended_by_its_next_life() {
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu")]);
    // Nothing but a word of the next life can end a connection in the time of this test.
    cluster.idle_max = Duration::from_mins(10);
    let place = cluster.places[1].clone();
    let socket = cluster.take_socket(&place);
    let same = socket.try_clone().unwrap();
    let mortal = Arc::new(Mortal {
        inner: direct(socket).unwrap(),
        is_dead: AtomicBool::new(false),
    });
    let pem = cluster.pem(&place);
    let before = Arc::clone(&mortal) as Arc<dyn AsyncUdpSocket>;
    let mut killed = cluster.start_as(&place, before, cluster.identity_of(&pem));
    let mut left = cluster.start(0);
    killed.connected(1).await;
    left.connected(1).await;

    mortal.is_dead.store(true, Ordering::Relaxed);
    let mut again = cluster.start_as(&place, direct(same).unwrap(), cluster.identity_of(&pem));
    left.network.send(place.id(), Lane::Control, &small(1));
    left.disconnected().await;
    left.connected(1).await;
    again.connected(1).await;
    left.network.send(place.id(), Lane::Control, &small(2));
    assert_eq!(again.messages(1).await, [(left.id, small(2))]);
}
