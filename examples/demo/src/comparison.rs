//! What the profiler saw from outside next to what the service measured itself, trace by trace.

use std::fmt;
use std::time::Duration;

use ebpf_reader::profile::{self, Profile};
use opentelemetry::trace::TraceId;

use crate::ground_truth::{ByTrace, Usage};
use crate::load::Caller;

/// Fewer samples than this say too little about one trace.
pub const ENOUGH_SAMPLES: u64 = 100;

/// One trace, or all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Compared {
    /// Samples with this trace id.
    pub samples: u64,
    /// The CPU time that they stand for.
    pub seen: Duration,
    /// What the service measured.
    pub own: Usage,
}

impl Compared {
    /// What was seen above (or, if negative, below) the service's own measurement, relative to it.
    pub fn difference(&self) -> f64 {
        if self.own.cpu.is_zero() {
            return if self.samples == 0 {
                0.0
            } else {
                f64::INFINITY
            };
        }
        self.seen.as_secs_f64() / self.own.cpu.as_secs_f64() - 1.0
    }

    /// The difference that chance alone explains, four standard errors, but no less than a tenth.
    pub fn tolerance(&self) -> f64 {
        (4.0 / (self.samples as f64).sqrt()).max(0.1)
    }

    /// Whether there are enough samples to compare.
    pub fn is_comparable(&self) -> bool {
        self.samples >= ENOUGH_SAMPLES
    }
}

impl std::iter::Sum for Compared {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |sum, item| Self {
            samples: sum.samples + item.samples,
            seen: sum.seen + item.seen,
            own: Usage {
                requests: sum.own.requests + item.own.requests,
                cpu: sum.own.cpu + item.own.cpu,
            },
        })
    }
}

/// All traces, those with the most samples first.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The traces that the service worked on.
    pub traces: Vec<(TraceId, Compared)>,
    callers: Vec<Caller>,
    /// Traces in samples that the service never worked on, with their samples: there should be none.
    pub foreign: Vec<(profile::TraceId, u64)>,
    samples: u64,
    with_context: u64,
    lost: u64,
    cpu: Duration,
}

impl Comparison {
    /// Compares.
    pub fn new(profile: &Profile, ground_truth: &ByTrace, callers: &[Caller]) -> Self {
        let seen = profile.traces();
        let mut traces: Vec<_> = ground_truth
            .iter()
            .map(|(trace_id, own)| {
                let samples = seen
                    .iter()
                    .find(|usage| usage.trace_id.0 == trace_id.to_bytes())
                    .map_or(0, |usage| usage.samples);
                let compared = Compared {
                    samples,
                    seen: Duration::from_nanos(profile.cpu_ns(samples)),
                    own: *own,
                };
                (*trace_id, compared)
            })
            .collect();
        traces.sort_by_key(|(trace_id, compared)| {
            (std::cmp::Reverse(compared.samples), trace_id.to_bytes())
        });
        let foreign = seen
            .iter()
            .filter(|usage| !ground_truth.contains_key(&TraceId::from_bytes(usage.trace_id.0)))
            .map(|usage| (usage.trace_id, usage.samples))
            .collect();
        Self {
            traces,
            callers: callers.to_vec(),
            foreign,
            samples: profile.samples,
            with_context: profile.with_context,
            lost: profile.lost,
            cpu: Duration::from_nanos(profile.cpu_ns(profile.samples)),
        }
    }

    /// The sum of all traces.
    pub fn total(&self) -> Compared {
        self.traces.iter().map(|(_, compared)| *compared).sum()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_all = |cpu: Duration| {
            100.0 * cpu.as_secs_f64() / self.cpu.as_secs_f64().max(f64::MIN_POSITIVE)
        };
        let ms = |cpu: Duration| cpu.as_secs_f64() * 1e3;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, path: &str, row: &Compared| {
            writeln!(
                f,
                "{name:<32} {:>6} {path:<10} {:>7} {:>8.1} {:>6.1}% {:>13.1} {:>+10.1}%",
                row.own.requests,
                row.samples,
                ms(row.seen),
                of_all(row.seen),
                ms(row.own.cpu),
                100.0 * row.difference()
            )
        };
        writeln!(
            f,
            "{:<32} {:<17} {:>7} {:>8} {:>7} {:>13} {:>11}",
            "TRACE ID", "REQUESTS", "SAMPLES", "CPU ms", "SHARE", "SELF-MEASURED", "DIFFERENCE"
        )?;
        for (trace_id, compared) in &self.traces {
            let caller = self
                .callers
                .iter()
                .find(|caller| caller.trace_id == *trace_id);
            line(
                f,
                &trace_id.to_string(),
                caller.map_or("", |caller| caller.path),
                compared,
            )?;
        }
        for (trace_id, samples) in &self.foreign {
            writeln!(
                f,
                "{trace_id} {:<17} {samples:>7}  a trace that nobody sent",
                ""
            )?;
        }
        line(f, "all traces", "", &self.total())?;

        let without = self.samples.saturating_sub(self.with_context);
        let share = 100.0 * without as f64 / self.samples.max(1) as f64;
        write!(
            f,
            "\n{} samples, {without} of them ({share:.1}%) outside of requests; {} lost",
            self.samples, self.lost
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(samples: u64, seen: u64, own: u64) -> Compared {
        Compared {
            samples,
            seen: Duration::from_millis(seen),
            own: Usage {
                requests: 1,
                cpu: Duration::from_millis(own),
            },
        }
    }

    #[test]
    fn differences_are_relative_to_the_service_s_own() {
        assert!((compared(100, 110, 100).difference() - 0.1).abs() < 1e-9);
        assert!((compared(100, 50, 100).difference() + 0.5).abs() < 1e-9);
        assert_eq!(compared(0, 0, 0).difference(), 0.0);
        assert_eq!(compared(1, 1, 0).difference(), f64::INFINITY);
    }

    #[test]
    fn few_samples_may_differ_more() {
        assert!((compared(100, 1, 1).tolerance() - 0.4).abs() < 1e-9);
        assert!((compared(10_000, 1, 1).tolerance() - 0.1).abs() < 1e-9);
        assert!(!compared(99, 1, 1).is_comparable());
    }
}
