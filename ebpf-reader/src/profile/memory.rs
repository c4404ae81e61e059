//! How many bytes a profile takes up, about: the tables, and the text that they own.

use std::mem::size_of;

use crate::profile::{Context, Frame, Function, Location, Mapping, Process, Profile, Row, Thread};

/// What the allocator adds to each piece.
const OVERHEAD: usize = 16;

/// Bytes of a profile.
pub(crate) fn bytes(profile: &Profile) -> usize {
    let processes = profile.processes.iter().map(|process| {
        let context = process.context.as_ref();
        let published = context.map_or(0, |context| {
            pairs(&context.resource)
                + pairs(&context.attributes)
                + list(&context.attribute_keys, text)
        });
        text(&process.name) + text(&process.executable) + pairs(&process.origin) + published
    });
    let sizes = [
        size_of::<Profile>(),
        processes.sum::<usize>() + table::<Process>(profile.processes.capacity()),
        list(&profile.threads, |thread: &Thread| text(&thread.name)),
        list(&profile.contexts, |context: &Context| {
            pairs(&context.labels)
        }),
        list(&profile.mappings, |mapping: &Mapping| {
            // The bytes of a build id are shared; their share is not worth a look at who else has them.
            let build_id = mapping.build_id.as_ref();
            text(&mapping.name) + build_id.map_or(0, |id| id.as_bytes().len() + OVERHEAD)
        }),
        list(&profile.locations, |location: &Location| {
            table::<Frame>(location.frames.capacity())
        }),
        list(&profile.functions, |function: &Function| {
            text(&function.name) + text(&function.file)
        }),
        list(&profile.stacks, |stack: &Vec<usize>| {
            table::<usize>(stack.capacity())
        }),
        table::<Row>(profile.rows.capacity()),
    ];
    sizes.into_iter().fold(0, usize::saturating_add)
}

/// Gives back what tables have room for and do not hold.
pub(crate) fn shrink(profile: &mut Profile) {
    profile.processes.shrink_to_fit();
    profile.threads.shrink_to_fit();
    profile.contexts.shrink_to_fit();
    profile.mappings.shrink_to_fit();
    profile.locations.shrink_to_fit();
    profile.functions.shrink_to_fit();
    profile.stacks.shrink_to_fit();
    profile.rows.shrink_to_fit();
}

fn list<T>(items: &Vec<T>, own: impl Fn(&T) -> usize) -> usize {
    items
        .iter()
        .map(own)
        .fold(table::<T>(items.capacity()), usize::saturating_add)
}

fn table<T>(capacity: usize) -> usize {
    match capacity {
        0 => 0,
        _ => capacity
            .saturating_mul(size_of::<T>())
            .saturating_add(OVERHEAD),
    }
}

fn text(text: &String) -> usize {
    table::<u8>(text.capacity())
}

fn pairs(pairs: &Vec<(String, String)>) -> usize {
    list(pairs, |(name, value)| text(name) + text(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::two_traces;

    #[test]
    fn what_is_added_counts() {
        let mut profile = two_traces();
        let before = bytes(&profile);
        profile.functions.push(Function {
            name: "x".repeat(1000),
            file: "y".repeat(500),
        });
        profile.stacks.push(vec![0; 200]);
        assert!(bytes(&profile) >= before + 1000 + 500 + 200 * size_of::<usize>());
        assert!(bytes(&Profile::default()) < 1000);
    }
}
