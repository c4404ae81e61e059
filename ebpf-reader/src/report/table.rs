//! Time by trace, or by something else that samples have in common, as a table.

use std::fmt;

use super::text::{fitting, millis, share};
use crate::profile::{By, Profile, Usage};
use crate::text::printable;

/// Shows a profile as a table: a row for each trace, or for each value of an attribute.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    profile: &'a Profile,
    by: By,
    rows: usize,
}

/// Columns of the first cell of a row, at least: a trace id fits.
const WIDTH: usize = 32;
/// Columns of the first cell of a row, at most.
const MAX_WIDTH: usize = 56;

impl<'a> Table<'a> {
    /// A table of all traces.
    pub fn new(profile: &'a Profile) -> Self {
        Self::by(profile, By::Trace)
    }

    /// A table of what `by` tells apart.
    pub fn by(profile: &'a Profile, by: By) -> Self {
        Self {
            profile,
            by,
            rows: usize::MAX,
        }
    }

    /// Shows at most `rows` rows, those with most time, and how many others there are.
    #[must_use]
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    fn heading(&self) -> String {
        match &self.by {
            By::Trace => "TRACE ID".to_owned(),
            By::Span => "TRACE ID AND SPAN ID".to_owned(),
            By::Process => "PROCESS".to_owned(),
            By::Attribute(name) => printable(name).into_owned(),
        }
    }

    /// The samples that are in no row.
    fn others(&self) -> Option<&'static str> {
        match &self.by {
            By::Trace | By::Span => Some("(without context)"),
            By::Process => None,
            By::Attribute(_) => Some("(without the label)"),
        }
    }
}

impl Table<'_> {
    /// A line for each process of which the service is known, up to [`MAX_SERVICES`].
    fn services(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.profile.processes.iter().filter(|process| {
            let context = process.context.as_ref();
            context.is_some_and(|context| context.service().is_some())
        });
        for process in known.clone().take(MAX_SERVICES) {
            write!(
                f,
                "\nprocess {}: {}",
                process.pid,
                printable(&process.title())
            )?;
        }
        match known.count().saturating_sub(MAX_SERVICES) {
            0 => Ok(()),
            more => write!(f, "\n{more} more processes with a service"),
        }
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (groups, rest) = self.profile.usage_by(&self.by);
        let total = self.profile.total();
        let shown = self.rows.min(groups.len());
        let mut rows: Vec<(String, Usage)> = groups
            .iter()
            .take(shown)
            .map(|group| (printable(&group.name).into_owned(), group.usage))
            .collect();
        if shown < groups.len() {
            let more = groups.iter().skip(shown).map(|group| group.usage).sum();
            rows.push((format!("({} more)", groups.len() - shown), more));
        }
        rows.extend(self.others().map(|name| (name.to_owned(), rest)));
        rows.push(("(all)".to_owned(), total));

        let heading = self.heading();
        let names = rows.iter().map(|(name, _)| name).chain([&heading]);
        let longest = names.map(|name| name.chars().count()).max();
        let columns = Columns {
            name: longest.unwrap_or_default().clamp(WIDTH, MAX_WIDTH),
            off_cpu: self.profile.has_off_cpu(),
            total,
        };
        columns.heading(f, &heading)?;
        for (name, usage) in &rows {
            columns.row(f, name, usage)?;
        }
        writeln!(f)?;
        summary(self.profile, &total, f)?;
        self.services(f)
    }
}

/// Processes of which the service is listed below a table.
const MAX_SERVICES: usize = 5;

/// The columns of one table.
struct Columns {
    name: usize,
    off_cpu: bool,
    total: Usage,
}

impl Columns {
    fn heading(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let width = self.name;
        let name = fitting(name, width);
        write!(
            f,
            "{name:<width$}  {:>8}  {:>10}  {:>7}",
            "SAMPLES", "CPU ms", "SHARE"
        )?;
        if self.off_cpu {
            write!(f, "  {:>10}  {:>12}", "BLOCKED ms", "PREEMPTED ms")?;
        }
        writeln!(f)
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, name: &str, usage: &Usage) -> fmt::Result {
        let width = self.name;
        let name = fitting(name, width);
        write!(
            f,
            "{name:<width$}  {:>8}  {:>10.1}  {:>5.1} %",
            usage.samples,
            millis(usage.cpu_ns),
            share(usage.cpu_ns, self.total.cpu_ns)
        )?;
        if self.off_cpu {
            write!(
                f,
                "  {:>10.1}  {:>12.1}",
                millis(usage.blocked_ns),
                millis(usage.preempted_ns)
            )?;
        }
        writeln!(f)
    }
}

