//! `sterna import` and `sterna export`: whole files into a keyspace and back, resumable, in constant memory.

mod checkpoint;
mod done;
mod export;
mod format;
mod import;
mod send;
mod source;

pub use export::ExportArgs;
pub use format::Format;
pub use import::ImportArgs;
