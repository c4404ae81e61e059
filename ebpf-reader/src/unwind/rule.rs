//! How the caller's registers are found at one instruction, from the entry of `.eh_frame` that covers it.
//!
//! Expressions in unwind tables are programs, which may run for ever. Compilers and linkers write only few
//! forms of them; those are recognised, everything else is not understood.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameOffset, EndianSlice, NativeEndian, Register,
    RegisterRule, UnwindContext, UnwindContextStorage, UnwindSection as _,
};

#[cfg(target_arch = "aarch64")]
mod register {
    use gimli::{AArch64, Register};
    pub(super) const STACK: Register = AArch64::SP;
    pub(super) const FRAME: Register = AArch64::X29;
    pub(super) const RETURN: Register = AArch64::X30;
}
#[cfg(not(target_arch = "aarch64"))]
mod register {
    use gimli::{Register, X86_64};
    pub(super) const STACK: Register = X86_64::RSP;
    pub(super) const FRAME: Register = X86_64::RBP;
    pub(super) const RETURN: Register = X86_64::RA;
}

/// Operations of the expressions that are understood.
const DW_OP_DEREF: u8 = 0x06;
const DW_OP_BREG0: u8 = 0x70;
const DW_OP_LIT0: u8 = 0x30;

/// A register that is the base of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Stack,
    Frame,
}

/// The canonical frame address: the stack pointer in the caller, after the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameAddress {
    /// A register and an offset.
    Offset(Base, i32),
    /// What is stored at a register and an offset: a signal's frame, or a realigned one.
    Stored(Base, i32),
    /// A stub that a linker writes for calls into other files, of 16 bytes: the stack is 8 bytes higher from
    /// this byte of it on.
    Stub(u8),
}

/// Where the caller's value of a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Where it was.
    Same,
    /// At an offset from the frame address.
    AtFrameAddress(i32),
    /// At an offset from a register.
    At(Base, i32),
    /// There is none: no caller.
    Undefined,
}

/// How the caller's registers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) frame_address: FrameAddress,
    pub(super) frame_pointer: Value,
    pub(super) return_address: Value,
    /// The caller was interrupted by a signal: it goes on at the return address, and not after a call.
    pub(super) signal: bool,
}

/// Room for the rules of one row, and for rows that are remembered.
#[derive(Debug)]
pub(super) struct Storage;

impl UnwindContextStorage<usize> for Storage {
    type Rules = [(Register, RegisterRule<usize>); 64];
    type Stack = Box<[gimli::UnwindTableRow<usize, Self>; 8]>;
}

pub(super) type Context = UnwindContext<usize, Storage>;

/// One entry as it lies in a file, with the common entry it refers to.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Address in the file's own address space.
    pub(super) address: u64,
    /// With its length and its reference to the common entry.
    pub(super) bytes: &'a [u8],
    pub(super) common: &'a [u8],
}

