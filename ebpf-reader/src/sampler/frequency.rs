//! How often samples are taken, and how often the kernel allows.

use std::fs;

use crate::error::Error;

const LIMIT_FILE: &str = "/proc/sys/kernel/perf_event_max_sample_rate";

/// What the kernel allows unless it says otherwise.
const DEFAULT_LIMIT: u64 = 100_000;

/// The period of a frequency in nanoseconds, if that frequency is possible.
pub(super) fn period_ns(frequency_hz: u64, max_hz: u64, hint: &str) -> Result<u64, Error> {
    if frequency_hz == 0 || frequency_hz > max_hz {
        return Err(Error::Frequency {
            frequency_hz,
            max_hz,
            hint: if frequency_hz == 0 { "" } else { hint }.to_owned(),
        });
    }
    Ok(1_000_000_000 / frequency_hz)
}

/// The highest frequency that the kernel allows for perf events.
pub(super) fn kernel_limit() -> u64 {
    fs::read_to_string(LIMIT_FILE)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be_and_says_what_can() {
        assert_eq!(period_ns(1, 100, "").expect("possible"), 1_000_000_000);
        assert_eq!(period_ns(100, 100, "").expect("possible"), 10_000_000);
        let zero = period_ns(0, 100, "; raise it")
            .expect_err("zero")
            .to_string();
        assert!(
            zero.contains("1 to 100 Hz") && !zero.contains("raise"),
            "{zero}"
        );
        let high = period_ns(101, 100, "; raise it")
            .expect_err("high")
            .to_string();
        assert!(
            high.contains("101 Hz") && high.ends_with("; raise it"),
            "{high}"
        );
    }
}
