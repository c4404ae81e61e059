//! A report as a table for people, and as JSON.

use std::fmt;

use serde::Serialize;

use super::{Report, Verdict, View};

/// Shows a report as a table: a line for each rule, what to do below a failure.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    report: &'a Report,
    colours: bool,
}

impl<'a> Table<'a> {
    /// A table without colours.
    pub fn new(report: &'a Report) -> Self {
        Self {
            report,
            colours: false,
        }
    }

    /// With colours, for a terminal.
    #[must_use]
    pub fn colours(mut self, colours: bool) -> Self {
        self.colours = colours;
        self
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if self.colours {
            format!("\u{1b}[{}m{text}\u{1b}[0m", colour as u8)
        } else {
            text.to_owned()
        }
    }
}

/// Columns of the table, as long as words allow.
const WIDTH: usize = 110;
/// Columns before what was found.
const INDENT: usize = 26;

#[derive(Clone, Copy)]
enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let title = self.paint(Colour::Bold, &report.target);
        writeln!(f, "{title}: {}", report.looked_at)?;
        let mut group = "";
        let mut absent: Vec<(&str, Vec<&str>)> = Vec::new();
        for finding in &report.findings {
            let name = finding.rule.name();
            let of = name.split('.').next().unwrap_or(name);
            // What does not apply for one reason takes one line at the end.
            if finding.verdict == Verdict::NotApplicable {
                match absent.iter_mut().find(|(why, _)| *why == finding.found) {
                    Some((_, names)) => names.push(name),
                    None => absent.push((&finding.found, vec![name])),
                }
                continue;
            }
            if of != group {
                writeln!(f)?;
                group = of;
            }
            let verdict = match finding.verdict {
                Verdict::Passed => self.paint(Colour::Green, "ok    "),
                Verdict::Failed => self.paint(Colour::Red, "FAILED"),
                Verdict::NotApplicable => self.paint(Colour::Dim, "-     "),
            };
            let line = format!("{name:18} {verdict} {}", finding.found);
            writeln!(f, "{}", line.trim_end())?;
            if let Some(fix) = &finding.fix {
                let rule = finding.rule;
                let (of, section) = (rule.specification(), rule.section());
                self.below(
                    f,
                    Colour::Dim,
                    &format!("{} [{of}, {section}]", rule.demand()),
                )?;
                self.below(f, Colour::Yellow, &format!("fix: {fix}"))?;
            }
        }
        if !absent.is_empty() {
            writeln!(f)?;
        }
        for (why, names) in &absent {
            let text = format!("{why}: {}", group_names(names));
            for (position, line) in wrap(&text, WIDTH - 3).iter().enumerate() {
                let dash = if position == 0 { '-' } else { ' ' };
                writeln!(f, "{}", self.paint(Colour::Dim, &format!("{dash}  {line}")))?;
            }
        }
        if let Some(view) = &report.view {
            writeln!(f)?;
            self.view(f, view)?;
        }
        let summary = format!(
            "\n{} passed, {} failed, {} not applicable",
            report.count(Verdict::Passed),
            report.count(Verdict::Failed),
            report.count(Verdict::NotApplicable)
        );
        write!(f, "{summary}")
    }
}

impl Table<'_> {
    /// Text under what was found.
    fn below(&self, f: &mut fmt::Formatter<'_>, colour: Colour, text: &str) -> fmt::Result {
        for line in wrap(text, WIDTH - INDENT) {
            writeln!(f, "{:INDENT$}{}", "", self.paint(colour, &line))?;
        }
        Ok(())
    }

    fn view(&self, f: &mut fmt::Formatter<'_>, view: &View) -> fmt::Result {
        let title = format!("What {} sees", view.reader);
        writeln!(f, "{}", self.paint(Colour::Bold, &title))?;
        for note in &view.notes {
            writeln!(f, "  {note}")?;
        }
        for thread in &view.threads {
            let sees: Vec<String> = thread
                .sees
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let sees = if sees.is_empty() {
                "nothing".to_owned()
            } else {
                sees.join(" ")
            };
            writeln!(f, "  {:>7} {:15} {sees}", thread.tid, thread.name)?;
            for miss in &thread.misses {
                let miss = format!("misses: {miss}");
                writeln!(f, "  {:23} {}", "", self.paint(Colour::Yellow, &miss))?;
            }
        }
        Ok(())
    }
}

/// Lines of at most so many characters, unless a word is longer.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `a.x, a.y, b.z` as `a.{x,y} b.z`.
fn group_names(names: &[&str]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in names {
        let (group, rest) = name.split_once('.').unwrap_or((name, ""));
        match groups.last_mut() {
            Some((last, rests)) if *last == group => rests.push(rest),
            _ => groups.push((group, vec![rest])),
        }
    }
    let shown: Vec<String> = groups
        .into_iter()
        .map(|(group, rests)| match rests.as_slice() {
            [one] => format!("{group}.{one}"),
            _ => format!("{group}.{{{}}}", rests.join(", ")),
        })
        .collect();
    shown.join(" ")
}

#[derive(Serialize)]
struct JsonReport<'a> {
    target: &'a str,
    looked_at: &'a str,
    passed: usize,
    failed: usize,
    not_applicable: usize,
    rules: Vec<JsonRule<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<&'a View>,
}

#[derive(Serialize)]
struct JsonRule<'a> {
    name: &'a str,
    verdict: Verdict,
    found: &'a str,
    fix: Option<&'a str>,
    demand: &'a str,
    specification: &'a str,
    section: &'a str,
}

/// The report as one JSON object.
pub(super) fn json(report: &Report) -> String {
    let rules = report.findings.iter().map(|finding| JsonRule {
        name: finding.rule.name(),
        verdict: finding.verdict,
        found: &finding.found,
        fix: finding.fix.as_deref(),
        demand: finding.rule.demand(),
        specification: finding.rule.specification(),
        section: finding.rule.section(),
    });
    let report = JsonReport {
        target: &report.target,
        looked_at: &report.looked_at,
        passed: report.count(Verdict::Passed),
        failed: report.count(Verdict::Failed),
        not_applicable: report.count(Verdict::NotApplicable),
        rules: rules.collect(),
        view: report.view.as_ref(),
    };
    // Strings, numbers and lists can always be written.
    serde_json::to_string(&report).unwrap_or_default()
}
