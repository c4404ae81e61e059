//! From OpenTelemetry's message to a profile.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::builder::{Builder, ProcessKey, Sample};
use super::{count, nanoseconds};
use crate::elf::BuildId;
use crate::label_style::LabelStyle;
use crate::otlp::{BUILD_ID, proto};
use crate::profile::{Frame, Function, Location, Mapping, Profile, SpanId, TraceId};
use crate::sample::Activity;

/// Decodes a profile.
pub(super) fn decode(bytes: &[u8]) -> Result<Profile, String> {
    let message = proto::ProfilesData::decode(bytes)
        .map_err(|error| format!("it is not a profile in OpenTelemetry's format: {error}"))?;
    let reader = Reader {
        dictionary: message.dictionary.unwrap_or_default(),
    };
    let mut builder = Builder::default();
    reader.tables(&mut builder.profile);
    let mut understood = false;
    for resource in &message.resource_profiles {
        let process = reader.process(resource.resource.as_ref());
        let scopes = resource.scope_profiles.iter();
        for profile in scopes.flat_map(|scope| &scope.profiles) {
            understood |= reader.profile(profile, &process, &mut builder);
        }
    }
    if !understood {
        return Err(
            "it has no CPU time: no profile of samples/count with a period of cpu/nanoseconds"
                .to_owned(),
        );
    }
    Ok(builder.finish())
}

struct Reader {
    dictionary: proto::ProfilesDictionary,
}

fn get<T>(table: &[T], index: i32) -> Option<&T> {
    table.get(usize::try_from(index).ok()?)
}

/// The index, unless it is 0, which means none, or leads nowhere.
fn some<T>(table: &[T], index: i32) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    (index != 0 && index < table.len()).then_some(index)
}

impl Reader {
    /// The tables keep their indices, the null entries at index 0 included.
    fn tables(&self, profile: &mut Profile) {
        let tables = &self.dictionary;
        let functions = tables.function_table.iter().map(|function| Function {
            name: self.string(function.name_strindex).to_owned(),
            file: self.string(function.filename_strindex).to_owned(),
        });
        profile.functions = functions.collect();
        let mappings = tables.mapping_table.iter().map(|mapping| Mapping {
            start: mapping.memory_start,
            end: mapping.memory_limit,
            offset: mapping.file_offset,
            name: self.string(mapping.filename_strindex).to_owned(),
            module: None,
            build_id: self.build_id(mapping),
        });
        profile.mappings = mappings.collect();
        let locations = tables.location_table.iter().map(|location| Location {
            mapping: some(&tables.mapping_table, location.mapping_index),
            address: location.address,
            frames: location
                .lines
                .iter()
                .filter_map(|line| {
                    Some(Frame {
                        function: some(&tables.function_table, line.function_index)?,
                        line: u32::try_from(line.line).ok().filter(|&line| line > 0),
                    })
                })
                .collect(),
        });
        profile.locations = locations.collect();
    }

    fn string(&self, index: i32) -> &str {
        get(&self.dictionary.string_table, index).map_or("", String::as_str)
    }

    fn value_type(&self, kind: Option<proto::ValueType>) -> (&str, &str) {
        let kind = kind.unwrap_or_default();
        (
            self.string(kind.type_strindex),
            self.string(kind.unit_strindex),
        )
    }

    fn process(&self, resource: Option<&Resource>) -> ProcessKey {
        let mut process = ProcessKey::default();
        for attribute in resource
            .into_iter()
            .flat_map(|resource| &resource.attributes)
        {
            let key = match attribute.key_strindex {
                0 => &attribute.key,
                index => self.string(index),
            };
            let value = self.text(attribute.value.as_ref());
            match key {
                "process.pid" => process.pid = value.parse().unwrap_or(0),
                "process.executable.name" => process.name.clone_from(&value),
                "process.executable.path" => process.executable.clone_from(&value),
                _ => {}
            }
            process.resource.push((key.to_owned(), value));
        }
        process
    }

