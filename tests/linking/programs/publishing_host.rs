//! A program that contains otel-profiling itself, and loads a shared object that does so too.

#[path = "host.rs"]
mod host;

fn main() {
    host::main();
    println!(
        "host {}",
        otel_profiling::self_check::symbols().expect("exported")
    );
}
