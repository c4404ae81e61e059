//! Does the address that a reader computes agree with what the process itself has?
//!
//! A reader computes the address of a pointer from the thread pointer and an offset: of the main executable by
//! its program headers, of a shared object by what the dynamic linker has stored for its code. The process keeps
//! another account of the same blocks, in each thread: the dynamic thread vector, by which `__tls_get_addr`
//! finds them. The two are made by different code, from different data.

use super::ledger::Ledger;
use super::module::Module;
use super::symbols::SymbolRules;
use super::{Who, signed};
use crate::elf::Pointer;
use crate::published::ReadMemory;
use crate::sample::{Libc, Locations, Place, Places};
use crate::thread_local;

/// Blocks of a vector that are looked at.
const MAX_BLOCKS: u64 = 128;

/// A pointer's place in one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) address: Option<u64>,
    /// What lies there.
    pub(super) value: Option<u64>,
    pub(super) agreement: Agreement,
}

/// What the thread's own vector says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// It lies in the block of this module.
    Block(u64),
    /// The main executable's block is elsewhere: the address that follows from it.
    Elsewhere(u64),
    /// The vector does not say: the thread has not touched the block by way of it.
    Silent,
    /// There is no place to compare, or it cannot be read.
    Unknown,
}

/// What is known of one pointer in all modules: the offsets that it has in their segments.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    /// In the main executable, with the offset from the thread pointer that follows from it.
    main: Option<(u64, i64)>,
    /// In shared objects.
    shared: Vec<u64>,
}

impl Offsets {
    pub(super) fn of(modules: &[Module], pointer: Pointer) -> Self {
        let mut offsets = Self::default();
        for module in modules {
            let Some(offset) = module.elf.tls_offset(pointer) else {
                continue;
            };
            match module.elf.main_executable_place(pointer) {
                Some(Place::Static {
                    offset: from_pointer,
                }) if module.is_executable => {
                    offsets.main = Some((offset, from_pointer));
                }
                _ => offsets.shared.push(offset),
            }
        }
        offsets
    }
}

/// Looks at the places of a pointer in a thread that stands still.
pub(super) fn look(
    memory: &impl ReadMemory,
    thread_pointer: u64,
    libc: Libc,
    places: Places,
    offsets: &Offsets,
) -> Vec<Slot> {
    let slot = |place| {
        let address = thread_local::address(memory, thread_pointer, libc, place).unwrap_or(None);
        let value = address.and_then(|address| {
            let [value] = memory.words(address)?;
            Some(value)
        });
        let agreement = address.map_or(Agreement::Unknown, |address| {
            compare(memory, thread_pointer, libc, place, address, offsets)
        });
        Slot {
            place,
            address,
            value,
            agreement,
        }
    };
    places.iter().map(slot).collect()
}

fn compare(
    memory: &impl ReadMemory,
    thread_pointer: u64,
    libc: Libc,
    place: Place,
    address: u64,
    offsets: &Offsets,
) -> Agreement {
    let block = |module| {
        let start = Place::Dynamic {
            module,
            offset: 0,
            generation: 0,
        };
        thread_local::address(memory, thread_pointer, libc, start).unwrap_or(None)
    };
    let offset = match place {
        Place::Static { offset } => offset,
        // Computed by the vector: what is compared is the block's place in it with the symbol's own offset.
        Place::Dynamic { module, offset, .. } => {
            return match offsets.shared.contains(&offset) {
                true => Agreement::Block(module),
                false => Agreement::Unknown,
            };
        }
    };
    if let Some((in_segment, _)) = offsets.main.filter(|&(_, main)| main == offset) {
        // The main executable's thread-local block always has the number 1.
        return match block(1) {
            Some(start) if start.wrapping_add(in_segment) == address => Agreement::Block(1),
            Some(start) => Agreement::Elsewhere(start.wrapping_add(in_segment)),
            None => Agreement::Silent,
        };
    }
    let in_block = |start: u64| {
        offsets
            .shared
            .iter()
            .any(|&in_segment| start.wrapping_add(in_segment) == address)
    };
    (1..=MAX_BLOCKS)
        .find(|&module| block(module).is_some_and(in_block))
        .map_or(Agreement::Silent, Agreement::Block)
}

/// Judges a thread's places of one pointer.
pub(super) fn judge(ledger: &mut Ledger, who: &Who, pointer: Pointer, slots: &[Slot]) {
    let rule = SymbolRules::of(pointer).address;
    for slot in slots {
        match (&slot.agreement, slot.address) {
            (_, Some(address)) if slot.value.is_none() => ledger.fail(
                rule,
                format!("{who}: {address:#x} is not readable"),
                "report this: what the file says does not fit the process",
            ),
            (Agreement::Block(module), _) => ledger.pass_with(rule, shown(slot.place, *module)),
            (Agreement::Elsewhere(expected), Some(address)) => ledger.fail(
                rule,
                format!("{who}: computed {address:#x}, and by the thread's vector it is {expected:#x}"),
                "link the program with an ordinary PT_TLS segment, and start it with its own dynamic linker",
            ),
            (Agreement::Silent, _) => ledger.skip(rule, "the process keeps no second account of this block"),
            _ => ledger.skip(rule, "no thread has touched the block"),
        }
    }
}

/// How a place is found, in a few words.
fn shown(place: Place, module: u64) -> String {
    match place {
        Place::Static { offset } => format!("thread pointer {}, block {module}", signed(offset)),
        Place::Dynamic { module, offset, .. } => format!("block {module} +{offset:#x}"),
    }
}

/// Where nothing was found although a file defines the symbol.
pub(super) fn judge_places(
    ledger: &mut Ledger,
    pointer: Pointer,
    modules: &[Module],
    locations: &Locations,
) {
    let places = match pointer {
        Pointer::ThreadContext => locations.thread_context,
        Pointer::CustomLabels => locations.custom_labels,
    };
    let definer = modules
        .iter()
        .find(|module| module.elf.tls_offset(pointer).is_some());
    if let (true, Some(module)) = (places.is_empty(), definer) {
        ledger.fail(
            SymbolRules::of(pointer).address,
            format!("{}: nothing in the process leads to it", module.name),
            "compile the code that uses it with -mtls-dialect=gnu2, or put it into the main executable",
        );
    }
}
