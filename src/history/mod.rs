//! Histories: what clients asked and saw, and the rules that judge it. One form for the simulator and for runs of
//! real processes; [`History::to_lines`] and [`History::parse`] are its lines of JSON.
//!
//! It knows no cluster and no world: whatever a rule needs stands in the history.

pub mod check;
mod json;
mod lines;
mod record;

pub use check::{Violation, judge};
pub use lines::HistoryError;
pub(crate) use lines::timestamp_of;
pub use record::{Action, Ending, FieldSeen, History, Record, Seen, Wishes};

pub(crate) use record::{
    EPOCH_MICROS, key_words, name_of, number_of, place_of, row_words, seen, token_of, told,
    value_of, version_words,
};
