//! What was found for each rule, over all modules, threads and looks.

use super::{Finding, Rule, Verdict};

/// Findings in the making.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    passed: bool,
    failures: u64,
    found: Option<String>,
    /// Of the first failure.
    failure: Option<(String, String)>,
    absent: Option<String>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            entries: vec![Entry::default(); Rule::ALL.len()],
        }
    }

    fn entry(&mut self, rule: Rule) -> Option<&mut Entry> {
        self.entries.get_mut(rule as usize)
    }

    /// It holds here.
    pub(super) fn pass(&mut self, rule: Rule) {
        if let Some(entry) = self.entry(rule) {
            entry.passed = true;
        }
    }

    /// It holds here, and this was found. What was found last is shown.
    pub(super) fn pass_with(&mut self, rule: Rule, found: impl Into<String>) {
        if let Some(entry) = self.entry(rule) {
            entry.passed = true;
            entry.found = Some(found.into());
        }
    }

    /// What was found, whatever else holds: shown if the rule passes.
    pub(super) fn note(&mut self, rule: Rule, found: impl Into<String>) {
        if let Some(entry) = self.entry(rule) {
            entry.found = Some(found.into());
        }
    }

    /// It does not hold here. The first failure is shown, and how many there are.
    pub(super) fn fail(&mut self, rule: Rule, found: impl Into<String>, fix: impl Into<String>) {
        if let Some(entry) = self.entry(rule) {
            entry.failures = entry.failures.saturating_add(1);
            if entry.failure.is_none() {
                entry.failure = Some((found.into(), fix.into()));
            }
        }
    }

    /// It does not apply, unless something else is found.
    pub(super) fn skip(&mut self, rule: Rule, why: impl Into<String>) {
        if let Some(entry) = self.entry(rule) {
            entry.absent.get_or_insert_with(|| why.into());
        }
    }

    /// The same for several rules.
    pub(super) fn skip_all(&mut self, rules: &[Rule], why: &str) {
        for &rule in rules {
            self.skip(rule, why);
        }
    }

    /// Whether a rule is known not to hold.
    pub(super) fn has_failed(&self, rule: Rule) -> bool {
        self.entries
            .get(rule as usize)
            .is_some_and(|entry| entry.failures > 0)
    }

    /// One finding for each rule.
    pub(super) fn finish(self) -> Vec<Finding> {
        let finding = |(rule, entry): (&Rule, Entry)| {
            let (verdict, found, fix) = match entry.failure {
                Some((found, fix)) => {
                    let more = entry.failures - 1;
                    let found = match more {
                        0 => found,
                        1 => format!("{found} (and once more)"),
                        _ => format!("{found} (and {more} times more)"),
                    };
                    (Verdict::Failed, found, Some(fix))
                }
                None if entry.passed => (Verdict::Passed, entry.found.unwrap_or_default(), None),
                None => {
                    let why = entry
                        .absent
                        .unwrap_or_else(|| "nothing to check".to_owned());
                    (Verdict::NotApplicable, why, None)
                }
            };
            Finding {
                rule: *rule,
                verdict,
                found,
                fix,
            }
        };
        Rule::ALL.iter().zip(self.entries).map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_counts_more_than_any_success() {
        let mut ledger = Ledger::new();
        ledger.pass_with(Rule::RecordSize, "28 bytes");
        ledger.skip(Rule::RecordSize, "no thread");
        ledger.fail(Rule::RecordIds, "first", "set both");
        ledger.pass(Rule::RecordIds);
        ledger.fail(Rule::RecordIds, "second", "");
        ledger.skip(Rule::RecordValid, "no thread");
        let findings = ledger.finish();
        let find = |rule| {
            let finding = findings
                .iter()
                .find(|finding| finding.rule == rule)
                .unwrap();
            (
                finding.verdict,
                finding.found.as_str(),
                finding.fix.as_deref(),
            )
        };
        assert_eq!(findings.len(), Rule::ALL.len());
        assert_eq!(find(Rule::RecordSize), (Verdict::Passed, "28 bytes", None));
        assert_eq!(
            find(Rule::RecordIds),
            (Verdict::Failed, "first (and once more)", Some("set both"))
        );
        assert_eq!(
            find(Rule::RecordValid),
            (Verdict::NotApplicable, "no thread", None)
        );
        assert_eq!(find(Rule::LabelsUtf8).0, Verdict::NotApplicable);
    }
}
