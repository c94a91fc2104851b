//! The whole door over real TCP, with a node in memory behind it.

#[cfg(test)]
mod batches;
#[cfg(test)]
mod client;
#[cfg(test)]
mod collections;
#[cfg(test)]
mod conditions;
#[cfg(test)]
mod contract;
pub(super) mod fake;
#[cfg(test)]
mod keys;
mod ledger;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod seeing;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod siblings;
#[cfg(test)]
mod stray;
