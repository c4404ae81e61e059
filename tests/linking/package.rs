//! A fresh package in a folder of its own, outside the workspace, built by the cargo that runs the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Which linker the compiler driver calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linker {
    /// Whatever rustc takes when it is told nothing: its own LLD on x86_64-unknown-linux-gnu.
    Default,
    Gnu,
    Mold,
    /// The system's LLD.
    Lld,
}

impl Linker {
    /// How messages call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "the default linker",
            Self::Gnu => "GNU ld",
            Self::Mold => "mold",
            Self::Lld => "LLD",
        }
    }

    /// Whether it can be used here; says so when not.
    pub(crate) fn is_installed(self) -> bool {
        let program = match self {
            Self::Default => return true,
            Self::Gnu => "ld.bfd",
            Self::Mold => "mold",
            Self::Lld => "ld.lld",
        };
        let is_installed = Command::new(program).arg("--version").output().is_ok();
        if !is_installed {
            println!("skipped: {} is not installed", self.name());
        }
        is_installed
    }

    fn rustc_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[],
            Self::Gnu => &["-Clink-arg=-fuse-ld=bfd"],
            Self::Mold => &["-Clink-arg=-fuse-ld=mold"],
            // A cross compiler looks for it in its own folder only.
            Self::Lld => &["-Clink-arg=-fuse-ld=lld", "-Clink-arg=-B/usr/bin"],
        }
    }

    /// Whether `comment`, an executable's `.comment` section, names this linker.
    pub(crate) fn wrote(self, comment: &str) -> bool {
        match self {
            Self::Default | Self::Lld => comment.contains("LLD"),
            Self::Gnu => !comment.contains("LLD") && !comment.contains("mold"),
            Self::Mold => comment.contains("mold"),
        }
    }
}

/// How the package is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
    FatLto,
    Stripped,
}

impl Profile {
    pub(crate) const ALL: [Self; 4] = [Self::Debug, Self::Release, Self::FatLto, Self::Stripped];

    fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release | Self::Stripped => "release",
            Self::FatLto => "fat-lto",
        }
    }

    fn cargo_name(self) -> &'static str {
        match self {
            Self::Debug => "dev",
            Self::Release | Self::Stripped => "release",
            Self::FatLto => "fat-lto",
        }
    }
}

/// What is special about one build.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) linker: Linker,
    pub(crate) profile: Profile,
    /// For this package and all of its dependencies; needs a target.
    pub(crate) rustflags: Option<&'static str>,
    pub(crate) target: Option<&'static str>,
    /// For the final link alone.
    pub(crate) rustc_arguments: &'static [&'static str],
    /// Whether otel-profiling's own build script is told to link nothing.
    pub(crate) opt_out: bool,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            linker: Linker::Default,
            profile: Profile::Debug,
            rustflags: None,
            target: None,
            rustc_arguments: &[],
            opt_out: false,
        }
    }
}

pub(crate) struct Package {
    name: String,
    folder: TempDir,
}

impl Package {
    /// A package with a program `src/main.rs` that depends on otel-profiling alone.
    pub(crate) fn new(name: &str, main: &str) -> Self {
        let package = Self::with_manifest(
            name,
            &format!(
                "otel-profiling = {{ path = {:?}, default-features = false, features = [\"custom-labels\"] }}\n",
                workspace()
            ),
        );
        package.write("src/main.rs", main);
        package
    }

    /// A package without any source file yet; `dependencies` ends the manifest and may hold more tables.
    pub(crate) fn with_manifest(name: &str, dependencies: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("otel-profiling-linking-")
            .tempdir()
            .expect("a temporary folder");
        let package = Self {
            name: name.to_owned(),
            folder,
        };
        package.write(
            "Cargo.toml",
            &format!(
                "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
                 [workspace]\n\n\
                 [profile.fat-lto]\ninherits = \"release\"\nlto = \"fat\"\ncodegen-units = 1\n\n\
                 [dependencies]\n{dependencies}"
            ),
        );
        // The versions that the workspace has downloaded already.
        fs::copy(
            workspace().join("Cargo.lock"),
            package.folder.path().join("Cargo.lock"),
        )
        .expect("the workspace has a lock file");
        package
    }

    /// Adds a build script with `body` in its main function, and the build dependency it needs.
    pub(crate) fn with_build_script(self, body: &str) -> Self {
        self.write("build.rs", &format!("fn main() {{\n    {body}\n}}\n"));
        let manifest = self.folder.path().join("Cargo.toml");
        let mut text = fs::read_to_string(&manifest).expect("written above");
        text.push_str(&format!(
            "\n[build-dependencies]\notel-profiling = {{ path = {:?}, default-features = false }}\n",
            workspace()
        ));
        fs::write(manifest, text).expect("a writable folder");
        self
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a writable folder");
        fs::write(path, content).expect("a writable folder");
    }

    /// Builds the program of the package's own name and returns its path.
    pub(crate) fn build(&self, build: &Build) -> PathBuf {
        self.build_target(build, &["--bin", &self.name], &self.name)
    }

    /// Builds the target that `selection` selects, which makes `file`.
    pub(crate) fn build_target(&self, build: &Build, selection: &[&str], file: &str) -> PathBuf {
        // Dependencies are shared, except those that are built with another environment.
        let target_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(if build.opt_out {
            "linking-opt-out"
        } else {
            "linking"
        });
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(&self.folder)
            .args([
                "rustc",
                "--quiet",
                "--offline",
                "--profile",
                build.profile.cargo_name(),
            ])
            .args(selection)
            .env("CARGO_TARGET_DIR", &target_folder)
            .env(
                "OTEL_PROFILING_NO_EXPORT_STUB",
                if build.opt_out { "1" } else { "" },
            );
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(variable);
        }
        let mut folder = target_folder;
        if let Some(target) = build.target {
            cargo.args(["--target", target]);
            folder.push(target);
        }
        if let Some(flags) = build.rustflags {
            cargo.env("RUSTFLAGS", flags);
        }
        cargo.arg("--");
        cargo.args(build.linker.rustc_arguments());
        if build.profile == Profile::Stripped {
            cargo.arg("-Cstrip=symbols");
        }
        cargo.args(build.rustc_arguments);
        let output = cargo.output().expect("cargo runs");
        assert!(
            output.status.success(),
            "{} with {build:?}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        folder.join(build.profile.folder()).join(file)
    }
}

/// The folder of the workspace that is tested.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the workspace")
        .to_owned()
}

/// What a program prints, on standard output and standard error.
pub(crate) fn run(
    program: &Path,
    arguments: &[&Path],
    variables: &[(&str, &str)],
) -> (String, String) {
    finish(Command::new(program).args(arguments), variables)
}

/// As `run`, for a program of another architecture, which `runner` runs.
#[cfg(target_arch = "x86_64")]
pub(crate) fn emulate(
    runner: &str,
    program: &Path,
    arguments: &[&Path],
    variables: &[(&str, &str)],
) -> (String, String) {
    finish(Command::new(runner).arg(program).args(arguments), variables)
}

fn finish(command: &mut Command, variables: &[(&str, &str)]) -> (String, String) {
    let output = command
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {out}{err}",
        output.status
    );
    (out, err)
}
