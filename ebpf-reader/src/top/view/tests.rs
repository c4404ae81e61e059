//! What is drawn, on screens of all sizes.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::*;
use crate::profile::tests::{OTHER_TRACE, TRACE, two_traces, with_off_cpu};
use crate::profile::{By, Profile};
use crate::top::session::Snapshot;

fn app(profile: Profile, by: By, off_cpu: bool) -> App {
    let mut app = App::new(by, off_cpu);
    app.show(Snapshot {
        version: 1,
        pieces: vec![Arc::new(profile)],
        lost: 3,
        unreadable: 1,
        processes: 2,
        ..Snapshot::default()
    });
    app
}

fn drawn(app: &mut App, width: u16, height: u16, colors: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(app, frame.buffer_mut(), colors))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn lines(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(app, width, height, true);
    let line = |y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

#[test]
fn rows_with_their_numbers() {
    let mut app = app(two_traces(), By::Trace, false);
    let lines = lines(&mut app, 80, 8);
    assert_eq!(
        lines,
        [
            "last 2 s   4 samples/s   28.6 % without trace   2 processes   3 lost".to_owned(),
            format!("{:41}   CPU ms▾   CPU % SAMPLES", "TRACE (2)"),
            format!("{TRACE:41}      40.0  57.1 %       4 ████████████"),
            format!("{OTHER_TRACE:41}      10.0  14.3 %       1 ███"),
            String::new(),
            String::new(),
            String::new(),
            "q quit  Enter flame graph  w save  b by  c/s sort  / search  p pause  ? help"
                .to_owned(),
        ]
    );
}

#[test]
fn time_off_the_cpu_fits_beside_a_trace_id() {
    let mut app = app(with_off_cpu(), By::Trace, true);
    app.key(KeyCode::Char('o').into());
    let lines = lines(&mut app, 80, 24);
    let title = lines
        .iter()
        .find(|line| line.starts_with("TRACE (2)"))
        .unwrap();
    for column in ["CPU ms", "CPU %", "BLOCKED ms▾", "PREEMPT ms", "SAMPLES"] {
        assert!(title.contains(column), "{title}");
    }
    let row = lines.iter().find(|line| line.starts_with(TRACE)).unwrap();
    let numbers: Vec<_> = row.split_whitespace().skip(1).collect();
    assert_eq!(numbers, ["40.0", "57.1", "%", "300.0", "0.0", "4"]);
}

#[test]
fn the_selected_row_is_marked_with_and_without_colors() {
    let mut app = app(two_traces(), By::Trace, false);
    app.key(KeyCode::Down.into());
    for colors in [true, false] {
        let buffer = drawn(&mut app, 80, 10, colors);
        let marked: Vec<u16> = (0..10)
            .filter(|y| buffer[(0, *y)].modifier.contains(Modifier::REVERSED))
            .collect();
        assert_eq!(marked.len(), 1);
        let row: String = (0..32).map(|x| buffer[(x, marked[0])].symbol()).collect();
        assert_eq!(row, OTHER_TRACE);
        let colored = buffer
            .content
            .iter()
            .any(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset));
        assert_eq!(colored, colors);
    }
}

#[test]
fn the_flame_graph_shows_functions() {
    let mut app = app(with_off_cpu(), By::Trace, true);
    app.key(KeyCode::Enter.into());
    for _ in 0..3 {
        app.key(KeyCode::Down.into());
    }
    let icicle = lines(&mut app, 60, 14);
    let at = |name: &str| {
        icicle
            .iter()
            .position(|line| line.starts_with(name))
            .unwrap()
    };
    assert!(at("▏all") < at("▏app"));
    assert!(at("▏app") < at("▏main"));
    assert!(at("▏main") < at("▏handle<[u8: 4]>"));
    assert!(icicle.iter().any(|line| line.contains("▏[blocked]")));
    assert!(
        icicle[12].starts_with("340.0 ms  100.0 %  own 40.0 ms  handle"),
        "{icicle:?}"
    );
    for colors in [true, false] {
        let buffer = drawn(&mut app, 60, 14, colors);
        let colored = buffer.content.iter().any(|cell| cell.bg != Color::Reset);
        assert_eq!(colored, colors);
    }
    app.key(KeyCode::Char('i').into());
    let flame = lines(&mut app, 60, 14);
    let at = |name: &str| {
        flame
            .iter()
            .position(|line| line.starts_with(name))
            .unwrap()
    };
    assert!(at("▏main") < at("▏app"));
    // Zoomed in on a screen of few lines, the selected frame is still seen.
    app.key(KeyCode::Enter.into());
    for icicle in [true, false] {
        app.icicle = icicle;
        assert!(
            lines(&mut app, 30, 5)
                .iter()
                .any(|line| line.contains("▏handle"))
        );
    }
}

