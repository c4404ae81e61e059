//! Writes a profile as pprof: the format of `go tool pprof`, Parca and Pyroscope.
//!
//! Sample values are `samples/count` and `cpu/nanoseconds`, and where times off the CPU are among the samples
//! `blocked/nanoseconds` and `preempted/nanoseconds`. Labels: the ids of trace and span in hexadecimal, thread and
//! process, the service where the process published its name, then the thread context's attributes and the
//! custom labels; their names are those of a [`LabelStyle`].

pub mod proto;

use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use crate::label_style::LabelStyle;
use crate::profile::interned::Interned;
use crate::profile::{Context, Filter, Profile, Row, Thread};
use crate::sample::Activity;

/// Writes what `filter` shows of a profile in pprof's format, compressed with gzip as its readers expect.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write(
    profile: &Profile,
    filter: &Filter,
    style: LabelStyle,
    out: impl Write,
) -> io::Result<()> {
    let mut encoder = GzEncoder::new(out, Compression::default());
    encoder.write_all(&encode(profile, filter, style).encode_to_vec())?;
    encoder.finish()?.flush()
}

/// The message that [`write()`] writes.
pub fn encode(profile: &Profile, filter: &Filter, style: LabelStyle) -> proto::Profile {
    let profile = &*profile.select(filter);
    let mut strings = Strings(Interned::starting_with(String::new()));
    let started = profile
        .started
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    let samples = strings.value_type("samples", "count");
    let cpu = strings.value_type("cpu", "nanoseconds");
    let mut sample_types = vec![samples, cpu];
    if profile.has_off_cpu() {
        sample_types.push(strings.value_type("blocked", "nanoseconds"));
        sample_types.push(strings.value_type("preempted", "nanoseconds"));
    }
    let kinds = sample_types.len();
    let mut encoded = proto::Profile {
        sample_type: sample_types,
        time_nanos: signed(started.as_nanos()),
        duration_nanos: signed(profile.duration.as_nanos()),
        period_type: Some(cpu),
        period: signed(profile.period_ns),
        default_sample_type: cpu.r#type,
        ..proto::Profile::default()
    };
    if profile.lost > 0 {
        encoded
            .comment
            .push(strings.index(&format!("{} samples were lost", profile.lost)));
    }
    encoded.function = (1..)
        .zip(&profile.functions)
        .map(|(id, function)| proto::Function {
            id,
            name: strings.index(&function.name),
            system_name: strings.index(&function.name),
            filename: strings.index(&function.file),
            start_line: 0,
        })
        .collect();
    encoded.location = (1..)
        .zip(&profile.locations)
        .map(|(id, location)| proto::Location {
            id,
            mapping_id: location.mapping.map_or(0, id_of),
            address: location.address,
            line: location
                .frames
                .iter()
                .map(|frame| proto::Line {
                    function_id: id_of(frame.function),
                    line: frame.line.map_or(0, i64::from),
                })
                .collect(),
        })
        .collect();
    encoded.mapping = mappings(profile, &mut strings);
    encoded.sample = profile
        .rows
        .iter()
        .map(|row| sample(profile, row, style, kinds, &mut strings))
        .collect();
    encoded.string_table = strings.0.into_values();
    encoded
}

fn mappings(profile: &Profile, strings: &mut Strings) -> Vec<proto::Mapping> {
    let mut mappings: Vec<_> = (1..)
        .zip(&profile.mappings)
        .map(|(id, mapping)| proto::Mapping {
            id,
            memory_start: mapping.start,
            memory_limit: mapping.end,
            file_offset: mapping.offset,
            filename: strings.index(&mapping.name),
            build_id: mapping
                .build_id
                .as_ref()
                .map_or(0, |id| strings.index(&id.to_string())),
            ..proto::Mapping::default()
        })
        .collect();
    // A reader of the file looks up for itself what a mapping does not claim to have.
    for location in &profile.locations {
        let Some(mapping) = location
            .mapping
            .and_then(|mapping| mappings.get_mut(mapping))
        else {
            continue;
        };
        mapping.has_functions |= !location.frames.is_empty();
        mapping.has_inline_frames |= !location.frames.is_empty();
        for frame in &location.frames {
            mapping.has_line_numbers |= frame.line.is_some();
            mapping.has_filenames |= profile
                .functions
                .get(frame.function)
                .is_some_and(|function| !function.file.is_empty());
        }
    }
    mappings
}

