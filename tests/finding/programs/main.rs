//! A program that publishes itself.

mod body;

fn main() {
    body::run();
}
