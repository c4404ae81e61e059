//! What changed between two profiles: each function's share of the time, in one and in the other.
//!
//! Shares are compared, not times: recordings differ in length and load.

mod report;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::flame;
use crate::profile::{Profile, Row};

/// Two profiles side by side.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Diff {
    /// Time of the first profile, in nanoseconds.
    pub before_ns: u64,
    /// Time of the second profile, in nanoseconds.
    pub after_ns: u64,
    /// All functions, those first whose share of their own has changed most.
    pub functions: Vec<Change>,
    stacks: Vec<(String, u64, u64)>,
    rows: usize,
}

/// Shares of a function, in per cent of all time of its profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Its name.
    pub function: String,
    /// In itself, in the first profile.
    pub self_before: f64,
    /// In itself, in the second profile.
    pub self_after: f64,
    /// With everything that it called, in the first profile.
    pub total_before: f64,
    /// With everything that it called, in the second profile.
    pub total_after: f64,
}

impl Change {
    /// How much its share of its own grew, in percentage points.
    pub fn in_self(&self) -> f64 {
        self.self_after - self.self_before
    }

    /// How much its share with everything that it called grew, in percentage points.
    pub fn in_total(&self) -> f64 {
        self.total_after - self.total_before
    }
}

/// Nanoseconds of a function: in itself, and with everything that it called.
type Times = HashMap<String, (u64, u64)>;

impl Diff {
    /// Compares two profiles: time on the CPU, and time off it if there is any. To compare one of them, select it.
    pub fn new(before: &Profile, after: &Profile) -> Self {
        let (before_times, after_times) = (times(before), times(after));
        let (before_ns, after_ns) = (before.total().total_ns(), after.total().total_ns());
        let names: HashSet<&String> = before_times.keys().chain(after_times.keys()).collect();
        let mut functions: Vec<Change> = names
            .into_iter()
            .map(|name| {
                let times = |times: &Times| times.get(name).copied().unwrap_or_default();
                let (before, after) = (times(&before_times), times(&after_times));
                Change {
                    function: name.clone(),
                    self_before: percent(before.0, before_ns),
                    self_after: percent(after.0, after_ns),
                    total_before: percent(before.1, before_ns),
                    total_after: percent(after.1, after_ns),
                }
            })
            .collect();
        functions.sort_by(|a, b| {
            let by_self = b.in_self().abs().total_cmp(&a.in_self().abs());
            let by_total = || b.in_total().abs().total_cmp(&a.in_total().abs());
            by_self
                .then_with(by_total)
                .then_with(|| a.function.cmp(&b.function))
        });
        Self {
            before_ns,
            after_ns,
            functions,
            stacks: stacks(before, after),
            rows: usize::MAX,
        }
    }

    /// Puts those functions first whose share with everything that they called has changed most.
    #[must_use]
    pub fn by_total(mut self) -> Self {
        self.functions.sort_by(|a, b| {
            let order = b.in_total().abs().total_cmp(&a.in_total().abs());
            order.then_with(|| a.function.cmp(&b.function))
        });
        self
    }

    /// Lists at most `rows` functions in the table.
    #[must_use]
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }
}

/// Time by function. A function that calls itself counts once for each stack.
fn times(profile: &Profile) -> Times {
    let names: Vec<Vec<String>> = profile
        .locations
        .iter()
        .map(|location| profile.names(location))
        .collect();
    let mut times = Times::new();
    let stack = |row: &Row| {
        let stack = profile.stacks.get(row.stack).into_iter().flatten();
        stack.flat_map(|&location| names.get(location).into_iter().flatten())
    };
    for row in &profile.rows {
        let mut seen = HashSet::new();
        for (depth, name) in stack(row).enumerate() {
            let (of_its_own, total) = times.entry(name.clone()).or_default();
            if depth == 0 {
                *of_its_own = of_its_own.saturating_add(row.ns);
            }
            if seen.insert(name) {
                *total = total.saturating_add(row.ns);
            }
        }
    }
    times
}

/// Folded stacks with their shares in both profiles, in parts per million, sorted frame by frame.
fn stacks(before: &Profile, after: &Profile) -> Vec<(String, u64, u64)> {
    let mut stacks: BTreeMap<Vec<String>, (u64, u64)> = BTreeMap::new();
    for (profile, second) in [(before, false), (after, true)] {
        // Without the service: its instance differs from one recording to the next.
        let folded = flame::folded_in(profile, true, |process| process.name.clone());
        let total = folded
            .iter()
            .fold(0_u64, |sum, (_, value)| sum.saturating_add(*value));
        for (stack, value) in folded {
            let frames = stack.split(';').map(str::to_owned).collect();
            let shares = stacks.entry(frames).or_default();
            let share = if second { &mut shares.1 } else { &mut shares.0 };
            *share = share.saturating_add(millionths(value, total));
        }
    }
    stacks
        .into_iter()
        .map(|(frames, (before, after))| (frames.join(";"), before, after))
        .collect()
}

fn millionths(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * 1_000_000 / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn percent(part: u64, whole: u64) -> f64 {
    crate::report::text::share(part, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Filter;
    use crate::profile::tests::{OTHER_TRACE, TRACE, two_traces};

    /// Before: all in `handle`; after: half of it in `lib.so`.
    pub(super) fn changed() -> Diff {
        let profile = two_traces();
        let before = profile
            .select(&Filter::trace(TRACE.parse().unwrap()))
            .into_owned();
        let mut after = profile;
        after.rows[0].ns = 10_000_000;
        Diff::new(&before, &after)
    }

    #[test]
    fn shares_are_compared() {
        let diff = changed();
        assert_eq!((diff.before_ns, diff.after_ns), (40_000_000, 40_000_000));
        let functions: Vec<_> = diff
            .functions
            .iter()
            .map(|change| {
                (
                    change.function.as_str(),
                    change.in_self(),
                    change.in_total(),
                )
            })
            .collect();
        let expected = [
            ("handle<[u8; 4]>", -50.0, -50.0),
            ("lib.so+0x1010", 50.0, 50.0),
            ("main", 0.0, 0.0),
        ];
        assert_eq!(functions, expected);
        assert_eq!(
            (
                diff.functions[2].total_before,
                diff.functions[2].self_before
            ),
            (100.0, 0.0)
        );
    }

    #[test]
    fn equal_shares_of_different_times_are_no_change() {
        let profile = two_traces();
        let trace = |trace: &str| {
            profile
                .select(&Filter::trace(trace.parse().unwrap()))
                .into_owned()
        };
        let diff = Diff::new(&trace(TRACE), &trace(OTHER_TRACE)).by_total();
        assert!(diff.functions.iter().all(|change| change.in_self() == 0.0));
        assert_eq!((diff.before_ns, diff.after_ns), (40_000_000, 10_000_000));
    }

    #[test]
    fn a_function_that_calls_itself_counts_once() {
        let mut profile = two_traces();
        profile.stacks[0] = vec![2, 2, 2];
        let times = times(&profile);
        assert_eq!(times["main"], (50_000_000, 70_000_000));
    }

    #[test]
    fn nothing_against_nothing() {
        let diff = Diff::new(&Profile::default(), &Profile::default());
        assert!(diff.functions.is_empty());
    }
}
