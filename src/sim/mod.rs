//! Beside the house: what stands in for the world.

pub mod wan;
