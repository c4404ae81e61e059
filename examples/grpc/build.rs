//! Compiles the service's definition, without protoc.
#![forbid(unsafe_code)]

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=fibonacci.proto");
    let definition = protox::compile(["fibonacci.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(definition)?;
    // Not needed where LLD is the linker, as on x86-64; GNU ld, the default on aarch64, wants to be told.
    otel_profiling::build::export_symbols();
    Ok(())
}
