//! Reports of a recording: tables for a terminal, and JSON.

mod coverage;
mod json;
mod table;
pub(crate) mod text;

pub use coverage::{Coverage, Uncovered};
pub use json::json;
pub use table::Table;