/// The last line, which tells how far the numbers can be trusted.
fn summary(profile: &Profile, total: &Usage, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (_, without) = profile.usage_by(&By::Trace);
    write!(f, "{} samples", total.samples)?;
    if profile.has_off_cpu() {
        write!(f, " and {} waits", total.waits)?;
    }
    write!(
        f,
        " in {:.1} s, {:.1} % without context, {} lost, {} unreadable",
        profile.duration.as_secs_f64(),
        share(without.samples, total.samples),
        profile.lost,
        profile.unreadable,
    )?;
    if profile.truncated > 0 {
        write!(f, ", {} truncated", profile.truncated)?;
    }
    if profile.merged > 0 {
        write!(f, ", {} merged", profile.merged)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{two_traces, with_off_cpu};

    #[test]
    fn the_table() {
        let table = Table::new(&two_traces()).to_string();
        assert_eq!(
            table,
            "\
TRACE ID                           SAMPLES      CPU ms    SHARE
4bf92f3577b34da6a3ce929d0e0e4736         4        40.0   57.1 %
0af7651916cd43dd8448eb211c80319c         1        10.0   14.3 %
(without context)                        2        20.0   28.6 %
(all)                                    7        70.0  100.0 %

7 samples in 2.0 s, 28.6 % without context, 3 lost, 1 unreadable"
        );
    }

    #[test]
    fn with_times_off_the_cpu_there_are_more_columns() {
        let table = Table::new(&with_off_cpu()).to_string();
        assert_eq!(
            table,
            "\
TRACE ID                           SAMPLES      CPU ms    SHARE  BLOCKED ms  PREEMPTED ms
4bf92f3577b34da6a3ce929d0e0e4736         4        40.0   57.1 %       300.0           0.0
0af7651916cd43dd8448eb211c80319c         1        10.0   14.3 %         0.0           0.0
(without context)                        2        20.0   28.6 %         0.0           1.0
(all)                                    7        70.0  100.0 %       300.0           1.0

7 samples and 3 waits in 2.0 s, 28.6 % without context, 3 lost, 1 unreadable"
        );
    }

    #[test]
    fn a_short_table_counts_the_rest() {
        let table = Table::new(&two_traces()).rows(1).to_string();
        assert!(
            table.contains("\n(1 more)                                 1        10.0   14.3 %\n"),
            "{table}"
        );
        assert!(!table.contains("0af7"));
    }

    #[test]
    fn a_table_by_attribute() {
        let mut profile = two_traces();
        let long = format!("/users\u{1b}[2J/{}/end", "x".repeat(100));
        profile.contexts[0].labels = vec![("http.route".to_owned(), long)];
        let table = Table::by(&profile, By::parse("http.route")).to_string();
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("http.route  "), "{table}");
        assert!(lines[1].starts_with("/users\\u{1b}[2J/xxx"), "{table}");
        assert!(
            lines[1].contains("xxx/end         4        40.0"),
            "{table}"
        );
        assert!(lines[2].starts_with("(without the label)  "), "{table}");
        assert!(lines[2].ends_with("3        30.0   42.9 %"), "{table}");
        let lengths = lines[..4].iter().map(|line| line.chars().count());
        assert_eq!(lengths.collect::<std::collections::HashSet<_>>().len(), 1);
    }

    #[test]
    fn tables_by_process_service_and_span() {
        let profile = two_traces();
        let of = |by: &str| Table::by(&profile, By::parse(by)).to_string();
        assert!(of("process").starts_with("PROCESS   "));
        assert!(of("process").contains("\napp (42)  "), "{}", of("process"));
        assert!(!of("process").contains("(without"), "{}", of("process"));
        assert!(of("service").starts_with("service.name  "));
        let span = "\n4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7         4  ";
        assert!(of("span").contains(span), "{}", of("span"));
    }

    #[test]
    fn what_was_cut_off_is_told() {
        let mut profile = two_traces();
        profile.truncated = 2;
        let table = Table::new(&profile).to_string();
        assert!(table.ends_with(", 1 unreadable, 2 truncated"), "{table}");
        profile.merged = 3;
        let table = Table::new(&profile).to_string();
        assert!(table.ends_with(", 2 truncated, 3 merged"), "{table}");
    }

    #[test]
    fn nothing_was_sampled() {
        let table = Table::new(&Profile::default()).to_string();
        assert!(
            table.contains("0 samples in 0.0 s, 0.0 % without context, 0 lost"),
            "{table}"
        );
    }
}
