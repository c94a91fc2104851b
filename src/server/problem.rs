//! What a client is told when its request did not succeed: a stable code, a status, and a sentence that
//! says what to do.

use std::borrow::Cow;
use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The stable codes. Clients choose by them; a code never changes its meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Code {
    /// There is no value under the key.
    Absent,
    /// No such keyspace.
    NoKeyspace,
    /// The keyspace does not live in this region.
    KeyspaceElsewhere,
    /// No such partition on this node, or no such node of its digest tree.
    NoPartition,
    /// No link between these regions.
    NoLink,
    /// No such path.
    NoRoute,
    /// The path does not take this method.
    BadMethod,
    /// The key, or the name of a member or field, is empty or too long.
    KeySize,
    /// The value or body is too long.
    ValueSize,
    /// The level does not exist, or is not for this operation.
    BadLevel,
    /// The timeout is not a time, or is out of bounds.
    BadTimeout,
    /// A header that is not understood, or given twice.
    BadHeader,
    /// The percent-encoding of the path is broken.
    BadKey,
    /// The cursor was not made by this keyspace's listing.
    BadCursor,
    /// The session was not made by this cluster as it is now, or is ahead of its clocks.
    BadSession,
    /// The context was not made by a read of this key.
    BadContext,
    /// The body is not what the route takes.
    BadBody,
    /// A query parameter that is not understood.
    BadQuery,
    /// What the write depends on does not hold.
    ConditionFailed,
    /// The key has as many concurrent values as the limit allows.
    TooManySiblings,
    /// A node's share of the counter would leave the range of 64 bits.
    CounterRange,
    /// One write names more members or fields than the limit allows.
    TooManyParts,
    /// What the read must have seen is not here yet.
    NotYet,
    /// Too much is in flight.
    Overloaded,
    /// FAILED: it did not happen.
    Unavailable,
    /// UNKNOWN: it may be seen later.
    UnknownOutcome,
    /// This node is at fault.
    Broken,
}

impl Code {
    /// All codes.
    #[cfg(test)]
    pub(super) const ALL: [Self; 27] = [
        Self::Absent,
        Self::NoKeyspace,
        Self::KeyspaceElsewhere,
        Self::NoPartition,
        Self::NoLink,
        Self::NoRoute,
        Self::BadMethod,
        Self::KeySize,
        Self::ValueSize,
        Self::BadLevel,
        Self::BadTimeout,
        Self::BadHeader,
        Self::BadKey,
        Self::BadCursor,
        Self::BadSession,
        Self::BadContext,
        Self::BadBody,
        Self::BadQuery,
        Self::ConditionFailed,
        Self::TooManySiblings,
        Self::CounterRange,
        Self::TooManyParts,
        Self::NotYet,
        Self::Overloaded,
        Self::Unavailable,
        Self::UnknownOutcome,
        Self::Broken,
    ];

    /// The code as clients see it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::NoKeyspace => "no_keyspace",
            Self::KeyspaceElsewhere => "keyspace_elsewhere",
            Self::NoPartition => "no_partition",
            Self::NoLink => "no_link",
            Self::NoRoute => "no_route",
            Self::BadMethod => "bad_method",
            Self::KeySize => "key_size",
            Self::ValueSize => "value_size",
            Self::BadLevel => "bad_level",
            Self::BadTimeout => "bad_timeout",
            Self::BadHeader => "bad_header",
            Self::BadKey => "bad_key",
            Self::BadCursor => "bad_cursor",
            Self::BadSession => "bad_session",
            Self::BadContext => "bad_context",
            Self::BadBody => "bad_body",
            Self::BadQuery => "bad_query",
            Self::ConditionFailed => "condition_failed",
            Self::TooManySiblings => "too_many_siblings",
            Self::CounterRange => "counter_range",
            Self::TooManyParts => "too_many_parts",
            Self::NotYet => "not_yet",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Broken => "broken",
        }
    }

    /// The status that goes with it.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Absent | Self::NoKeyspace | Self::NoPartition | Self::NoLink | Self::NoRoute => {
                StatusCode::NOT_FOUND
            }
            Self::KeyspaceElsewhere => StatusCode::MISDIRECTED_REQUEST,
            Self::BadMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::KeySize | Self::ValueSize | Self::TooManyParts => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadLevel
            | Self::BadTimeout
            | Self::BadHeader
            | Self::BadKey
            | Self::BadCursor
            | Self::BadSession
            | Self::BadContext
            | Self::BadBody
            | Self::BadQuery => StatusCode::BAD_REQUEST,
            Self::ConditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TooManySiblings | Self::CounterRange => StatusCode::CONFLICT,
            Self::NotYet => StatusCode::TOO_EARLY,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::UnknownOutcome => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a request did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub(super) struct Problem {
    /// For programs.
    pub(super) code: Code,
    /// The code's own, but for an empty key or name.
    pub(super) status: StatusCode,
    /// For people: a sentence that says what to do.
    pub(super) message: Cow<'static, str>,
    /// The state of what is there instead, if there is a value.
    pub(super) present: Option<Tag>,
}

/// Most bytes of a message: words may repeat what the client said, and that may be long.
const MESSAGE_BYTES_MAX: usize = 2 << 10;

fn shortened(message: Cow<'static, str>) -> Cow<'static, str> {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message;
    }
    let mut text = message.into_owned();
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    text.push('…');
    text.shrink_to_fit();
    text.into()
}

/// A row's state, as it stands in an ETag. Two answers with one tag show the same value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tag(pub(super) u64);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The JSON of a problem, as it stands in bodies and in the results of batches.
#[derive(Serialize, Debug)]
pub(super) struct ProblemForm {
    code: &'static str,
    message: Cow<'static, str>,
}

#[derive(Serialize)]
struct Wrapped {
    error: ProblemForm,
}

impl Problem {
    /// A problem with its code's own status.
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            status: code.status(),
            message: shortened(message.into()),
            present: None,
        }
    }

    /// A key of no bytes.
    pub(super) fn key_empty() -> Self {
        Self {
            code: Code::KeySize,
            status: StatusCode::BAD_REQUEST,
            message: "the key is empty: give at least one byte".into(),
            present: None,
        }
    }

    /// A member or field whose name has no bytes.
    pub(super) fn name_empty() -> Self {
        Self {
            message: "the name of a member or field is empty: give at least one byte".into(),
            ..Self::key_empty()
        }
    }

    /// The form for JSON.
    pub(super) fn into_form(self) -> ProblemForm {
        ProblemForm {
            code: self.code.name(),
            message: self.message,
        }
    }

    /// The body of its answer.
    pub(super) fn into_json(self) -> Vec<u8> {
        let wrapped = Wrapped {
            error: self.into_form(),
        };
        // Strings always serialise; an empty body would still carry the status.
        serde_json::to_vec(&wrapped).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, status, present) = (self.code, self.status, self.present);
        let mut response = (status, self.into_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(tag) = present
            && let Ok(value) = HeaderValue::try_from(format!("\"{tag}\""))
        {
            headers.insert(header::ETAG, value);
        }
        if code == Code::Overloaded {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
