//! One machine, stepped by hand: what goes in, what must come out.

mod bench;
mod gates;
mod listing;
mod observing;
mod pacing;
mod reading;
mod selecting;
mod streaming;
