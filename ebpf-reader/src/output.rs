//! Files that a profile is written to: the format by the end of the name, or as it was asked for.
//!
//! A file is made sure of before the recording, and appears in its place only when it is whole.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::label_style::LabelStyle;
use crate::profile::{Filter, Profile};
use crate::{flame, otlp, pprof, report};

/// In which form a profile is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// pprof, compressed with gzip: `.pb.gz`.
    Pprof,
    /// OpenTelemetry's `ProfilesData`: `.otlp`.
    Otlp,
    /// The same, compressed with gzip: `.otlp.gz`.
    OtlpCompressed,
    /// A flame graph: `.svg`.
    Svg,
    /// Folded stacks: `.folded`.
    Folded,
    /// The numbers of the report as JSON: `.json`.
    Json,
}

/// The suffixes, in words.
const SUFFIXES: &str = ".pb.gz, .otlp, .otlp.gz, .svg, .folded or .json";

impl Format {
    const ALL: [Self; 6] = [
        Self::Pprof,
        Self::Otlp,
        Self::OtlpCompressed,
        Self::Svg,
        Self::Folded,
        Self::Json,
    ];

    /// The end of a file's name that asks for this format.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Pprof => ".pb.gz",
            Self::Otlp => ".otlp",
            Self::OtlpCompressed => ".otlp.gz",
            Self::Svg => ".svg",
            Self::Folded => ".folded",
            Self::Json => ".json",
        }
    }

    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] if it asks for none that is known.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|format| name.ends_with(format.suffix()))
            .ok_or_else(|| Error::UnknownFormat {
                path: path.to_owned(),
                expected: SUFFIXES,
            })
    }

    /// Whether it shows names of functions.
    pub fn has_symbols(self) -> bool {
        self != Self::Json
    }

    /// Writes what `filter` shows of a profile in this format. Formats with labels name them by `style`.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write(
        self,
        profile: &Profile,
        filter: &Filter,
        style: LabelStyle,
        mut out: impl Write,
    ) -> io::Result<()> {
        match self {
            Self::Pprof => pprof::write(profile, filter, style, out),
            Self::Otlp => otlp::write(profile, filter, style, out),
            Self::OtlpCompressed => otlp::write_compressed(profile, filter, style, out),
            Self::Svg => flame::write_svg_to(profile, filter, out),
            Self::Folded => flame::write_folded(profile, filter, out),
            Self::Json => writeln!(out, "{}", report::json(profile, filter)),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pprof" => Ok(Self::Pprof),
            "otlp" => Ok(Self::Otlp),
            "otlp.gz" => Ok(Self::OtlpCompressed),
            "svg" => Ok(Self::Svg),
            "folded" => Ok(Self::Folded),
            "json" => Ok(Self::Json),
            _ => Err("must be pprof, otlp, otlp.gz, svg, folded or json".to_owned()),
        }
    }
}

/// Longest value in the name of a file, in characters.
const MAX_VALUE: usize = 80;

/// Names of files for several values: `profile-VALUE.svg` for `profile.svg`. Whatever is not a letter, a digit, or one
/// of `._-` becomes `_`; values that look the same then get a number.
pub fn split(path: &Path, format: Format, values: &[&str]) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, suffix) = match name.strip_suffix(format.suffix()) {
        Some(stem) => (stem, format.suffix()),
        None => (&*name, ""),
    };
    let mut taken = HashSet::new();
    let mut file = |value: &str| {
        let safe = |c: char| match c.is_alphanumeric() || matches!(c, '.' | '_' | '-') {
            true => c,
            false => '_',
        };
        let value: String = value.chars().take(MAX_VALUE).map(safe).collect();
        let mut file = format!("{stem}-{value}{suffix}");
        let mut number = 2;
        while !taken.insert(file.clone()) {
            file = format!("{stem}-{value}-{number}{suffix}");
            number += 1;
        }
        path.with_file_name(file)
    };
    values.iter().map(|value| file(value)).collect()
}

/// A file that is going to be written. If it never is, what was in its place stays.
#[derive(Debug)]
pub struct Output {
    format: Format,
    filter: Filter,
    style: LabelStyle,
    path: PathBuf,
    temporary: NamedTempFile,
}

impl Output {
    /// Makes sure that `path` can be written to and has a known format.
    ///
    /// # Errors
    /// If not.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Self::create_as(path, Format::of(path)?)
    }

    /// Makes sure that `path` can be written to.
    ///
    /// # Errors
    /// If not.
    pub fn create_as(path: &Path, format: Format) -> Result<Self, Error> {
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
            filter: Filter::all(),
            style: LabelStyle::default(),
            path: target,
            temporary,
        })
    }

    /// Which samples to write.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// How labels are named.
    #[must_use]
    pub fn label_style(mut self, style: LabelStyle) -> Self {
        self.style = style;
        self
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes a profile, and puts the file into its place.
    ///
    /// # Errors
    /// If the file cannot be written; what was in its place stays then.
    pub fn write(self, profile: &Profile) -> Result<(), Error> {
        let (filter, style) = (self.filter.clone(), self.style);
        let format = self.format;
        self.write_with(|out| format.write(profile, &filter, style, out))
    }

    /// Writes whatever `write` writes, and puts the file into its place.
    ///
    /// # Errors
    /// If the file cannot be written; what was in its place stays then.
    pub fn write_with(
        self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        let failed = |error| Error::io(format!("write {}", self.path.display()), error);
        let mut out = BufWriter::new(self.temporary.as_file());
        write(&mut out).and_then(|()| out.flush()).map_err(failed)?;
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
        assert_eq!(of("a/b.otlp"), Some(Format::Otlp));
        assert_eq!(of("a/b.otlp.gz"), Some(Format::OtlpCompressed));
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
    fn a_file_for_each_value() {
        let path = Path::new("out/x.pb.gz");
        let long = "y".repeat(300);
        let files = split(
            path,
            Format::Pprof,
            &["/users/{id}", "_users/{id}", "..", "", &long],
        );
        let expected = ["x-_users__id_", "x-_users__id_-2", "x-..", "x-"].map(str::to_owned);
        let expected = expected
            .into_iter()
            .chain([format!("x-{}", "y".repeat(80))]);
        let expected: Vec<_> = expected
            .map(|name| PathBuf::from(format!("out/{name}.pb.gz")))
            .collect();
        assert_eq!(files, expected);
        let other = split(Path::new("x"), Format::Svg, &["a"]);
        assert_eq!(other, [PathBuf::from("x-a")]);
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
