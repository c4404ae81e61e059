//! Draws the state: header, table or flame graph, status and help. Nothing is drawn outside the screen, however small.

mod flame;
mod table;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::app::App;
use super::rows::{self, Sort};
use crate::text::printable;

/// Lines of the header at most.
const MAX_HEADER: usize = 3;

/// All keys.
const HELP: &[(&str, &str)] = &[
    ("up down j k PgUp PgDn Home End", "select a row"),
    ("Enter", "flame graph of the row"),
    ("w", "save it here as SVG and pprof"),
    ("b", "rows by the next attribute"),
    ("c  o  s", "sort by CPU, off-CPU, samples"),
    ("/", "search: begin of an id, or text"),
    ("p", "pause, or go on"),
    ("q  Ctrl-C", "quit"),
    ("", ""),
    ("In the flame graph:", ""),
    ("arrows h j k l", "go to another frame"),
    ("Home  End", "to the outermost, to the first fork"),
    ("Enter", "zoom into the frame"),
    ("Backspace", "zoom out by one frame"),
    ("Esc", "zoom out, then back to the rows"),
    ("i", "turn it upside down"),
];

/// Where and with which colours to draw.
pub(super) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    colors: bool,
}

impl Canvas<'_> {
    /// Writes what fits into `width` columns of a line; returns the column behind it.
    fn put(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let area = self.buffer.area;
        if x >= area.right() || y >= area.bottom() || x < area.left() || y < area.top() {
            return x;
        }
        let (end, _) = self
            .buffer
            .set_stringn(x, y, text, usize::from(width), style);
        end
    }

    /// The same, over the whole width.
    fn fill(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) {
        let area = Rect::new(x, y, width, 1).intersection(self.buffer.area);
        self.buffer.set_style(area, style);
        self.put(x, y, width, text, style);
    }

    fn color(&self, color: Color) -> Style {
        match self.colors {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }
}

/// Draws everything. Notes in the state how many rows fit.
pub(super) fn draw(app: &mut App, buffer: &mut Buffer, colors: bool) {
    let area = buffer.area;
    let mut canvas = Canvas { buffer, colors };
    if area.is_empty() {
        return;
    }
    let mut rest = area;
    if rest.height >= 4 {
        let line = take_last(&mut rest);
        canvas.fill(
            line.x,
            line.y,
            line.width,
            keys(app),
            Style::new().add_modifier(Modifier::DIM),
        );
    }
    let talks = rest.height >= 4 || (app.typing && rest.height >= 2);
    let line = talks.then(|| take_last(&mut rest));
    let most = usize::from(rest.height / 4).min(MAX_HEADER);
    for text in flow(&header(app), area.width).into_iter().take(most) {
        let style = Style::new().add_modifier(Modifier::BOLD);
        canvas.put(rest.x, rest.y, rest.width, &text, style);
        rest.y += 1;
        rest.height -= 1;
    }
    if app.help {
        help(&mut canvas, rest);
    } else if app.flame.is_some() {
        flame::draw(app, &mut canvas, rest);
    } else {
        table::draw(app, &mut canvas, rest);
    }
    if let Some(line) = line {
        let (text, style) = status(app, &canvas);
        let text = fit(&text, line.width);
        canvas.put(line.x, line.y, line.width, &text, style);
    }
}

fn take_last(area: &mut Rect) -> Rect {
    area.height = area.height.saturating_sub(1);
    Rect::new(area.x, area.bottom(), area.width, 1)
}

