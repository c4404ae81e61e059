//! Cuts the part that a program refers to out of the description of the kernel's types.
//!
//! The description (BTF, `Documentation/bpf/btf.rst` of the kernel) holds more than 100,000 types, of which the program
//! needs a dozen structures and what lies in them. To take the whole apart is a third of what a short recording
//! costs; see ADR 13.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// The bytes of a header in this version; a longer one has something that came later.
const HEADER_SIZE: u32 = 24;
/// The fields that each type begins with: name, kind and number of members, size or other type.
const TYPE_SIZE: usize = 12;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// What a program can mean by a name: the kinds that it may declare for itself.
const NAMED: [u32; 5] = [STRUCT, UNION, ENUM, TYPEDEF, ENUM64];

/// What is wrong with a description of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Malformed {
    #[error("it does not begin as a description of types does")]
    Header,
    #[error("type {0} is not whole")]
    Truncated(u32),
    #[error("type {id} is of kind {kind}, which is not known here or has no place there")]
    Kind { id: u32, kind: u32 },
    #[error("there is no type {0}")]
    NoType(u32),
    #[error("there is no string {0}")]
    NoString(u32),
}

/// The types of `kernel` that have the name of a type in `program`, and what lies in them.
///
/// Both are descriptions in the byte order of this machine, and so is the result. A pointer in it points to
/// nothing: what it points to is no part of the structure, and is there if its name is.
pub(super) fn cut_out(kernel: &[u8], program: &[u8]) -> Result<Vec<u8>, Malformed> {
    let program = Description::parse(program)?;
    let mut names = HashSet::<_, RandomState>::default();
    for record in program.records() {
        let record = record?;
        if record.is_named() {
            names.insert(without_flavor(program.string(record.name)?));
        }
    }
    let kernel = Description::parse(kernel)?;
    let mut cut = Cut::new(&kernel);
    // Of the type with the number 0, which has no bytes, and all others.
    let mut offsets = vec![0];
    let mut offset = 0;
    for record in kernel.records() {
        let record = record?;
        if record.is_named() && names.contains(without_flavor(kernel.string(record.name)?)) {
            cut.include(record.id);
        }
        offsets.push(offset);
        offset += record.bytes.len();
    }
    // Grows with what is found in each.
    let mut next = 0;
    while let Some(&id) = cut.included.get(next) {
        let bytes = offsets
            .get(id as usize)
            .and_then(|&offset| kernel.types.get(offset..))
            .ok_or(Malformed::NoType(id))?;
        cut.copy(&Record::parse(id, bytes)?)?;
        next += 1;
    }
    Ok(cut.finish())
}

/// `task_struct___before_5_14` is the `task_struct` of some kernels.
fn without_flavor(name: &[u8]) -> &[u8] {
    let end = name.windows(3).position(|three| three == b"___");
    name.get(..end.unwrap_or(name.len())).unwrap_or(name)
}

/// A description of types, divided into its parts.
struct Description<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Description<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let word = |offset| word(bytes, offset).ok_or(Malformed::Header);
        let begins = MAGIC.to_ne_bytes();
        if bytes.get(..2) != Some(&begins) || bytes.get(2) != Some(&VERSION) {
            return Err(Malformed::Header);
        }
        let part = |offset: u32, size: u32| {
            let start = (word(4)? as usize).checked_add(offset as usize);
            start
                .and_then(|start| bytes.get(start..)?.get(..size as usize))
                .ok_or(Malformed::Header)
        };
        Ok(Self {
            types: part(word(8)?, word(12)?)?,
            strings: part(word(16)?, word(20)?)?,
        })
    }

    /// The types in the order of their numbers, which begin at 1. Ends after an error.
    fn records(&self) -> impl Iterator<Item = Result<Record<'a>, Malformed>> + use<'a> {
        let mut rest = self.types;
        let mut id = 0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            id += 1;
            let record = Record::parse(id, rest);
            rest = match &record {
                Ok(record) => rest.get(record.bytes.len()..).unwrap_or_default(),
                Err(_) => &[],
            };
            Some(record)
        })
    }

    /// A string without the zero at its end.
    fn string(&self, offset: u32) -> Result<&'a [u8], Malformed> {
        let missing = Malformed::NoString(offset);
        let rest = self.strings.get(offset as usize..).ok_or(missing)?;
        let end = rest.iter().position(|&byte| byte == 0).ok_or(missing)?;
        Ok(&rest[..end])
    }
}

