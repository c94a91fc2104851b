//! The socket between QUIC and UDP, and the line in which datagrams wait until they are due.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::RegionId;

use super::{Fate, Wan};

/// Bytes on their way from one socket: 150 ms one way at 200 MB/s; beyond it datagrams are lost.
const LINE_BYTES_MAX: usize = 32 << 20;

/// A UDP socket whose datagrams to other regions pass the WAN.
pub(super) struct WanSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    wan: Wan,
    own: RegionId,
    addresses: BTreeMap<SocketAddr, RegionId>,
    line: Arc<Line>,
}

impl fmt::Debug for WanSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WanSocket")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl WanSocket {
    pub(super) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        wan: Wan,
        own: RegionId,
        addresses: BTreeMap<SocketAddr, RegionId>,
        line: Arc<Line>,
    ) -> Self {
        let canonical = |(address, region)| (canonical(address), region);
        Self {
            inner,
            wan,
            own,
            addresses: addresses.into_iter().map(canonical).collect(),
            line,
        }
    }

    fn pass(&self, now: Instant, to: RegionId, transmit: &Transmit<'_>, contents: &[u8]) -> bool {
        match self.wan.pass(now, self.own, to, contents.len()) {
            Fate::Direct => return false,
            Fate::Lost => {}
            Fate::Due(due) => {
                let datagram = Datagram {
                    destination: transmit.destination,
                    ecn: transmit.ecn,
                    src_ip: transmit.src_ip,
                    contents: contents.into(),
                };
                if !self.line.push(due, datagram) {
                    self.wan.count_lost(self.own, to);
                }
            }
        }
        true
    }
}

impl Drop for WanSocket {
    fn drop(&mut self) {
        self.line.close();
    }
}

impl AsyncUdpSocket for WanSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let region = self.addresses.get(&canonical(transmit.destination));
        let Some(to) = region.copied().filter(|region| *region != self.own) else {
            return self.inner.try_send(transmit);
        };
        let now = Instant::now();
        let whole = transmit.contents.len().max(1);
        let segment = transmit.segment_size.unwrap_or(whole).max(1);
        for contents in transmit.contents.chunks(segment) {
            if !self.pass(now, to, transmit, contents) {
                return self.inner.try_send(transmit);
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
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

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A datagram under way.
#[derive(Debug)]
struct Datagram {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    contents: Box<[u8]>,
}

/// Datagrams under way from one socket, by when they are due.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By due time, then by order of sending.
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    datagrams: BTreeMap<u64, Datagram>,
    pushed: u64,
    bytes: usize,
    is_closed: bool,
}

/// What the line's task does next.
enum Next {
    Send(Datagram),
    Wait(Option<Instant>),
    End,
}

impl Line {
    /// Puts a datagram in; says whether there was room.
    fn push(&self, due: Instant, datagram: Datagram) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes + datagram.contents.len() > LINE_BYTES_MAX {
            return false;
        }
        let is_first = match waiting.order.peek() {
            Some(Reverse((first, _))) => due < *first,
            None => true,
        };
        waiting.bytes += datagram.contents.len();
        waiting.pushed += 1;
        let n = waiting.pushed;
        waiting.order.push(Reverse((due, n)));
        waiting.datagrams.insert(n, datagram);
        drop(waiting);
        if is_first {
            self.changed.notify_one();
        }
        true
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    fn next(&self, now: Instant) -> Next {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Next::End;
        }
        match waiting.order.peek().copied() {
            Some(Reverse((due, n))) if due <= now => {
                waiting.order.pop();
                let datagram = waiting.datagrams.remove(&n);
                let bytes = datagram.as_ref().map_or(0, |sent| sent.contents.len());
                waiting.bytes -= bytes;
                // Invariant: every number in `order` has its datagram.
                datagram.map_or(Next::Wait(None), Next::Send)
            }
            Some(Reverse((due, _))) => Next::Wait(Some(due)),
            None => Next::Wait(None),
        }
    }

    /// Sends what is due until the socket is dropped.
    pub(super) async fn deliver(self: Arc<Self>, socket: Arc<dyn AsyncUdpSocket>) {
        let mut poller = Arc::clone(&socket).create_io_poller();
        loop {
            match self.next(Instant::now()) {
                Next::End => return,
                Next::Wait(None) => self.changed.notified().await,
                Next::Wait(Some(due)) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.changed.notified() => {}
                },
                Next::Send(datagram) => send(&socket, &mut poller, &datagram).await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(
    socket: &Arc<dyn AsyncUdpSocket>,
    poller: &mut Pin<Box<dyn UdpPoller>>,
    datagram: &Datagram,
) {
    let transmit = Transmit {
        destination: datagram.destination,
        ecn: datagram.ecn,
        contents: &datagram.contents,
        segment_size: None,
        src_ip: datagram.src_ip,
    };
    loop {
        let Err(error) = socket.try_send(&transmit) else {
            return;
        };
        let is_busy = error.kind() == io::ErrorKind::WouldBlock;
        let is_writable = poll_fn(|cx| poller.as_mut().poll_writable(cx))
            .await
            .is_ok();
        if !is_busy || !is_writable {
            // A datagram may be lost; QUIC sends its contents again.
            tracing::debug!(%error, "datagram not sent");
            return;
        }
    }
}