/// The pieces of the header, most important first.
fn header(app: &App) -> Vec<String> {
    let snapshot = &app.snapshot;
    let samples = app.rows.total.samples;
    let seconds: f64 = snapshot
        .pieces
        .iter()
        .map(|p| p.duration.as_secs_f64())
        .sum();
    #[allow(clippy::cast_precision_loss)]
    let rate = if seconds > 0.0 {
        samples as f64 / seconds
    } else {
        0.0
    };
    let mut items = Vec::new();
    if app.paused {
        items.push("PAUSED".to_owned());
    }
    items.extend([
        format!("last {seconds:.0} s"),
        format!("{rate:.0} samples/s"),
        format!(
            "{} without trace",
            share(app.rows.without_trace.cpu_ns, app.rows.total.cpu_ns)
        ),
        format!("{} processes", snapshot.processes),
        format!("{} lost", snapshot.lost),
        format!("{} unreadable", snapshot.unreadable),
    ]);
    items
}

/// Puts items into lines of some width.
fn flow(items: &[String], width: u16) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.width() + 3 + item.width() <= usize::from(width) => {
                line.push_str("   ");
                line.push_str(item);
            }
            _ => lines.push(item.clone()),
        }
    }
    lines
}

/// What is to be said now: the most recent first.
fn status(app: &App, canvas: &Canvas<'_>) -> (String, Style) {
    let snapshot = &app.snapshot;
    if app.typing {
        return (format!("/{}_", printable(&app.search)), Style::new());
    }
    if let Some(status) = &app.status {
        return (printable(status).into_owned(), canvas.color(Color::Cyan));
    }
    if let Some(flame) = &app.flame {
        return (flame::said(flame), Style::new());
    }
    if let Some(ended) = &snapshot.ended {
        let text = format!("{}; q quits", printable(ended));
        return (text, canvas.color(Color::Yellow));
    }
    if let Some(warning) = &snapshot.warning {
        return (printable(warning).into_owned(), canvas.color(Color::Yellow));
    }
    let text = match app.line() {
        _ if !app.search.is_empty() => {
            format!("search: {} (Esc shows all)", printable(&app.search))
        }
        // In the table it is cut off.
        Some(line) if line.name.width() > app.name_width => line.name.clone(),
        _ => String::new(),
    };
    (text, Style::new())
}

fn keys(app: &App) -> &'static str {
    if app.typing {
        "type what to search for   Enter done   Esc all rows"
    } else if app.help {
        "any key goes back   q quit"
    } else if app.flame.is_some() {
        "Esc back  arrows move  End to the fork  Enter zoom  w save  i turn  ? help"
    } else if app.off_cpu {
        "q quit  Enter flame graph  w save  b by  c/o/s sort  / search  p pause  ? help"
    } else {
        "q quit  Enter flame graph  w save  b by  c/s sort  / search  p pause  ? help"
    }
}

fn help(canvas: &mut Canvas<'_>, area: Rect) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    for (y, (keys, what)) in (area.y..area.bottom()).zip(HELP) {
        if area.width >= 64 {
            canvas.put(area.x, y, 32, keys, bold);
            canvas.put(area.x + 33, y, area.width - 33, what, Style::new());
        } else {
            let x = canvas.put(area.x, y, area.width, keys, bold);
            let left = area.right().saturating_sub(x);
            canvas.put(x, y, left, &format!("  {what}"), Style::new());
        }
    }
}

/// How the rows are called, as the title of their column.
fn title(app: &App) -> String {
    printable(rows::by_name(&app.by)).to_uppercase()
}

/// A part in percent.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0.0 %".to_owned();
    }
    let tenths = (u128::from(part) * 1000 + u128::from(whole) / 2) / u128::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Nanoseconds as milliseconds.
fn milliseconds(ns: u64) -> String {
    let tenths = ns / 100_000 + u64::from(ns % 100_000 >= 50_000);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The text, or as much of its beginning as fits.
fn fit(text: &str, width: u16) -> String {
    let width = usize::from(width);
    if text.width() <= width {
        return text.to_owned();
    }
    let mut fitting = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        fitting.push(character);
    }
    if width > 0 {
        fitting.push('…');
    }
    fitting
}

/// Whether a column is what rows are sorted by.
fn sorted(app: &App, sort: Option<Sort>) -> bool {
    sort == Some(app.sort)
}

#[cfg(test)]
mod tests;
