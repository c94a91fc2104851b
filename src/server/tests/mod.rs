//! The whole door over real TCP, with a node in memory behind it.

mod batches;
mod client;
mod collections;
mod conditions;
mod contract;
mod fake;
mod keys;
mod ledger;
mod limits;
mod listing;
mod seeing;
mod sessions;
mod siblings;
mod stray;
