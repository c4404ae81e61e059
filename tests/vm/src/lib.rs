//! What the program `vm-writer` publishes, for itself and for the tests that expect to read it.
#![forbid(unsafe_code)]

/// The service's name in the process context.
pub const SERVICE: &str = "vm-writer";

/// The name of the attribute that every record has.
pub const ATTRIBUTE: &str = "http.route";

/// How many threads publish, beside the main thread that does not.
pub const THREADS: u8 = 2;

/// How many records each of the threads publishes, one after the other, again and again.
pub const RECORDS: u8 = 2;

/// What one record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Trace id.
    pub trace_id: [u8; 16],
    /// Span id.
    pub span_id: [u8; 8],
    /// Value of [`ATTRIBUTE`].
    pub value: String,
}

/// The records that `thread` publishes.
pub fn records(thread: u8) -> impl Iterator<Item = Published> {
    (0..RECORDS).map(move |record| {
        let number = 1 + thread * RECORDS + record;
        Published {
            trace_id: [number; 16],
            span_id: [0x80 + number; 8],
            value: format!("/route/{number}"),
        }
    })
}

/// All records that are published.
pub fn all_records() -> impl Iterator<Item = Published> {
    (0..THREADS).flat_map(records)
}
