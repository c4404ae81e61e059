//! Functions by address, from lists in text: the kernel's, and those that compilers at run time write for perf.

use std::io::{self, BufRead};

use super::file::Named;

/// Longest line that is understood.
const MAX_LINE: u64 = 4096;

/// Addresses that one list may name, counting repetitions: lists are written by the processes.
const MAX_NAMED: u64 = 1 << 22;

/// Names from `/proc/kallsyms`, for addresses in rising order: each belongs to the last function that begins
/// before it. `None` if the kernel does not tell its addresses.
pub(super) fn kernel(list: impl BufRead, addresses: &[u64]) -> io::Result<Option<Vec<Vec<Named>>>> {
    let mut nearest: Vec<Option<(u64, Vec<u8>)>> = vec![None; addresses.len()];
    let mut told = false;
    for_each_line(list, u64::MAX, |line| {
        let [Some(start), Some(kind), Some(name)] = fields(line) else {
            return true;
        };
        let Some(start) = hexadecimal(start).filter(|&start| start != 0) else {
            return true;
        };
        told = true;
        if !matches!(kind, b"t" | b"T" | b"w" | b"W") {
            return true;
        }
        let at = addresses.partition_point(|&address| address < start);
        match nearest.get_mut(at) {
            // The list is mostly in order: most of its lines come here, and allocate nothing.
            Some(Some((nearest, best))) if *nearest < start => {
                *nearest = start;
                name.clone_into(best);
            }
            Some(nearest @ None) => *nearest = Some((start, name.to_vec())),
            _ => {}
        }
        true
    })?;
    if !told {
        return Ok(None);
    }
    // What is the last function before one address may be that before the following ones, too.
    let mut last: Option<String> = None;
    let named = nearest.into_iter().map(|nearest| {
        if let Some((_, name)) = nearest {
            // The name, and in brackets the kernel's module.
            last = Some(String::from_utf8_lossy(&name).replace('\t', " "));
        }
        last.iter().map(|name| function(name)).collect()
    });
    Ok(Some(named.collect()))
}

/// Names from a list of `start size name` in hexadecimal digits, for addresses in rising order. Code is thrown
/// away and made anew: the last line that covers an address counts. At most `limit` bytes are read.
pub(super) fn perf_map(
    list: impl BufRead,
    limit: u64,
    addresses: &[u64],
) -> io::Result<Vec<Vec<Named>>> {
    let mut names: Vec<Vec<Named>> = vec![Vec::new(); addresses.len()];
    let mut named = 0;
    for_each_line(list, limit, |line| {
        let [Some(start), Some(size), Some(name)] = fields(line) else {
            return true;
        };
        let (Some(start), Some(size)) = (hexadecimal(start), hexadecimal(size)) else {
            return true;
        };
        let end = start.saturating_add(size);
        let from = addresses.partition_point(|&address| address < start);
        let covered = addresses
            .iter()
            .skip(from)
            .take_while(|&&address| address < end);
        let count = covered.count();
        for place in names.iter_mut().skip(from).take(count) {
            *place = vec![function(&String::from_utf8_lossy(name))];
            named += 1;
        }
        named < MAX_NAMED
    })?;
    Ok(names)
}

fn function(name: &str) -> Named {
    Named {
        name: name.to_owned(),
        ..Named::default()
    }
}

/// The first two words of a line, and the rest.
fn fields(line: &[u8]) -> [Option<&[u8]>; 3] {
    let mut fields = line.trim_ascii_end().splitn(3, |&byte| byte == b' ');
    let (first, second, rest) = (fields.next(), fields.next(), fields.next());
    [first, second, rest.filter(|name| !name.is_empty())]
}

/// A number of at most 64 bits.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |number, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(number << 4 | u64::from(digit))
    })
}

/// Calls `each` with the lines, up to `limit` bytes or until it returns `false`. Of longer lines the start counts.
fn for_each_line(
    list: impl BufRead,
    limit: u64,
    mut each: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let mut list = io::Read::take(list, limit);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut part = io::Read::take(&mut list, MAX_LINE);
        if part.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            list.skip_until(b'\n')?;
        }
        if !each(&line) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[Vec<Named>]) -> Vec<&str> {
        names
            .iter()
            .map(|place| place.first().map_or("", |function| &function.name))
            .collect()
    }

    #[test]
    fn the_kernels_functions_are_those_before_an_address() {
        let list = "ffffffff81000000 T _text\n\
            ffffffff81000100 t first\n\
            ffffffff81000180 D data\n\
            ffffffff81000300 W second\n\
            ffffffffc0000000 t inner\t[module]\nnonsense\n";
        let addresses = [
            0xffff_ffff_8000_0000,
            0xffff_ffff_8100_0100,
            0xffff_ffff_8100_01ff,
            0xffff_ffff_8100_0400,
            0xffff_ffff_c000_0010,
        ];
        let names = kernel(list.as_bytes(), &addresses).unwrap().unwrap();
        assert_eq!(
            shown(&names),
            ["", "first", "first", "second", "inner [module]"]
        );
        let hidden = "0000000000000000 T _text\n0000000000000000 t first\n";
        assert_eq!(kernel(hidden.as_bytes(), &addresses).unwrap(), None);
    }

    #[test]
    fn the_last_line_for_an_address_counts() {
        let list = "1000 100 LazyCompile:~old name\n2000 10 second\n1000 80 LazyCompile:*new name\n\
            0x3000 0x10 third\nbroken\n4000 zz x\n5000 10\nffffffffffffffff ffffffffffffffff end\n";
        let names = perf_map(
            list.as_bytes(),
            1 << 20,
            &[0xfff, 0x1000, 0x1080, 0x2010, 0x3001, 0x5000],
        );
        assert_eq!(
            shown(&names.unwrap()),
            [
                "",
                "LazyCompile:*new name",
                "LazyCompile:~old name",
                "",
                "third",
                ""
            ]
        );
        let endless = io::BufReader::new(io::repeat(b'a'));
        assert_eq!(shown(&perf_map(endless, 1 << 20, &[1]).unwrap()), [""]);
    }
}
