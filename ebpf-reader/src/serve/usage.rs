//! Sums over windows, for the page: time by trace or by the values of an attribute.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::ring::Window;
use crate::profile::{By, Filter, Usage};

/// Distinct groups that are told apart in one answer. There can be as many traces as samples.
const MAX_GROUPS: usize = 100_000;

/// One row of the page's table.
#[derive(Debug, Default, Serialize)]
pub(super) struct GroupUsage {
    name: String,
    #[serde(flatten)]
    time: Time,
    /// When its last window ended, in milliseconds since 1970.
    last_seen_ms: u64,
}

/// Time on the CPU and off it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Time {
    samples: u64,
    cpu_ns: u64,
    blocked_ns: u64,
    preempted_ns: u64,
}

impl Time {
    fn add(&mut self, usage: &Usage) {
        self.samples = self.samples.saturating_add(usage.samples);
        self.cpu_ns = self.cpu_ns.saturating_add(usage.cpu_ns);
        self.blocked_ns = self.blocked_ns.saturating_add(usage.blocked_ns);
        self.preempted_ns = self.preempted_ns.saturating_add(usage.preempted_ns);
    }

    fn total_ns(self) -> u64 {
        let off = self.blocked_ns.saturating_add(self.preempted_ns);
        self.cpu_ns.saturating_add(off)
    }
}

/// Time by group.
#[derive(Debug, Serialize)]
pub(super) struct Usages {
    /// Those with most time, the largest first.
    groups: Vec<GroupUsage>,
    /// How many groups there are; more than are listed, perhaps.
    count: usize,
    /// Time in no group.
    without: Time,
    /// All time.
    total: Time,
}

/// Time by group, of the samples that `filter` shows. Only groups whose name contains `search` are listed.
pub(super) fn usages(
    windows: &[Arc<Window>],
    by: &By,
    filter: &Filter,
    search: &str,
    limit: usize,
) -> Usages {
    let mut groups: HashMap<String, GroupUsage> = HashMap::new();
    let (mut without, mut total) = (Time::default(), Time::default());
    for window in windows {
        let profile = window.profile.select(filter);
        total.add(&profile.total());
        let (found, rest) = profile.usage_by(by);
        without.add(&rest);
        for group in found {
            if groups.len() >= MAX_GROUPS && !groups.contains_key(&group.name) {
                without.add(&group.usage);
                continue;
            }
            let known = groups.entry(group.name).or_default();
            known.time.add(&group.usage);
            known.last_seen_ms = milliseconds(window.ended);
        }
    }
    let mut groups: Vec<GroupUsage> = groups
        .into_iter()
        .filter(|(name, _)| name.contains(search))
        .map(|(name, group)| GroupUsage { name, ..group })
        .collect();
    groups.sort_by(|a, b| {
        b.time
            .total_ns()
            .cmp(&a.time.total_ns())
            .then_with(|| a.name.cmp(&b.name))
    });
    let count = groups.len();
    groups.truncate(limit);
    Usages {
        groups,
        count,
        without,
        total,
    }
}

/// Names of attributes and labels that were seen.
pub(super) fn labels(windows: &[Arc<Window>]) -> BTreeSet<String> {
    let names = windows
        .iter()
        .flat_map(|window| window.profile.label_names());
    names.map(str::to_owned).collect()
}

/// Milliseconds since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
