//! Flame graphs as SVG files that can be searched and zoomed in a browser.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use inferno::flamegraph;
use inferno::flamegraph::color::{Color, PaletteMap};

use super::{BLOCKED, Filter, PREEMPTED, clean, folded};
use crate::error::Error;
use crate::profile::Profile;
use crate::sample::Activity;

/// Colour of waiting.
const BLUE: Color = Color {
    r: 110,
    g: 150,
    b: 230,
};
/// Colour of being kept waiting.
const GREY: Color = Color {
    r: 165,
    g: 165,
    b: 175,
};
/// Most characters of a title.
const TITLE: usize = 120;

/// Writes a flame graph.
///
/// # Errors
/// If the file cannot be written.
pub fn write_svg(profile: &Profile, filter: &Filter, path: &Path) -> Result<(), Error> {
    File::create(path)
        .and_then(|file| write_svg_to(profile, filter, BufWriter::new(file)))
        .map_err(|error| Error::io(format!("write {}", path.display()), error))
}

/// Writes a flame graph: one frame of it is as wide as the samples, or the time, of the stacks that it is in.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_svg_to(profile: &Profile, filter: &Filter, out: impl Write) -> io::Result<()> {
    let selected = profile.select(filter);
    let stacks = folded(&selected, &Filter::all());
    let total = stacks
        .iter()
        .fold(0_u64, |sum, (_, value)| sum.saturating_add(*value));
    let lines = stacks
        .into_iter()
        .map(|(stack, value)| format!("{stack} {value}"));
    let on_cpu = selected
        .rows
        .iter()
        .any(|row| row.activity == Activity::OnCpu);
    let what = match (selected.has_off_cpu(), on_cpu) {
        (false, _) => "CPU time",
        (true, false) => "Time off the CPU",
        (true, true) => "Time on and off the CPU",
    };
    // Nanoseconds are shown in a unit that people can read.
    let (factor, unit) = match (selected.has_off_cpu(), total) {
        (false, _) => (1.0, "samples"),
        (true, 0..1_000_000_000) => (1e-3, "µs"),
        (true, _) => (1e-6, "ms"),
    };
    let drawing = Drawing {
        title: title(what, filter),
        subtitle: None,
        unit,
        factor,
    };
    drawing.draw(lines, out)
}

/// Writes a flame graph of two profiles' folded stacks: frames are as wide as in the second one, red where they
/// have a larger share there, blue where they have a smaller one. `stacks` are sorted frame by frame, each with its
/// parts per million of the first profile and of the second one.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_differential_svg_to(
    stacks: &[(String, u64, u64)],
    title: &str,
    out: impl Write,
) -> io::Result<()> {
    let lines = stacks
        .iter()
        .map(|(stack, before, after)| format!("{stack} {before} {after}"));
    let subtitle = "red: a larger share than in the first profile, blue: a smaller one";
    let drawing = Drawing {
        title: shortened(title),
        subtitle: Some(subtitle),
        unit: "ppm",
        factor: 1.0,
    };
    drawing.draw(lines, out)
}

/// What is written around the frames.
struct Drawing {
    title: String,
    subtitle: Option<&'static str>,
    unit: &'static str,
    factor: f64,
}

impl Drawing {
    /// Draws stacks that are sorted frame by frame.
    fn draw(self, lines: impl Iterator<Item = String>, out: impl Write) -> io::Result<()> {
        let mut lines: Vec<String> = lines.collect();
        if lines.is_empty() {
            // The drawing needs at least one stack.
            lines.push("no samples 1".to_owned());
        }
        lines.reverse();
        let mut colors = PaletteMap::default();
        colors.insert(BLOCKED, BLUE);
        colors.insert(PREEMPTED, GREY);
        let mut options = flamegraph::Options::default();
        options.title = self.title;
        options.subtitle = self.subtitle.map(str::to_owned);
        options.count_name = self.unit.to_owned();
        options.factor = self.factor;
        options.deterministic = true;
        options.palette_map = Some(&mut colors);
        // Sorted as text, a frame would be drawn in several pieces where another one's name begins with its
        // name. In a chart, lines keep their order, last to first.
        options.flame_chart = true;
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
    }
}

