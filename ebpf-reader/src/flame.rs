//! Folded stacks and flame graphs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use inferno::flamegraph;

use crate::error::Error;
use crate::profile::{Context, Profile, TraceId};

/// Which samples to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Only samples of this trace.
    pub trace_id: Option<TraceId>,
    /// Only samples with all of these labels.
    pub labels: Vec<(String, String)>,
}

impl Filter {
    /// All samples.
    pub fn all() -> Self {
        Self::default()
    }

    /// The samples of one trace.
    pub fn trace(trace_id: TraceId) -> Self {
        Self {
            trace_id: Some(trace_id),
            ..Self::default()
        }
    }

    /// Of these, the samples whose label `name` is `value`.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Whether samples with this context are shown.
    pub fn matches(&self, context: &Context) -> bool {
        self.trace_id
            .is_none_or(|trace_id| context.trace_id == Some(trace_id))
            && self
                .labels
                .iter()
                .all(|label| context.labels.contains(label))
    }
}

/// Folded stacks, each with its number of samples: `process;outermost;…;innermost`, sorted.
pub fn folded(profile: &Profile, filter: &Filter) -> Vec<(String, u64)> {
    let names: Vec<String> = profile
        .locations
        .iter()
        .map(|location| folded_names(profile.names(location)))
        .collect();
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for row in &profile.rows {
        if !profile
            .contexts
            .get(row.context)
            .is_some_and(|context| filter.matches(context))
        {
            continue;
        }
        let process = profile
            .threads
            .get(row.thread)
            .and_then(|thread| profile.processes.get(thread.process));
        let mut line = clean(process.map_or("", |process| process.name.as_str()));
        if line.is_empty() {
            line.push_str("[unknown]");
        }
        for location in profile.stacks.get(row.stack).into_iter().flatten().rev() {
            line.push(';');
            line.push_str(names.get(*location).map_or("[unknown]", String::as_str));
        }
        *stacks.entry(line).or_default() += row.samples;
    }
    stacks.into_iter().collect()
}

/// Writes folded stacks, one a line.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_folded(profile: &Profile, filter: &Filter, mut out: impl Write) -> io::Result<()> {
    for (stack, samples) in folded(profile, filter) {
        writeln!(out, "{stack} {samples}")?;
    }
    out.flush()
}

/// Writes a flame graph as an SVG file that can be searched and zoomed in a browser.
///
/// # Errors
/// If the file cannot be written.
pub fn write_svg(profile: &Profile, filter: &Filter, path: &Path) -> Result<(), Error> {
    File::create(path)
        .and_then(|file| write_svg_to(profile, filter, BufWriter::new(file)))
        .map_err(|error| Error::io(format!("write {}", path.display()), error))
}

/// Writes a flame graph as SVG.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_svg_to(profile: &Profile, filter: &Filter, out: impl Write) -> io::Result<()> {
    let mut lines: Vec<String> = folded(profile, filter)
        .into_iter()
        .map(|(stack, samples)| format!("{stack} {samples}"))
        .collect();
    if lines.is_empty() {
        // The drawing needs at least one stack.
        lines.push("no samples 1".to_owned());
    }
    let mut options = flamegraph::Options::default();
    options.title = match filter.trace_id {
        Some(trace_id) => format!("CPU time of trace {trace_id}"),
        None => "CPU time".to_owned(),
    };
    options.count_name = "samples".to_owned();
    options.deterministic = true;
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
}

/// The functions at one place, outermost first.
fn folded_names(mut innermost_first: Vec<String>) -> String {
    innermost_first.reverse();
    innermost_first
        .iter()
        .map(|name| clean(name))
        .collect::<Vec<_>>()
        .join(";")
}

/// Frames are separated by semicolons and stacks by line ends, which Rust types and hostile names contain.
fn clean(name: &str) -> String {
    name.chars()
        .map(|character| match character {
            ';' => ':',
            character if character.is_control() => '?',
            character => character,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::two_traces;

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
        let route = Filter::all().label("http.route", "/slow");
        assert_eq!(
            folded(&profile, &route),
            [("app;main;handle<[u8: 4]>".to_owned(), 4)]
        );
        assert!(folded(&profile, &route.label("user", "x")).is_empty());
    }

    #[test]
    fn a_flame_graph_shows_the_frames() {
        let profile = two_traces();
        let mut svg = Vec::new();
        write_svg_to(&profile, &Filter::all(), &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(svg.starts_with("<?xml"), "{svg}");
        assert!(svg.contains("handle&lt;[u8: 4]&gt; (5 samples"), "{svg}");
        assert!(svg.ends_with("</svg>"));
    }

    #[test]
    fn a_profile_without_samples_is_a_flame_graph_too() {
        let mut svg = Vec::new();
        write_svg_to(&Profile::default(), &Filter::all(), &mut svg).unwrap();
        assert!(String::from_utf8(svg).unwrap().contains("no samples"));
    }
}
