//! Debug information that lies beside a program: by build id or by `.gnu_debuglink`, in the reader's own
//! `/usr/lib/debug`.
//!
//! The program names the file, so only files of root that nobody else can write are taken, from this place alone:
//! the process's own mount namespace could offer anything.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::copy::{MAX_FILE_SIZE, contents};
use crate::elf::BuildId;

/// Where distributions put debug information.
pub(super) const FOLDER: &str = "/usr/lib/debug";

/// The file with debug information for a program, if there is one. `path` is the program's own, as the process
/// sees it.
pub(super) fn find(folder: &Path, program: &File, path: &Path) -> Option<File> {
    let by_build_id = build_id(program).and_then(|id| {
        let digits = id.to_string();
        let (first, rest) = digits.split_at_checked(2)?;
        open(&folder.join(format!(".build-id/{first}/{rest}.debug")))
    });
    by_build_id.or_else(|| {
        let (name, checksum) = link(program)?;
        let file = open(&linked(folder, path, &name)?)?;
        (checksum_of(&file)? == checksum).then_some(file)
    })
}

/// The build id, if it is long enough to be that of one file.
fn build_id(program: &File) -> Option<BuildId> {
    let id = BuildId::read(program).ok().flatten();
    id.filter(|id| id.as_bytes().len() >= 8)
}

/// Name and checksum of the file that the program names.
fn link(program: &File) -> Option<(String, u32)> {
    let section = contents(program, b".gnu_debuglink", 4096)?;
    let end = section.iter().position(|&byte| byte == 0)?;
    let name = String::from_utf8(section.get(..end)?.to_vec()).ok()?;
    let checksum = section.get((end + 4) & !3..)?.first_chunk::<4>()?;
    Some((name, u32::from_le_bytes(*checksum)))
}

/// `FOLDER/folder of the program/name`, if neither leads anywhere else.
fn linked(folder: &Path, program: &Path, name: &str) -> Option<PathBuf> {
    let plain = |part: &Path| {
        part.components()
            .all(|component| matches!(component, Component::Normal(_)))
    };
    let parent = program.parent()?.strip_prefix("/").ok()?;
    let name = Path::new(name);
    (plain(parent) && plain(name) && name.components().count() == 1)
        .then(|| folder.join(parent).join(name))
}

/// Opens a file of root's that nobody else can write.
fn open(path: &Path) -> Option<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok()?;
    let trusted = metadata.is_file()
        && metadata.uid() == 0
        && metadata.mode() & 0o022 == 0
        && metadata.len() <= MAX_FILE_SIZE;
    trusted.then_some(file)
}

fn checksum_of(file: &File) -> Option<u32> {
    let mut file = file.take(MAX_FILE_SIZE);
    let mut checksum = flate2::Crc::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(checksum.sum()),
            read => checksum.update(buffer.get(..read)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_plain_names_below_the_folder_are_looked_for() {
        let path = |program, name| linked(Path::new("/d"), Path::new(program), name);
        assert_eq!(
            path("/usr/bin/app", "app.debug"),
            Some("/d/usr/bin/app.debug".into())
        );
        for (program, name) in [
            ("/usr/bin/app", "../x"),
            ("/usr/bin/app", "/etc/passwd"),
            ("/usr/bin/app", "a/b"),
            ("/usr/bin/app", ""),
            ("/usr/../../app", "x"),
            ("app", "x"),
            ("/", "x"),
        ] {
            assert_eq!(path(program, name), None, "{program} {name}");
        }
    }

    /// A small program, its debug information apart, stripped.
    #[test]
    fn separate_debug_information_is_found_by_link_and_by_build_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("p.c"), "int main(void) { return 0; }").unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let status = Command::new(program)
                .args(arguments)
                .current_dir(folder.path())
                .status();
            status.is_ok_and(|status| status.success())
        };
        if !run("cc", &["-g", "-Wl,--build-id", "-o", "p", "p.c"])
            || !run("objcopy", &["--only-keep-debug", "p", "p.debug"])
        {
            eprintln!("skipped: needs cc and objcopy");
            return;
        }
        assert!(run("objcopy", &["-S", "--add-gnu-debuglink=p.debug", "p"]));
        let program = File::open(path("p")).unwrap();
        let root = program.metadata().unwrap().uid() == 0;
        let id = build_id(&program).unwrap().to_string();
        assert!(find(&path("debug"), &program, Path::new("/opt/p")).is_none());

        std::fs::create_dir_all(path("debug/opt")).unwrap();
        std::fs::copy(path("p.debug"), path("debug/opt/p.debug")).unwrap();
        let found = find(&path("debug"), &program, Path::new("/opt/p"));
        assert_eq!(found.is_some(), root, "only root's files count");
        // Another file of that name.
        std::fs::write(path("debug/opt/p.debug"), "something else").unwrap();
        assert!(find(&path("debug"), &program, Path::new("/opt/p")).is_none());

        let by_id = path("debug/.build-id").join(&id[..2]);
        std::fs::create_dir_all(&by_id).unwrap();
        let by_id = by_id.join(format!("{}.debug", &id[2..]));
        std::fs::copy(path("p.debug"), &by_id).unwrap();
        let found = find(&path("debug"), &program, Path::new("/elsewhere"));
        assert_eq!(found.is_some(), root);
        let mut writable = std::fs::metadata(&by_id).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut writable, 0o666);
        std::fs::set_permissions(&by_id, writable).unwrap();
        assert!(find(&path("debug"), &program, Path::new("/elsewhere")).is_none());
    }
}
