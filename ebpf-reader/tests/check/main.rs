//! `check`: for each rule a program or a file that breaks just that one.

mod build;
mod command_line;
mod files;
mod processes;
mod views;

use std::time::Duration;

use ebpf_reader::check::{Options, Report, Rule, Verdict};

/// Waiting for anything ends after this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A short observation.
fn options() -> Options {
    Options::new().duration(Duration::from_millis(60))
}

fn with(report: &Report, verdict: Verdict) -> Vec<Rule> {
    report
        .findings
        .iter()
        .filter(|finding| finding.verdict == verdict)
        .map(|finding| finding.rule)
        .collect()
}

/// Just this rule fails, with words about what was found and what to do.
#[track_caller]
fn assert_breaks(report: &Report, rule: Rule, found: &str, fix: &str) {
    assert_eq!(with(report, Verdict::Failed), [rule], "{report:#?}");
    assert!(!report.passed());
    let finding = report.finding(rule).unwrap();
    assert!(finding.found.contains(found), "{}", finding.found);
    assert!(finding.fix.as_ref().unwrap().contains(fix), "{finding:?}");
}

#[test]
fn every_rule_has_a_case_that_breaks_just_that_one() {
    let broken: Vec<Rule> = files::BROKEN
        .iter()
        .copied()
        .chain(processes::BROKEN.iter().map(|case| case.1))
        .collect();
    for rule in Rule::ALL {
        assert!(broken.contains(rule), "{rule}");
    }
}
