//! One connection from beginning to end: open the lanes, move messages both ways, close.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::model::{Duration, NodeId};
use crate::protocol::{Lane, Message};

use super::config::{NetEvent, Receipt};
use super::frame::{FrameError, FrameReader, Packer};
use super::peer::{Peer, add};

/// Close codes: the other side logs the words that come with them.
pub(super) const CLOSE_STOPPING: VarInt = VarInt::from_u32(0);
pub(super) const CLOSE_REPLACED: VarInt = VarInt::from_u32(1);
pub(super) const CLOSE_MISBEHAVED: VarInt = VarInt::from_u32(2);

/// Pieces of a stream taken at once.
const CHUNKS_MAX: usize = 32;
/// Messages that stand for so many bytes are handed on before the next frame is unpacked.
const EVENT_BYTES_FULL: usize = 256 << 10;
/// The receiving limit is counted in units of so many bytes.
const UNIT_BYTES: usize = 1 << 10;

/// Where received messages go, and how much of them there may be.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    events: mpsc::Sender<NetEvent>,
    room: Arc<Semaphore>,
    room_units: u32,
}

impl Inbox {
    pub(super) fn new(events: mpsc::Sender<NetEvent>, bytes_max: usize) -> Self {
        let units = (bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let room_units = u32::try_from(units).unwrap_or(u32::MAX);
        Self {
            events,
            room: Arc::new(Semaphore::new(units)),
            room_units,
        }
    }

    async fn tell(&self, event: NetEvent) -> Result<(), SessionError> {
        let sent = self.events.send(event).await;
        sent.map_err(|_closed| SessionError::NobodyListens)
    }

    async fn hand_on(
        &self,
        from: NodeId,
        messages: Vec<Message>,
        bytes: usize,
    ) -> Result<(), SessionError> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        let held = room.acquire_many_owned(units.min(self.room_units)).await;
        let held = held.map_err(|_closed| SessionError::NobodyListens)?;
        self.tell(NetEvent::Messages {
            from,
            messages,
            receipt: Receipt { _held: held },
        })
        .await
    }
}

/// Why a connection could not be used any longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("read: {0}")]
    Read(#[from] ReadError),
    #[error("write: {0}")]
    Write(#[from] WriteError),
    #[error("the peer ended a stream")]
    Ended,
    #[error("the peer opened an unknown or a second lane")]
    Lane,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the handshake took longer than {0:?}")]
    Handshake(Duration),
    #[error("zstd: {0}")]
    Zstd(#[from] io::Error),
    #[error("nobody takes the messages any more")]
    NobodyListens,
    #[error("a task of the connection failed: {0}")]
    Task(#[from] JoinError),
}

impl SessionError {
    /// Whether the peer did what no sound node does.
    fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Ended | Self::Lane | Self::Frame(_))
    }
}

/// A connection with all its lanes open in both directions.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    senders: Vec<(Lane, SendStream)>,
    receivers: Vec<RecvStream>,
}

/// How a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The network stops, or nobody takes its events.
    Stopped,
    /// The peer made a new connection.
    Replaced(Session),
    /// The connection is gone.
    Lost,
}

impl Session {
    /// Opens our lanes and waits for the peer's: then it has accepted us, and we may speak.
    pub(super) async fn establish(
        connection: Connection,
        time_max: Duration,
    ) -> Result<Self, SessionError> {
        let opened = tokio::time::timeout(time_max, Self::open_lanes(&connection)).await;
        match opened {
            Ok(Ok((senders, receivers))) => Ok(Self {
                connection,
                senders,
                receivers,
            }),
            Ok(Err(error)) => {
                if error.is_misbehaviour() {
                    connection.close(CLOSE_MISBEHAVED, error.to_string().as_bytes());
                }
                Err(error)
            }
            Err(_elapsed) => {
                connection.close(CLOSE_MISBEHAVED, b"no lanes in time");
                Err(SessionError::Handshake(time_max))
            }
        }
    }

    async fn open_lanes(
        connection: &Connection,
    ) -> Result<(Vec<(Lane, SendStream)>, Vec<RecvStream>), SessionError> {
        let mut senders = Vec::with_capacity(Lane::ALL.len());
        for lane in Lane::ALL {
            let mut stream = connection.open_uni().await?;
            // An ended stream shows at its first write.
            let _is_open = stream.set_priority(-i32::from(tag(lane))).is_ok();
            stream.write_all(&[tag(lane)]).await?;
            senders.push((lane, stream));
        }
        let mut receivers = Vec::with_capacity(Lane::ALL.len());
        let mut seen = Vec::with_capacity(Lane::ALL.len());
        for _ in Lane::ALL {
            let mut stream = connection.accept_uni().await?;
            let mut first = [0];
            stream.read(&mut first).await?.ok_or(SessionError::Ended)?;
            let [first] = first;
            let is_lane = Lane::ALL.iter().any(|lane| tag(*lane) == first);
            if !is_lane || seen.contains(&first) {
                return Err(SessionError::Lane);
            }
            seen.push(first);
            receivers.push(stream);
        }
        Ok((senders, receivers))
    }

