//! A live view on the terminal: traces, routes or other attributes by time, and flame graphs of each.
//!
//! ```text
//! sampler ──► Aggregator ──piece, 1 s──► names of functions ──► last seconds ──► rows, flame graph
//!             (thread "sampling")        (thread "names")                        (the caller's thread)
//! ```
//!
//! The caller's thread draws and reads keys. It takes pieces that are ready, so that neither a slow terminal nor a large
//! flame graph keeps samples waiting.

mod app;
mod rows;
mod save;
mod screen;
mod session;
mod tree;
mod view;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};

pub use screen::restore;

use self::app::{Action, App};
use self::screen::Screen;
use self::session::Session;
use crate::error::Error;
use crate::profile::By;
use crate::record;

/// How long to wait for a key before looking for something new.
const TICK: Duration = Duration::from_millis(100);

/// What to show and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What is sampled. Its duration and its symbols do not count.
    pub recording: record::Options,
    /// How far back the view goes.
    pub window: Duration,
    /// What rows are at the beginning.
    pub by: By,
    /// Whether to use colours.
    pub colors: bool,
}

impl Options {
    /// The last 30 seconds by trace, in colours.
    pub fn new(recording: record::Options) -> Self {
        Self {
            recording,
            window: Duration::from_secs(30),
            by: By::Trace,
            colors: true,
        }
    }
}

/// Shows the view on standard output until a key or `stop` ends it. `on_warning` gets what is missing before the terminal
/// is taken.
///
/// # Errors
/// As [`record::run`], before the terminal is taken; or if the terminal cannot be used.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    on_warning: &mut dyn FnMut(Error),
) -> Result<(), Error> {
    let started = Session::start(&options.recording, options.window, stop, on_warning)?;
    let Some(session) = started else {
        return Ok(());
    };
    let failed = |error| Error::io("use the terminal", error);
    let mut screen = Screen::take().map_err(failed)?;
    let shown = show(options, stop, &session, &mut screen);
    // Before the session: ending it may take a while.
    drop(screen);
    drop(session);
    shown.map_err(failed)
}

fn show(
    options: &Options,
    stop: &AtomicBool,
    session: &Session,
    screen: &mut Screen,
) -> io::Result<()> {
    let mut app = App::new(options.by.clone(), options.recording.off_cpu);
    let mut changed = true;
    while !stop.load(Ordering::Relaxed) {
        if !app.paused
            && let Some(snapshot) = session.newer(app.snapshot.version)
        {
            app.show(snapshot);
            changed = true;
        }
        if changed {
            screen
                .terminal
                .draw(|frame| view::draw(&mut app, frame.buffer_mut(), options.colors))?;
        }
        changed = false;
        let mut wait = TICK;
        // All keys that are there, before it is drawn again.
        while ready(wait)? {
            wait = Duration::ZERO;
            changed = true;
            let Event::Key(key) = event::read()? else {
                continue;
            };
            match app.key(key) {
                Action::Nothing => {}
                Action::Quit => return Ok(()),
                Action::Save => save(&mut app),
            }
        }
    }
    Ok(())
}

fn ready(wait: Duration) -> io::Result<bool> {
    match event::poll(wait) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        result => result,
    }
}

/// Saves the selected row, and says under which names.
fn save(app: &mut App) {
    let Some((kind, name, filter)) = app.chosen() else {
        app.status = Some("there is no row to save".to_owned());
        return;
    };
    let pieces = &app.snapshot.pieces;
    app.status = Some(
        match save::save(Path::new(""), &kind, &name, pieces, &filter) {
            Ok(paths) => {
                let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
                format!("wrote {}", paths.join(" and "))
            }
            Err(error) => error.one_line(),
        },
    );
}
