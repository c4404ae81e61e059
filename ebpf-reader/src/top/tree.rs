//! Ways through a [tree of functions](crate::flame::tree), and where its boxes stand on a screen of some width.

use std::sync::Arc;

use crate::flame;
pub(super) use crate::flame::tree::ROOT;
use crate::flame::tree::{Node, Options};
use crate::profile::{Filter, Profile};

/// What is drawn.
const OPTIONS: Options = Options {
    process: flame::root,
    name: flame::clean,
    waits: true,
    depth: 255,
    nodes: 1 << 18,
};

/// A function that was called in one way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    /// Time in it and in what it called, in nanoseconds.
    pub(super) ns: u64,
}

/// A box of the flame graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) node: usize,
    /// 0 is the outermost.
    pub(super) depth: usize,
    pub(super) x: u16,
    pub(super) width: u16,
}

/// Functions with the time spent in them, and the ways between them.
#[derive(Debug)]
pub(super) struct Tree {
    tree: flame::tree::Tree,
    /// Who called each node; the outermost one itself.
    callers: Vec<usize>,
}

impl Tree {
    /// The tree of the samples that `filter` shows: processes, below them functions, outermost first.
    pub(super) fn new(windows: &[Arc<Profile>], filter: &Filter) -> Self {
        let windows = windows.iter().map(|window| &**window);
        let tree = flame::tree::Tree::new(windows, filter, &OPTIONS);
        let mut callers = vec![ROOT; tree.nodes.len()];
        for (node, called) in tree.nodes.iter().map(|node| &node.children).enumerate() {
            for &child in called {
                if let Some(caller) = callers.get_mut(child) {
                    *caller = node;
                }
            }
        }
        Self { tree, callers }
    }

