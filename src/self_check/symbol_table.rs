//! Whether the symbols are where profilers look, and lead to the slots that this thread uses.

use std::path::PathBuf;

use super::dynamic::{Dynamic, Symbol};
use super::memory::Memory;
use super::module::{self, Module};
use super::{SelfCheckError, Symbols, TlsPlacement, tls};
use crate::abi::{custom_labels, thread_context};
use crate::block;

const STT_OBJECT: u8 = 1;
const STT_TLS: u8 = 6;

pub(super) fn check() -> Result<Symbols, SelfCheckError> {
    let (Some(slots), Some(thread_pointer)) = (block::slots(), block::thread_pointer()) else {
        return Err(SelfCheckError::Unsupported);
    };
    let memory = Memory::open()?;
    let modules = module::loaded();
    let code = block::slots as fn() -> Option<block::Slots> as usize as u64;
    let own = modules
        .iter()
        .find(|module| module.contains_code(code))
        .ok_or_else(|| SelfCheckError::Unreadable {
            what: "the list of loaded modules",
            source: std::io::ErrorKind::NotFound.into(),
        })?;
    let search = Search {
        memory: &memory,
        thread_pointer: thread_pointer as u64,
        modules: &modules,
        own,
        dynamic: Dynamic::read(&memory, own)?.ok_or_else(|| SelfCheckError::NoDynamicSymbols {
            module: own.path.clone(),
        })?,
    };

    let mut names = vec![thread_context::SYMBOL];
    let mut placement =
        search.slot(thread_context::SYMBOL, slots.thread_context.as_ptr() as u64)?;
    if let Some(slot) = slots.custom_labels {
        let found = search.slot(custom_labels::SYMBOL, slot.as_ptr() as u64)?;
        if found == TlsPlacement::Dynamic {
            placement = found;
        }
        search.version()?;
        names.extend([custom_labels::SYMBOL, custom_labels::VERSION_SYMBOL]);
    }
    Ok(Symbols {
        module: own.path.clone(),
        in_executable: own.is_executable,
        placement,
        also_defined_in: search.other_definitions(&names),
        names,
    })
}

struct Search<'a> {
    memory: &'a Memory,
    thread_pointer: u64,
    modules: &'a [Module],
    own: &'a Module,
    dynamic: Dynamic,
}

impl Search<'_> {
    /// Checks a symbol of the block, whose address on this thread is `actual`.
    fn slot(&self, symbol: &'static str, actual: u64) -> Result<TlsPlacement, SelfCheckError> {
        let definition = self.definition(symbol, STT_TLS, thread_context::SYMBOL_SIZE)?;
        let (expected, placement) = if self.own.is_executable {
            let tls = self
                .own
                .tls()
                .ok_or_else(|| self.wrong(symbol, "without a TLS segment".into()))?;
            (
                tls::in_executable(self.thread_pointer, tls, definition.value),
                TlsPlacement::Static,
            )
        } else {
            self.interposed(symbol, definition, actual)?;
            tls::in_shared_object(
                self.memory,
                self.thread_pointer,
                self.own,
                &self.dynamic,
                definition,
            )?
            .ok_or_else(|| SelfCheckError::NoAccessRelocation {
                symbol,
                module: self.own.path.clone(),
            })?
        };
        if expected == actual {
            Ok(placement)
        } else {
            Err(SelfCheckError::AddressMismatch {
                symbol,
                module: self.own.path.clone(),
                expected,
                actual,
            })
        }
    }

    /// Checks the constant that tells readers the version of the labels' layout.
    fn version(&self) -> Result<(), SelfCheckError> {
        let symbol = custom_labels::VERSION_SYMBOL;
        let definition = self.definition(symbol, STT_OBJECT, 4)?;
        let version = self
            .memory
            .u32(self.own.bias.wrapping_add(definition.value))?;
        if version == custom_labels::VERSION {
            Ok(())
        } else {
            Err(self.wrong(
                symbol,
                format!("{version} instead of {}", custom_labels::VERSION),
            ))
        }
    }

    /// The module's own definition of `symbol`, as readers want it.
    fn definition(
        &self,
        symbol: &'static str,
        kind: u8,
        size: u64,
    ) -> Result<Symbol, SelfCheckError> {
        let Some(found) = self.dynamic.definition(self.memory, symbol)? else {
            let module = self.own.path.clone();
            return Err(if self.own.is_executable {
                SelfCheckError::NotExported { symbol, module }
            } else {
                SelfCheckError::HiddenInSharedObject { symbol, module }
            });
        };
        if found.info & 0xf != kind {
            let found = format!("of ELF type {} instead of {kind}", found.info & 0xf);
            return Err(self.wrong(symbol, found));
        }
        if found.info >> 4 == 0 || found.other & 3 != 0 {
            return Err(self.wrong(symbol, "not global and visible".into()));
        }
        if found.size != size {
            return Err(self.wrong(symbol, format!("{} bytes instead of {size}", found.size)));
        }
        Ok(found)
    }

    fn wrong(&self, symbol: &'static str, found: String) -> SelfCheckError {
        SelfCheckError::WrongSymbol {
            symbol,
            module: self.own.path.clone(),
            found,
        }
    }

    /// An error if this thread's slot is not in this module's block but in another's.
    fn interposed(
        &self,
        symbol: &'static str,
        definition: Symbol,
        actual: u64,
    ) -> Result<(), SelfCheckError> {
        let slot_in = |module: &Module, value: u64| {
            module
                .tls_data
                .is_some_and(|block| block.wrapping_add(value) == actual)
        };
        if slot_in(self.own, definition.value) {
            return Ok(());
        }
        let by = self.others().find(|(module, dynamic)| {
            matches!(dynamic.definition(self.memory, symbol), Ok(Some(other)) if slot_in(module, other.value))
        });
        match by {
            Some((module, _)) => Err(SelfCheckError::Interposed {
                symbol,
                module: self.own.path.clone(),
                by: module.path.clone(),
            }),
            None => Ok(()),
        }
    }

    fn other_definitions(&self, names: &[&str]) -> Vec<PathBuf> {
        self.others()
            .filter(|(_, dynamic)| {
                names
                    .iter()
                    .any(|name| matches!(dynamic.definition(self.memory, name), Ok(Some(_))))
            })
            .map(|(module, _)| module.path.clone())
            .collect()
    }

    /// Every other module whose dynamic symbols can be read; the rest can define nothing.
    fn others(&self) -> impl Iterator<Item = (&Module, Dynamic)> {
        self.modules
            .iter()
            .filter(|module| module.bias != self.own.bias || module.path != self.own.path)
            .filter_map(|module| Some((module, Dynamic::read(self.memory, module).ok()??)))
    }
}
