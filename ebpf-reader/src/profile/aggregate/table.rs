//! A table in which equal values have one index.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Table<T> {
    indices: HashMap<T, usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            indices: HashMap::new(),
        }
    }
}

impl<T: Eq + Hash> Table<T> {
    /// The index of a value, which is added if it is new.
    pub(super) fn index(&mut self, value: T) -> usize {
        let next = self.indices.len();
        *self.indices.entry(value).or_insert(next)
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        self.indices.contains_key(value)
    }

    /// The values by index.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let mut values: Vec<_> = self.indices.iter().collect();
        values.sort_by_key(|&(_, &index)| index);
        values.into_iter().map(|(value, _)| value)
    }

    /// The values by index.
    pub(super) fn into_values(self) -> Vec<T> {
        let mut values: Vec<_> = self.indices.into_iter().collect();
        values.sort_by_key(|&(_, index)| index);
        values.into_iter().map(|(value, _)| value).collect()
    }
}
