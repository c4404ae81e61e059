//! Unwind tables of files and rules of places, for all processes, within a budget.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::rule::{Context, Rule};
use super::table::{MAX_TABLE, Table};
use crate::elf::Bytes;
use crate::process::{Modules, Piece, VDSO, own_vdso};

/// Bytes of all tables in memory.
const BUDGET: usize = 24 << 20;

/// Bytes of tables that are read in one second: files that push each other out of memory must not keep
/// the reader busy.
const BYTES_A_SECOND: u64 = 4 * MAX_TABLE;

/// Files that are remembered, also those without a table.
const MAX_FILES: usize = 4096;

/// Rules that are kept, a power of two.
const RULES: usize = 1 << 15;

/// What is mapped: a module's number, or 0 for the vdso, which is the same in all processes.
type Source = usize;

struct KnownFile {
    /// `None`: none that is understood.
    table: Option<Table>,
    last_used: u64,
}

#[derive(Clone, Copy)]
struct KnownRule {
    source: Source,
    offset: u64,
    /// `None`: the place is not covered.
    rule: Option<Rule>,
}

/// Tables and rules.
pub(super) struct Cache {
    files: HashMap<Source, KnownFile>,
    size: usize,
    clock: u64,
    rules: Vec<Option<KnownRule>>,
    context: Context,
    interpreted: u64,
    vdso: Option<Vec<u8>>,
    second: Instant,
    read_in_second: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            files: HashMap::new(),
            size: 0,
            clock: 0,
            rules: Vec::new(),
            context: Context::new_in(),
            interpreted: 0,
            vdso: None,
            second: Instant::now(),
            read_in_second: 0,
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("files", &self.files.len())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// The rule for an address in a mapping; `None` if there is none, or none is understood.
    pub(super) fn rule(&mut self, modules: &Modules, piece: &Piece, address: u64) -> Option<Rule> {
        let source = match piece.module {
            Some(module) => module.number(),
            None if piece.mapping.name == VDSO => 0,
            None => return None,
        };
        let offset = address
            .wrapping_sub(piece.mapping.start)
            .wrapping_add(piece.mapping.offset);
        if self.rules.is_empty() {
            self.rules.resize(RULES, None);
        }
        let slot = slot(source, offset);
        if let Some(Some(known)) = self.rules.get(slot)
            && known.source == source
            && known.offset == offset
        {
            return known.rule;
        }
        let rule = match piece.module {
            Some(module) => self.look_up(source, modules.file(module)?, offset),
            None => {
                let vdso = self.vdso.take().unwrap_or_else(own_vdso);
                let rule = self.look_up(source, &vdso[..], offset);
                self.vdso = Some(vdso);
                rule
            }
        };
        if let Some(known) = self.rules.get_mut(slot) {
            *known = Some(KnownRule {
                source,
                offset,
                rule,
            });
        }
        rule
    }

    pub(super) fn interpreted(&self) -> u64 {
        self.interpreted
    }

    fn look_up<B: Bytes + ?Sized>(
        &mut self,
        source: Source,
        file: &B,
        offset: u64,
    ) -> Option<Rule> {
        self.clock += 1;
        if !self.files.contains_key(&source) {
            self.read(source, file)?;
        }
        let known = self.files.get_mut(&source)?;
        known.last_used = self.clock;
        let table = known.table.as_ref()?;
        let address = table.address(offset)?;
        let (context, interpreted) = (&mut self.context, &mut self.interpreted);
        // The library that reads the entries does not panic on any input that we know of.
        let rule = catch_unwind(AssertUnwindSafe(|| {
            table.rule(file, address, context, interpreted)
        }));
        rule.unwrap_or_else(|_| {
            self.context = Context::new_in();
            self.forget(source);
            self.files.insert(
                source,
                KnownFile {
                    table: None,
                    last_used: self.clock,
                },
            );
            None
        })
    }

    /// Reads the table of a file; `None` if that has to wait.
    fn read<B: Bytes + ?Sized>(&mut self, source: Source, file: &B) -> Option<()> {
        let location = Table::locate(file);
        let size = location.as_ref().map_or(0, |location| location.size);
        let now = Instant::now();
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.read_in_second = 0;
        }
        if self.read_in_second + size > BYTES_A_SECOND {
            return None;
        }
        self.read_in_second += size;
        let table = location.and_then(|location| location.read(file));
        let size = table.as_ref().map_or(0, Table::size);
        while self.size + size > BUDGET || self.files.len() >= MAX_FILES {
            let oldest = self.files.iter().min_by_key(|(_, file)| file.last_used);
            let oldest = oldest.map(|(&source, _)| source)?;
            self.forget(oldest);
        }
        self.size += size;
        self.files.insert(
            source,
            KnownFile {
                table,
                last_used: self.clock,
            },
        );
        Some(())
    }

    fn forget(&mut self, source: Source) {
        if let Some(table) = self.files.remove(&source).and_then(|file| file.table) {
            self.size -= table.size();
        }
    }
}

/// Where the rule of a place is kept.
fn slot(source: Source, offset: u64) -> usize {
    let mixed = (offset ^ ((source as u64) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - RULES.trailing_zeros())) as usize
}
