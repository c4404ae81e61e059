//! Not needed where LLD is the linker, as on x86-64; GNU ld, the default on aarch64, wants to be told.
#![forbid(unsafe_code)]

fn main() {
    otel_profiling::build::export_symbols();
}
