//! The flame graph of some samples, as a tree of functions for the page.

use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::ring::Window;
use crate::flame;
use crate::flame::tree::{self, Options, ROOT};
use crate::profile::Filter;

/// What is put together. The page makes every name fit to be shown, and shows times off the CPU apart.
const OPTIONS: Options = Options {
    process: flame::root,
    name: str::to_owned,
    waits: false,
    depth: 254,
    nodes: 1 << 20,
};
/// Nodes that are sent to the page: more cannot be told apart on a screen.
const MAX_SHOWN: usize = 20_000;

/// A tree of functions with the time spent in them, as the page reads it.
#[derive(Debug)]
pub(super) struct Tree(tree::Tree);

impl Tree {
    /// The tree of the samples that `filter` shows: processes, below them functions, outermost first.
    pub(super) fn new(windows: &[Arc<Window>], filter: &Filter) -> Self {
        let profiles = windows.iter().map(|window| &window.profile);
        Self(tree::Tree::new(profiles, filter, &OPTIONS))
    }

    /// The least time that a node must have to be among the [`MAX_SHOWN`] largest ones.
    fn threshold(&self) -> u64 {
        if self.0.nodes.len() <= MAX_SHOWN {
            return 0;
        }
        let mut times: Vec<u64> = self.0.nodes.iter().map(|node| node.weight.ns).collect();
        let (_, &mut threshold, _) =
            times.select_nth_unstable_by(MAX_SHOWN.min(self.0.nodes.len() - 1), |a, b| b.cmp(a));
        threshold.saturating_add(1)
    }
}

/// `{"names": [NAME, …], "hidden": N, "root": NODE}` with `NODE = [name, ns, samples, NODE, …]`, largest child first.
impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let threshold = self.threshold();
        let hidden = self
            .0
            .nodes
            .iter()
            .filter(|node| node.weight.ns < threshold)
            .count();
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("names", &self.0.names)?;
        map.serialize_entry("hidden", &hidden)?;
        map.serialize_entry(
            "root",
            &Shown {
                tree: &self.0,
                node: ROOT,
                threshold,
            },
        )?;
        map.end()
    }
}

/// A node and what is below it. It nests as deep as the tree.
struct Shown<'a> {
    tree: &'a tree::Tree,
    node: usize,
    threshold: u64,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        if let Some(node) = self.tree.nodes.get(self.node) {
            list.serialize_element(&node.name)?;
            list.serialize_element(&node.weight.ns)?;
            list.serialize_element(&node.weight.samples)?;
            let time = |child: &usize| {
                self.tree
                    .nodes
                    .get(*child)
                    .map_or(0, |child| child.weight.ns)
            };
            let mut children: Vec<usize> = node.children.clone();
            children.retain(|child| time(child) >= self.threshold);
            // Of equal ones, that which was met first.
            children.sort_by_key(|child| (std::cmp::Reverse(time(child)), *child));
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
    use crate::profile::{Profile, Row};
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
            let mut expected: Vec<(String, u64)> = flame::folded(&profile, &filter)
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
        assert!(deepest <= OPTIONS.depth + 3, "{deepest}");

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
        assert!(tree.0.nodes.len() - hidden <= MAX_SHOWN);
        assert!(hidden < tree.0.nodes.len() - MAX_SHOWN / 2);
    }
}