#[test]
fn hostile_and_wide_names_are_shown_and_not_obeyed() {
    let mut profile = two_traces();
    let hostile = "\u{1b}[2J\u{9b}31m\r\n\u{202e}evil\u{200b}";
    profile.contexts[0].labels[0].1 = hostile.to_owned();
    profile.contexts[1].labels = vec![("http.route".to_owned(), "/漢字/商品/👩‍👩‍👧".repeat(30))];
    profile.contexts[2].labels = vec![(format!("x{hostile}"), "a".to_owned())];
    profile.functions[1].name = format!("{hostile}漢字");
    profile.processes[0].name = hostile.to_owned();
    let by = [
        By::parse("http.route"),
        By::Process,
        By::Attribute(format!("x{hostile}")),
    ];
    for by in by {
        let mut app = app(profile.clone(), by, false);
        for step in 0..4 {
            for (width, height) in [(80, 24), (41, 9), (20, 60), (3, 7)] {
                let buffer = drawn(&mut app, width, height, true);
                for cell in &buffer.content {
                    let symbol = cell.symbol();
                    assert!(!symbol.contains(|c: char| c.is_control() || c == '\u{202e}'));
                }
            }
            app.key([KeyCode::Down, KeyCode::Enter, KeyCode::Down, KeyCode::Down][step].into());
        }
    }
    let mut app = app(profile, By::parse("http.route"), false);
    let lines = lines(&mut app, 100, 10).join("\n");
    assert!(
        lines.contains("\\u{1b}[2J\\u{9b}31m\\r\\n\\u{202e}evil\\u{200b}"),
        "{lines}"
    );
    // Each of the characters takes up two columns, of which the second one is empty in the buffer.
    assert!(lines.contains('漢') && lines.contains('…'), "{lines}");
}

#[test]
fn every_size_is_fit_to_be_drawn() {
    let mut table = app(with_off_cpu(), By::Trace, true);
    let mut flame = app(with_off_cpu(), By::Trace, true);
    flame.key(KeyCode::Enter.into());
    for _ in 0..4 {
        flame.key(KeyCode::Down.into());
    }
    let mut help = app(two_traces(), By::Trace, false);
    help.help = true;
    let mut typing = app(two_traces(), By::Trace, false);
    typing.typing = true;
    let mut empty = App::new(By::Trace, false);
    for app in [&mut table, &mut flame, &mut help, &mut typing, &mut empty] {
        for width in (1..45).chain([80, 200, 1000]) {
            for height in (1..12).chain([24, 100]) {
                let buffer = drawn(app, width, height, true);
                let blank = buffer.content.iter().all(|cell| cell.symbol() == " ");
                assert!(!blank, "{width}x{height}");
            }
        }
    }
    // A narrow screen: the name is cut off, and what rows are sorted by stays.
    let narrow = lines(&mut table, 24, 30);
    assert!(
        narrow
            .iter()
            .any(|line| line.starts_with("4bf92f3577b34…") && line.ends_with("40.0")),
        "{narrow:?}"
    );
}

#[test]
fn what_is_to_be_said() {
    let mut app = App::new(By::Trace, false);
    assert!(
        lines(&mut app, 80, 24)
            .iter()
            .any(|line| line == "waiting for the first second")
    );
    app.snapshot.ended = Some("all processes have ended".to_owned());
    let said = lines(&mut app, 80, 24);
    assert_eq!(said[22], "all processes have ended; q quits");
    app.status = Some("cannot write x\u{1b}[2J".to_owned());
    assert_eq!(lines(&mut app, 80, 24)[22], "cannot write x\\u{1b}[2J");
    app.paused = true;
    assert!(lines(&mut app, 80, 24)[0].starts_with("PAUSED"));
    app.help = true;
    let help = lines(&mut app, 80, 24).join("\n");
    for word in ["save", "search", "sort", "pause", "quit", "zoom"] {
        assert!(help.contains(word), "{help}");
    }
}

#[test]
fn numbers() {
    assert_eq!(milliseconds(0), "0.0");
    assert_eq!(milliseconds(1_250_000), "1.3");
    assert_eq!(milliseconds(u64::MAX), "18446744073709.6");
    assert_eq!(share(0, 0), "0.0 %");
    assert_eq!(share(1, 3), "33.3 %");
    assert_eq!(share(u64::MAX, u64::MAX), "100.0 %");
    assert_eq!(fit("漢字", 4), "漢字");
    assert_eq!(fit("漢字", 3), "漢…");
    assert_eq!(fit("漢字", 1), "…");
    assert_eq!(fit("x", 0), "");
}
