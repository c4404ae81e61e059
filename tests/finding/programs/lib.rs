//! A plug-in that publishes.

mod body;

/// Does not return.
#[unsafe(no_mangle)]
pub extern "C" fn run() {
    body::run();
}
