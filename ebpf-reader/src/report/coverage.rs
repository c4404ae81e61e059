//! CPU time without a trace, by stack: where the context was lost on its way, or never was.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::text::{fitting, millis, share};
use crate::profile::{Process, Profile, Row, Usage};
use crate::sample::Activity;
use crate::text::printable;

/// Frames of a stack that are shown, at most: so many of the innermost ones, and of the outermost ones.
const FRAMES: (usize, usize) = (9, 4);
/// Columns of a frame, at most.
const WIDTH: usize = 100;

/// How much of the CPU time has a trace, and which stacks have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Coverage {
    /// All CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// CPU time without a trace, in nanoseconds.
    pub without_context_ns: u64,
    /// The stacks without a trace, the most expensive one first.
    pub stacks: Vec<Uncovered>,
}

/// Samples without a trace in one kind of thread that have the same functions on their stacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Uncovered {
    /// Name of the process.
    pub process: String,
    /// Name of the threads.
    pub thread: String,
    /// The samples.
    pub samples: u64,
    /// CPU time that they stand for, in nanoseconds.
    pub cpu_ns: u64,
    /// The functions, innermost first. One that calls itself is there once.
    pub functions: Vec<String>,
}

impl Coverage {
    /// The coverage of a profile.
    pub fn new(profile: &Profile) -> Self {
        let names: Vec<Vec<String>> = profile
            .locations
            .iter()
            .map(|location| profile.names(location))
            .collect();
        let functions = |row: &Row| -> Vec<&str> {
            let stack = profile.stacks.get(row.stack).into_iter().flatten();
            let names = stack.flat_map(|&location| names.get(location).into_iter().flatten());
            let mut functions: Vec<&str> = names.map(String::as_str).collect();
            // However deep it was in a recursion at a sample, the stack is the same.
            functions.dedup();
            functions
        };
        let mut coverage = Self::default();
        let mut stacks: HashMap<(&str, &str, Vec<&str>), Usage> = HashMap::new();
        let titles: Vec<String> = profile.processes.iter().map(Process::title).collect();
        for row in &profile.rows {
            if row.activity != Activity::OnCpu {
                continue;
            }
            coverage.cpu_ns = coverage.cpu_ns.saturating_add(row.ns);
            let context = profile.contexts.get(row.context);
            if context.is_some_and(|context| context.trace_id.is_some()) {
                continue;
            }
            coverage.without_context_ns = coverage.without_context_ns.saturating_add(row.ns);
            let thread = profile.threads.get(row.thread);
            let title = thread.and_then(|thread| titles.get(thread.process));
            let key = (
                title.map_or("", String::as_str),
                thread.map_or("", |thread| thread.name.as_str()),
                functions(row),
            );
            stacks.entry(key).or_default().add(row);
        }
        coverage.stacks = stacks
            .into_iter()
            .map(|((process, thread, functions), usage)| Uncovered {
                process: process.to_owned(),
                thread: thread.to_owned(),
                samples: usage.samples,
                cpu_ns: usage.cpu_ns,
                functions: functions.into_iter().map(str::to_owned).collect(),
            })
            .collect();
        coverage.stacks.sort_by(|a, b| {
            let order = b.cpu_ns.cmp(&a.cpu_ns);
            order.then_with(|| {
                (&a.process, &a.thread, &a.functions).cmp(&(&b.process, &b.thread, &b.functions))
            })
        });
        coverage
    }

    /// Only the most expensive stacks.
    #[must_use]
    pub fn stacks(mut self, most: usize) -> Self {
        self.stacks.truncate(most);
        self
    }

    /// The coverage as one JSON object.
    pub fn json(&self) -> String {
        // Strings, numbers and lists of them: there is nothing that JSON could not hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} % of {:.1} ms of CPU time have no context",
            share(self.without_context_ns, self.cpu_ns),
            millis(self.cpu_ns),
        )?;
        for stack in &self.stacks {
            write!(
                f,
                "\n\n{:>5.1} %  {:.1} ms in process {}, thread {}",
                share(stack.cpu_ns, self.cpu_ns),
                millis(stack.cpu_ns),
                named(&stack.process),
                named(&stack.thread),
            )?;
            let frames = stack.functions.len();
            let left_out = match frames > FRAMES.0 + FRAMES.1 {
                true => FRAMES.0..frames - FRAMES.1,
                false => 0..0,
            };
            for (index, name) in stack.functions.iter().enumerate() {
                if index == left_out.start && !left_out.is_empty() {
                    write!(f, "\n         ({} more frames)", left_out.len())?;
                }
                if !left_out.contains(&index) {
                    write!(f, "\n         {}", fitting(&printable(name), WIDTH))?;
                }
            }
        }
        let shown: u64 = stack_time(&self.stacks);
        if let rest @ 1.. = self.without_context_ns.saturating_sub(shown) {
            write!(
                f,
                "\n\n{:>5.1} %  {:.1} ms in other stacks",
                share(rest, self.cpu_ns),
                millis(rest),
            )?;
        }
        Ok(())
    }
}

fn stack_time(stacks: &[Uncovered]) -> u64 {
    let times = stacks.iter().map(|stack| stack.cpu_ns);
    times.fold(0, u64::saturating_add)
}

fn named(name: &str) -> String {
    match name {
        "" => "[unknown]".to_owned(),
        name => printable(name).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{two_traces, with_off_cpu};

    #[test]
    fn stacks_without_a_trace() {
        let mut profile = with_off_cpu();
        profile.contexts[1].trace_id = None;
        let coverage = Coverage::new(&profile);
        assert_eq!(
            coverage.to_string(),
            "\
42.9 % of 70.0 ms of CPU time have no context

 28.6 %  20.0 ms in process app, thread worker
         lib.so+0x1010
         main

 14.3 %  10.0 ms in process app, thread worker
         handle<[u8; 4]>
         main"
        );
        assert!(
            coverage
                .clone()
                .stacks(1)
                .to_string()
                .ends_with("\n\n 14.3 %  10.0 ms in other stacks")
        );
        let json: serde_json::Value = serde_json::from_str(&coverage.json()).unwrap();
        assert_eq!(json["without_context_ns"], 30_000_000);
        assert_eq!(json["stacks"][0]["functions"][1], "main");
    }

    #[test]
    fn long_stacks_are_cut_and_control_characters_shown() {
        let mut profile = two_traces();
        // `lib.so` and `main` in turns, and `main` calling itself at the outer end.
        profile.stacks[1] = [[1, 2]; 10].concat();
        profile.stacks[1].extend([2; 5]);
        profile.functions[0].name = "a\u{1b}b".to_owned();
        let coverage = Coverage::new(&profile).to_string();
        let innermost = "\n         lib.so+0x1010\n         a\\u{1b}b".repeat(4);
        let expected = format!(
            "{innermost}\n         lib.so+0x1010\n         (7 more frames)\n{}",
            &innermost[1..innermost.len() / 2]
        );
        assert!(coverage.ends_with(&expected), "{coverage}");
    }

    #[test]
    fn nothing_is_missing() {
        let mut profile = two_traces();
        profile.rows.truncate(2);
        let coverage = Coverage::new(&profile).to_string();
        assert_eq!(coverage, "0.0 % of 50.0 ms of CPU time have no context");
    }
}
