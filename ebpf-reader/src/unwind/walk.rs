//! From frame to frame through a copied stack.

use super::cache::Cache;
use super::rule::{Base, FrameAddress, Rule, Value};
use crate::process::{AddressSpace, Modules, Piece};
use crate::sample::{Registers, StackCopy};

/// Most frames of one stack.
const MAX_FRAMES: usize = 512;

/// Addresses that are looked up in tables for one stack: the rest of it follows frame pointers.
const MAX_INTERPRETED: u64 = 64 << 10;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// At the start of the thread.
    Complete,
    /// At the end of the copy: the stack goes on.
    Cut,
    /// At an address in none of the known mappings, which may be new.
    Unknown,
    /// Somewhere else.
    Lost,
}

/// Appends the addresses of a stack, innermost first. Without tables, frame pointers are followed.
pub(super) fn walk(
    copy: &StackCopy,
    space: &AddressSpace,
    mut tables: Option<(&mut Cache, &Modules)>,
    frames: &mut Vec<u64>,
) -> Outcome {
    let mut registers = copy.registers;
    let stack = Stack {
        start: copy.registers.stack,
        bytes: &copy.bytes,
    };
    let budget = tables
        .as_ref()
        .map_or(0, |(cache, _)| cache.interpreted() + MAX_INTERPRETED);
    // Whether the address is that of an instruction, rather than one after a call.
    let mut exact = true;
    let mut piece: Option<&Piece> = None;
    for depth in 0..MAX_FRAMES {
        frames.push(registers.instruction);
        let inside = if exact {
            registers.instruction
        } else {
            registers.instruction.wrapping_sub(1)
        };
        // Neighbouring frames are mostly in the same file.
        if !piece.is_some_and(|piece| covers(piece, inside)) {
            piece = space.find(inside);
        }
        let Some(here) = piece else {
            if depth > 0 {
                // Not code: whatever led here was no return address.
                frames.pop();
            }
            return Outcome::Unknown;
        };
        let rule = match &mut tables {
            Some((cache, modules)) if cache.interpreted() < budget => {
                cache.rule(modules, here, inside)
            }
            _ => None,
        };
        let step = match rule {
            Some(rule) => by_rule(rule, registers, &stack, depth == 0),
            None => without_rule(registers, &stack, depth == 0, space, tables.is_some()),
        };
        match step {
            Step::To(next) => registers = next,
            Step::End(outcome) => return outcome,
        }
        exact = rule.is_some_and(|rule| rule.signal);
    }
    Outcome::Cut
}

fn covers(piece: &Piece, address: u64) -> bool {
    (piece.mapping.start..piece.mapping.end).contains(&address)
}

enum Step {
    To(Registers),
    End(Outcome),
}

fn by_rule(rule: Rule, registers: Registers, stack: &Stack<'_>, innermost: bool) -> Step {
    let base = |base, offset: i32| {
        let register = match base {
            Base::Stack => registers.stack,
            Base::Frame => registers.frame,
        };
        register.wrapping_add_signed(i64::from(offset))
    };
    let frame_address = match rule.frame_address {
        FrameAddress::Offset(register, offset) => base(register, offset),
        FrameAddress::Stored(register, offset) => match stack.word(base(register, offset)) {
            Ok(address) => address,
            Err(outcome) => return Step::End(outcome),
        },
        FrameAddress::Stub(byte) => {
            let pushed = registers.instruction & 15 >= u64::from(byte);
            registers.stack.wrapping_add(8 + 8 * u64::from(pushed))
        }
    };
    let value = |value, same| match value {
        Value::Same => Ok(Some(same)),
        Value::Undefined => Ok(None),
        Value::AtFrameAddress(offset) => stack
            .word(frame_address.wrapping_add_signed(i64::from(offset)))
            .map(Some),
        Value::At(register, offset) => stack.word(base(register, offset)).map(Some),
    };
    let instruction = match value(rule.return_address, registers.link) {
        Ok(Some(address)) => return_address(address),
        Ok(None) => return Step::End(Outcome::Complete),
        Err(outcome) => return Step::End(outcome),
    };
    if instruction == 0 {
        return Step::End(Outcome::Complete);
    }
    // A caller's frame is higher up; only a function without a frame leaves the stack pointer where it is.
    let grown = frame_address > registers.stack || (innermost && frame_address == registers.stack);
    if !grown && !rule.signal {
        return Step::End(Outcome::Lost);
    }
    Step::To(Registers {
        instruction,
        stack: frame_address,
        // Not there, if it lies beyond the copy; nearly all callers do without.
        frame: value(rule.frame_pointer, registers.frame)
            .ok()
            .flatten()
            .unwrap_or(0),
        link: instruction,
    })
}

/// The file has nothing to say: code that was made at run time, or written in assembly.
fn without_rule(
    registers: Registers,
    stack: &Stack<'_>,
    innermost: bool,
    space: &AddressSpace,
    has_tables: bool,
) -> Step {
    if innermost && has_tables {
        // A function without a frame of its own: the return address is where the call put it.
        let (instruction, above) = if cfg!(target_arch = "aarch64") {
            (registers.link, 0)
        } else {
            (stack.word(registers.stack).unwrap_or(0), 8)
        };
        let instruction = return_address(instruction);
        if space.find(instruction.wrapping_sub(1)).is_some() {
            return Step::To(Registers {
                instruction,
                stack: registers.stack.wrapping_add(above),
                ..registers
            });
        }
    }
    if registers.frame == 0 {
        return Step::End(Outcome::Complete);
    }
    if !registers.frame.is_multiple_of(8) || registers.frame < registers.stack {
        return Step::End(Outcome::Lost);
    }
    let words = stack.word(registers.frame).and_then(|frame| {
        let link = stack.word(registers.frame.wrapping_add(8))?;
        Ok((frame, return_address(link)))
    });
    match words {
        Ok((_, 0)) => Step::End(Outcome::Complete),
        Ok((frame, instruction)) => Step::To(Registers {
            instruction,
            stack: registers.frame.wrapping_add(16),
            frame,
            link: instruction,
        }),
        Err(outcome) => Step::End(outcome),
    }
}

/// An address without the signature that aarch64 may put into its upper bits.
fn return_address(address: u64) -> u64 {
    if cfg!(target_arch = "aarch64") {
        address & 0x0000_ffff_ffff_ffff
    } else {
        address
    }
}

/// The bytes of a stack that were copied.
struct Stack<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl Stack<'_> {
    /// The word at an address; otherwise how the walk ends.
    fn word(&self, address: u64) -> Result<u64, Outcome> {
        let offset = address.checked_sub(self.start).ok_or(Outcome::Lost)?;
        let offset = usize::try_from(offset).map_err(|_| Outcome::Lost)?;
        // Far beyond the copy there is no stack any more.
        if offset > self.bytes.len().saturating_add(8 << 20) {
            return Err(Outcome::Lost);
        }
        let word = self
            .bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<8>())
            .ok_or(Outcome::Cut)?;
        Ok(u64::from_ne_bytes(*word))
    }
}
