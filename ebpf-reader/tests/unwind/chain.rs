//! Two threads, the first one among them, use the CPU at the end of a chain of functions, in closures,
//! generic functions and a sort with a comparison of its own.

use std::hint::black_box;

#[inline(never)]
fn spin(number: u64) -> u64 {
    (0..20_000).fold(number, |sum, n| black_box(sum.wrapping_mul(31).wrapping_add(n)))
}

#[inline(never)]
fn nested<const DEPTH: usize>(number: u64) -> u64 {
    let room = black_box([number; 16]);
    let inner: &dyn Fn(u64) -> u64 = match DEPTH {
        0..2 => &spin,
        2..4 => &nested::<1>,
        4..6 => &nested::<3>,
        6..8 => &nested::<5>,
        _ => &nested::<7>,
    };
    black_box(inner)(number + 1) ^ room[DEPTH % 16]
}

#[inline(never)]
fn sorted(number: u64) -> u64 {
    let mut numbers = [3, 1, 2];
    numbers.sort_by_key(|n| nested::<9>(number + n));
    numbers[0]
}

#[inline(never)]
fn outermost_work(rounds: u64) -> u64 {
    (0..rounds).fold(0, |sum, round| sum ^ black_box(sorted(round)))
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    // A round takes about a tenth of a millisecond.
    let rounds = (seconds * 10_000.0) as u64;
    let thread = std::thread::spawn(move || outermost_work(rounds));
    black_box(outermost_work(rounds));
    black_box(thread.join().unwrap());
}
