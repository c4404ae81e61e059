//! `ebpf-reader diff`: from two files, or two values of an attribute in one file, to a comparison.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use ebpf_reader::diff::Diff;
use ebpf_reader::output::{Format, Output};
use ebpf_reader::profile::{Filter, Profile};
use ebpf_reader::read;

use super::printing::{print, readers_may_leave};
use super::selection::Selection;
use crate::message::tell;

/// What to compare and how.
#[derive(Args, Debug)]
pub(crate) struct Compare {
    /// Profile to compare with: pprof, or OpenTelemetry's format (.otlp, .otlp.gz)
    #[arg(value_name = "BEFORE")]
    before: PathBuf,

    /// Profile to compare
    #[arg(
        value_name = "AFTER",
        conflicts_with = "between",
        required_unless_present = "between"
    )]
    after: Option<PathBuf>,

    /// Compare two values of an attribute or label within the one profile
    #[arg(long, value_name = "KEY=BEFORE,AFTER", value_parser = between)]
    between: Option<Between>,

    #[command(flatten)]
    selection: Selection,

    /// List those functions first whose time has changed most with all that they called
    #[arg(long)]
    total: bool,

    /// Functions to list in the table
    #[arg(long, value_name = "N", default_value_t = 30)]
    rows: usize,

    /// Print the comparison as one JSON object
    #[arg(long)]
    json: bool,

    /// Also write a differential flame graph (.svg) or the comparison (.json); "-" writes it to standard output in
    /// place of the table
    #[arg(short, long = "output", value_name = "FILE")]
    output: Option<PathBuf>,

    /// Format of the file: svg or json; without it, the file's name tells
    #[arg(long, value_name = "FORMAT", requires = "output")]
    format: Option<Format>,
}

/// Two values of an attribute.
#[derive(Clone, Debug, PartialEq)]
struct Between {
    name: String,
    before: String,
    after: String,
}

impl Compare {
    /// Compares, prints and writes; an error is what makes the exit status fail.
    pub(crate) fn run(self) -> Result<()> {
        let format = self
            .output
            .as_deref()
            .map(|path| self.format_of(path))
            .transpose()?;
        let (diff, title) = self.compare()?;
        let diff = diff.rows(self.rows);
        let diff = if self.total { diff.by_total() } else { diff };
        let write = |out: &mut dyn Write| match format {
            Some(Format::Svg) => diff.write_svg_to(&title, out),
            _ => writeln!(out, "{}", diff.json()),
        };
        match &self.output {
            Some(path) if path.as_os_str() == "-" => {
                return readers_may_leave(write(&mut io::stdout().lock()))
                    .context("cannot write to standard output");
            }
            Some(path) => {
                Output::create_as(path, format.unwrap_or(Format::Json))?.write_with(write)?;
                tell("note", format_args!("wrote {}", path.display()));
            }
            None => {}
        }
        let report = match self.json {
            true => diff.json(),
            false => diff.to_string(),
        };
        print(&report).context("cannot print the comparison")
    }

    fn format_of(&self, path: &Path) -> Result<Format> {
        let format = match self.format {
            Some(format) => format,
            None if path.as_os_str() == "-" => bail!("-o - needs --format"),
            None => Format::of(path)?,
        };
        match format {
            Format::Svg | Format::Json => Ok(format),
            _ => bail!("a comparison is written as .svg or .json"),
        }
    }

    /// The comparison, and how it is called.
    fn compare(&self) -> Result<(Diff, String)> {
        let filter = self.filter();
        let before = read::read(&self.before)?;
        if let Some(after) = &self.after {
            let after_profile = read::read(after)?;
            let title = format!("{} → {}", self.before.display(), after.display());
            let before = selected(&before, &filter, &self.before.display().to_string())?;
            let after = selected(&after_profile, &filter, &after.display().to_string())?;
            return Ok((Diff::new(&before, &after), title));
        }
        let Some(Between {
            name,
            before: first,
            after: second,
        }) = &self.between
        else {
            bail!("name a second profile, or two values with --between");
        };
        let side = |value: &String| {
            let filter = filter.clone().attribute(name, value);
            selected(&before, &filter, &format!("{name}={value}"))
        };
        let title = format!("{name}: {first} → {second}");
        Ok((Diff::new(&side(first)?, &side(second)?), title))
    }

    /// Time on the CPU, unless something else was asked for.
    fn filter(&self) -> Filter {
        let filter = self.selection.filter();
        match filter.activities.is_empty() {
            true => filter.on_cpu(),
            false => filter,
        }
    }
}

/// One side of the comparison; nothing to compare with is an error, as it mostly is a mistyped name.
fn selected(profile: &Profile, filter: &Filter, what: &str) -> Result<Profile> {
    let selected = profile.select(filter).into_owned();
    if selected.rows.is_empty() {
        bail!("there are no samples of {} to compare", what);
    }
    Ok(selected)
}

fn between(text: &str) -> Result<Between, String> {
    let usage = || "must be KEY=BEFORE,AFTER".to_owned();
    let (name, values) = text.split_once('=').ok_or_else(usage)?;
    match values.split_once(',') {
        Some((before, after)) if !name.is_empty() && !after.contains(',') => Ok(Between {
            name: name.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        }),
        _ => Err(usage()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_values_of_an_attribute() {
        let expected = Between {
            name: "latency".to_owned(),
            before: "fast".to_owned(),
            after: "slow".to_owned(),
        };
        assert_eq!(between("latency=fast,slow"), Ok(expected));
        for text in ["latency", "latency=fast", "=fast,slow", "latency=a,b,c"] {
            assert!(between(text).is_err(), "{text}");
        }
    }
}
