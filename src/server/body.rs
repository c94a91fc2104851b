//! Bodies within limits: what is read of a request, and what an answer holds of the node's memory.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::OwnedSemaphorePermit;

use super::problem::{Code, Problem};

/// A client that has not sent its whole body after so long is given up, so that slow bodies cannot hold
/// the bytes in flight for ever.
const READ_MAX: Duration = Duration::from_secs(30);

/// A limit of a body, and what is too long if it is passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimit {
    /// Most bytes.
    pub(super) bytes_max: usize,
    /// What the body is, in words.
    pub(super) what: &'static str,
}

impl BodyLimit {
    /// The bytes that a body may come to: its declared length, or the limit if it declares none.
    pub(super) fn declared<B: Body>(self, body: &B) -> Result<usize, Problem> {
        match body.size_hint().exact().map(usize::try_from) {
            None => Ok(self.bytes_max),
            Some(Ok(length)) if length <= self.bytes_max => Ok(length),
            Some(Ok(_) | Err(_)) => Err(self.passed()),
        }
    }

    /// Reads a body to its end into memory of just its size: a small value must not keep a connection's
    /// read buffer alive. Stops reading at the limit.
    pub(super) async fn read<B>(self, body: B) -> Result<Bytes, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        tokio::time::timeout(READ_MAX, self.read_frames(body))
            .await
            .unwrap_or_else(|_| {
                Err(Problem::new(
                    Code::BadBody,
                    "the body was not sent within 30 s: send it faster, or in smaller pieces",
                ))
            })
    }

    async fn read_frames<B>(self, mut body: B) -> Result<Bytes, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or_default();
        let mut bytes = Vec::with_capacity(declared.min(self.bytes_max));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Problem::new(Code::BadBody, format!("the body broke off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.len() > self.bytes_max.saturating_sub(bytes.len()) {
                return Err(self.passed());
            }
            bytes.extend_from_slice(&data);
        }
        bytes.shrink_to_fit();
        Ok(Bytes::from(bytes))
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
