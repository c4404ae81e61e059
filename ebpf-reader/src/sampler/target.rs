//! A followed process as the kernel side's table holds it: `struct target` in `bpf/records.h`.

use crate::sample::{Libc, Locations, MAX_PLACES, Place, Places};

/// Words of a place: kind, offset, module, generation.
const PLACE_WORDS: usize = 4;

const PLACE_STATIC: u64 = 1;
const PLACE_DYNAMIC: u64 = 2;

const LIBC_GLIBC: u32 = 0;
const LIBC_MUSL: u32 = 1;

/// A value of the map `targets`: whether the places are known and the C library, then the places of both symbols.
pub(super) type Value = [u64; VALUE_WORDS];

const VALUE_WORDS: usize = 1 + 2 * MAX_PLACES * PLACE_WORDS;

/// What the kernel side needs to know to read the contexts of a process.
pub(super) fn value(locations: Locations) -> Value {
    let known = u32::from(!locations.is_empty());
    let libc = match locations.libc {
        Libc::Glibc => LIBC_GLIBC,
        Libc::Musl => LIBC_MUSL,
    };
    let mut value = [0; VALUE_WORDS];
    let (head, places) = value.split_at_mut(1);
    head.copy_from_slice(&[word([known, libc])]);
    let (thread_context, custom_labels) = places.split_at_mut(MAX_PLACES * PLACE_WORDS);
    fill(thread_context, locations.thread_context);
    fill(custom_labels, locations.custom_labels);
    value
}

/// Two neighbours of 32 bits.
fn word([first, second]: [u32; 2]) -> u64 {
    let mut bytes = [0; 8];
    let (low, high) = bytes.split_at_mut(4);
    low.copy_from_slice(&first.to_ne_bytes());
    high.copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn fill(words: &mut [u64], places: Places) {
    for (words, place) in words.chunks_exact_mut(PLACE_WORDS).zip(places.iter()) {
        words.copy_from_slice(&match place {
            Place::Static { offset } => [PLACE_STATIC, offset.cast_unsigned(), 0, 0],
            Place::Dynamic {
                module,
                offset,
                generation,
            } => [PLACE_DYNAMIC, offset, module, generation],
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_as_in_records_h() {
        let mut thread_context = Places::from(Place::Static { offset: -16 });
        thread_context.push(Place::Dynamic {
            module: 3,
            offset: 40,
            generation: 7,
        });
        let value = value(Locations {
            libc: Libc::Musl,
            thread_context,
            custom_labels: Place::Static { offset: 8 }.into(),
        });
        assert_eq!(size_of_val(&value), 264);
        assert_eq!(value[0].to_ne_bytes(), [1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(value[1..5], [1, (-16_i64).cast_unsigned(), 0, 0]);
        assert_eq!(value[5..9], [2, 40, 3, 7]);
        assert_eq!(value[9..17], [0; 8]);
        assert_eq!(value[17..21], [1, 8, 0, 0]);
        assert_eq!(value[21..], [0; 12]);
    }

    #[test]
    fn nothing_is_known_without_places() {
        assert_eq!(value(Locations::default()), [0; VALUE_WORDS]);
    }
}
