//! Files that a profile is written to: pprof, flame graph, folded stacks, JSON, by the end of the name.
//!
//! A file is made sure of before the recording, and appears in its place only when it is whole.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::flame::{self, Filter};
use crate::profile::Profile;
use crate::{pprof, report};

/// In which form a profile is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// pprof, compressed: `.pb.gz`.
    Pprof,
    /// A flame graph: `.svg`.
    Svg,
    /// Folded stacks: `.folded`.
    Folded,
    /// The report as JSON: `.json`.
    Json,
}

impl Format {
    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] if it asks for none that is known.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let formats = [
            (".pb.gz", Self::Pprof),
            (".svg", Self::Svg),
            (".folded", Self::Folded),
            (".json", Self::Json),
        ];
        formats
            .into_iter()
            .find(|(suffix, _)| name.ends_with(suffix))
            .map(|(_, format)| format)
            .ok_or_else(|| Error::UnknownFormat {
                path: path.to_owned(),
                expected: ".pb.gz, .svg, .folded or .json",
            })
    }

    /// Whether it shows names of functions.
    pub fn has_symbols(self) -> bool {
        self != Self::Json
    }

    /// Writes a profile in this format.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write(self, profile: &Profile, mut out: impl Write) -> io::Result<()> {
        match self {
            Self::Pprof => pprof::write(profile, out),
            Self::Svg => flame::write_svg_to(profile, &Filter::all(), out),
            Self::Folded => flame::write_folded(profile, &Filter::all(), out),
            Self::Json => writeln!(out, "{}", report::json(profile)),
        }
    }
}

/// A file that is going to be written. If it never is, what was in its place stays.
#[derive(Debug)]
pub struct Output {
    format: Format,
    path: PathBuf,
    temporary: NamedTempFile,
}

impl Output {
    /// Makes sure that `path` can be written to and has a known format.
    ///
    /// # Errors
    /// If not.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let format = Format::of(path)?;
        let failed = |error| Error::io(format!("write {}", path.display()), error);
        // A link stays a link to the file that is replaced.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match File::options().write(true).open(&target) {
            Ok(file) if !file.metadata().map_err(failed)?.is_file() => {
                return Err(failed(io::Error::other("it is not a regular file")));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(_) | Err(_) => {}
        }
        let folder = match target.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".ebpf-reader-")
            // As any new file: the umask takes from it what the user does not want others to have.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(|error| failed(without_path(&error)))?;
        Ok(Self {
            format,
            path: target,
            temporary,
        })
    }

    /// The format that the name asks for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes a profile, and puts the file into its place.
    ///
    /// # Errors
    /// If the file cannot be written; what was in its place stays then.
    pub fn write(self, profile: &Profile) -> Result<(), Error> {
        let failed = |error| Error::io(format!("write {}", self.path.display()), error);
        let mut out = BufWriter::new(self.temporary.as_file());
        self.format
            .write(profile, &mut out)
            .and_then(|()| out.flush())
            .map_err(failed)?;
        drop(out);
        self.temporary
            .persist(&self.path)
            .map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// The error without the name of the temporary file, of which the user has never heard.
fn without_path(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let said = text.split(" at path ").next().unwrap_or(&text);
    io::Error::new(error.kind(), said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::two_traces;

    #[test]
    fn the_name_tells_the_format() {
        let of = |path: &str| Format::of(Path::new(path)).ok();
        assert_eq!(of("a/b.pb.gz"), Some(Format::Pprof));
        assert_eq!(of("b.svg"), Some(Format::Svg));
        assert_eq!(of("b.x.folded"), Some(Format::Folded));
        assert_eq!(of("b.json"), Some(Format::Json));
        for path in ["", "/", "b", "b.gz", "b.pb", "svg", "b.svg/"] {
            assert_eq!(
                of(path),
                if path == "b.svg/" {
                    Some(Format::Svg)
                } else {
                    None
                },
                "{path}"
            );
        }
    }

    #[test]
    fn a_file_is_replaced_only_when_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.folded");
        fs::write(&path, "before").unwrap();
        let output = Output::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        drop(output);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        Output::create(&path).unwrap().write(&two_traces()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "app;main;handle<[u8: 4]> 5\napp;main;lib.so+0x1010 2\n"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_refused_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/out.svg");
        assert!(matches!(Output::create(&missing), Err(Error::Io { .. })));
        let directory = folder.path().join("out.svg");
        fs::create_dir(&directory).unwrap();
        assert!(matches!(Output::create(&directory), Err(Error::Io { .. })));
        assert!(matches!(
            Output::create(&folder.path().join("out.png")),
            Err(Error::UnknownFormat { .. })
        ));
    }
}