    /// Moves messages until the connection ends, the network stops, or the peer connects anew.
    pub(super) async fn run(
        self,
        peer: &Arc<Peer>,
        inbox: &Inbox,
        stop: &CancellationToken,
        replaced: impl Future<Output = Self>,
    ) -> Ended {
        let connection = self.connection.clone();
        peer.open(&connection);
        let connected = inbox.tell(NetEvent::Connected { peer: peer.node });
        let told = stop.run_until_cancelled(connected).await;
        if !matches!(told, Some(Ok(()))) {
            connection.close(CLOSE_STOPPING, b"the node stops");
            peer.close();
            return Ended::Stopped;
        }
        tracing::debug!(peer = peer.info.name, address = %connection.remote_address(), "connected");
        let mut tasks = self.start(peer, inbox);
        let ended = tokio::select! {
            () = stop.cancelled() => {
                connection.close(CLOSE_STOPPING, b"the node stops");
                Ended::Stopped
            }
            session = replaced => {
                connection.close(CLOSE_REPLACED, b"the peer made a new connection");
                Ended::Replaced(session)
            }
            Some(ended) = tasks.join_next() => on_task_ended(peer, &connection, ended),
        };
        tasks.shutdown().await;
        peer.close();
        let disconnected = inbox.tell(NetEvent::Disconnected { peer: peer.node });
        match stop.run_until_cancelled(disconnected).await {
            Some(Ok(())) => ended,
            Some(Err(_)) | None => Ended::Stopped,
        }
    }

    fn start(self, peer: &Arc<Peer>, inbox: &Inbox) -> JoinSet<Result<(), SessionError>> {
        let mut tasks = JoinSet::new();
        for (lane, stream) in self.senders {
            tasks.spawn(write_lane(Arc::clone(peer), lane, stream));
        }
        for stream in self.receivers {
            tasks.spawn(read_lane(Arc::clone(peer), inbox.clone(), stream));
        }
        tasks
    }
}

fn on_task_ended(
    peer: &Peer,
    connection: &Connection,
    ended: Result<Result<(), SessionError>, JoinError>,
) -> Ended {
    let Err(error) = ended.unwrap_or_else(|error| Err(error.into())) else {
        return Ended::Lost;
    };
    // What the connection itself says tells more than the stream that met its end.
    match connection.close_reason() {
        // A peer that says farewell, and an end of our own making, are no news for an operator.
        Some(reason @ (ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed)) => {
            tracing::debug!(peer = peer.info.name, %reason, "connection closed");
        }
        Some(reason) => tracing::warn!(peer = peer.info.name, %reason, "connection lost"),
        None if matches!(error, SessionError::NobodyListens) => {
            tracing::debug!(peer = peer.info.name, %error, "connection closed");
        }
        None => tracing::warn!(peer = peer.info.name, %error, "connection closed"),
    }
    connection.close(CLOSE_MISBEHAVED, error.to_string().as_bytes());
    if matches!(error, SessionError::NobodyListens) {
        Ended::Stopped
    } else {
        Ended::Lost
    }
}

/// The first byte of a lane's stream.
fn tag(lane: Lane) -> u8 {
    match lane {
        Lane::Control => 0,
        Lane::Request => 1,
        Lane::Fresh => 2,
        Lane::CatchUp => 3,
        Lane::Reconcile => 4,
    }
}

/// Writes what is queued for a lane, all at once: while a write waits, the next one grows.
async fn write_lane(
    peer: Arc<Peer>,
    lane: Lane,
    mut stream: SendStream,
) -> Result<(), SessionError> {
    let mut packer = if peer.info.is_remote {
        Some(Packer::new()?)
    } else {
        None
    };
    loop {
        let mut frames = peer.lane(lane).take().await;
        if let Some(packer) = &mut packer {
            frames = packer.pack(frames);
        }
        add(&peer.counters.sent_bytes, frames.len());
        stream.write_chunk(frames).await?;
    }
}

/// Reads a lane and hands on its messages; waits when nobody takes them, so that the peer waits too.
async fn read_lane(
    peer: Arc<Peer>,
    inbox: Inbox,
    mut stream: RecvStream,
) -> Result<(), SessionError> {
    let mut reader = FrameReader::new()?;
    let mut chunks = [const { Bytes::new() }; CHUNKS_MAX];
    loop {
        let count = stream.read_chunks(&mut chunks).await?;
        let count = count.ok_or(SessionError::Ended)?;
        for chunk in chunks.iter_mut().take(count) {
            let chunk = std::mem::take(chunk);
            add(&peer.counters.received_bytes, chunk.len());
            reader.extend(&chunk);
        }
        hand_on_frames(&peer.counters.received_messages, &peer, &inbox, &mut reader).await?;
    }
}

async fn hand_on_frames(
    counter: &AtomicU64,
    peer: &Peer,
    inbox: &Inbox,
    reader: &mut FrameReader,
) -> Result<(), SessionError> {
    let mut messages = Vec::new();
    let mut bytes = 0;
    loop {
        let read = reader.next(&mut messages)?;
        bytes += read.unwrap_or(0);
        if !messages.is_empty() && (read.is_none() || bytes >= EVENT_BYTES_FULL) {
            add(counter, messages.len());
            inbox
                .hand_on(peer.node, std::mem::take(&mut messages), bytes)
                .await?;
            bytes = 0;
        }
        if read.is_none() {
            return Ok(());
        }
    }
}