    /// A node by its index.
    pub(super) fn get(&self, node: usize) -> Option<Function<'_>> {
        let node = self.node(node)?;
        Some(Function {
            name: self.tree.names.get(node.name)?,
            ns: node.weight.ns,
        })
    }

    /// Time in the function itself, in nanoseconds.
    pub(super) fn own_ns(&self, node: usize) -> u64 {
        let called = self.children(node).iter().map(|&child| self.ns(child));
        called.fold(self.ns(node), u64::saturating_sub)
    }

    fn node(&self, node: usize) -> Option<&Node> {
        self.tree.nodes.get(node)
    }

    fn ns(&self, node: usize) -> u64 {
        self.node(node).map_or(0, |node| node.weight.ns)
    }

    fn children(&self, node: usize) -> &[usize] {
        self.node(node).map_or(&[], |node| &node.children)
    }

    /// The node that called this one; the outermost one has none.
    pub(super) fn parent(&self, node: usize) -> Option<usize> {
        (node != ROOT).then(|| self.callers.get(node).copied())?
    }

    /// The node that was called for longest.
    pub(super) fn largest_child(&self, node: usize) -> Option<usize> {
        let children = self.children(node).iter().copied();
        children.rev().max_by_key(|&child| self.ns(child))
    }

    /// The innermost node that has all the time of this one: there the graph branches for the first time.
    pub(super) fn fork(&self, node: usize) -> usize {
        let mut at = node;
        while let Some(child) = self.largest_child(at) {
            if self.ns(child) != self.ns(node) {
                break;
            }
            at = child;
        }
        at
    }

    /// From the outermost node to this one.
    pub(super) fn lineage(&self, node: usize) -> Vec<usize> {
        let mut lineage = vec![node];
        let mut at = node;
        while let Some(parent) = self.parent(at) {
            lineage.push(parent);
            at = parent;
        }
        lineage.reverse();
        lineage
    }

    /// Names below the outermost node, by which a node is found again in the tree of the next second.
    pub(super) fn path(&self, node: usize) -> Vec<String> {
        let lineage = self.lineage(node).into_iter().skip(1);
        lineage
            .filter_map(|node| Some(self.get(node)?.name.to_owned()))
            .collect()
    }

    /// The node with these names, or the innermost one of them that is there.
    pub(super) fn find(&self, path: &[String]) -> usize {
        let mut at = ROOT;
        for name in path {
            let mut children = self.children(at).iter();
            match children.find(|&&child| self.get(child).is_some_and(|child| child.name == name)) {
                Some(&child) => at = child,
                None => break,
            }
        }
        at
    }

    /// The node beside this one, at the same depth below `zoom`.
    pub(super) fn beside(&self, node: usize, zoom: usize, forward: bool) -> Option<usize> {
        let depth = self.lineage(node).len();
        let mut level = vec![zoom];
        for _ in self.lineage(zoom).len()..depth {
            level = level
                .iter()
                .flat_map(|&node| self.children(node))
                .copied()
                .collect();
        }
        let at = level.iter().position(|&other| other == node)?;
        let next = if forward { at + 1 } else { at.checked_sub(1)? };
        level.get(next).copied()
    }

    /// The boxes on a screen of this width, of which `zoom` and its callers take up all. What is too narrow for one
    /// column is left out.
    pub(super) fn boxes(&self, zoom: usize, width: u16) -> Vec<Placed> {
        let lineage = self.lineage(zoom);
        let mut boxes: Vec<Placed> = lineage
            .iter()
            .enumerate()
            .map(|(depth, &node)| Placed {
                node,
                depth,
                x: 0,
                width,
            })
            .collect();
        let whole = u128::from(self.ns(zoom).max(1));
        // It is never more than the width.
        let column =
            |ns: u64| u16::try_from(u128::from(ns) * u128::from(width) / whole).unwrap_or(width);
        let mut open = vec![(zoom, lineage.len(), 0_u64)];
        while let Some((node, depth, begin)) = open.pop() {
            let mut begin = begin;
            for &child in self.children(node) {
                let end = begin.saturating_add(self.ns(child));
                let (x, until) = (column(begin), column(end).min(width));
                if until > x {
                    boxes.push(Placed {
                        node: child,
                        depth,
                        x,
                        width: until - x,
                    });
                    open.push((child, depth + 1, begin));
                }
                begin = end;
            }
        }
        boxes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::two_traces;

    fn tree() -> Tree {
        Tree::new(&[Arc::new(two_traces())], &Filter::all())
    }

    fn named(tree: &Tree, name: &str) -> usize {
        let mut nodes = 0..tree.callers.len();
        nodes
            .find(|&node| tree.get(node).unwrap().name == name)
            .unwrap()
    }

    #[test]
    fn time_is_that_of_the_stacks() {
        let tree = tree();
        let all = tree.get(ROOT).unwrap();
        assert_eq!((all.name, all.ns), ("all", two_traces().total().cpu_ns));
        assert_eq!(tree.own_ns(ROOT), 0);
        let handle = named(&tree, "handle<[u8: 4]>");
        assert_eq!(tree.get(handle).unwrap().ns, tree.own_ns(handle));
        assert_eq!(tree.own_ns(handle) * 7, all.ns * 5);
        assert!(tree.get(tree.callers.len()).is_none());
    }

    #[test]
    fn nodes_are_found_again() {
        let tree = tree();
        let handle = named(&tree, "handle<[u8: 4]>");
        let path = tree.path(handle);
        assert_eq!(path, ["app", "main", "handle<[u8: 4]>"]);
        assert_eq!(tree.find(&path), handle);
        let gone = ["app", "gone", "x"].map(str::to_owned);
        assert_eq!(tree.find(&gone), named(&tree, "app"));
        assert_eq!(tree.find(&[]), ROOT);
        assert_eq!(tree.largest_child(named(&tree, "main")), Some(handle));
        assert_eq!(tree.parent(ROOT), None);
        assert_eq!(tree.fork(ROOT), named(&tree, "main"));
        assert_eq!(tree.fork(handle), handle);
        let other = named(&tree, "lib.so+0x1010");
        assert_eq!(tree.beside(handle, ROOT, true), Some(other));
        assert_eq!(tree.beside(other, ROOT, true), None);
        assert_eq!(tree.beside(other, ROOT, false), Some(handle));
        assert_eq!(tree.beside(ROOT, ROOT, false), None);
    }

    #[test]
    fn boxes_stand_inside_their_callers() {
        let tree = tree();
        for width in [0, 1, 2, 3, 7, 80, u16::MAX] {
            for zoom in 0..tree.callers.len() {
                let boxes = tree.boxes(zoom, width);
                for placed in &boxes {
                    assert!(placed.x + placed.width <= width);
                    let Some(parent) = tree.parent(placed.node) else {
                        continue;
                    };
                    let around = boxes.iter().find(|other| other.node == parent).unwrap();
                    assert_eq!(around.depth + 1, placed.depth);
                    assert!(around.x <= placed.x);
                    assert!(placed.x + placed.width <= around.x + around.width);
                }
            }
        }
        let wide = tree.boxes(ROOT, 70);
        let handle = named(&tree, "handle<[u8: 4]>");
        let placed = wide.iter().find(|placed| placed.node == handle).unwrap();
        assert_eq!((placed.x, placed.width), (0, 50));
        let zoomed = tree.boxes(handle, 70);
        assert_eq!(zoomed.len(), 4);
        assert!(zoomed.iter().all(|placed| placed.width == 70));
    }

    #[test]
    fn nothing_is_a_tree_too() {
        let tree = Tree::new(&[], &Filter::all());
        assert_eq!(tree.boxes(ROOT, 80).len(), 1);
        assert_eq!(tree.largest_child(ROOT), None);
    }
}
