//! What keeps the service's CPUs busy: plain computations of a few tens of microseconds to a millisecond.

/// One row of the Mandelbrot set, as the number of its points. `y` and the result are in pixels.
#[inline(never)]
pub fn render_row(y: u32, width: u32) -> u32 {
    let scale = |pixel: u32| f64::from(pixel) / f64::from(width) * 2.4 - 1.6;
    let inside = |x: &u32| {
        let (re, im) = (scale(*x), scale(y));
        let (mut a, mut b) = (0.0, 0.0);
        (0..200).all(|_| {
            (a, b) = (a * a - b * b + re, 2.0 * a * b + im);
            a * a + b * b < 4.0
        })
    };
    (0..width).filter(inside).count() as u32
}

/// How many numbers below `limit` are prime.
#[inline(never)]
pub fn count_primes(limit: usize) -> usize {
    let mut composite = vec![false; limit];
    let mut primes = 0;
    for number in 2..limit {
        if !composite[number] {
            primes += 1;
            composite
                .iter_mut()
                .skip(number * number)
                .step_by(number)
                .for_each(|slot| *slot = true);
        }
    }
    primes
}

/// How often `word` occurs in a text that is made up from `seed`.
#[inline(never)]
pub fn find_word(seed: u64, word: &[u8]) -> usize {
    let text: Vec<u8> = (seed..seed + 20_000)
        .map(|n| b'a' + (mix(n) % 4) as u8)
        .collect();
    text.windows(word.len())
        .filter(|window| *window == word)
        .count()
}

/// A chain of hashes, as for a password.
#[inline(never)]
pub fn hash_password(salt: u64, rounds: u32) -> u64 {
    (0..rounds).fold(salt, |hash, round| mix(hash ^ u64::from(round)))
}

/// One step of SplitMix64.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done() {
        assert_eq!(count_primes(100), 25);
        assert_eq!(render_row(0, 100), 0);
        assert!(
            (60..80).contains(&render_row(67, 100)),
            "{}",
            render_row(67, 100)
        );
        assert!(
            (40..120).contains(&find_word(7, b"abca")),
            "{}",
            find_word(7, b"abca")
        );
        assert_ne!(hash_password(1, 10), hash_password(2, 10));
    }
}
