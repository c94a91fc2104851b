//! What can go wrong between this client and a node, in words that say what to do.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

/// What went wrong with a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint cannot be understood.
    #[error("`{0}` is not an endpoint: write it as http://host:port")]
    Endpoint(String),
    /// A header cannot carry this.
    #[error("`{0}` has characters that a header cannot carry: use visible ASCII")]
    Header(String),
    /// Nothing listens there.
    #[error(
        "nothing listens at {authority}: is a cluster running? start one with `sterna dev`, \
         or name another node with --endpoint"
    )]
    Refused {
        /// host:port.
        authority: String,
    },
    /// No connection could be made for another reason; nothing was sent.
    #[error("cannot reach {authority} ({cause}): check the name, the network and --endpoint")]
    Unreachable {
        /// host:port.
        authority: String,
        /// What the system said.
        cause: String,
    },
    /// The node took the request and did not answer in time.
    #[error(
        "{authority} did not answer within {after:?}: a write may still happen; \
         try again, or another node"
    )]
    Silent {
        /// host:port.
        authority: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke before the answer was complete.
    #[error(
        "the connection to {authority} broke off ({cause}): a write may still happen; \
         try again, or another node"
    )]
    Broken {
        /// host:port.
        authority: String,
        /// What the system said.
        cause: String,
    },
    /// The node answered with an error of the contract.
    #[error("{message} [{code}]")]
    Server {
        /// HTTP status.
        status: u16,
        /// Stable code of the contract.
        code: String,
        /// A sentence that says what to do.
        message: String,
    },
    /// The answer is not what a node would say.
    #[error("{authority} does not answer like a Sterna node ({what}): check --endpoint")]
    Foreign {
        /// host:port.
        authority: String,
        /// What is odd.
        what: String,
    },
}

/// What is known of a request that went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It did not happen and will not until something is changed.
    Refused,
    /// It did not happen; it may be tried again.
    Failed,
    /// It may have happened, or happen later.
    Unknown,
}

/// The fate that the contract gives an error code.
pub fn fate_of(code: &str) -> Fate {
    match code {
        "overloaded" | "unavailable" => Fate::Failed,
        "unknown_outcome" | "broken" => Fate::Unknown,
        _ => Fate::Refused,
    }
}

impl Error {
    /// What is known of the request.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Endpoint(_) | Self::Header(_) | Self::Foreign { .. } => Fate::Refused,
            Self::Refused { .. } | Self::Unreachable { .. } => Fate::Failed,
            Self::Silent { .. } | Self::Broken { .. } => Fate::Unknown,
            Self::Server { code, .. } => fate_of(code),
        }
    }

    /// Whether the node answered with this code of the contract.
    pub fn is_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Server { code, .. } if code == wanted)
    }

    pub(super) fn of_connection(
        authority: &str,
        error: &hyper_util::client::legacy::Error,
    ) -> Self {
        let authority = authority.to_owned();
        let deepest = deepest(error);
        let cause = deepest.to_string();
        if !error.is_connect() {
            return Self::Broken { authority, cause };
        }
        let is_refusal = deepest
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if is_refusal {
            Self::Refused { authority }
        } else {
            Self::Unreachable { authority, cause }
        }
    }
}

/// The last error in the chain of causes.
pub(super) fn deepest<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut at = error;
    while let Some(cause) = at.source() {
        at = cause;
    }
    at
}
