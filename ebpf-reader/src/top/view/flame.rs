//! The flame graph: boxes with the names of functions, as wide as their time.

use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::{Canvas, fit, milliseconds, share};
use crate::flame::{BLOCKED, PREEMPTED};
use crate::top::app::{App, Flame};
use crate::top::tree::{Placed, ROOT};

/// Colours of boxes: shades from yellow to red.
const WARM: [Color; 6] = [
    Color::Indexed(215),
    Color::Indexed(209),
    Color::Indexed(221),
    Color::Indexed(203),
    Color::Indexed(222),
    Color::Indexed(180),
];
/// Of time off the CPU.
const COLD: Color = Color::Indexed(110);
/// Left edge of a box.
const EDGE: &str = "▏";

pub(super) fn draw(app: &mut App, canvas: &mut Canvas<'_>, area: Rect) {
    let icicle = app.icicle;
    let Some(flame) = &app.flame else {
        return;
    };
    let mut area = area;
    if area.height >= 3 {
        let bold = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
        let total = flame.tree.get(ROOT).map_or(0, |node| node.ns);
        let title = format!("{}   {} ms", flame.name, milliseconds(total));
        canvas.fill(area.x, area.y, area.width, &fit(&title, area.width), bold);
        area.y += 1;
        area.height -= 1;
    }
    let height = usize::from(area.height);
    let depth = flame.tree.lineage(flame.cursor).len() - 1;
    // The selected frame is always seen, with what it calls; of what calls the zoomed one, one line.
    let zoom = flame.tree.lineage(flame.zoom).len() - 1;
    let first = depth.saturating_sub(height / 2).max(zoom.saturating_sub(1));
    let mut boxes = flame.tree.boxes(flame.zoom, area.width);
    if !boxes.iter().any(|placed| placed.node == flame.cursor) {
        boxes.extend(narrow(flame, &boxes, depth));
    }
    for placed in boxes {
        let Some(line) = placed
            .depth
            .checked_sub(first)
            .filter(|line| *line < height)
        else {
            continue;
        };
        let Ok(line) = u16::try_from(line) else {
            continue;
        };
        let y = match icicle {
            true => area.y + line,
            false => area.bottom() - 1 - line,
        };
        let Some(node) = flame.tree.get(placed.node) else {
            continue;
        };
        let selected = placed.node == flame.cursor;
        let style = style(canvas.colors, node.name, selected, placed.depth);
        let x = area.x + placed.x;
        let text = match placed.width {
            // One character tells nothing.
            0..=2 => EDGE.to_owned(),
            width => format!("{EDGE}{}", fit(node.name, width - 1)),
        };
        canvas.fill(x, y, placed.width, &text, style);
    }
}

/// A box of one column for the selected frame, where it is too narrow for one.
fn narrow(flame: &Flame, boxes: &[Placed], depth: usize) -> Option<Placed> {
    let mut lineage = flame.tree.lineage(flame.cursor);
    lineage.reverse();
    let around = lineage
        .iter()
        .find_map(|node| boxes.iter().find(|placed| placed.node == *node))?;
    Some(Placed {
        node: flame.cursor,
        depth,
        x: around.x,
        width: around.width.min(1),
    })
}

fn style(colors: bool, name: &str, selected: bool, depth: usize) -> Style {
    if selected {
        return Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD);
    }
    if !colors {
        return Style::new();
    }
    let color = if name == BLOCKED || name == PREEMPTED {
        COLD
    } else {
        // The same function has the same colour every second.
        let sum = name.bytes().fold(depth, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        WARM.get(sum % WARM.len()).copied().unwrap_or(Color::Yellow)
    };
    Style::new().fg(Color::Black).bg(color)
}

/// What is said of the selected frame.
pub(super) fn said(flame: &Flame) -> String {
    let Some(node) = flame.tree.get(flame.cursor) else {
        return String::new();
    };
    let all = flame.tree.get(ROOT).map_or(0, |all| all.ns);
    format!(
        "{} ms  {}  own {} ms  {}",
        milliseconds(node.ns),
        share(node.ns, all),
        milliseconds(flame.tree.own_ns(flame.cursor)),
        node.name,
    )
}
