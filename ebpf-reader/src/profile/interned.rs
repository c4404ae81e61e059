//! A table in which equal values have one index, in the order in which they were added.

use std::collections::HashMap;
use std::hash::Hash;

/// Values, each once.
#[derive(Debug)]
pub(crate) struct Interned<T> {
    values: Vec<T>,
    indices: HashMap<T, usize>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            indices: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    /// A table with one value, at index 0.
    pub(crate) fn starting_with(first: T) -> Self {
        let mut new = Self::default();
        new.index(first);
        new
    }

    /// The index of a value, which is added if it is new.
    pub(crate) fn index(&mut self, value: T) -> usize {
        if let Some(&index) = self.indices.get(&value) {
            return index;
        }
        let index = self.values.len();
        self.values.push(value.clone());
        self.indices.insert(value, index);
        index
    }

    /// The values by index.
    pub(crate) fn into_values(self) -> Vec<T> {
        self.values
    }
}
