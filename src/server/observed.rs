//! What a request has seen, beside what its session had seen before: the `Sterna-Session` of its answer.

use axum::http::{HeaderMap, HeaderName};

use crate::model::{NodeId, Part, Row, RowKey, Session, Timestamp, Version};
use crate::protocol::Written;

use super::shared::{Asked, Names};
use super::token::Tokens;

static SESSION: HeaderName = HeaderName::from_static("sterna-session");

/// Puts the header of a session that has seen nothing more.
pub(super) fn put_session(names: &Names, session: &Session, headers: &mut HeaderMap) {
    if let Some(token) = names.tokens.encode(session) {
        headers.insert(SESSION.clone(), token);
    }
}

/// A session as it grows. One change alone, the usual case, takes no memory.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    tokens: &'a Tokens,
    session: Session,
    /// The only change there is, if the session is empty.
    only: Option<(NodeId, Timestamp)>,
}

impl<'a> Observed<'a> {
    /// What the request's session had seen.
    pub(super) fn of(names: &'a Names, asked: &Asked<'_>) -> Self {
        Self {
            tokens: &names.tokens,
            session: asked.gate.session.clone(),
            only: None,
        }
    }

    /// Adds a change.
    pub(super) fn change(&mut self, node: NodeId, timestamp: Timestamp) {
        if self.session.is_empty() && self.only.is_none_or(|(known, _)| known == node) {
            let before = self.only.map_or(Timestamp::ZERO, |(_, before)| before);
            self.only = Some((node, before.max(timestamp)));
            return;
        }
        self.settle();
        self.add(node, timestamp);
    }

    /// Adds a write.
    pub(super) fn written(&mut self, written: &Written) {
        self.change(written.node, written.timestamp);
    }

    /// Adds a version, and what its writer had seen.
    pub(super) fn version(&mut self, version: &Version) {
        self.change(version.dot.actor.node, version.timestamp);
        if let Some(after) = &version.after {
            self.settle();
            self.session.join(after);
        }
    }

    /// Adds all that is seen in a row.
    pub(super) fn row(&mut self, key: &RowKey, row: &Row) {
        match row {
            Row::Register(version) => return self.version(version),
            Row::Siblings(siblings) => {
                for version in siblings.versions() {
                    self.version(version);
                }
            }
            Row::Conflict(conflict) => {
                if let Some(loser) = &conflict.loser {
                    self.version(loser);
                }
            }
            Row::Share(share) => {
                // The stamp may be a reset's: the actor whose share it is did what it did before.
                if let Some(Part::Share(_, actor)) = key.part() {
                    self.change(actor.node, share.stamp.timestamp);
                }
            }
            Row::Once(_) | Row::Clear(_) | Row::Expiry(_) => {}
        }
        let stamp = row.stamp();
        if stamp.timestamp > Timestamp::ZERO {
            self.change(stamp.dot.actor.node, stamp.timestamp);
        }
    }

    /// Puts the answer's header; none if nothing was ever seen.
    pub(super) fn put(mut self, headers: &mut HeaderMap) {
        let token = match self.only {
            Some((node, timestamp)) if self.session.is_empty() => {
                self.tokens.encode_one(node, timestamp.micros)
            }
            _ => {
                self.settle();
                self.tokens.encode(&self.session)
            }
        };
        if let Some(token) = token {
            headers.insert(SESSION.clone(), token);
        }
    }

    fn settle(&mut self) {
        if let Some((node, timestamp)) = self.only.take() {
            self.add(node, timestamp);
        }
    }

    /// A node that has left needs no waiting for.
    fn add(&mut self, node: NodeId, timestamp: Timestamp) {
        if let Some(region) = self.tokens.region(node) {
            self.session.observe(region, node, timestamp);
        }
    }
}