fn title(what: &str, filter: &Filter) -> String {
    let mut title = what.to_owned();
    if let Some(trace_id) = filter.trace_id {
        title.push_str(&format!(" of trace {trace_id}"));
    }
    if let Some(span_id) = filter.span_id {
        title.push_str(&format!(", span {span_id}"));
    }
    for (name, value) in &filter.attributes {
        title.push_str(&format!(", {name} = {value}"));
    }
    shortened(&title)
}

/// A title that fits, without characters that XML does not have.
fn shortened(title: &str) -> String {
    let title = clean(title);
    match title.char_indices().nth(TITLE) {
        Some((end, _)) => format!("{}…", &title[..end]),
        None => title,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{two_traces, with_off_cpu};

    fn drawn(profile: &Profile, filter: &Filter) -> String {
        let mut svg = Vec::new();
        write_svg_to(profile, filter, &mut svg).unwrap();
        String::from_utf8(svg).unwrap()
    }

    #[test]
    fn a_flame_graph_shows_the_frames() {
        let svg = drawn(&two_traces(), &Filter::all());
        assert!(svg.starts_with("<?xml"), "{svg}");
        assert!(svg.contains("handle&lt;[u8: 4]&gt; (5 samples"), "{svg}");
        assert!(svg.ends_with("</svg>"));
    }

    #[test]
    fn waiting_has_a_frame_and_a_colour_of_its_own() {
        let svg = drawn(&with_off_cpu(), &Filter::all());
        assert!(svg.contains("Time on and off the CPU"), "{svg}");
        let frame = "[blocked] (300,000 µs, 80.86%)</title><rect";
        let (_, after) = svg.split_once(frame).expect(frame);
        let (rectangle, _) = after.split_once('>').unwrap();
        assert!(rectangle.contains("rgb(110,150,230)"), "{rectangle}");
        let off_cpu = drawn(&with_off_cpu(), &Filter::all().off_cpu());
        assert!(off_cpu.contains(">Time off the CPU<"), "{off_cpu}");
    }

    #[test]
    fn the_title_names_the_selection_and_nothing_breaks_out_of_it() {
        let mut profile = two_traces();
        profile.contexts[0].labels = vec![("a".to_owned(), "<script>\u{1b}".to_owned())];
        let filter =
            Filter::trace(profile.contexts[0].trace_id.unwrap()).attribute("a", "<script>\u{1b}");
        let svg = drawn(&profile, &filter);
        let title = "CPU time of trace 4bf92f3577b34da6a3ce929d0e0e4736, a = &lt;script&gt;?";
        assert!(svg.contains(title), "{svg}");
    }

    #[test]
    fn hostile_names_are_drawn() {
        let mut profile = two_traces();
        for name in [
            "é".repeat(300),
            "]]>&\"'<".to_owned(),
            "x 3".to_owned(),
            "\u{202e}abc 5.5".to_owned(),
        ] {
            profile.functions[1].name = name;
            let svg = drawn(&profile, &Filter::all());
            assert!(svg.ends_with("</svg>"));
            // All seven samples are there.
            assert!(svg.contains("all (7 samples, 100%)"), "{svg}");
        }
    }

    #[test]
    fn a_profile_without_samples_is_a_flame_graph_too() {
        assert!(drawn(&Profile::default(), &Filter::all()).contains("no samples"));
    }

    #[test]
    fn a_differential_flame_graph_tells_more_from_less() {
        let stacks = [
            ("app;less".to_owned(), 900_000, 400_000),
            ("app;more".to_owned(), 100_000, 600_000),
        ];
        let mut svg = Vec::new();
        write_differential_svg_to(&stacks, "A and B", &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        let color = |name: &str| {
            let (_, after) = svg.split_once(&format!("<title>{name} (")).unwrap();
            let (_, fill) = after.split_once("fill=\"").unwrap();
            fill.split_once('"').unwrap().0.to_owned()
        };
        assert_eq!(color("less"), "rgb(100,100,255)");
        assert_eq!(color("more"), "rgb(255,100,100)");
    }
}
