//! The flame graph of some samples, as a tree of functions for the page.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::ring::Window;
use crate::profile::{Filter, Profile, Row};

/// Frames of a stack that are shown. What is further inside is added to the last one.
const MAX_DEPTH: usize = 255;
/// Nodes while a tree is put together. Stacks that would need more end where they are.
const MAX_NODES: usize = 1 << 20;
/// Nodes that are sent to the page: more cannot be told apart on a screen.
const MAX_SHOWN: usize = 20_000;

/// A tree of functions with the time spent in them.
#[derive(Debug)]
pub(super) struct Tree {
    names: Vec<String>,
    by_name: HashMap<String, usize>,
    nodes: Vec<Node>,
    children: HashMap<(usize, usize), usize>,
}

#[derive(Debug)]
struct Node {
    name: usize,
    ns: u64,
    samples: u64,
    children: Vec<usize>,
}

impl Tree {
    /// The tree of the samples that `filter` shows: processes, below them functions, outermost first.
    pub(super) fn new(windows: &[Arc<Window>], filter: &Filter) -> Self {
        let mut tree = Self {
            names: Vec::new(),
            by_name: HashMap::new(),
            nodes: Vec::new(),
            children: HashMap::new(),
        };
        let root = tree.name("all");
        tree.nodes.push(Node {
            name: root,
            ns: 0,
            samples: 0,
            children: Vec::new(),
        });
        for window in windows {
            tree.add(&window.profile, filter);
        }
        tree
    }

    fn add(&mut self, profile: &Profile, filter: &Filter) {
        // Names of a place, outermost first; looked up once.
        let mut places: Vec<Option<Vec<usize>>> = vec![None; profile.locations.len()];
        for row in profile
            .rows
            .iter()
            .filter(|row| filter.matches(profile, row))
        {
            self.add_row(profile, row, &mut places);
        }
    }

    fn add_row(&mut self, profile: &Profile, row: &Row, places: &mut [Option<Vec<usize>>]) {
        let process = profile
            .threads
            .get(row.thread)
            .and_then(|thread| profile.processes.get(thread.process))
            .map_or("", |process| process.name.as_str());
        let mut at = self.count(0, row);
        let name = self.name(process);
        at = self.child(at, name, row);
        let mut depth = 2;
        let stack = profile.stacks.get(row.stack).map_or(&[][..], Vec::as_slice);
        for &location in stack.iter().rev() {
            let Some(place) = places.get_mut(location) else {
                continue;
            };
            let names = match place.take() {
                Some(names) => names,
                None => {
                    let found = profile
                        .locations
                        .get(location)
                        .map(|place| profile.names(place));
                    let found = found.unwrap_or_default().into_iter().rev();
                    found.map(|name| self.name(&name)).collect()
                }
            };
            for &name in &names {
                if depth < MAX_DEPTH {
                    at = self.child(at, name, row);
                    depth += 1;
                }
            }
            *place = Some(names);
        }
    }

    fn name(&mut self, name: &str) -> usize {
        if let Some(&known) = self.by_name.get(name) {
            return known;
        }
        self.names.push(name.to_owned());
        let index = self.names.len() - 1;
        self.by_name.insert(name.to_owned(), index);
        index
    }

    /// Adds a row to a node; the node.
    fn count(&mut self, node: usize, row: &Row) -> usize {
        if let Some(node) = self.nodes.get_mut(node) {
            node.ns = node.ns.saturating_add(row.ns);
            node.samples = node.samples.saturating_add(row.samples);
        }
        node
    }

    /// Adds a row to the child of a node with this name; the child.
    fn child(&mut self, parent: usize, name: usize, row: &Row) -> usize {
        let child = match self.children.get(&(parent, name)) {
            Some(&known) => known,
            None if self.nodes.len() >= MAX_NODES => return parent,
            None => {
                self.nodes.push(Node {
                    name,
                    ns: 0,
                    samples: 0,
                    children: Vec::new(),
                });
                let child = self.nodes.len() - 1;
                self.children.insert((parent, name), child);
                if let Some(parent) = self.nodes.get_mut(parent) {
                    parent.children.push(child);
                }
                child
            }
        };
        self.count(child, row)
    }

    /// The least time that a node must have to be among the [`MAX_SHOWN`] largest ones.
    fn threshold(&self) -> u64 {
        if self.nodes.len() <= MAX_SHOWN {
            return 0;
        }
        let mut times: Vec<u64> = self.nodes.iter().map(|node| node.ns).collect();
        let (_, &mut threshold, _) =
            times.select_nth_unstable_by(MAX_SHOWN.min(self.nodes.len() - 1), |a, b| b.cmp(a));
        threshold.saturating_add(1)
    }
}

