//! Keys, one after the other, and what they make of the state.

use std::sync::Arc;

use super::*;
use crate::profile::tests::{OTHER_TRACE, TRACE, two_traces, with_off_cpu};

fn app() -> App {
    let mut app = App::new(By::Trace, false);
    app.show(Snapshot {
        version: 1,
        pieces: vec![Arc::new(two_traces())],
        ..Snapshot::default()
    });
    app
}

fn press(app: &mut App, codes: &[KeyCode]) -> Action {
    let mut action = Action::Nothing;
    for &code in codes {
        action = app.key(code.into());
    }
    action
}

fn char(app: &mut App, character: char) -> Action {
    press(app, &[KeyCode::Char(character)])
}

fn selected(app: &App) -> &str {
    &app.line().unwrap().name
}

fn cursor(app: &App) -> &str {
    let flame = app.flame.as_ref().unwrap();
    flame.tree.get(flame.cursor).unwrap().name
}

#[test]
fn rows_are_selected() {
    let mut app = app();
    assert_eq!(selected(&app), TRACE);
    for (code, expected) in [
        (KeyCode::Down, OTHER_TRACE),
        (KeyCode::Down, OTHER_TRACE),
        (KeyCode::Up, TRACE),
        (KeyCode::Up, TRACE),
        (KeyCode::Char('j'), OTHER_TRACE),
        (KeyCode::Char('k'), TRACE),
        (KeyCode::End, OTHER_TRACE),
        (KeyCode::Home, TRACE),
        (KeyCode::PageDown, OTHER_TRACE),
        (KeyCode::PageUp, TRACE),
    ] {
        press(&mut app, &[code]);
        assert_eq!(selected(&app), expected, "{code:?}");
    }
}

#[test]
fn a_selected_row_stays_selected_where_rows_change_places() {
    let mut app = app();
    press(&mut app, &[KeyCode::Down]);
    let mut busier = two_traces();
    busier.rows[1].samples = 100;
    busier.rows[1].ns = 1_000_000_000;
    let pieces = vec![Arc::new(busier)];
    app.show(Snapshot {
        version: 2,
        pieces,
        ..Snapshot::default()
    });
    assert_eq!((app.index, selected(&app)), (0, OTHER_TRACE));
    app.show(Snapshot::default());
    assert!(app.line().is_none());
    assert_eq!(app.chosen(), None);
    // Nothing to open, and nothing breaks.
    press(&mut app, &[KeyCode::Enter, KeyCode::Down, KeyCode::End]);
    assert!(app.flame.is_none());
}

#[test]
fn quitting_saving_and_pausing() {
    let mut app = app();
    assert_eq!(char(&mut app, 'w'), Action::Save);
    let (kind, name, filter) = app.chosen().unwrap();
    assert_eq!((kind.as_str(), name.as_str()), ("trace", TRACE));
    assert_eq!(filter, Filter::trace(TRACE.parse().unwrap()));
    char(&mut app, 'p');
    assert!(app.paused);
    char(&mut app, 'p');
    assert!(!app.paused);
    assert_eq!(char(&mut app, 'q'), Action::Quit);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    char(&mut app, '/');
    assert_eq!(app.key(ctrl_c), Action::Quit);
    // While something is typed, q is a letter.
    assert_eq!(char(&mut app, 'q'), Action::Nothing);
    assert_eq!(app.search, "q");
}

#[test]
fn groupings_and_orders() {
    let mut app = app();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(rows::by_name(&app.by).to_owned());
        char(&mut app, 'b');
    }
    assert_eq!(seen, ["trace", "http.route", "job", "process"]);
    assert_eq!(app.by, By::Trace);

    char(&mut app, 's');
    assert_eq!(app.sort, Sort::Samples);
    char(&mut app, 'o');
    assert_eq!(app.sort, Sort::Samples);
    assert!(app.status.as_ref().unwrap().contains("--off-cpu"));
    char(&mut app, 'c');
    assert_eq!((app.sort, &app.status), (Sort::Cpu, &None));

    let mut app = App::new(By::parse("http.route"), true);
    app.show(Snapshot {
        pieces: vec![Arc::new(with_off_cpu())],
        ..Snapshot::default()
    });
    char(&mut app, 'o');
    assert_eq!(app.sort, Sort::OffCpu);
    assert_eq!(selected(&app), "/slow");
}