impl Entry<'_> {
    /// The rule for the instruction at `address`; `None` if the entry does not cover it or is not understood.
    pub(super) fn rule(&self, address: u64, context: &mut Context) -> Option<Rule> {
        // Put together as a section of its own, common entry first.
        let mut section = Vec::with_capacity(self.common.len() + self.bytes.len());
        section.extend_from_slice(self.common);
        section.extend_from_slice(self.bytes);
        let at = self.common.len();
        let reference = u32::try_from(at.checked_add(4)?).ok()?;
        section
            .get_mut(at.checked_add(4)?..at.checked_add(8)?)?
            .copy_from_slice(&reference.to_ne_bytes());
        // Addresses in the entry are relative to where it lies.
        let start = self.address.checked_sub(u64::try_from(at).ok()?)?;
        let bases = BaseAddresses::default().set_eh_frame(start);
        let mut section = EhFrame::from(EndianSlice::new(&section, NativeEndian));
        section.set_address_size(8);
        if cfg!(target_arch = "aarch64") {
            section.set_vendor(gimli::Vendor::AArch64);
        }

        let entry = section
            .fde_from_offset(&bases, EhFrameOffset(at), EhFrame::cie_from_offset)
            .ok()?;
        // An end beyond the last address would overflow.
        entry.initial_address().checked_add(entry.len())?;
        if !entry.contains(address) {
            return None;
        }
        let row = entry
            .unwind_info_for_address(&section, &bases, context, address)
            .ok()?;
        let expression = |expression: &gimli::UnwindExpression<usize>| {
            expression.get(&section).ok().map(|found| found.0.slice())
        };
        let frame_address = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                FrameAddress::Offset(base(*register)?, i32::try_from(*offset).ok()?)
            }
            CfaRule::Expression(bytes) => frame_address(expression(bytes)?)?,
        };
        let value = |register, default| match row.register(register) {
            None => Some(default),
            Some(RegisterRule::SameValue) => Some(Value::Same),
            Some(RegisterRule::Undefined) => Some(Value::Undefined),
            Some(RegisterRule::Offset(offset)) => {
                Some(Value::AtFrameAddress(i32::try_from(offset).ok()?))
            }
            Some(RegisterRule::Expression(bytes)) => {
                let (base, offset, rest) = register_and_offset(expression(&bytes)?)?;
                rest.is_empty().then_some(Value::At(base, offset))
            }
            Some(_) => None,
        };
        // A leaf function of aarch64 says nothing of its link register.
        let unsaid = if cfg!(target_arch = "aarch64") {
            Value::Same
        } else {
            Value::Undefined
        };
        Some(Rule {
            frame_address,
            // Callers seldom need it; one that does is lost then.
            frame_pointer: value(register::FRAME, Value::Same).unwrap_or(Value::Same),
            return_address: value(register::RETURN, unsaid)?,
            signal: entry.is_signal_trampoline(),
        })
    }
}

fn base(register: Register) -> Option<Base> {
    match register {
        register::STACK => Some(Base::Stack),
        register::FRAME => Some(Base::Frame),
        _ => None,
    }
}

/// `breg offset deref`, or the form that linkers write for their stubs.
fn frame_address(expression: &[u8]) -> Option<FrameAddress> {
    // rsp + 8 + ((rip & 15) >= N) * 8
    if let [
        0x77,
        8,
        0x80,
        0,
        0x3f,
        0x1a,
        literal,
        0x2a,
        0x33,
        0x24,
        0x22,
    ] = *expression
    {
        let bytes = literal.checked_sub(DW_OP_LIT0)?;
        return (cfg!(target_arch = "x86_64") && bytes < 16).then_some(FrameAddress::Stub(bytes));
    }
    match register_and_offset(expression)? {
        (base, offset, []) => Some(FrameAddress::Offset(base, offset)),
        (base, offset, [DW_OP_DEREF]) => Some(FrameAddress::Stored(base, offset)),
        _ => None,
    }
}

/// A leading `breg` operation, and what follows it.
fn register_and_offset(expression: &[u8]) -> Option<(Base, i32, &[u8])> {
    let (&operation, mut rest) = expression.split_first()?;
    let number = operation.checked_sub(DW_OP_BREG0).filter(|&n| n < 32)?;
    let base = base(Register(u16::from(number)))?;
    // The offset is a signed LEB128 number; five bytes hold 32 bits.
    let mut offset = 0_i64;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        offset |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if byte & 0x40 != 0 {
                offset -= 1 << (shift + 7);
            }
            return Some((base, i32::try_from(offset).ok()?, rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_forms_that_are_written_are_understood() {
        let stub = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(frame_address(&stub), Some(FrameAddress::Stub(11)));
        // In a signal's frame: rsp + 160, where the interrupted rsp is.
        assert_eq!(
            frame_address(&[0x77, 0xa0, 0x01, 0x06]),
            Some(FrameAddress::Stored(Base::Stack, 160))
        );
        assert_eq!(
            frame_address(&[0x76, 0x70, 0x06]),
            Some(FrameAddress::Stored(Base::Frame, -16))
        );
        assert_eq!(
            register_and_offset(&[0x76, 0xff, 0x7e]),
            Some((Base::Frame, -129, &[][..]))
        );
    }

    #[test]
    fn programs_are_not_executed() {
        // A jump to itself.
        assert_eq!(frame_address(&[0x2f, 0xfd, 0xff]), None);
        for expression in [
            &[][..],
            &[0x77],
            &[0x77, 0x80],
            &[0x77, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x77, 8, 0x06, 0x06],
            &[0x8f, 0],
            &[0x50],
        ] {
            assert_eq!(frame_address(expression), None, "{expression:x?}");
        }
    }
}
