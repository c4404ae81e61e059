//! The query of a request: which samples, of which time.

use std::time::Duration;

use crate::label_style::LabelStyle;
use crate::profile::{By, Filter};

/// Most conditions on attributes in one request.
const MAX_ATTRIBUTES: usize = 16;
/// Rows in an answer unless told otherwise, and at most.
const ROWS: (usize, usize) = (200, 10_000);

/// What a request asks for. A parameter that is not known is an error: a mistyped filter must not show everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) seconds: Option<Duration>,
    pub(super) past: bool,
    pub(super) filter: Filter,
    pub(super) by: By,
    pub(super) search: String,
    pub(super) limit: usize,
    pub(super) style: Option<LabelStyle>,
}

impl Parameters {
    pub(super) fn new(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut parameters = Self {
            seconds: None,
            past: false,
            filter: Filter::all(),
            by: By::Trace,
            search: String::new(),
            limit: ROWS.0,
            style: None,
        };
        for (name, value) in pairs {
            let wrong = |expected: &str| Err(format!("{name} must be {expected}"));
            match name.as_str() {
                "seconds" => match value.parse::<u32>() {
                    Ok(seconds @ 1..) => {
                        parameters.seconds = Some(Duration::from_secs(seconds.into()));
                    }
                    _ => return wrong("a number of seconds, at least 1"),
                },
                "past" => match value.as_str() {
                    "1" | "true" => parameters.past = true,
                    "0" | "false" => parameters.past = false,
                    _ => return wrong("1 or 0"),
                },
                "trace_id" => match value.to_ascii_lowercase().parse() {
                    Ok(id) => parameters.filter.trace_id = Some(id),
                    Err(_) => return wrong("32 hexadecimal digits"),
                },
                "span_id" => match value.to_ascii_lowercase().parse() {
                    Ok(id) => parameters.filter.span_id = Some(id),
                    Err(_) => return wrong("16 hexadecimal digits"),
                },
                "attribute" => match value.split_once('=') {
                    Some((key, value)) if !key.is_empty() => {
                        parameters.filter = parameters.filter.attribute(key, value);
                    }
                    _ => return wrong("NAME=VALUE"),
                },
                "activity" => match value.as_str() {
                    "cpu" => parameters.filter = parameters.filter.on_cpu(),
                    "off-cpu" => parameters.filter = parameters.filter.off_cpu(),
                    "all" => parameters.filter.activities.clear(),
                    _ => return wrong("cpu, off-cpu or all"),
                },
                "by" if !value.is_empty() => parameters.by = By::parse(value),
                "search" => parameters.search.clone_from(value),
                "limit" => match value.parse() {
                    Ok(limit) if limit <= ROWS.1 => parameters.limit = limit,
                    _ => return wrong("a number of rows, at most 10000"),
                },
                "labels" => match value.parse() {
                    Ok(style) => parameters.style = Some(style),
                    Err(_) => return wrong("otel, parca or pyroscope"),
                },
                // What pprof's clients send without being asked.
                "debug" | "timeout" => {}
                _ => return Err(format!("there is no parameter {}", name.escape_debug())),
            }
        }
        if parameters.filter.attributes.len() > MAX_ATTRIBUTES {
            return Err(format!("at most {MAX_ATTRIBUTES} attributes"));
        }
        Ok(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Activity;

    fn parse(pairs: &[(&str, &str)]) -> Result<Parameters, String> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Parameters::new(&pairs.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_can_be_asked() {
        let trace = "4BF92F3577B34DA6A3CE929D0E0E4736";
        let parameters = parse(&[
            ("seconds", "30"),
            ("trace_id", trace),
            ("attribute", "http.route=/a=b"),
            ("attribute", "x=1"),
            ("activity", "off-cpu"),
            ("by", "http.route"),
            ("limit", "5"),
            ("past", "1"),
            ("labels", "parca"),
            ("debug", "0"),
        ])
        .unwrap();
        assert_eq!(parameters.seconds, Some(Duration::from_secs(30)));
        let filter = &parameters.filter;
        assert_eq!(filter.trace_id.unwrap().to_string(), trace.to_lowercase());
        assert_eq!(
            filter.attributes[0],
            ("http.route".to_owned(), "/a=b".to_owned())
        );
        assert_eq!(filter.attributes.len(), 2);
        assert_eq!(filter.activities, [Activity::Blocked, Activity::Preempted]);
        assert_eq!(parameters.by, By::Attribute("http.route".to_owned()));
        assert_eq!(parameters.limit, 5);
        assert!(parameters.past);
        assert_eq!(parameters.style, Some(LabelStyle::Parca));
    }

    /// Parca repeats what it adds to the parameters of its configuration.
    #[test]
    fn a_repeated_number_of_seconds_counts_once() {
        let parameters = parse(&[("labels", "parca"), ("seconds", "30"), ("seconds", "30")]);
        let parameters = parameters.unwrap();
        assert_eq!(parameters.seconds, Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_cannot() {
        for pair in [
            ("seconds", "0"),
            ("seconds", "-1"),
            ("seconds", "1.5"),
            ("seconds", "99999999999"),
            ("trace_id", "4bf9"),
            ("span_id", "x"),
            ("attribute", "x"),
            ("attribute", "=x"),
            ("activity", "idle"),
            ("limit", "10001"),
            ("past", "maybe"),
            ("labels", "x"),
            ("traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
            ("\u{1b}[2J", "x"),
        ] {
            let error = parse(&[pair]).unwrap_err();
            assert!(
                !error.contains('\u{1b}') && error.lines().count() == 1,
                "{error}"
            );
        }
        let many = vec![("attribute", "a=b"); MAX_ATTRIBUTES + 1];
        assert!(parse(&many).is_err());
    }
}
