//! Writes a profile as pprof: the format of `go tool pprof`, Parca and Pyroscope.
//!
//! Sample values are `samples/count` and `cpu/nanoseconds`. Labels: `trace_id` and `span_id` in
//! hexadecimal, `thread_name`, `thread_id` and `process_id`, `service_name` where the process published it,
//! then the thread context's attributes and the custom labels by their own names.

pub mod proto;

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use crate::profile::{Context, Profile, Row, Thread};

/// Label that holds the trace id.
pub const TRACE_LABEL: &str = "trace_id";
/// Label that holds the span id.
pub const SPAN_LABEL: &str = "span_id";

/// Writes `profile` in pprof's format, compressed with gzip as its readers expect.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write(profile: &Profile, out: impl Write) -> io::Result<()> {
    let mut encoder = GzEncoder::new(out, Compression::default());
    encoder.write_all(&encode(profile).encode_to_vec())?;
    encoder.finish()?.flush()
}

/// The message that [`write()`] writes.
pub fn encode(profile: &Profile) -> proto::Profile {
    let mut strings = Strings::default();
    let started = profile
        .started
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    let samples = strings.value_type("samples", "count");
    let cpu = strings.value_type("cpu", "nanoseconds");
    let mut encoded = proto::Profile {
        sample_type: vec![samples, cpu],
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
        .map(|row| sample(profile, row, &mut strings))
        .collect();
    encoded.string_table = strings.list;
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

fn sample(profile: &Profile, row: &Row, strings: &mut Strings) -> proto::Sample {
    let stack = profile
        .stacks
        .get(row.stack)
        .map(Vec::as_slice)
        .unwrap_or_default();
    proto::Sample {
        location_id: stack.iter().map(|&location| id_of(location)).collect(),
        value: vec![signed(row.samples), signed(profile.cpu_ns(row.samples))],
        label: labels(profile, row, strings),
    }
}

fn labels(profile: &Profile, row: &Row, strings: &mut Strings) -> Vec<proto::Label> {
    let mut labels = Labels {
        strings,
        list: Vec::new(),
    };
    if let Some(context) = profile.contexts.get(row.context) {
        labels.ids(context);
    }
    if let Some(thread) = profile.threads.get(row.thread) {
        labels.thread(profile, thread);
    }
    if let Some(context) = profile.contexts.get(row.context) {
        for (key, value) in &context.labels {
            labels.text(key, value);
        }
    }
    labels.list
}

/// The labels of one sample; the first of a repeated name wins.
struct Labels<'a> {
    strings: &'a mut Strings,
    list: Vec<proto::Label>,
}

impl Labels<'_> {
    fn ids(&mut self, context: &Context) {
        if let Some(trace_id) = context.trace_id {
            self.text(TRACE_LABEL, &trace_id.to_string());
        }
        if let Some(span_id) = context.span_id {
            self.text(SPAN_LABEL, &span_id.to_string());
        }
    }

    fn thread(&mut self, profile: &Profile, thread: &Thread) {
        self.text("thread_name", &thread.name);
        self.number("thread_id", thread.tid);
        if let Some(process) = profile.processes.get(thread.process) {
            self.number("process_id", process.pid);
            if let Some(service) = process
                .context
                .as_ref()
                .and_then(|context| context.resource("service.name"))
            {
                self.text("service_name", service);
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
struct Strings {
    list: Vec<String>,
    indices: HashMap<String, i64>,
}

impl Default for Strings {
    fn default() -> Self {
        Self {
            list: vec![String::new()],
            indices: HashMap::from([(String::new(), 0)]),
        }
    }
}

impl Strings {
    fn index(&mut self, text: &str) -> i64 {
        if let Some(&index) = self.indices.get(text) {
            return index;
        }
        let index = signed(self.list.len());
        self.list.push(text.to_owned());
        self.indices.insert(text.to_owned(), index);
        index
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
