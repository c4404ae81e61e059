//! From a profile to the message.

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::dictionary::{Attribute, Dictionary};
use super::proto;
use crate::label_style::LabelStyle;
use crate::profile::{Filter, Process, Profile, Row};
use crate::sample::Activity;

/// Attribute of mappings: the file's GNU build id, as hexadecimal digits.
pub(crate) const BUILD_ID: &str = "process.executable.build_id.gnu";

/// Name of the instrumentation scope.
const SCOPE: &str = "ebpf_reader";

/// The message for what `filter` shows of a profile: one `ResourceProfiles` for each process with samples, in the
/// order of [`Profile::processes`]. If there are none, a single one without samples, as a message has to have one.
pub fn encode(profile: &Profile, filter: &Filter, style: LabelStyle) -> proto::ProfilesData {
    let profile = profile.select(filter);
    let mut encoder = Encoder {
        profile: &profile,
        style,
        dictionary: Dictionary::new(),
    };
    let mut by_process: Vec<Vec<&Row>> = vec![Vec::new(); profile.processes.len()];
    for row in &profile.rows {
        let thread = profile.threads.get(row.thread);
        if let Some(rows) = thread.and_then(|thread| by_process.get_mut(thread.process)) {
            rows.push(row);
        }
    }
    let mut resource_profiles: Vec<_> = profile
        .processes
        .iter()
        .zip(&by_process)
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(process, rows)| encoder.process(resource(process), rows))
        .collect();
    if resource_profiles.is_empty() {
        resource_profiles.push(encoder.process(Resource::default(), &[]));
    }
    proto::ProfilesData {
        resource_profiles,
        dictionary: Some(encoder.dictionary.into_message()),
    }
}

struct Encoder<'a> {
    profile: &'a Profile,
    style: LabelStyle,
    dictionary: Dictionary,
}

