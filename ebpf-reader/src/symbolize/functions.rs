//! The functions of a profile, each once, and names that were found before, within a budget.

use std::collections::HashMap;

use super::file::Named;
use crate::profile::{Frame, Function};

/// Bytes of names that are remembered from one profile to the next.
const BUDGET: usize = 12 << 20;

/// The functions of one profile.
#[derive(Debug)]
pub(super) struct Functions {
    list: Vec<Function>,
    indices: HashMap<Function, usize>,
}

impl Functions {
    pub(super) fn starting_with(list: Vec<Function>) -> Self {
        let indices = list.iter().cloned().zip(0..).collect();
        Self { list, indices }
    }

    pub(super) fn into_list(self) -> Vec<Function> {
        self.list
    }

    /// The frames of one place.
    pub(super) fn frames(&mut self, named: &[Named]) -> Vec<Frame> {
        named.iter().map(|named| self.frame(named)).collect()
    }

    fn frame(&mut self, named: &Named) -> Frame {
        let function = Function {
            name: named.name.clone(),
            file: named.file.clone(),
        };
        let index = match self.indices.get(&function) {
            Some(&index) => index,
            None => {
                self.list.push(function.clone());
                self.indices.insert(function, self.list.len() - 1);
                self.list.len() - 1
            }
        };
        Frame {
            function: index,
            line: named.line,
        }
    }
}

/// What was found at places of files, by file and offset.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: HashMap<(u64, u64), Box<[Named]>>,
    size: usize,
}

impl Known {
    pub(super) fn get(&self, file: u64, offset: u64) -> Option<&[Named]> {
        self.names.get(&(file, offset)).map(|names| &names[..])
    }

    pub(super) fn insert(&mut self, file: u64, offset: u64, names: &[Named]) {
        let size = 64
            + names
                .iter()
                .map(|named| size_of::<Named>() + named.name.len() + named.file.len() + 32)
                .sum::<usize>();
        if self.size + size > BUDGET {
            // Whatever is still of use is found again.
            self.names.clear();
            self.size = 0;
        }
        if self.names.insert((file, offset), names.into()).is_none() {
            self.size += size;
        }
    }
}
