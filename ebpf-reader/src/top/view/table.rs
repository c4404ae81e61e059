//! The table: rows with their numbers. Columns that do not fit are left out, the least important first.

use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::{Canvas, fit, milliseconds, share, sorted, title};
use crate::profile::Usage;
use crate::top::app::App;
use crate::top::rows::{Rows, Sort};

/// Columns that a name has at least, if it is that long.
const MIN_NAME: u16 = 12;
/// Columns of a name before less important numbers are left out.
const GOOD_NAME: u16 = 32;
const BAR: u16 = 12;
const EIGHTHS: [&str; 8] = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Cpu,
    Share,
    Blocked,
    Preempted,
    Samples,
    Bar,
}

impl Column {
    /// In the order in which they stand.
    const ALL: [Self; 6] = [
        Self::Cpu,
        Self::Share,
        Self::Blocked,
        Self::Preempted,
        Self::Samples,
        Self::Bar,
    ];
    /// In the order in which they are given up.
    const SPARED: [Self; 6] = [
        Self::Bar,
        Self::Preempted,
        Self::Samples,
        Self::Share,
        Self::Blocked,
        Self::Cpu,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU ms",
            Self::Share => "CPU %",
            Self::Blocked => "BLOCKED ms",
            Self::Preempted => "PREEMPT ms",
            Self::Samples => "SAMPLES",
            Self::Bar => "",
        }
    }

    /// Its width, with the space before it.
    fn width(self) -> u16 {
        match self {
            Self::Cpu => 10,
            Self::Share => 8,
            Self::Blocked | Self::Preempted => 11,
            Self::Samples => 8,
            Self::Bar => BAR + 1,
        }
    }

    fn sort(self) -> Option<Sort> {
        match self {
            Self::Cpu => Some(Sort::Cpu),
            Self::Blocked => Some(Sort::OffCpu),
            Self::Samples => Some(Sort::Samples),
            _ => None,
        }
    }

    fn text(self, usage: &Usage, rows: &Rows) -> String {
        match self {
            Self::Cpu => milliseconds(usage.cpu_ns),
            Self::Share => share(usage.cpu_ns, rows.total.cpu_ns),
            Self::Blocked => milliseconds(usage.blocked_ns),
            Self::Preempted => milliseconds(usage.preempted_ns),
            Self::Samples => usage.samples.to_string(),
            Self::Bar => String::new(),
        }
    }
}

/// The columns that fit, and the width that is left for names.
fn columns(app: &App, width: u16, longest: u16) -> (Vec<Column>, u16) {
    let mut columns = Column::ALL.to_vec();
    if !app.off_cpu {
        columns.retain(|column| !matches!(column, Column::Blocked | Column::Preempted));
    }
    let left = |columns: &[Column]| {
        let taken: u16 = columns.iter().map(|column| column.width()).sum();
        width.checked_sub(taken)
    };
    for spared in Column::SPARED {
        let important = matches!(spared, Column::Share | Column::Blocked | Column::Cpu);
        let wanted = longest.min(if important { MIN_NAME } else { GOOD_NAME });
        if left(&columns).is_none_or(|left| left < wanted) {
            columns.retain(|column| *column != spared);
        }
    }
    let left = left(&columns).unwrap_or(width);
    (columns, left)
}

pub(super) fn draw(app: &mut App, canvas: &mut Canvas<'_>, area: Rect) {
    let mut area = area;
    let lines = &app.rows.lines;
    let name = title(app);
    // Names far below do not matter for what is seen.
    let shown = lines.iter().skip(first(app, usize::from(area.height)));
    let shown = shown.take(usize::from(area.height));
    let longest = shown.map(|line| line.name.width()).max().unwrap_or(0);
    let longest = longest.max(name.width()).max(4);
    let (columns, left) = columns(app, area.width, u16::try_from(longest).unwrap_or(u16::MAX));
    if area.height >= 2 {
        titles(app, canvas, area, &columns, left, &name);
        area.y += 1;
        area.height -= 1;
    }
    app.page = usize::from(area.height);
    app.name_width = usize::from(left);
    if app.rows.lines.is_empty() {
        let text = fit(nothing(app), area.width);
        canvas.put(area.x, area.y, area.width, &text, Style::new());
        return;
    }
    let first = first(app, app.page);
    let top = app
        .rows
        .lines
        .iter()
        .map(|line| app.sort.value(&line.usage));
    let top = top.max().unwrap_or(0);
    let visible = app.rows.lines.iter().enumerate().skip(first);
    for (y, (index, line)) in (area.y..area.bottom()).zip(visible) {
        let style = match index == app.index {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        canvas.fill(area.x, y, area.width, &fit(&line.name, left), style);
        let mut x = area.x + left;
        for &column in &columns {
            if column == Column::Bar {
                let bar = bar(app.sort.value(&line.usage), top);
                let color = match index == app.index {
                    true => style,
                    false => canvas.color(Color::Green),
                };
                canvas.put(x + 1, y, BAR, &bar, color);
            } else {
                let text = column.text(&line.usage, &app.rows);
                right(canvas, x, y, column.width(), &text, style);
            }
            x += column.width();
        }
    }
}

/// The first row that is shown, so that the selected one is among them.
fn first(app: &App, page: usize) -> usize {
    let page = page.max(1);
    // Whole pages: rows do not move at every key.
    app.index / page * page
}

fn titles(
    app: &App,
    canvas: &mut Canvas<'_>,
    area: Rect,
    columns: &[Column],
    left: u16,
    name: &str,
) {
    let bold = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    let of = app.rows.lines.len();
    canvas.fill(
        area.x,
        area.y,
        area.width,
        &fit(&format!("{name} ({of})"), left),
        bold,
    );
    let mut x = area.x + left;
    for column in columns {
        let title = match sorted(app, column.sort()) {
            true => format!("{}▾", column.title()),
            false => column.title().to_owned(),
        };
        right(canvas, x, area.y, column.width(), &title, bold);
        x += column.width();
    }
}

/// Writes to the right of a column; numbers that are too long are cut off in front of others, not mixed up with them.
fn right(canvas: &mut Canvas<'_>, x: u16, y: u16, width: u16, text: &str, style: Style) {
    let text = fit(text, width);
    let used = u16::try_from(text.width()).unwrap_or(width).min(width);
    canvas.put(x + (width - used), y, used, &text, style);
}

fn nothing(app: &App) -> &'static str {
    if app.snapshot.pieces.is_empty() && app.snapshot.ended.is_none() {
        "waiting for the first second"
    } else if !app.search.is_empty() {
        "nothing is found"
    } else if app.rows.total.samples == 0 {
        "no samples: the processes do not run"
    } else {
        "no sample has this; b goes on to the next attribute"
    }
}

/// A bar of [`BAR`] columns for a part of the largest value.
fn bar(part: u64, top: u64) -> String {
    let whole = u128::from(BAR) * 8;
    let eighths = u128::from(part) * whole / u128::from(top.max(1));
    let eighths = usize::try_from(eighths.min(whole)).unwrap_or(0);
    let mut bar = "█".repeat(eighths / 8);
    if eighths % 8 > 0 {
        bar.push_str(EIGHTHS.get(eighths % 8).unwrap_or(&" "));
    }
    bar
}