impl Encoder<'_> {
    fn process(&mut self, resource: Resource, rows: &[&Row]) -> proto::ResourceProfiles {
        let (on_cpu, off_cpu): (Vec<&Row>, Vec<&Row>) =
            rows.iter().partition(|row| row.activity == Activity::OnCpu);
        let mut profiles = Vec::new();
        if !on_cpu.is_empty() || off_cpu.is_empty() {
            let samples = self.dictionary.value_type("samples", "count");
            let cpu = self.dictionary.value_type("cpu", "nanoseconds");
            profiles.push(proto::Profile {
                sample_type: Some(samples),
                period_type: Some(cpu),
                period: signed(self.profile.period_ns),
                samples: self.samples(&on_cpu, |row| row.samples),
                ..self.empty()
            });
        }
        if !off_cpu.is_empty() {
            let off_cpu_time = self.dictionary.value_type("off_cpu", "nanoseconds");
            // There is no period to tell: every time is measured. Parca refuses a message with a profile that does not
            // tell one; Pyroscope knows times off the CPU by there being none.
            let (period_type, period) = match self.style {
                LabelStyle::Parca => (Some(self.dictionary.value_type("samples", "count")), 1),
                LabelStyle::Otel | LabelStyle::Pyroscope => (None, 0),
            };
            profiles.push(proto::Profile {
                sample_type: Some(off_cpu_time),
                period_type,
                period,
                samples: self.samples(&off_cpu, |row| row.ns),
                ..self.empty()
            });
        }
        proto::ResourceProfiles {
            resource: Some(resource),
            scope_profiles: vec![proto::ScopeProfiles {
                scope: Some(InstrumentationScope {
                    name: SCOPE.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                profiles,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }
    }

    /// What all profiles of the message have in common.
    fn empty(&mut self) -> proto::Profile {
        let started = self.profile.started;
        let started = started.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let mut attribute_indices = Vec::new();
        if self.profile.lost > 0 {
            let comment = format!("{} samples were lost", self.profile.lost);
            let comment = Attribute::Texts(vec![comment]);
            attribute_indices.push(self.dictionary.attribute("pprof.profile.comment", comment));
        }
        proto::Profile {
            time_unix_nano: nanoseconds(started.unwrap_or_default().as_nanos()),
            duration_nano: nanoseconds(self.profile.duration.as_nanos()),
            profile_id: random_id(),
            attribute_indices,
            ..proto::Profile::default()
        }
    }

    /// Samples with equal stack, attributes and link are one.
    fn samples(&mut self, rows: &[&Row], value: impl Fn(&Row) -> u64) -> Vec<proto::Sample> {
        let mut samples: Vec<proto::Sample> = Vec::with_capacity(rows.len());
        let mut known: HashMap<(i32, i32, Vec<i32>), usize> = HashMap::new();
        for row in rows {
            let stack_index = self.dictionary.stack(self.profile, row.stack);
            let link_index = self.link(row);
            let attribute_indices = self.attributes(row);
            let value = signed(value(row));
            let key = (stack_index, link_index, attribute_indices.clone());
            let index = *known.entry(key).or_insert(samples.len());
            match samples
                .get_mut(index)
                .and_then(|sample| sample.values.first_mut())
            {
                Some(sum) => *sum = sum.saturating_add(value),
                None => samples.push(proto::Sample {
                    stack_index,
                    attribute_indices,
                    link_index,
                    values: vec![value],
                    timestamps_unix_nano: Vec::new(),
                }),
            }
        }
        samples
    }

    fn link(&mut self, row: &Row) -> i32 {
        let context = self.profile.contexts.get(row.context);
        match context.and_then(|context| Some((context.trace_id?, context.span_id))) {
            Some((trace_id, span_id)) => {
                let span_id = span_id.unwrap_or_default();
                self.dictionary.link(trace_id.0, span_id.0)
            }
            None => 0,
        }
    }

    fn attributes(&mut self, row: &Row) -> Vec<i32> {
        let names = self.style.names();
        let number = |number: u32| match self.style.numbers_are_text() {
            true => Attribute::Text(number.to_string()),
            false => Attribute::Number(number.into()),
        };
        let mut attributes: Vec<(String, Attribute)> = Vec::new();
        let mut add = |key: &str, value: Attribute| {
            // Keys are unique: the first one stays.
            if attributes.iter().all(|(known, _)| known != key) {
                attributes.push((key.to_owned(), value));
            }
        };
        if let Some(thread) = self.profile.threads.get(row.thread) {
            if !thread.name.is_empty() {
                add(names.thread_name, Attribute::Text(thread.name.clone()));
            }
            add(names.thread_id, number(thread.tid));
            if self.style == LabelStyle::Parca
                && let Some(process) = self.profile.processes.get(thread.process)
            {
                add(
                    names.process_name,
                    Attribute::Text(process.executable_name().to_owned()),
                );
                add(names.process_id, number(process.pid));
            }
        }
        match row.activity {
            Activity::OnCpu => {}
            Activity::Blocked => {
                add(names.thread_activity, Attribute::Text("blocked".to_owned()));
            }
            Activity::Preempted => {
                add(
                    names.thread_activity,
                    Attribute::Text("preempted".to_owned()),
                );
            }
        }
        if let Some(context) = self.profile.contexts.get(row.context) {
            if self.style == LabelStyle::Parca {
                if let Some(trace_id) = context.trace_id {
                    add(names.trace_id, Attribute::Text(trace_id.to_string()));
                }
                if let Some(span_id) = context.span_id {
                    add(names.span_id, Attribute::Text(span_id.to_string()));
                }
            }
            for (key, value) in &context.labels {
                add(&self.style.label(key), Attribute::Text(value.clone()));
            }
        }
        attributes
            .into_iter()
            .map(|(key, value)| self.dictionary.attribute(&key, value))
            .collect()
    }
}

/// What is known of a process; of equal keys the one that the process itself published.
fn resource(process: &Process) -> Resource {
    let mut attributes: Vec<KeyValue> = Vec::new();
    let mut add = |key: &str, value: Value| {
        if !key.is_empty() && attributes.iter().all(|known| known.key != key) {
            attributes.push(KeyValue {
                key: key.to_owned(),
                value: Some(AnyValue { value: Some(value) }),
                ..KeyValue::default()
            });
        }
    };
    let published = process.context.iter().flat_map(|context| &context.resource);
    for (key, value) in published.chain(&process.origin) {
        add(key, Value::StringValue(value.clone()));
    }
    let executable = process.executable_name();
    add(
        "service.name",
        Value::StringValue(format!("unknown_service:{executable}")),
    );
    add("process.pid", Value::IntValue(process.pid.into()));
    add(
        "process.executable.name",
        Value::StringValue(executable.to_owned()),
    );
    if !process.executable.is_empty() {
        add(
            "process.executable.path",
            Value::StringValue(process.executable.clone()),
        );
    }
    Resource {
        attributes,
        ..Resource::default()
    }
}

/// A new id; none where the system has no random numbers, which the format allows.
fn random_id() -> Vec<u8> {
    let mut id = [0; 16];
    match rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()) {
        Ok(16) if id != [0; 16] => id.to_vec(),
        _ => Vec::new(),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn nanoseconds(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
