//! The whole door over real TCP, with a node in memory behind it.

mod batches;
mod client;
mod contract;
mod fake;
mod keys;
mod limits;
mod listing;
mod seeing;