#[test]
fn searching() {
    let mut app = app();
    char(&mut app, '/');
    for character in OTHER_TRACE.chars().take(4) {
        char(&mut app, character);
    }
    assert!(app.typing);
    assert_eq!(app.rows.lines.len(), 1);
    press(&mut app, &[KeyCode::Enter]);
    assert!(!app.typing);
    assert_eq!(selected(&app), OTHER_TRACE);
    press(&mut app, &[KeyCode::Esc]);
    assert_eq!(app.rows.lines.len(), 2);
    char(&mut app, '/');
    for _ in 0..1000 {
        char(&mut app, 'ß');
    }
    assert_eq!(app.search.chars().count(), MAX_SEARCH);
    press(&mut app, &[KeyCode::Backspace]);
    assert_eq!(app.search.chars().count(), MAX_SEARCH - 1);
    press(&mut app, &[KeyCode::Esc]);
    assert_eq!((app.search.as_str(), app.rows.lines.len()), ("", 2));
}

#[test]
fn walking_through_a_flame_graph() {
    let mut app = app();
    press(&mut app, &[KeyCode::Enter]);
    assert_eq!(cursor(&app), "all");
    press(&mut app, &[KeyCode::Down, KeyCode::Down, KeyCode::Down]);
    assert_eq!(cursor(&app), "handle<[u8: 4]>");
    press(&mut app, &[KeyCode::Down, KeyCode::Left, KeyCode::Right]);
    assert_eq!(cursor(&app), "handle<[u8: 4]>");
    press(&mut app, &[KeyCode::Enter]);
    // The next second: the same place.
    let again = app.snapshot.clone();
    app.show(again);
    let flame = app.flame.as_ref().unwrap();
    assert_eq!(flame.zoom, flame.cursor);
    assert_eq!(cursor(&app), "handle<[u8: 4]>");
    // Out of what is zoomed into.
    press(&mut app, &[KeyCode::Up]);
    assert_eq!(cursor(&app), "main");
    let flame = app.flame.as_ref().unwrap();
    assert_eq!(flame.zoom, flame.cursor);
    press(&mut app, &[KeyCode::Char('i'), KeyCode::Up]);
    assert_eq!(cursor(&app), "handle<[u8: 4]>");
    assert_eq!(char(&mut app, 'w'), Action::Save);
    assert_eq!(app.chosen().unwrap().1, TRACE);
    press(&mut app, &[KeyCode::Esc]);
    assert_eq!(app.flame.as_ref().unwrap().zoom, ROOT);
    press(&mut app, &[KeyCode::Esc]);
    assert!(app.flame.is_none());

    // A trace that is over by now.
    press(&mut app, &[KeyCode::Enter, KeyCode::Up, KeyCode::Enter]);
    app.show(Snapshot::default());
    assert_eq!(cursor(&app), "all");
    press(
        &mut app,
        &[
            KeyCode::Backspace,
            KeyCode::Home,
            KeyCode::Right,
            KeyCode::Esc,
        ],
    );
    assert!(app.flame.is_none());
}

#[test]
fn any_key_leaves_the_help() {
    let mut app = app();
    char(&mut app, '?');
    assert!(app.help);
    press(&mut app, &[KeyCode::Down]);
    assert!(!app.help);
    assert_eq!(selected(&app), TRACE);
    char(&mut app, '?');
    assert_eq!(char(&mut app, 'q'), Action::Quit);
}