/// `{"names": [NAME, …], "hidden": N, "root": NODE}` with `NODE = [name, ns, samples, NODE, …]`, largest child first.
impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let threshold = self.threshold();
        let hidden = self.nodes.iter().filter(|node| node.ns < threshold).count();
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("names", &self.names)?;
        map.serialize_entry("hidden", &hidden)?;
        map.serialize_entry(
            "root",
            &Shown {
                tree: self,
                node: 0,
                threshold,
            },
        )?;
        map.end()
    }
}

/// A node and what is below it. It nests as deep as [`MAX_DEPTH`].
struct Shown<'a> {
    tree: &'a Tree,
    node: usize,
    threshold: u64,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        if let Some(node) = self.tree.nodes.get(self.node) {
            list.serialize_element(&node.name)?;
            list.serialize_element(&node.ns)?;
            list.serialize_element(&node.samples)?;
            let time = |child: &usize| self.tree.nodes.get(*child).map_or(0, |child| child.ns);
            let mut children: Vec<usize> = node.children.clone();
            children.retain(|child| time(child) >= self.threshold);
            children.sort_by_key(|child| std::cmp::Reverse(time(child)));
            for child in children {
                list.serialize_element(&Shown {
                    tree: self.tree,
                    node: child,
                    threshold: self.threshold,
                })?;
            }
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::profile::tests::two_traces;
    use crate::serve::ring::Ring;

    fn windows(profiles: impl IntoIterator<Item = Profile>) -> Vec<Arc<Window>> {
        let mut ring = Ring::new(Duration::MAX, usize::MAX);
        let now = SystemTime::now();
        for (number, profile) in (1..).zip(profiles) {
            ring.push(number, profile, now);
        }
        ring.last(Duration::MAX, now)
    }

    /// Folded, as `outer;inner ns`, of the time that is spent in a node itself.
    fn folded(
        node: &serde_json::Value,
        names: &serde_json::Value,
        path: &str,
        out: &mut Vec<(String, u64)>,
    ) {
        let node = node.as_array().unwrap();
        let name = names[node[0].as_u64().unwrap() as usize].as_str().unwrap();
        let path = format!("{path};{}", name.replace(';', ":"));
        let children: u64 = node[3..]
            .iter()
            .map(|child| child[1].as_u64().unwrap())
            .sum();
        let own = node[1].as_u64().unwrap() - children;
        if own > 0 {
            out.push((path.clone(), own));
        }
        for child in &node[3..] {
            folded(child, names, &path, out);
        }
    }

    #[test]
    fn the_same_as_folded_stacks() {
        let profile = two_traces();
        for filter in [
            Filter::all(),
            Filter::trace(profile.contexts[0].trace_id.unwrap()),
        ] {
            let json =
                serde_json::to_value(Tree::new(&windows([two_traces(), two_traces()]), &filter))
                    .unwrap();
            let mut found = Vec::new();
            folded(&json["root"], &json["names"], "", &mut found);
            found.sort();
            let mut expected: Vec<(String, u64)> = crate::flame::folded(&profile, &filter)
                .into_iter()
                .map(|(stack, samples)| (format!(";all;{stack}"), samples * profile.period_ns * 2))
                .collect();
            expected.sort();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn deep_and_wide_stacks_are_bounded() {
        let mut profile = two_traces();
        profile.stacks[0] = vec![0; 10_000];
        let json = serde_json::to_string(&Tree::new(&windows([profile]), &Filter::all())).unwrap();
        let mut deepest = 0;
        let mut depth = 0_usize;
        for c in json.chars() {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        assert!(deepest <= MAX_DEPTH + 2, "{deepest}");

        let mut wide = two_traces();
        let template = wide.rows[0].clone();
        for index in 0..MAX_SHOWN * 2 {
            wide.functions.push(crate::profile::Function {
                name: format!("f{index}"),
                file: String::new(),
            });
            let function = wide.functions.len() - 1;
            wide.locations.push(crate::profile::Location {
                frames: vec![crate::profile::Frame {
                    function,
                    line: None,
                }],
                ..Default::default()
            });
            wide.stacks.push(vec![wide.locations.len() - 1]);
            wide.rows.push(Row {
                stack: wide.stacks.len() - 1,
                samples: 1,
                ns: index as u64,
                ..template.clone()
            });
        }
        let tree = Tree::new(&windows([wide]), &Filter::all());
        let json = serde_json::to_value(&tree).unwrap();
        let hidden = json["hidden"].as_u64().unwrap() as usize;
        assert!(tree.nodes.len() - hidden <= MAX_SHOWN);
        assert!(hidden < tree.nodes.len() - MAX_SHOWN / 2);
    }
}
