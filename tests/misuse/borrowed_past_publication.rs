//! A record cannot be given up while it is published.

use otel_profiling::{Record, SpanIds};

fn main() {
    let record = Record::new(SpanIds::new([1; 16], [2; 8], 1).unwrap());
    record.publish_while(|| drop(record));
}
