//! The executable mappings of a process as they were during a recording, kept beyond its end.

use std::sync::Arc;

use super::{Mapping, Maps, ModuleId, Modules};

/// Mappings that are remembered of one process. Programs have some hundred; one that makes and drops them
/// all the time must not fill the memory.
const MAX_PIECES: usize = 1 << 14;

/// An executable mapping and the file behind it.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The mapping.
    pub mapping: Mapping,
    /// The file behind it, if it could be opened.
    pub module: Option<ModuleId>,
}

/// The executable mappings of one program in one process. A clone is cheap: a child process starts with
/// its parent's.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace {
    /// By rising address, without overlap.
    pieces: Arc<Vec<Piece>>,
    /// Bytes that they take up.
    size: usize,
    /// Names of the functions in memory without a file.
    perf_map: Option<ModuleId>,
}

impl AddressSpace {
    /// Looks at the process again. Mappings that are gone are kept, for the samples that lie in them, unless
    /// new ones took their place. When the process is gone everything stays as it was.
    pub fn refresh(&mut self, pid: u32, modules: &mut Modules) {
        let Ok(maps) = Maps::read_some(pid, |mapping| mapping.executable) else {
            return;
        };
        self.merge(
            maps.iter()
                .take(MAX_PIECES)
                .map(|mapping| Piece {
                    mapping: mapping.clone(),
                    module: if is_made_at_run_time(mapping) {
                        self.perf_map
                    } else {
                        modules.open(pid, mapping)
                    },
                })
                .collect(),
        );
    }

    /// Looks for a list of the functions that are made at run time, if there are any. `true` if it is known now,
    /// and was not before.
    pub fn find_perf_map(&mut self, pid: u32, modules: &mut Modules) -> bool {
        if self.perf_map.is_some()
            || !self
                .pieces
                .iter()
                .any(|piece| is_made_at_run_time(&piece.mapping))
        {
            return false;
        }
        self.perf_map = modules.open_perf_map(pid);
        if self.perf_map.is_some() {
            for piece in Arc::make_mut(&mut self.pieces) {
                if is_made_at_run_time(&piece.mapping) {
                    piece.module = self.perf_map;
                }
            }
        }
        self.perf_map.is_some()
    }

    fn merge(&mut self, mut now: Vec<Piece>) {
        if now.is_empty() {
            return;
        }
        let gone = self.pieces.iter().filter(|old| {
            let at = now.partition_point(|new| new.mapping.end <= old.mapping.start);
            now.get(at)
                .is_none_or(|new| new.mapping.start >= old.mapping.end)
        });
        let gone: Vec<Piece> = gone
            .take(MAX_PIECES.saturating_sub(now.len()))
            .cloned()
            .collect();
        now.extend(gone);
        now.sort_by_key(|piece| piece.mapping.start);
        let names = now
            .iter()
            .map(|piece| piece.mapping.name.len())
            .sum::<usize>();
        self.size = names + now.len() * size_of::<Piece>();
        self.pieces = Arc::new(now);
    }

    /// Bytes of memory that this takes up, shared evenly with the processes that it is shared with.
    pub fn size(&self) -> usize {
        self.size / Arc::strong_count(&self.pieces)
    }

    /// All mappings, by rising address.
    pub fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// The mapping that holds an address.
    pub fn find(&self, address: u64) -> Option<&Piece> {
        let after = self
            .pieces
            .partition_point(|piece| piece.mapping.start <= address);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        (address < piece.mapping.end).then_some(piece)
    }
}

/// Whether the code in a mapping comes from no file: not from a program, and not from the kernel.
fn is_made_at_run_time(mapping: &Mapping) -> bool {
    // Compilers give such memory names, or map it from files in memory.
    mapping.name.is_empty()
        || mapping.name.starts_with("//")
        || mapping.name.starts_with("[anon")
        || mapping.name.starts_with("/memfd:doublemapper")
        || mapping.name.starts_with("/dev/zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start: u64, end: u64, name: &str) -> Piece {
        Piece {
            mapping: Mapping {
                start,
                end,
                executable: true,
                name: name.to_owned(),
                ..Mapping::default()
            },
            module: None,
        }
    }

    #[test]
    fn what_is_gone_stays_until_its_place_is_taken() {
        let mut space = AddressSpace::default();
        let name = |space: &AddressSpace, address| {
            space.find(address).map(|piece| piece.mapping.name.clone())
        };

        space.merge(vec![
            piece(10, 20, "a"),
            piece(20, 30, "b"),
            piece(40, 50, "c"),
        ]);
        let parent = space.clone();
        space.merge(vec![piece(15, 20, "d"), piece(60, 70, "e")]);
        assert_eq!(name(&space, 10), None);
        assert_eq!(name(&space, 15).as_deref(), Some("d"));
        assert_eq!(name(&space, 20).as_deref(), Some("b"));
        assert_eq!(name(&space, 30), None);
        assert_eq!(name(&space, 49).as_deref(), Some("c"));
        assert_eq!(name(&space, 69).as_deref(), Some("e"));
        assert_eq!(name(&parent, 10).as_deref(), Some("a"));
        space.merge(Vec::new());
        assert_eq!(name(&space, 60).as_deref(), Some("e"));
        assert_eq!(name(&AddressSpace::default(), 0), None);
    }

    #[test]
    fn the_file_of_this_test_is_opened_once() {
        let pid = std::process::id();
        let mut modules = Modules::default();
        let mut space = AddressSpace::default();
        space.refresh(pid, &mut modules);
        let here = the_file_of_this_test_is_opened_once as fn() as usize as u64;
        let module = space.find(here).unwrap().module.unwrap();
        space.refresh(pid, &mut modules);
        assert_eq!(space.find(here).unwrap().module, Some(module));
        let opened = modules.file(module).unwrap().metadata().unwrap().len();
        assert_eq!(opened, std::fs::metadata("/proc/self/exe").unwrap().len());
    }
}
