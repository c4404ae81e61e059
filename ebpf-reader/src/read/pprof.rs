//! From pprof's message to a profile.

use std::collections::HashMap;

use prost::Message;

use super::builder::{Builder, Sample};
use super::{count, nanoseconds};
use crate::elf::BuildId;
use crate::pprof::proto;
use crate::profile::{Frame, Function, Location, Mapping};
use crate::sample::Activity;

/// Which of a sample's values are what.
#[derive(Debug, Default)]
struct Values {
    samples: Option<usize>,
    /// Index, and nanoseconds that one stands for.
    cpu: Option<(usize, u64)>,
    blocked: Option<(usize, u64)>,
    preempted: Option<(usize, u64)>,
}

/// Decodes a profile.
pub(super) fn decode(bytes: &[u8]) -> Result<crate::profile::Profile, String> {
    let message = proto::Profile::decode(bytes)
        .map_err(|error| format!("it is not a profile in pprof's format: {error}"))?;
    let string = |index: i64| -> &str {
        let index = usize::try_from(index).ok();
        let text = index.and_then(|index| message.string_table.get(index));
        text.map_or("", String::as_str)
    };
    let values = values(&message, string)?;
    let mut builder = Builder::default();
    builder.time(count(message.time_nanos), count(message.duration_nanos));
    builder.profile.period_ns = count(message.period);

    let mut functions = HashMap::new();
    for function in &message.function {
        functions.insert(function.id, builder.profile.functions.len());
        builder.profile.functions.push(Function {
            name: string(function.name).to_owned(),
            file: string(function.filename).to_owned(),
        });
    }
    let mut mappings = HashMap::new();
    for mapping in &message.mapping {
        mappings.insert(mapping.id, builder.profile.mappings.len());
        builder.profile.mappings.push(Mapping {
            start: mapping.memory_start,
            end: mapping.memory_limit,
            offset: mapping.file_offset,
            name: string(mapping.filename).to_owned(),
            module: None,
            build_id: BuildId::from_hex(string(mapping.build_id)),
        });
    }
    let mut locations = HashMap::new();
    for location in &message.location {
        locations.insert(location.id, builder.profile.locations.len());
        let frames = location.line.iter().filter_map(|line| {
            Some(Frame {
                function: *functions.get(&line.function_id)?,
                line: u32::try_from(line.line).ok().filter(|&line| line > 0),
            })
        });
        builder.profile.locations.push(Location {
            mapping: mappings.get(&location.mapping_id).copied(),
            address: location.address,
            frames: frames.collect(),
        });
    }
    for sample in &message.sample {
        let value = |index: usize| count(sample.value.get(index).copied().unwrap_or(0));
        let time = |value_type: Option<(usize, u64)>| {
            value_type.map_or(0, |(index, unit)| value(index).saturating_mul(unit))
        };
        let wait = |activity, ns| (activity, u64::from(ns > 0), ns);
        let samples = values.samples.map_or(0, value);
        let times = [
            (Activity::OnCpu, samples, time(values.cpu)),
            wait(Activity::Blocked, time(values.blocked)),
            wait(Activity::Preempted, time(values.preempted)),
        ];
        let stack = sample.location_id.iter();
        let attributes = sample.label.iter().map(|label| {
            let value = match label.str {
                0 => label.num.to_string(),
                index => string(index).to_owned(),
            };
            (string(label.key).to_owned(), value)
        });
        let sample = Sample {
            attributes: attributes.collect(),
            stack: stack.filter_map(|id| locations.get(id).copied()).collect(),
            ..Sample::default()
        };
        builder.add(sample, &times);
    }
    Ok(builder.finish())
}

fn values<'a>(message: &proto::Profile, string: impl Fn(i64) -> &'a str) -> Result<Values, String> {
    let mut values = Values::default();
    for (index, kind) in message.sample_type.iter().enumerate() {
        let unit = string(kind.unit);
        let time = nanoseconds(unit).map(|unit| (index, unit));
        match string(kind.r#type) {
            "samples" | "sample" if unit == "count" => values.samples = Some(index),
            "cpu" => values.cpu = time,
            "blocked" => values.blocked = time,
            "preempted" => values.preempted = time,
            _ => {}
        }
    }
    if values.cpu.is_none() {
        // Some writers leave it to the reader to multiply.
        let period = message.period_type.unwrap_or_default();
        let unit = nanoseconds(string(period.unit));
        if let (Some(samples), "cpu", Some(unit)) = (values.samples, string(period.r#type), unit) {
            values.cpu = Some((samples, unit.saturating_mul(count(message.period))));
        }
    }
    if values.cpu.is_none() && values.blocked.is_none() {
        return Err("it has no CPU time: its samples have no value cpu/nanoseconds".to_owned());
    }
    Ok(values)
}
