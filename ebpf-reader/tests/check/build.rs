//! Compiles the writer, each variant once.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};

const SOURCE: &str = include_str!("writer.c");

/// Has the linker export all three symbols.
pub(crate) const EXPORT: [&str; 3] = [
    "-Wl,--export-dynamic-symbol=otel_thread_ctx_v1",
    "-Wl,--export-dynamic-symbol=custom_labels_current_set",
    "-Wl,--export-dynamic-symbol=custom_labels_abi_version",
];

/// The folder of all programs, made anew for each run: nobody is the last one to need it.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check");
    // It is not there the first time.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
});
static BUILT: LazyLock<Mutex<HashMap<Vec<String>, PathBuf>>> = LazyLock::new(Mutex::default);

/// The writer compiled with these arguments.
pub(crate) fn writer(arguments: &[&str]) -> PathBuf {
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let key: Vec<String> = arguments
        .iter()
        .map(|&argument| argument.to_owned())
        .collect();
    if let Some(path) = built.get(&key) {
        return path.clone();
    }
    let source = FOLDER.join("writer.c");
    std::fs::write(&source, SOURCE).unwrap();
    let path = FOLDER.join(format!("writer{}", built.len()));
    let status = Command::new("cc")
        .args(["-O1", "-pthread", "-w", "-o"])
        .arg(&path)
        .arg(&source)
        .args(arguments)
        .status()
        .expect("these tests need a C compiler named cc");
    assert!(status.success(), "{arguments:?}");
    built.insert(key, path.clone());
    path
}

/// A running writer; ended when dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it with one fault, and waits until it publishes.
    pub(crate) fn start(program: &Path, fault: &str) -> Self {
        Self::start_with(program, fault, &[])
    }

    /// The same with other variables in its environment.
    pub(crate) fn start_with(program: &Path, fault: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .arg(fault)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{fault}");
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
