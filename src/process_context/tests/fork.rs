//! Publication in a process that forks.

use std::io::{PipeReader, Read, Write, pipe};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Runs `check` in a forked child, and returns what it says. A child that hangs is killed and fails.
pub(in crate::process_context) fn in_child(
    check: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let (reader, mut writer) = pipe().map_err(|error| error.to_string())?;
    // SAFETY: the child runs `check` and ends by `_exit`, so no destructor or exit handler of the parent
    // runs twice. `check` uses system calls, its own memory and the allocator, which the C library keeps
    // usable in a child; it takes no lock that another thread could have held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().to_string()),
        0 => {
            // SAFETY: plain system call; without a handler the alarm ends the child.
            unsafe { libc::alarm(20) };
            let verdict =
                catch_unwind(AssertUnwindSafe(check)).unwrap_or(Err("it panicked".into()));
            let text = verdict.as_ref().err().map_or("", |text| text.as_str());
            let written = writer.write_all(text.as_bytes()).is_ok();
            // SAFETY: ends the child at once, as promised above.
            unsafe { libc::_exit(i32::from(verdict.is_err() || !written)) }
        }
        child => {
            drop(writer);
            ended(child, reader)
        }
    }
}

fn ended(child: libc::pid_t, mut reader: PipeReader) -> Result<(), String> {
    let mut text = String::new();
    reader
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let mut status = 0;
    // SAFETY: waits for a child of our own; `status` may be written.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if status == 0 {
        Ok(())
    } else {
        Err(format!("the child ended with status {status:#x}: {text}"))
    }
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// Whether memory can be kept from children at all. An emulator of user programs may say yes and do nothing;
/// then the caller, a test of what children do not have, can only end.
pub(in crate::process_context) fn forks_as_linux_does() -> bool {
    let page = memmap2::MmapMut::map_anon(1).expect("maps a page");
    page.advise(memmap2::Advice::DontFork).expect("is advised");
    let address = page.as_ptr().addr();
    let kept = in_child(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").map_err(text)?;
        let inherited = maps.lines().any(|line| {
            let mut ends = line
                .split(['-', ' '])
                .map(|end| usize::from_str_radix(end, 16));
            matches!((ends.next(), ends.next()), (Some(Ok(start)), Some(Ok(end)))
                if (start..end).contains(&address))
        });
        expect(!inherited, "the child has it")
    });
    if kept.is_err() {
        eprintln!("skipped: needs a kernel that heeds MADV_DONTFORK, and this is an emulator");
    }
    kept.is_ok()
}

fn nothing_found() -> Result<(), String> {
    match snapshot() {
        Err(ReadBackError::NotFound) => Ok(()),
        Ok(found) => Err(format!("found {} at {:#x}", found.name, found.mapping)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_child_publishes_its_own_and_leaves_the_parents_alone() {
    let _alone = alone();
    if !forks_as_linux_does() {
        return;
    }
    let parents = named("parent").attribute_keys(["http.route"]);
    publish(&parents).expect("publishes");
    let before = read();
    in_child(|| {
        expect(!is_published(), "the child claims its parent's context")?;
        nothing_found()?;
        expect(!withdraw(), "the child withdrew its parent's context")?;
        update_with(|context| context.resource("service.name", "child")).map_err(text)?;
        // Starts from nothing: what its parent said of itself is not true of the child.
        expect(
            read_back().map_err(text)? == named("child"),
            "not what was published",
        )?;
        in_child(|| {
            nothing_found()?;
            publish(&named("grandchild")).map_err(text)?;
            expect(
                read_back().map_err(text)? == named("grandchild"),
                "not what the grandchild published",
            )
        })?;
        expect(
            read_back().map_err(text)? == named("child"),
            "changed by its child",
        )?;
        expect(withdraw(), "nothing to withdraw")?;
        nothing_found()
    })
    .expect("all is well in the child");
    assert_eq!(read(), before);
    assert_eq!(read_back().expect("reads"), parents);
    publish(&named("parent, later")).expect("publishes");
    assert_eq!(read_back().expect("reads"), named("parent, later"));
}

#[test]
fn a_child_without_a_published_parent_publishes() {
    let _alone = alone();
    in_child(|| {
        nothing_found()?;
        publish(&named("child")).map_err(text)?;
        expect(
            read_back().map_err(text)? == named("child"),
            "not what was published",
        )
    })
    .expect("all is well in the child");
    assert_nothing_found();
}

#[test]
fn a_fork_in_the_middle_of_a_change_does_not_block_the_child() {
    let _alone = alone();
    if !forks_as_linux_does() {
        return;
    }
    publish(&named("before")).expect("publishes");
    let (entered, enters) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            update_with(|context| {
                entered.send(()).expect("the test listens");
                released.recv().expect("the test answers");
                context.resource("service.name", "after")
            })
        });
        enters.recv().expect("the writer holds the lock");
        let child = in_child(|| {
            expect(!is_published(), "the child claims its parent's context")?;
            publish(&named("child")).map_err(text)?;
            expect(
                read_back().map_err(text)? == named("child"),
                "not what was published",
            )?;
            expect(withdraw(), "nothing to withdraw")
        });
        release.send(()).expect("the writer waits");
        writer.join().expect("no panic").expect("publishes");
        child.expect("all is well in the child");
    });
    assert_eq!(read_back().expect("reads"), named("after"));
}

#[test]
fn children_forked_amid_updates_publish() {
    let _alone = alone();
    if !forks_as_linux_does() {
        return;
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                publish(&checked(number)).expect("publishes");
            }
            number
        });
        let children: Result<(), String> = (0..100).try_for_each(|_| {
            in_child(|| {
                nothing_found()?;
                publish(&named("child")).map_err(text)?;
                expect(
                    read_back().map_err(text)? == named("child"),
                    "not what was published",
                )
            })
        });
        done.store(true, Ordering::Relaxed);
        let last = writer.join().expect("no panic");
        children.expect("all is well in the children");
        assert_eq!(read_back().expect("reads"), checked(last));
    });
}
