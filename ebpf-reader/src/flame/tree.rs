//! Functions as a tree, by the way in which they were called, with the samples and the time in each.
//!
//! What is drawn of it, and how, is up to those who have it made: they say what processes and frames are called, and
//! how large it may become.

use std::collections::HashMap;

use super::{BLOCKED, PREEMPTED};
use crate::profile::{Filter, Process, Profile, Row};
use crate::sample::Activity;

/// The outermost node.
pub(crate) const ROOT: usize = 0;
/// Its name.
const ALL: &str = "all";

/// How a tree is made.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// What the node of a process is called.
    pub(crate) process: fn(&Process) -> String,
    /// What a node is called, by the name of the process or of the function.
    pub(crate) name: fn(&str) -> String,
    /// Whether waiting is a node of its own, inside the functions that wait.
    pub(crate) waits: bool,
    /// Most nodes that are inside each other, below the outermost one. What is further inside is the last one's.
    pub(crate) depth: usize,
    /// Most nodes. Stacks that would need more end where they are.
    pub(crate) nodes: usize,
}

/// How often something was seen, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) samples: u64,
    pub(crate) ns: u64,
}

impl Weight {
    fn add(&mut self, row: &Row) {
        self.samples = self.samples.saturating_add(row.samples);
        self.ns = self.ns.saturating_add(row.ns);
    }
}

/// A function that was called in one way.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Index in [`Tree::names`].
    pub(crate) name: usize,
    /// What was counted in it and in what it called.
    pub(crate) weight: Weight,
    /// The nodes that it called, by name. A node has a larger index than the one that called it.
    pub(crate) children: Vec<usize>,
}

/// A tree: below the outermost node processes, below them functions, outermost first.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The names of all nodes, each once.
    pub(crate) names: Vec<String>,
    /// The nodes; the first one is [`ROOT`].
    pub(crate) nodes: Vec<Node>,
}

impl Tree {
    /// The tree of the samples that `filter` shows of some profiles.
    pub(crate) fn new<'a>(
        profiles: impl IntoIterator<Item = &'a Profile>,
        filter: &Filter,
        options: &Options,
    ) -> Self {
        let mut builder = Builder::new(options);
        for profile in profiles {
            builder.add(profile, filter);
        }
        builder.finish()
    }
}

/// A tree while it is made.
#[derive(Debug)]
struct Builder<'a> {
    options: &'a Options,
    names: Vec<String>,
    by_name: HashMap<String, usize>,
    nodes: Vec<Node>,
    /// Nodes by who called them, and by name.
    by_caller: HashMap<(usize, usize), usize>,
    /// Names of the stack at hand, outermost first; here so that it is allocated once.
    stack: Vec<usize>,
}

/// Names that were looked up in one profile.
#[derive(Debug)]
struct Known {
    processes: Vec<Option<usize>>,
    /// Of each place, outermost first.
    places: Vec<Option<Vec<usize>>>,
}

impl<'a> Builder<'a> {
    fn new(options: &'a Options) -> Self {
        let mut new = Self {
            options,
            names: Vec::new(),
            by_name: HashMap::new(),
            nodes: Vec::new(),
            by_caller: HashMap::new(),
            stack: Vec::new(),
        };
        let name = new.intern(ALL.to_owned());
        new.nodes.push(Node {
            name,
            ..Node::default()
        });
        new
    }

    fn add(&mut self, profile: &Profile, filter: &Filter) {
        let mut known = Known {
            processes: vec![None; profile.processes.len()],
            places: vec![None; profile.locations.len()],
        };
        let rows = profile.rows.iter();
        for row in rows.filter(|row| filter.matches(profile, row)) {
            self.read_stack(profile, row, &mut known);
            self.count(row);
        }
    }

    /// Puts the names of a row's stack into [`Builder::stack`], at most as many as are shown.
    fn read_stack(&mut self, profile: &Profile, row: &Row, known: &mut Known) {
        self.stack.clear();
        let process = self.process(profile, row, known);
        self.stack.push(process);
        for &location in profile.stacks.get(row.stack).into_iter().flatten().rev() {
            if self.stack.len() >= self.options.depth {
                break;
            }
            let (Some(place), Some(known)) = (
                profile.locations.get(location),
                known.places.get_mut(location),
            ) else {
                continue;
            };
            let names = known.get_or_insert_with(|| {
                let names = profile.names(place).into_iter().rev();
                names.map(|name| self.named(&name)).collect()
            });
            self.stack.extend_from_slice(names);
        }
        let waiting = match row.activity {
            Activity::OnCpu => None,
            Activity::Blocked => Some(BLOCKED),
            Activity::Preempted => Some(PREEMPTED),
        };
        if let Some(waiting) = waiting.filter(|_| self.options.waits) {
            let name = self.intern(waiting.to_owned());
            self.stack.push(name);
        }
        self.stack.truncate(self.options.depth);
    }

