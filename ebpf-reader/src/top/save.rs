//! Saves a row as files in the current folder, and never overwrites one.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::label_style::LabelStyle;
use crate::output::{self, Format};
use crate::profile::{Filter, Profile};

/// Numbers that are tried for a name.
const MAX_NUMBER: u32 = 10_000;

/// Writes what `filter` shows as flame graph and as pprof profile: `KIND-VALUE.svg` and `KIND-VALUE.pb.gz`, with a number
/// if there is such a file. Returns their names.
pub(super) fn save(
    folder: &Path,
    kind: &str,
    value: &str,
    pieces: &[Arc<Profile>],
    filter: &Filter,
) -> Result<Vec<PathBuf>, Error> {
    let selected: Vec<_> = pieces.iter().map(|piece| piece.select(filter)).collect();
    let selected: Vec<&Profile> = selected.iter().map(|piece| &**piece).collect();
    let profile = Profile::merge(&selected);
    let kind: String = kind
        .chars()
        .map(|c| if c == '/' { '_' } else { c })
        .collect();
    let names = output::split(Path::new(&format!("{kind}.svg")), Format::Svg, &[value]);
    let stem = names.first().and_then(|name| name.file_stem());
    let stem = stem.unwrap_or_default().to_string_lossy().into_owned();
    for number in 1..=MAX_NUMBER {
        let path = |format: Format| {
            let suffix = format.suffix();
            folder.join(match number {
                1 => format!("{stem}{suffix}"),
                _ => format!("{stem}-{number}{suffix}"),
            })
        };
        let paths = [path(Format::Svg), path(Format::Pprof)];
        if paths.iter().any(|path| path.symlink_metadata().is_ok()) {
            continue;
        }
        let [svg, pprof] = &paths;
        write(&profile, Format::Svg, svg)?;
        write(&profile, Format::Pprof, pprof)?;
        return Ok(paths.into());
    }
    let error = io::Error::other("there are too many files of this name");
    Err(Error::io(format!("write {stem}.svg"), error))
}

/// The file appears when it is whole.
fn write(profile: &Profile, format: Format, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::io(format!("write {}", path.display()), error);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".ebpf-reader-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| failed(error.kind().into()))?;
    let mut out = BufWriter::new(file.as_file_mut());
    format
        .write(profile, &Filter::all(), LabelStyle::default(), &mut out)
        .and_then(|()| out.flush())
        .map_err(failed)?;
    drop(out);
    file.persist_noclobber(path)
        .map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::profile::tests::two_traces;

    #[test]
    fn files_get_numbers_instead_of_being_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let pieces = [Arc::new(two_traces())];
        let filter = Filter::all().attribute("http.route", "/slow");
        let save = || save(folder.path(), "http.route", "/slow", &pieces, &filter);
        let first = save().unwrap();
        assert_eq!(first[0], folder.path().join("http.route-_slow.svg"));
        assert_eq!(first[1], folder.path().join("http.route-_slow.pb.gz"));
        assert!(fs::read_to_string(&first[0]).unwrap().contains("handle"));
        let read = crate::read::read(&first[1]).unwrap();
        assert_eq!(
            read.total().samples,
            pieces[0].select(&filter).total().samples
        );

        // One of the two is enough.
        fs::write(folder.path().join("http.route-_slow-2.pb.gz"), "mine").unwrap();
        let second = save().unwrap();
        assert_eq!(second[0], folder.path().join("http.route-_slow-3.svg"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error() {
        let folder = Path::new("/nonexistent/folder");
        let pieces = [Arc::new(two_traces())];
        let error = save(folder, "a/b", "../../x", &pieces, &Filter::all()).unwrap_err();
        assert!(
            error.one_line().contains("a_b-.._.._x.svg"),
            "{}",
            error.one_line()
        );
    }
}
