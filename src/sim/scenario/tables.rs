//! A scenario for each row of the tables in `docs/data-types.md`, by its id.
