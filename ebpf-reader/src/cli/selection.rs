//! Which samples to show, as arguments.

use clap::{Args, ValueEnum};
use ebpf_reader::profile::{Filter, SpanId, TraceId};

/// Which samples to show.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Selection {
    /// Show only this trace: 32 hexadecimal digits
    #[arg(long, value_name = "ID", help_heading = "Selection")]
    trace_id: Option<TraceId>,

    /// Show only this span: 16 hexadecimal digits
    #[arg(long, value_name = "ID", help_heading = "Selection")]
    span_id: Option<SpanId>,

    /// Show only samples with this attribute or label, also of the process (service.name) or the thread
    /// (thread.name); of several, all must hold
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = pair, help_heading = "Selection")]
    attributes: Vec<(String, String)>,

    /// Show only what threads did on the CPU, or only the times in which they did not run
    #[arg(long, value_name = "WHICH", help_heading = "Selection")]
    activity: Option<Activity>,
}

/// What threads were doing.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Activity {
    /// They ran.
    OnCpu,
    /// They waited, or others had their CPU.
    OffCpu,
}

impl Selection {
    /// As a filter.
    pub(super) fn filter(&self) -> Filter {
        let mut filter = Filter::all();
        filter.trace_id = self.trace_id;
        filter.span_id = self.span_id;
        filter.attributes.clone_from(&self.attributes);
        match self.activity {
            Some(Activity::OnCpu) => filter.on_cpu(),
            Some(Activity::OffCpu) => filter.off_cpu(),
            None => filter,
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Parsed {
        #[command(flatten)]
        selection: Selection,
    }

    fn parse(line: &str) -> Result<Filter, clap::Error> {
        let arguments = ["x"].into_iter().chain(line.split_whitespace());
        Parsed::try_parse_from(arguments).map(|parsed| parsed.selection.filter())
    }

    #[test]
    fn arguments_become_a_filter() {
        assert!(parse("").unwrap().is_all());
        let filter = parse(
            "--trace-id 4bf92f3577b34da6a3ce929d0e0e4736 --span-id 00f067aa0ba902b7 \
             --attribute http.route=/a=b --attribute user= --activity off-cpu",
        );
        let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap();
        let expected = Filter::trace(trace_id)
            .span("00f067aa0ba902b7".parse().unwrap())
            .attribute("http.route", "/a=b")
            .attribute("user", "")
            .off_cpu();
        assert_eq!(filter.unwrap(), expected);
        for wrong in [
            "--trace-id 4b",
            "--attribute x",
            "--attribute =x",
            "--activity running",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
