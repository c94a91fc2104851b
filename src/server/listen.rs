//! Connections: how many, how long they may be silent, and how they end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Bounds;
use super::door::Door;
use super::node::Node;
use super::problem::{Code, Problem};

/// Headers of a request; more are answered with 431 by hyper.
const HEADERS_MAX: usize = 64;
/// Bytes of a request's head: a key of 8 KiB, percent-encoded, and some headers.
const HEAD_BYTES_MAX: usize = 40 << 10;
/// What a connection reads ahead and keeps unsent at most.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// A client that takes nothing of an answer for so long is cut off, for the answer is held in memory.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How long, and for how many bytes, a connection is read after its last answer: closing it with bytes
/// unread would reset it, and the client might lose the answer that says what was wrong.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 << 20;
/// Connections that are told at one time that there are too many; beyond, they are closed without a word.
const REFUSALS_MAX: usize = 64;
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `stop`, then finishes what is in flight, within `bounds.stop_max`.
pub(super) async fn listen<N: Node>(
    listener: TcpListener,
    door: Door<N>,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let room = Room {
        door: Arc::new(door),
        bounds,
        tasks: TaskTracker::new(),
        seats: Arc::new(Semaphore::new(bounds.connections_max)),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        stop,
        cut: CancellationToken::new(),
    };
    while let Some(accepted) = room.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => room.admit(stream),
            Err(error) => {
                tracing::warn!(%error, "accept connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    room.tasks.close();
    if tokio::time::timeout(bounds.stop_max, room.tasks.wait())
        .await
        .is_err()
    {
        room.cut.cancel();
        room.tasks.wait().await;
    }
}

struct Room<N> {
    door: Arc<Door<N>>,
    bounds: Bounds,
    tasks: TaskTracker,
    seats: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// No new requests.
    stop: CancellationToken,
    /// Nothing any more.
    cut: CancellationToken,
}

impl<N: Node> Room<N> {
    fn admit(&self, stream: TcpStream) {
        let metrics = &self.door.shared.metrics;
        if let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() {
            metrics.on_connection_opened();
            let connection = Connection {
                door: Arc::clone(&self.door),
                idle_max: self.bounds.idle_max,
                stop: self.stop.clone(),
                _seat: seat,
            };
            let cut = self.cut.clone();
            self.tasks.spawn(async move {
                cut.run_until_cancelled(connection.run(stream)).await;
            });
            return;
        }
        metrics.on_connection_refused();
        if let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() {
            let cut = self.cut.clone();
            self.tasks.spawn(async move {
                cut.run_until_cancelled(refuse(stream, turn)).await;
            });
        }
    }
}

/// One connection, which holds its seat as long as it lives.
struct Connection<N: Node> {
    door: Arc<Door<N>>,
    idle_max: Duration,
    stop: CancellationToken,
    _seat: OwnedSemaphorePermit,
}

impl<N: Node> Connection<N> {
    async fn run(self, stream: TcpStream) {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%error, "prepare connection");
            return;
        }
        let door = &self.door;
        let service = service_fn(|request: Request<Incoming>| {
            let door = Arc::clone(door);
            Box::pin(async move { Ok::<_, Infallible>(door.answer(request).await) })
        });
        let mut connection =
            protocol(self.idle_max).serve_connection(TokioIo::new(stream), service);
        let ended = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
            () = self.stop.cancelled() => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "serve connection");
        }
        linger(connection.into_parts().io.into_inner()).await;
    }
}

impl<N: Node> Drop for Connection<N> {
    fn drop(&mut self) {
        self.door.shared.metrics.on_connection_closed();
    }
}

/// HTTP/1.1 within our limits.
fn protocol(idle_max: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(idle_max)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}

/// Serves one connection over any stream, to its end.
#[cfg(any(test, fuzzing))]
pub(super) async fn serve_stream<S, N: Node>(stream: S, door: &Door<N>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let answer = |request| async { Ok::<_, Infallible>(door.answer(request).await) };
    let service = service_fn(|request: Request<Incoming>| Box::pin(answer(request)));
    let served = protocol(Duration::from_secs(60)).serve_connection(TokioIo::new(stream), service);
    drop(served.await);
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(STALL_MAX))?;
    Ok(())
}

/// Ends a connection so that its last answer arrives.
async fn linger(mut stream: TcpStream) {
    let drained = async {
        stream.shutdown().await?;
        let mut buffer = vec![0; 16 << 10];
        let mut drained = 0;
        while drained < LINGER_BYTES_MAX {
            match stream.read(&mut buffer).await? {
                0 => break,
                bytes => drained += bytes,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER_MAX, drained).await {
        tracing::trace!(%error, "end connection");
    }
}

/// Tells a client that there are too many connections.
async fn refuse(mut stream: TcpStream, _turn: OwnedSemaphorePermit) {
    let words = "too many connections are open at this node: try again in a second, or elsewhere";
    let body = Problem::new(Code::Overloaded, words).into_json();
    let mut answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    match tokio::time::timeout(LINGER_MAX, stream.write_all(&answer)).await {
        Ok(Ok(())) => linger(stream).await,
        Ok(Err(error)) => tracing::trace!(%error, "refuse connection"),
        Err(_too_slow) => {}
    }
}
