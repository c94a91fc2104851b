//! Bodies within limits: what is read of a request, and what an answer holds of the node's memory.
//!
//! A body takes of the bytes in flight what has come of it, not what it declares, and it must come at a pace: so clients that
//! are slow, or pretend to be, cannot keep others out.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::budget::Budget;
use super::problem::{Code, Problem};

/// A client that has not sent its whole body after so long is given up.
const READ_MAX: Duration = Duration::from_secs(30);
/// Bodies up to this size are not counted as bytes in flight: the number of connections bounds them.
const SMALL_BYTES: usize = 4 << 10;
/// The first room of a longer body; then it grows by as much as it has.
const PIECE_BYTES: usize = 64 << 10;
/// How often the pace of a longer body is looked at.
const WINDOW: Duration = Duration::from_secs(3);
/// What must have come within a window: 4 KiB a second.
const WINDOW_BYTES: usize = 12 << 10;
/// The same while bytes in flight are scarce: 64 KiB a second.
const WINDOW_BYTES_SCARCE: usize = 192 << 10;

/// A limit of a body, and what is too long if it is passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimit {
    /// Most bytes.
    pub(super) bytes_max: usize,
    /// What the body is, in words.
    pub(super) what: &'static str,
}

/// A body, and the room that it takes as long as it is in use.
#[derive(Debug)]
pub(super) struct Received {
    /// The whole body.
    pub(super) bytes: Bytes,
    /// Its room; nothing if it is small.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// Takes the room of a body once more, for what is made of it.
    pub(super) fn double(&mut self, budget: &Budget) -> Result<(), Problem> {
        if let Some(room) = &mut self.room {
            room.merge(budget.reserve(self.bytes.len())?);
        }
        Ok(())
    }
}

impl BodyLimit {
    /// Reads a body to its end into memory of just its size: a small value must not keep a connection's
    /// read buffer alive. Stops reading at the limit.
    pub(super) async fn read<B>(self, body: B, budget: &Budget) -> Result<Received, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let declared = self.declared(&body)?;
        if let Some(declared) = declared
            && declared > SMALL_BYTES
        {
            budget.refuse_early(declared)?;
        }
        let growing = Growing {
            bytes: Vec::with_capacity(declared.unwrap_or(SMALL_BYTES).min(SMALL_BYTES)),
            bytes_max: declared.unwrap_or(self.bytes_max),
            room: None,
            budget,
        };
        tokio::time::timeout(READ_MAX, self.read_frames(body, growing))
            .await
            .unwrap_or_else(|_| {
                Err(Problem::new(
                    Code::BadBody,
                    "the body was not sent within 30 s: send it faster, or in smaller pieces",
                ))
            })
    }

    /// The length that a body declares.
    fn declared<B: Body>(self, body: &B) -> Result<Option<usize>, Problem> {
        match body.size_hint().exact().map(usize::try_from) {
            None => Ok(None),
            Some(Ok(length)) if length <= self.bytes_max => Ok(Some(length)),
            Some(Ok(_) | Err(_)) => Err(self.passed()),
        }
    }

    async fn read_frames<B>(
        self,
        mut body: B,
        mut growing: Growing<'_>,
    ) -> Result<Received, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut pace = Pace::start(0);
        loop {
            let frame = match tokio::time::timeout_at(pace.until, body.frame()).await {
                Ok(None) => break,
                Ok(Some(frame)) => frame,
                Err(_elapsed) => {
                    pace = pace.next(&growing)?;
                    continue;
                }
            };
            let frame = frame.map_err(|error| {
                Problem::new(Code::BadBody, format!("the body broke off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.len() > self.bytes_max.saturating_sub(growing.bytes.len()) {
                return Err(self.passed());
            }
            growing.extend(&data)?;
            if Instant::now() >= pace.until {
                pace = pace.next(&growing)?;
            }
        }
        growing.bytes.shrink_to_fit();
        Ok(Received {
            bytes: Bytes::from(growing.bytes),
            room: growing.room,
        })
    }

    fn passed(self) -> Problem {
        Problem::new(
            Code::ValueSize,
            format!(
                "the {} is longer than {} bytes: send less, or split it",
                self.what, self.bytes_max
            ),
        )
    }
}

/// A body as it comes in.
struct Growing<'a> {
    bytes: Vec<u8>,
    /// It will not be longer.
    bytes_max: usize,
    room: Option<OwnedSemaphorePermit>,
    budget: &'a Budget,
}

impl Growing<'_> {
    /// Appends bytes. Memory is taken in steps, and each step is room taken before.
    fn extend(&mut self, data: &[u8]) -> Result<(), Problem> {
        let length = self.bytes.len().saturating_add(data.len());
        if length > self.bytes.capacity().max(SMALL_BYTES) {
            let wanted = self.bytes.capacity().saturating_mul(2).max(PIECE_BYTES);
            let wanted = wanted.min(self.bytes_max).max(length);
            let held = self
                .room
                .as_ref()
                .map_or(0, OwnedSemaphorePermit::num_permits);
            let more = self.budget.reserve(wanted.saturating_sub(held))?;
            match &mut self.room {
                Some(room) => room.merge(more),
                None => self.room = Some(more),
            }
            self.bytes
                .reserve_exact(wanted.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// A stretch of time, and what had come before it.
struct Pace {
    until: Instant,
    before: usize,
}

impl Pace {
    fn start(before: usize) -> Self {
        Self {
            until: Instant::now() + WINDOW,
            before,
        }
    }

    /// The next stretch, unless too little came in this one. Who holds no room may be as slow as he likes.
    fn next(self, growing: &Growing<'_>) -> Result<Self, Problem> {
        let came = growing.bytes.len().saturating_sub(self.before);
        let is_scarce = growing.budget.is_scarce();
        let wanted = if is_scarce {
            WINDOW_BYTES_SCARCE
        } else {
            WINDOW_BYTES
        };
        match growing.room {
            Some(_) if came < wanted && is_scarce => Err(Problem::new(
                Code::Overloaded,
                "many bytes are in flight at this node, and the body came slower than 64 KiB a second: try again in a second, or elsewhere",
            )),
            Some(_) if came < wanted => Err(Problem::new(
                Code::BadBody,
                "the body came slower than 4 KiB a second: send it faster, or in smaller pieces",
            )),
            Some(_) | None => Ok(Self::start(growing.bytes.len())),
        }
    }
}

/// Bytes of an answer that count as in flight until the socket has taken them.
pub(super) fn held(bytes: Bytes, permit: Option<OwnedSemaphorePermit>) -> Bytes {
    match permit {
        None => bytes,
        Some(permit) => Bytes::from_owner(Held {
            bytes,
            _permit: permit,
        }),
    }
}

struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