    fn process(&mut self, profile: &Profile, row: &Row, known: &mut Known) -> usize {
        let index = profile.threads.get(row.thread).map(|thread| thread.process);
        let mut name = || {
            let process = index.and_then(|index| profile.processes.get(index));
            self.named(&process.map_or_else(String::new, self.options.process))
        };
        match index.and_then(|index| known.processes.get_mut(index)) {
            Some(known) => *known.get_or_insert_with(name),
            None => name(),
        }
    }

    /// The index of what a process or a function of this name is called.
    fn named(&mut self, name: &str) -> usize {
        self.intern((self.options.name)(name))
    }

    fn intern(&mut self, name: String) -> usize {
        if let Some(&known) = self.by_name.get(&name) {
            return known;
        }
        let index = self.names.len();
        self.names.push(name.clone());
        self.by_name.insert(name, index);
        index
    }

    /// Counts a row in each node of the stack at hand.
    fn count(&mut self, row: &Row) {
        let mut at = ROOT;
        if let Some(root) = self.nodes.get_mut(ROOT) {
            root.weight.add(row);
        }
        for &name in &self.stack {
            let child = match self.by_caller.get(&(at, name)) {
                Some(&known) => known,
                None if self.nodes.len() >= self.options.nodes => return,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node {
                        name,
                        ..Node::default()
                    });
                    self.by_caller.insert((at, name), child);
                    if let Some(caller) = self.nodes.get_mut(at) {
                        caller.children.push(child);
                    }
                    child
                }
            };
            if let Some(node) = self.nodes.get_mut(child) {
                node.weight.add(row);
            }
            at = child;
        }
    }

    fn finish(mut self) -> Tree {
        let names: Vec<usize> = self.nodes.iter().map(|node| node.name).collect();
        let name = |child: usize| names.get(child).and_then(|&name| self.names.get(name));
        for node in &mut self.nodes {
            node.children.sort_by_key(|&child| name(child));
        }
        Tree {
            names: self.names,
            nodes: self.nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flame;
    use crate::profile::tests::{two_traces, with_off_cpu};
    use crate::profile::{Function, Location, Mapping};

    /// As folded stacks are.
    const OPTIONS: Options = Options {
        process: flame::root,
        name: flame::clean,
        waits: true,
        depth: usize::MAX,
        nodes: usize::MAX,
    };

    fn tree(profile: &Profile, options: &Options) -> Tree {
        Tree::new([profile], &Filter::all(), options)
    }

    fn own_ns(tree: &Tree, node: &Node) -> u64 {
        let children = node.children.iter();
        let called: u64 = children.map(|&child| tree.nodes[child].weight.ns).sum();
        node.weight
            .ns
            .checked_sub(called)
            .expect("called for longer than it took")
    }

    /// The time in each node itself, as `outer;inner ns`, in the order of the tree.
    fn folded(tree: &Tree) -> Vec<(String, u64)> {
        fn walk(tree: &Tree, node: usize, path: &str, out: &mut Vec<(String, u64)>) {
            let node = &tree.nodes[node];
            let own = own_ns(tree, node);
            if own > 0 {
                out.push((path.to_owned(), own));
            }
            for &child in &node.children {
                let name = &tree.names[tree.nodes[child].name];
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path};{name}"),
                };
                walk(tree, child, &path, out);
            }
        }
        let mut out = Vec::new();
        walk(tree, ROOT, "", &mut out);
        out
    }

    /// A function of its own for each number, and a row for each of them.
    fn wide(functions: usize) -> Profile {
        let mut profile = two_traces();
        let template = profile.rows[0].clone();
        for index in 0..functions {
            profile.functions.push(Function {
                name: format!("f{index}"),
                file: String::new(),
            });
            profile.locations.push(Location {
                frames: vec![crate::profile::Frame {
                    function: profile.functions.len() - 1,
                    line: None,
                }],
                ..Location::default()
            });
            profile.stacks.push(vec![profile.locations.len() - 1]);
            profile.rows.push(Row {
                stack: profile.stacks.len() - 1,
                ..template.clone()
            });
        }
        profile
    }

    #[test]
    fn time_is_that_of_the_stacks() {
        for profile in [two_traces(), with_off_cpu()] {
            let tree = tree(&profile, &OPTIONS);
            assert_eq!(folded(&tree), flame::folded_in(&profile, true, flame::root));
            let all = &tree.nodes[ROOT];
            assert_eq!(tree.names[all.name], "all");
            let rows = profile.rows.iter();
            let weight = rows.fold(Weight::default(), |mut sum, row| {
                sum.add(row);
                sum
            });
            assert_eq!(all.weight, weight);
            assert_eq!(own_ns(&tree, all), 0);
        }
    }

    #[test]
    fn several_profiles_are_one_tree_of_what_the_filter_shows() {
        let profile = two_traces();
        let trace = Filter::trace(profile.contexts[0].trace_id.unwrap());
        for filter in [Filter::all(), trace] {
            let tree = Tree::new([&profile, &profile], &filter, &OPTIONS);
            let once = flame::folded_in(&profile.select(&filter), true, flame::root);
            let twice: Vec<_> = once
                .into_iter()
                .map(|(stack, ns)| (stack, ns * 2))
                .collect();
            assert_eq!(folded(&tree), twice);
        }
    }

    #[test]
    fn names_are_as_they_are_asked_for() {
        let options = Options {
            process: |process| format!("<{}>", process.pid),
            name: |name| name.to_uppercase(),
            waits: false,
            ..OPTIONS
        };
        let stacks = [
            ("<42>;MAIN;HANDLE<[U8; 4]>".to_owned(), 350_000_000),
            ("<42>;MAIN;LIB.SO+0X1010".to_owned(), 21_000_000),
        ];
        assert_eq!(folded(&tree(&with_off_cpu(), &options)), stacks);
        // Two functions that are called the same are one.
        let options = Options {
            name: |_| "same".to_owned(),
            ..OPTIONS
        };
        let stacks = [("same;same;same".to_owned(), 70_000_000)];
        assert_eq!(folded(&tree(&two_traces(), &options)), stacks);
    }

    #[test]
    fn a_stack_ends_at_the_largest_depth() {
        let mut profile = with_off_cpu();
        profile.stacks[0] = vec![0; 10_000];
        let total = tree(&profile, &OPTIONS).nodes[ROOT].weight;
        for depth in [0, 1, 2, 3, 100] {
            let tree = tree(&profile, &Options { depth, ..OPTIONS });
            let stacks = folded(&tree);
            let depths = stacks.iter().map(|(stack, _)| match stack.as_str() {
                "" => 0,
                stack => stack.split(';').count(),
            });
            assert_eq!(depths.max(), Some(depth));
            assert_eq!(tree.nodes[ROOT].weight, total);
            let ns: u64 = stacks.iter().map(|(_, ns)| ns).sum();
            assert_eq!(ns, total.ns, "what is further inside is not lost");
        }
    }

    #[test]
    fn there_are_no_more_nodes_than_asked_for() {
        let profile = wide(1000);
        let whole = tree(&profile, &OPTIONS);
        for nodes in [1, 2, 3, 500] {
            let tree = tree(&profile, &Options { nodes, ..OPTIONS });
            assert_eq!(tree.nodes.len(), nodes);
            assert_eq!(tree.nodes[ROOT].weight, whole.nodes[ROOT].weight);
            // Nothing is counted where it was not: a node has what it has in the whole tree, or less.
            let stacks: HashMap<_, _> = folded(&whole).into_iter().collect();
            let ended = folded(&tree);
            let inner = ended
                .iter()
                .filter(|(stack, _)| stack.split(';').count() > 2);
            assert!(inner.into_iter().all(|(stack, ns)| stacks[stack] == *ns));
        }
    }

    #[test]
    fn nothing_is_a_tree_too() {
        let tree = Tree::new([], &Filter::all(), &OPTIONS);
        assert_eq!((tree.nodes.len(), tree.names.len()), (1, 1));
        assert_eq!(tree.nodes[ROOT].weight, Weight::default());
    }

    #[test]
    fn indices_of_nothing_are_survived() {
        let mut broken = with_off_cpu();
        broken.threads[0].process = 7;
        broken.mappings = vec![Mapping::default()];
        broken.stacks[0].push(77);
        broken.locations[2].frames[0].function = 55;
        broken.rows[2].stack = 99;
        broken.rows[3].thread = 99;
        let tree = tree(&broken, &OPTIONS);
        assert_eq!(folded(&tree), flame::folded_in(&broken, true, flame::root));
    }
}