fn sample(
    profile: &Profile,
    row: &Row,
    style: LabelStyle,
    kinds: usize,
    strings: &mut Strings,
) -> proto::Sample {
    let stack = profile
        .stacks
        .get(row.stack)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ns = |activity| signed(if row.activity == activity { row.ns } else { 0 });
    let samples = match row.activity {
        Activity::OnCpu => signed(row.samples),
        Activity::Blocked | Activity::Preempted => 0,
    };
    let mut value = vec![
        samples,
        ns(Activity::OnCpu),
        ns(Activity::Blocked),
        ns(Activity::Preempted),
    ];
    value.truncate(kinds);
    proto::Sample {
        location_id: stack.iter().map(|&location| id_of(location)).collect(),
        value,
        label: labels(profile, row, style, strings),
    }
}

fn labels(
    profile: &Profile,
    row: &Row,
    style: LabelStyle,
    strings: &mut Strings,
) -> Vec<proto::Label> {
    let mut labels = Labels {
        style,
        strings,
        list: Vec::new(),
    };
    let context = profile.contexts.get(row.context);
    if let Some(context) = context {
        labels.ids(context);
    }
    if let Some(thread) = profile.threads.get(row.thread) {
        labels.thread(profile, thread);
    }
    for (key, value) in context.into_iter().flat_map(|context| &context.labels) {
        labels.text(&style.label(key), value);
    }
    labels.list
}

/// The labels of one sample; the first of a repeated name wins.
struct Labels<'a> {
    style: LabelStyle,
    strings: &'a mut Strings,
    list: Vec<proto::Label>,
}

impl Labels<'_> {
    fn ids(&mut self, context: &Context) {
        let names = self.style.names();
        if let Some(trace_id) = context.trace_id {
            self.text(names.trace_id, &trace_id.to_string());
        }
        if let Some(span_id) = context.span_id {
            self.text(names.span_id, &span_id.to_string());
        }
    }

    fn thread(&mut self, profile: &Profile, thread: &Thread) {
        let names = self.style.names();
        self.text(names.thread_name, &thread.name);
        self.number(names.thread_id, thread.tid);
        if let Some(process) = profile.processes.get(thread.process) {
            self.number(names.process_id, process.pid);
            self.text(names.process_name, process.executable_name());
            if let Some(service) = process.resource("service.name") {
                self.text(names.service_name, service);
            }
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        // An empty string is index 0, which means that the label is a number.
        if !value.is_empty() {
            let str = self.strings.index(value);
            self.push(
                key,
                proto::Label {
                    str,
                    ..proto::Label::default()
                },
            );
        }
    }

    fn number(&mut self, key: &str, value: u32) {
        if self.style.numbers_are_text() {
            return self.text(key, &value.to_string());
        }
        let num = i64::from(value);
        self.push(
            key,
            proto::Label {
                num,
                ..proto::Label::default()
            },
        );
    }

    fn push(&mut self, key: &str, label: proto::Label) {
        let key = self.strings.index(key);
        if self.list.iter().all(|label| label.key != key) {
            self.list.push(proto::Label { key, ..label });
        }
    }
}

/// The string table: index 0 is the empty string.
#[derive(Debug)]
struct Strings(Interned<String>);

impl Strings {
    fn index(&mut self, text: &str) -> i64 {
        signed(self.0.index(text.to_owned()))
    }

    fn value_type(&mut self, r#type: &str, unit: &str) -> proto::ValueType {
        proto::ValueType {
            r#type: self.index(r#type),
            unit: self.index(unit),
        }
    }
}

/// Ids start at 1; 0 means none.
fn id_of(index: usize) -> u64 {
    u64::try_from(index).map_or(0, |index| index.saturating_add(1))
}

fn signed<T: TryInto<i64>>(number: T) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