/// One type.
struct Record<'a> {
    id: u32,
    name: u32,
    kind: u32,
    /// The whole, with what follows the fields that all types have.
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The type that `bytes` begin with.
    fn parse(id: u32, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let truncated = Malformed::Truncated(id);
        let name = word(bytes, 0).ok_or(truncated)?;
        let info = word(bytes, 4).ok_or(truncated)?;
        let members = (info & 0xffff) as usize;
        let kind = info >> 24 & 0x1f;
        let more = match kind {
            PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            ENUM | FUNC_PROTO => members * 8,
            STRUCT | UNION | DATASEC | ENUM64 => members * 12,
            kind => return Err(Malformed::Kind { id, kind }),
        };
        let bytes = bytes.get(..TYPE_SIZE + more).ok_or(truncated)?;
        Ok(Self {
            id,
            name,
            kind,
            bytes,
        })
    }

    fn is_named(&self) -> bool {
        self.name != 0 && NAMED.contains(&self.kind)
    }
}

/// A smaller description in the making. Types and strings are numbered anew.
struct Cut<'a> {
    from: &'a Description<'a>,
    /// The old numbers of the types in it, in their new order.
    included: Vec<u32>,
    new_ids: HashMap<u32, u32, RandomState>,
    new_names: HashMap<u32, u32, RandomState>,
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl<'a> Cut<'a> {
    fn new(from: &'a Description<'a>) -> Self {
        Self {
            from,
            included: Vec::new(),
            new_ids: HashMap::default(),
            new_names: HashMap::default(),
            types: Vec::new(),
            // The empty string is the first.
            strings: vec![0],
        }
    }

    /// The new number of a type; 0, which is `void`, keeps its number.
    fn include(&mut self, id: u32) -> u32 {
        if id == 0 {
            return 0;
        }
        let included = &mut self.included;
        *self.new_ids.entry(id).or_insert_with(|| {
            included.push(id);
            included.len() as u32
        })
    }

    fn name(&mut self, offset: u32) -> Result<u32, Malformed> {
        if offset == 0 {
            return Ok(0);
        }
        if let Some(&new) = self.new_names.get(&offset) {
            return Ok(new);
        }
        let new = self.strings.len() as u32;
        self.strings.extend_from_slice(self.from.string(offset)?);
        self.strings.push(0);
        self.new_names.insert(offset, new);
        Ok(new)
    }

    /// Appends a type with new numbers, and includes those that lie in it.
    fn copy(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        let start = self.types.len();
        self.types.extend_from_slice(record.bytes);
        let (id, end) = (record.id, record.bytes.len());
        self.rename(id, start)?;
        let mut members = (TYPE_SIZE..end).step_by(match record.kind {
            ENUM => 8,
            _ => 12,
        });
        match record.kind {
            INT | FWD | FLOAT => {}
            PTR => self.put(start + 8, 0),
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => self.refer(id, start + 8)?,
            ARRAY => {
                self.refer(id, start + TYPE_SIZE)?;
                self.refer(id, start + TYPE_SIZE + 4)?;
            }
            STRUCT | UNION => {
                for member in members {
                    self.rename(id, start + member)?;
                    self.refer(id, start + member + 4)?;
                }
            }
            ENUM | ENUM64 => members.try_for_each(|value| self.rename(id, start + value))?,
            // Not a part of any structure.
            kind => return Err(Malformed::Kind { id, kind }),
        }
        Ok(())
    }

    /// Replaces the number of a name.
    fn rename(&mut self, id: u32, offset: usize) -> Result<(), Malformed> {
        let old = word(&self.types, offset).ok_or(Malformed::Truncated(id))?;
        let new = self.name(old)?;
        self.put(offset, new);
        Ok(())
    }

    /// Replaces the number of a type, which is included.
    fn refer(&mut self, id: u32, offset: usize) -> Result<(), Malformed> {
        let old = word(&self.types, offset).ok_or(Malformed::Truncated(id))?;
        let new = self.include(old);
        self.put(offset, new);
        Ok(())
    }

    fn put(&mut self, offset: usize, word: u32) {
        if let Some(bytes) = self.types.get_mut(offset..offset + 4) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
    }

    fn finish(self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        for word in [HEADER_SIZE, 0, types, types, strings] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(self.types);
        bytes.extend(self.strings);
        bytes
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description in the making, with the numbers that its types have.
    #[derive(Default)]
    struct Types {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Types {
        fn name(&mut self, name: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if name.is_empty() {
                return 0;
            }
            let offset = self.strings.len() as u32;
            self.strings.extend(name.bytes().chain([0]));
            offset
        }

        /// Adds a type with members of so many words each.
        fn add(&mut self, kind: u32, name: &str, size: u32, members: u32, words: &[u32]) -> u32 {
            let fields = [self.name(name), kind << 24 | members, size];
            for word in fields.iter().chain(words) {
                self.types.extend(word.to_ne_bytes());
            }
            self.count += 1;
            self.count
        }

        fn structure(&mut self, name: &str, members: &[(&str, u32)]) -> u32 {
            let mut words = Vec::new();
            for (position, &(member, id)) in members.iter().enumerate() {
                words.extend([self.name(member), id, position as u32 * 64]);
            }
            let count = members.len() as u32;
            self.add(STRUCT, name, count * 8, count, &words)
        }

        fn finish(self) -> Vec<u8> {
            let nothing = Description {
                types: &[],
                strings: &[],
            };
            let mut cut = Cut::new(&nothing);
            cut.types = self.types;
            cut.strings = self.strings;
            cut.finish()
        }
    }

    /// Kind and name of a type, names and numbers of its members.
    type Outline = (u32, String, Vec<(String, u32)>);

    fn outlines(bytes: &[u8]) -> Vec<Outline> {
        let description = Description::parse(bytes).unwrap();
        let string = |offset| {
            let name = description.string(offset).unwrap();
            String::from_utf8(name.to_vec()).unwrap()
        };
        let outlines = description.records().map(|record| {
            let record = record.unwrap();
            let members = match record.kind {
                STRUCT | UNION => (TYPE_SIZE..record.bytes.len()).step_by(12),
                _ => (0..0).step_by(1),
            };
            let members = members.map(|member| {
                let field = |offset| word(record.bytes, member + offset).unwrap();
                (string(field(0)), field(4))
            });
            (record.kind, string(record.name), members.collect())
        });
        outlines.collect()
    }

    #[test]
    fn what_has_a_name_and_what_lies_in_it_is_kept() {
        let mut kernel = Types::default();
        let int = kernel.add(INT, "int", 4, 0, &[32]);
        let unused = kernel.structure("unused", &[("x", int)]);
        let to_unused = kernel.add(PTR, "", unused, 0, &[]);
        let array = kernel.add(ARRAY, "", 0, 0, &[int, int, 4]);
        let inner = kernel.structure("inner", &[("array", array)]);
        let constant = kernel.add(CONST, "", inner, 0, &[]);
        kernel.add(FUNC_PROTO, "", int, 1, &[0, int]);
        kernel.structure("task", &[("next", to_unused), ("inner", constant)]);
        kernel.add(FUNC, "task", 7, 0, &[]);

        let mut program = Types::default();
        program.structure("task___of_old", &[]);
        program.add(FUNC, "unused", 0, 0, &[]);

        let cut = cut_out(&kernel.finish(), &program.finish()).unwrap();
        let member = |name: &str, id| (name.to_owned(), id);
        let expected = [
            (STRUCT, "task", vec![member("next", 2), member("inner", 3)]),
            (PTR, "", vec![]),
            (CONST, "", vec![]),
            (STRUCT, "inner", vec![member("array", 5)]),
            (ARRAY, "", vec![]),
            (INT, "int", vec![]),
        ];
        let expected = expected.map(|(kind, name, members)| (kind, name.to_owned(), members));
        assert_eq!(outlines(&cut), expected);
        let pointee = word(Description::parse(&cut).unwrap().types, 12 + 24 + 8);
        assert_eq!(pointee, Some(0), "a pointer points to nothing");
    }

    #[test]
    fn what_is_malformed_is_told() {
        let program = {
            let mut program = Types::default();
            program.structure("task", &[]);
            program.finish()
        };
        let kernel = |add: &dyn Fn(&mut Types)| {
            let mut kernel = Types::default();
            add(&mut kernel);
            cut_out(&kernel.finish(), &program)
        };
        assert_eq!(cut_out(&[], &program), Err(Malformed::Header));
        assert_eq!(cut_out(&program[..30], &program), Err(Malformed::Header));
        let too_far = kernel(&|types| {
            types.structure("task", &[("x", 9)]);
        });
        assert_eq!(too_far, Err(Malformed::NoType(9)));
        let unknown = kernel(&|types| {
            types.add(31, "", 0, 0, &[]);
        });
        assert_eq!(unknown, Err(Malformed::Kind { id: 1, kind: 31 }));
        let truncated = kernel(&|types| {
            types.add(STRUCT, "", 8, 2, &[0, 0, 0]);
        });
        assert_eq!(truncated, Err(Malformed::Truncated(1)));
        let nameless = kernel(&|types| {
            types.add(STRUCT, "task", 0, 0, &[]);
            types.strings.pop();
        });
        assert_eq!(nameless, Err(Malformed::NoString(1)));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut kernel = Types::default();
        let int = kernel.add(INT, "int", 4, 0, &[32]);
        kernel.structure("task", &[("x", int), ("y", int)]);
        kernel.add(ENUM, "color", 4, 1, &[1, 0]);
        let whole = kernel.finish();
        for at in 0..whole.len() {
            let _ = cut_out(&whole[..at], &whole);
            for value in [0, 1, 0x0d, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = cut_out(&bytes, &whole);
                let _ = cut_out(&whole, &bytes);
            }
        }
    }
}
