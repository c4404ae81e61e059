//! What is on the screen and what keys do: a state that knows neither terminal nor sampler.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rows::{self, Key, Line, Rows, Sort};
use super::session::Snapshot;
use super::tree::{ROOT, Tree};
use crate::profile::{By, Filter};

/// Characters that can be searched for.
const MAX_SEARCH: usize = 128;

/// What a key asks for beyond the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Save the selected row.
    Save,
    Quit,
}

/// The flame graph of a row.
#[derive(Debug)]
pub(super) struct Flame {
    pub(super) key: Key,
    pub(super) name: String,
    pub(super) tree: Tree,
    /// Takes up the whole width.
    pub(super) zoom: usize,
    /// The selected frame; below `zoom`, or `zoom` itself.
    pub(super) cursor: usize,
}

/// The state.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) by: By,
    pub(super) sort: Sort,
    pub(super) off_cpu: bool,
    pub(super) rows: Rows,
    pub(super) snapshot: Snapshot,
    /// The selected row, by what it is: it stays selected where rows change places. `None`: the first one.
    selected: Option<Key>,
    /// Where it was last.
    pub(super) index: usize,
    pub(super) search: String,
    /// The search is being typed.
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// The outermost frame is on top.
    pub(super) icicle: bool,
    pub(super) flame: Option<Flame>,
    /// What the last key led to.
    pub(super) status: Option<String>,
    /// Rows that fit on the screen.
    pub(super) page: usize,
    /// Columns of names that fit.
    pub(super) name_width: usize,
}

impl App {
    pub(super) fn new(by: By, off_cpu: bool) -> Self {
        Self {
            by,
            off_cpu,
            icicle: true,
            ..Self::default()
        }
    }

    /// Shows what is newer.
    pub(super) fn show(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        self.refresh();
        if let Some(flame) = self.flame.take() {
            let (zoom, cursor) = (flame.tree.path(flame.zoom), flame.tree.path(flame.cursor));
            let tree = self.tree(&flame.key);
            let zoom = tree.find(&zoom);
            let mut cursor = tree.find(&cursor);
            if !tree.lineage(cursor).contains(&zoom) {
                cursor = zoom;
            }
            self.flame = Some(Flame {
                tree,
                zoom,
                cursor,
                ..flame
            });
        }
    }

    fn tree(&self, key: &Key) -> Tree {
        Tree::new(&self.snapshot.pieces, &key.filter(&self.by))
    }

    fn refresh(&mut self) {
        self.rows = Rows::new(&self.snapshot.pieces, &self.by, self.sort, &self.search);
        if let Some(key) = &self.selected {
            let at = self.rows.lines.iter().position(|line| line.key == *key);
            // One that is gone leaves its place to another.
            self.index = at.unwrap_or(self.index);
        }
        self.index = self.index.min(self.rows.lines.len().saturating_sub(1));
    }

    /// The selected row.
    pub(super) fn line(&self) -> Option<&Line> {
        self.rows.lines.get(self.index)
    }

    /// The row that is to be saved: its kind, its name, and what shows its samples.
    pub(super) fn chosen(&self) -> Option<(String, String, Filter)> {
        let (key, name) = match &self.flame {
            Some(flame) => (&flame.key, &flame.name),
            None => {
                let line = self.line()?;
                (&line.key, &line.name)
            }
        };
        let kind = rows::by_name(&self.by).to_owned();
        Some((kind, name.clone(), key.filter(&self.by)))
    }

