//! When to try again: growing pauses, or what the receiver asks for.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

/// A receiver that asks for a longer pause than this is asked again after it: a wrong clock must not end pushing.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Pauses between attempts: doubled each time, up to a limit, each of random length between half and whole, so that
/// many senders do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            next: first,
        }
    }

    /// An attempt was successful: pauses are short again.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The pause after a failed attempt; at least as long as the receiver asked for.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.last);
        let pause = whole / 2 + (whole / 2).mul_f64(random());
        match asked {
            Some(asked) => pause.max(asked.min(LONGEST_ASKED)),
            None => pause,
        }
    }
}

/// From 0 to 1. Not for secrets: the standard library's seed of hash maps, which differs each time.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A `Retry-After` header: seconds, or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    // One that has passed already: now.
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for whole in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let pause = backoff.pause(None).as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&pause), "{pause} of {whole}");
        }
        backoff.reset();
        assert!(backoff.pause(None) <= Duration::from_secs(1));
        assert_eq!(
            backoff.pause(Some(Duration::from_secs(9))),
            Duration::from_secs(9)
        );
        assert_eq!(backoff.pause(Some(Duration::MAX)), LONGEST_ASKED);
    }

    #[test]
    fn pauses_differ() {
        let pauses: std::collections::HashSet<Duration> = (0..20)
            .map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(5)).pause(None))
            .collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }

    #[test]
    fn seconds_and_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:07 GMT", now),
            Some(Duration::ZERO)
        );
        for value in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after(value, now), None, "{value}");
        }
    }
}
