//! Two threads, the first one among them, use the CPU at the end of a chain of functions, in closures,
//! generic functions and a sort with a comparison of its own.

use std::hint::black_box;
use std::time::{Duration, Instant};

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
fn outermost_work(time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut sum = 0;
    while Instant::now() < end {
        sum ^= sorted(sum);
    }
    sum
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let time = Duration::from_secs_f64(seconds);
    let thread = std::thread::spawn(move || outermost_work(time));
    black_box(outermost_work(time));
    black_box(thread.join().unwrap());
}
