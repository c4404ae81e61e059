//! Folded stacks and flame graphs.
//!
//! A stack is counted in samples. Where times off the CPU are among what is shown, it is counted in nanoseconds,
//! and a stack off the CPU has the frame `[blocked]` or `[preempted]` at its end.

mod svg;
#[cfg(any(feature = "serve", feature = "top"))]
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::io::{self, Write};

pub use svg::{write_differential_svg_to, write_svg, write_svg_to};

pub use crate::profile::Filter;
use crate::profile::{Process, Profile};
use crate::sample::Activity;
use crate::text::is_unfit;

/// Innermost frame of a thread that waited.
pub const BLOCKED: &str = "[blocked]";
/// Innermost frame of a thread that was ready while others had the CPU.
pub const PREEMPTED: &str = "[preempted]";

/// Between frames while stacks are sorted: before every character of a name, so that all stacks of a frame are
/// next to each other, whatever its name begins or ends with.
const BETWEEN: char = '\u{1}';

/// Folded stacks, each with its number of samples or nanoseconds: `process;outermost;…;innermost`, sorted frame by
/// frame.
pub fn folded(profile: &Profile, filter: &Filter) -> Vec<(String, u64)> {
    let selected = profile.select(filter);
    let counted = selected.rows.iter().any(|row| row.samples > 0);
    folded_in(&selected, selected.has_off_cpu() || !counted, root)
}

/// The outermost frame: the process, and the service that it is.
pub(crate) fn root(process: &Process) -> String {
    process.title()
}

/// Folded stacks of all samples, in nanoseconds or in samples.
pub(crate) fn folded_in(
    selected: &Profile,
    in_time: bool,
    root: impl Fn(&Process) -> String,
) -> Vec<(String, u64)> {
    let names: Vec<Vec<String>> = selected
        .locations
        .iter()
        .map(|location| {
            let names = selected.names(location);
            names.iter().rev().map(|name| clean(name)).collect()
        })
        .collect();
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for row in &selected.rows {
        let process = selected
            .threads
            .get(row.thread)
            .and_then(|thread| selected.processes.get(thread.process));
        let mut line = clean(&process.map_or_else(String::new, &root));
        for location in selected.stacks.get(row.stack).into_iter().flatten().rev() {
            for name in names.get(*location).into_iter().flatten() {
                line.push(BETWEEN);
                line.push_str(name);
            }
        }
        let off_cpu = match row.activity {
            Activity::OnCpu => None,
            Activity::Blocked => Some(BLOCKED),
            Activity::Preempted => Some(PREEMPTED),
        };
        if let Some(frame) = off_cpu {
            line.push(BETWEEN);
            line.push_str(frame);
        }
        let sum = stacks.entry(line).or_default();
        *sum = sum.saturating_add(if in_time { row.ns } else { row.samples });
    }
    stacks
        .into_iter()
        .map(|(stack, value)| (stack.replace(BETWEEN, ";"), value))
        .collect()
}

/// Writes folded stacks, one a line.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_folded(profile: &Profile, filter: &Filter, mut out: impl Write) -> io::Result<()> {
    for (stack, value) in folded(profile, filter) {
        writeln!(out, "{stack} {value}")?;
    }
    out.flush()
}

/// The name of a frame. Frames are separated by semicolons and stacks by line ends, which Rust types and hostile
/// names contain; a number after a space would be taken for a count.
pub(crate) fn clean(name: &str) -> String {
    if name.trim().is_empty() {
        return "[unknown]".to_owned();
    }
    let mut clean: String = name
        .trim()
        .chars()
        .map(|character| match character {
            ';' => ':',
            character if is_unfit(character) => '?',
            character => character,
        })
        .collect();
    if let Some((_, last)) = clean.rsplit_once(char::is_whitespace)
        && last.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        let space = clean.len() - last.len();
        let before = clean[..space].trim_end().len();
        clean.replace_range(before..space, "_");
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{two_traces, with_off_cpu};

    #[test]
    fn stacks_are_folded_by_filter() {
        let profile = two_traces();
        assert_eq!(
            folded(&profile, &Filter::all()),
            [
                ("app;main;handle<[u8: 4]>".to_owned(), 5),
                ("app;main;lib.so+0x1010".to_owned(), 2)
            ]
        );
        let trace = profile.contexts[0].trace_id.unwrap();
        assert_eq!(
            folded(&profile, &Filter::trace(trace)),
            [("app;main;handle<[u8: 4]>".to_owned(), 4)]
        );
        let route = Filter::all().attribute("http.route", "/slow");
        assert_eq!(
            folded(&profile, &route),
            [("app;main;handle<[u8: 4]>".to_owned(), 4)]
        );
        assert!(folded(&profile, &route.attribute("user", "x")).is_empty());
    }

    #[test]
    fn with_times_off_the_cpu_stacks_are_counted_in_nanoseconds() {
        let profile = with_off_cpu();
        assert_eq!(
            folded(&profile, &Filter::all()),
            [
                ("app;main;handle<[u8: 4]>".to_owned(), 50_000_000),
                ("app;main;handle<[u8: 4]>;[blocked]".to_owned(), 300_000_000),
                ("app;main;lib.so+0x1010".to_owned(), 20_000_000),
                ("app;main;lib.so+0x1010;[preempted]".to_owned(), 1_000_000),
            ]
        );
        let on_cpu = folded(&profile, &Filter::all().on_cpu());
        assert_eq!(on_cpu, folded(&two_traces(), &Filter::all()));
    }

    #[test]
    fn names_that_would_be_taken_for_something_else() {
        assert_eq!(clean("a;b"), "a:b");
        assert_eq!(clean("a\n\u{1b}[2J"), "a??[2J");
        assert_eq!(clean("poll 7"), "poll_7");
        assert_eq!(clean("é  7.5"), "é_7.5");
        assert_eq!(clean("7"), "7");
        assert_eq!(clean("[unknown] 0x7"), "[unknown] 0x7");
        assert_eq!(clean(" "), "[unknown]");
    }

    #[test]
    fn a_frame_with_a_namesake_is_not_torn_apart() {
        let mut profile = two_traces();
        profile.functions[0].name = "poll".to_owned();
        profile.functions[1].name = "poll::inner".to_owned();
        // poll → lib.so, poll alone, poll → poll::inner, poll::inner alone.
        profile.locations[0].frames.truncate(1);
        profile.stacks = vec![vec![0], vec![2], vec![0, 2], vec![1, 2]];
        for (stack, row) in profile.rows.iter_mut().enumerate() {
            row.stack = stack;
        }
        let row = crate::profile::Row {
            stack: 3,
            ..profile.rows[0].clone()
        };
        profile.rows.push(row);
        let folded = folded(&profile, &Filter::all());
        let stacks: Vec<_> = folded.iter().map(|(stack, _)| stack.as_str()).collect();
        assert_eq!(
            stacks,
            [
                "app;poll",
                "app;poll;lib.so+0x1010",
                "app;poll;poll::inner",
                "app;poll::inner",
            ]
        );
    }
}