    /// Does what a key is for.
    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Action::Quit,
                _ => Action::Nothing,
            };
        }
        self.status = None;
        if self.typing {
            self.search_key(key.code);
            return Action::Nothing;
        }
        if self.help {
            self.help = false;
            return match key.code {
                KeyCode::Char('q') => Action::Quit,
                _ => Action::Nothing,
            };
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('w') => return Action::Save,
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char('p') => self.paused = !self.paused,
            code if self.flame.is_some() => self.flame_key(code),
            code => self.table_key(code),
        }
        Action::Nothing
    }

    fn table_key(&mut self, code: KeyCode) {
        let last = self.rows.lines.len().saturating_sub(1);
        let page = self.page.max(1);
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.select(self.index.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => {
                self.select(self.index.saturating_add(1).min(last));
            }
            KeyCode::PageUp => self.select(self.index.saturating_sub(page)),
            KeyCode::PageDown => self.select(self.index.saturating_add(page).min(last)),
            KeyCode::Home | KeyCode::Char('g') => {
                self.index = 0;
                self.selected = None;
            }
            KeyCode::End | KeyCode::Char('G') => self.select(last),
            KeyCode::Enter => self.open(),
            KeyCode::Char('b') => {
                self.by = rows::next_by(&self.by, &self.snapshot.pieces);
                self.forget();
            }
            KeyCode::Char('c') => self.sort(Sort::Cpu),
            KeyCode::Char('o') if self.off_cpu => self.sort(Sort::OffCpu),
            KeyCode::Char('o') => {
                self.status = Some("time off the CPU is counted with --off-cpu".to_owned());
            }
            KeyCode::Char('s') => self.sort(Sort::Samples),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc if !self.search.is_empty() => {
                self.search.clear();
                self.refresh();
            }
            _ => {}
        }
    }

    fn select(&mut self, index: usize) {
        self.index = index;
        self.selected = self.line().map(|line| line.key.clone());
    }

    /// Other rows: the first one is selected.
    fn forget(&mut self) {
        self.search.clear();
        self.selected = None;
        self.index = 0;
        self.refresh();
    }

    fn sort(&mut self, sort: Sort) {
        self.sort = sort;
        self.refresh();
    }

    fn open(&mut self) {
        let Some(line) = self.line().cloned() else {
            return;
        };
        // It is the one to come back to.
        self.select(self.index);
        self.flame = Some(Flame {
            tree: self.tree(&line.key),
            key: line.key,
            name: line.name,
            zoom: ROOT,
            cursor: ROOT,
        });
    }

    fn search_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.search.clear();
            }
            KeyCode::Backspace => {
                self.search.pop();
            }
            KeyCode::Char(character) if self.search.chars().count() < MAX_SEARCH => {
                self.search.push(character);
            }
            _ => return,
        }
        self.selected = None;
        self.index = 0;
        self.refresh();
    }

    fn flame_key(&mut self, code: KeyCode) {
        let icicle = self.icicle;
        let Some(flame) = &mut self.flame else {
            return;
        };
        let (inwards, outwards) = match icicle {
            true => (KeyCode::Down, KeyCode::Up),
            false => (KeyCode::Up, KeyCode::Down),
        };
        let code = match code {
            KeyCode::Char('h') => KeyCode::Left,
            KeyCode::Char('j') => KeyCode::Down,
            KeyCode::Char('k') => KeyCode::Up,
            KeyCode::Char('l') => KeyCode::Right,
            code => code,
        };
        match code {
            KeyCode::Char('i') => self.icicle = !icicle,
            KeyCode::Enter => flame.zoom = flame.cursor,
            KeyCode::Esc if flame.zoom == ROOT => self.flame = None,
            KeyCode::Esc => flame.zoom = ROOT,
            KeyCode::Backspace => flame.zoom = flame.tree.parent(flame.zoom).unwrap_or(ROOT),
            KeyCode::Home => flame.cursor = flame.zoom,
            KeyCode::End => flame.cursor = flame.tree.fork(flame.zoom),
            code if code == inwards => {
                flame.cursor = flame
                    .tree
                    .largest_child(flame.cursor)
                    .unwrap_or(flame.cursor);
            }
            code if code == outwards => {
                if let Some(parent) = flame.tree.parent(flame.cursor) {
                    if flame.cursor == flame.zoom {
                        flame.zoom = parent;
                    }
                    flame.cursor = parent;
                }
            }
            KeyCode::Left | KeyCode::Right => {
                let forward = code == KeyCode::Right;
                let next = flame.tree.beside(flame.cursor, flame.zoom, forward);
                flame.cursor = next.unwrap_or(flame.cursor);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