    fn text(&self, value: Option<&AnyValue>) -> String {
        match value.and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::StringValueStrindex(index)) => self.string(*index).to_owned(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::DoubleValue(number)) => number.to_string(),
            Some(Value::BoolValue(value)) => value.to_string(),
            _ => String::new(),
        }
    }

    /// Adds the samples of one profile; whether it is one of times that are understood.
    fn profile(
        &self,
        profile: &proto::Profile,
        process: &ProcessKey,
        builder: &mut Builder,
    ) -> bool {
        let (kind, unit) = self.value_type(profile.sample_type);
        let (period_kind, period_unit) = self.value_type(profile.period_type);
        let period = nanoseconds(period_unit)
            .filter(|_| period_kind == "cpu")
            .map(|unit| unit.saturating_mul(count(profile.period)));
        // What one of a sample's values stands for: samples, and nanoseconds.
        let (on_cpu, samples, ns) = match (kind, unit, period, nanoseconds(unit)) {
            ("samples", "count", Some(period), _) => (true, 1, period),
            ("cpu", _, _, Some(unit)) => (true, 0, unit),
            ("off_cpu", _, _, Some(unit)) => (false, 0, unit),
            _ => return false,
        };
        builder.time(profile.time_unix_nano, profile.duration_nano);
        if let Some(period) = period {
            builder.profile.period_ns = period;
        }
        for sample in &profile.samples {
            // Without values each point in time is one.
            let value = match sample.values.is_empty() {
                true => u64::try_from(sample.timestamps_unix_nano.len()).unwrap_or(u64::MAX),
                false => {
                    let values = sample.values.iter().map(|&value| count(value));
                    values.fold(0, u64::saturating_add)
                }
            };
            let time = value.saturating_mul(ns);
            let mut activity = match on_cpu {
                true => Activity::OnCpu,
                false => Activity::Blocked,
            };
            let mut attributes = self.attributes(sample);
            if !on_cpu {
                attributes.retain(|(key, value)| {
                    let mut styles = LabelStyle::ALL.into_iter();
                    let ours = styles.any(|style| style.names().thread_activity == key);
                    if ours && value == "preempted" {
                        activity = Activity::Preempted;
                    }
                    !ours
                });
            }
            let samples = match on_cpu {
                true => value.saturating_mul(samples),
                false => u64::from(time > 0),
            };
            let (trace_id, span_id) = self.link(sample.link_index);
            let sample = Sample {
                trace_id,
                span_id,
                attributes,
                stack: self.stack(sample.stack_index),
                process: process.clone(),
            };
            builder.add(sample, &[(activity, samples, time)]);
        }
        true
    }

    fn attributes(&self, sample: &proto::Sample) -> Vec<(String, String)> {
        let attributes = sample.attribute_indices.iter().filter_map(|&index| {
            let attribute = get(&self.dictionary.attribute_table, index)?;
            let key = self.string(attribute.key_strindex);
            (!key.is_empty()).then(|| (key.to_owned(), self.text(attribute.value.as_ref())))
        });
        attributes.collect()
    }

    fn build_id(&self, mapping: &proto::Mapping) -> Option<BuildId> {
        let attributes = mapping.attribute_indices.iter();
        let mut attributes =
            attributes.filter_map(|&index| get(&self.dictionary.attribute_table, index));
        let found = attributes.find(|found| self.string(found.key_strindex) == BUILD_ID)?;
        BuildId::from_hex(&self.text(found.value.as_ref()))
    }

    fn link(&self, index: i32) -> (Option<TraceId>, Option<SpanId>) {
        let Some(link) = get(&self.dictionary.link_table, index) else {
            return (None, None);
        };
        let trace_id = link.trace_id.as_slice().try_into().ok();
        let span_id = link.span_id.as_slice().try_into().ok();
        (
            trace_id.filter(|id| *id != [0; 16]).map(TraceId),
            span_id.filter(|id| *id != [0; 8]).map(SpanId),
        )
    }

    fn stack(&self, index: i32) -> Vec<usize> {
        let stack = get(&self.dictionary.stack_table, index);
        let locations = stack.into_iter().flat_map(|stack| &stack.location_indices);
        let locations = locations.filter_map(|&index| some(&self.dictionary.location_table, index));
        locations.collect()
    }
}
