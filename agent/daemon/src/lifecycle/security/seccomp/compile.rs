//! A resolved filter compiled to classic BPF: a binary search over ranges of system call numbers that fare alike, arguments compared at the leaves.
//!
//! The kernel runs the program once per number when it is loaded (to learn what is always allowed), and at every call whose verdict depends
//! on arguments, so what counts is the length of the paths, not of the program.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};
use syscalls::Sysno;

use super::Program;
use super::bpf::{AND, Assembler, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, Label};
use crate::error::{Error, Result};

/// Most instructions that the kernel takes (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

/// AUDIT_ARCH_* of linux/audit.h.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE_AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE_AUDIT_ARCH: u32 = 0xc000_00b7;

/// First number of the x32 calls.
#[cfg(target_arch = "x86_64")]
pub(super) const X32: Option<u32> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
pub(super) const X32: Option<u32> = None;

/// Offsets in struct seccomp_data.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
/// SECCOMP_RET_ERRNO | ENOSYS.
pub(super) const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_ACTION: u32 = 0xffff_0000;

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Always this return value.
    Always(u32),
    /// That of the first rule whose comparisons all hold, else the default.
    ByArguments(Vec<(Vec<LinuxSeccompArg>, u32)>),
}

/// Compiles a filter for the native architecture.
pub(super) fn compile(filter: &LinuxSeccomp) -> Result<Program> {
    let actions = filter.syscalls().iter().flatten().map(LinuxSyscall::action).chain([filter.default_action()]);
    if actions.into_iter().any(|action| action == LinuxSeccompAction::ScmpActNotify) {
        return Err(Error::invalid("linux.seccomp", "SCMP_ACT_NOTIFY needs a listener, which is not offered"));
    }
    let default = filter.default_action().as_u32(filter.default_errno_ret());
    let segments = segments(filter, default);

    let mut program = Assembler::default();
    let search = tree(&mut program, &segments, default);
    let native = program.before(LOAD, OFFSET_NR, search);
    let kill = program.ret(KILL_PROCESS);
    let check = program.branch(JUMP_EQ, NATIVE_AUDIT_ARCH, native, kill);
    program.before(LOAD, OFFSET_ARCH, check);

    let instructions = program.finish();
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::invalid(
            "config.security.seccomp.json",
            format_args!("compiles to {} instructions, the kernel takes {MAX_INSTRUCTIONS}", instructions.len()),
        ));
    }
    let flags = filter.flags().iter().flatten().fold(0, |bits, flag| bits | flag_bit(*flag));
    Ok(Program { instructions: instructions.into_iter().flat_map(super::bpf::Instruction::to_bytes).collect(), flags })
}

/// SECCOMP_FILTER_FLAG_* of linux/seccomp.h.
fn flag_bit(flag: oci_spec::runtime::LinuxSeccompFilterFlag) -> u32 {
    use oci_spec::runtime::LinuxSeccompFilterFlag as Flag;
    match flag {
        Flag::SeccompFilterFlagTsync => 1,
        Flag::SeccompFilterFlagLog => 2,
        Flag::SeccompFilterFlagSpecAllow => 4,
        Flag::SeccompFilterFlagWaitKillableRecv => 32,
    }
}

/// Verdicts of the numbers that the rules name, see the module's documentation for their precedence.
fn verdicts(filter: &LinuxSeccomp, default: u32) -> (BTreeMap<u32, Verdict>, Option<u32>) {
    let mut verdicts = BTreeMap::new();
    let mut highest = None;
    for rule in filter.syscalls().iter().flatten() {
        let value = rule.action().as_u32(rule.errno_ret());
        let args = rule.args().as_deref().unwrap_or_default();
        for name in rule.names() {
            let Some(number) = number(name) else { continue };
            highest = highest.max(Some(number));
            if value == default {
                continue;
            }
            let entry = verdicts.entry(number).or_insert_with(|| Verdict::ByArguments(Vec::new()));
            match entry {
                Verdict::Always(_) => {}
                Verdict::ByArguments(_) if args.is_empty() => *entry = Verdict::Always(value),
                Verdict::ByArguments(rules) => rules.push((args.to_vec(), value)),
            }
        }
    }
    (verdicts, highest)
}

/// Number of a call of this architecture.
fn number(name: &str) -> Option<u32> {
    name.parse::<Sysno>().ok().and_then(|call| u32::try_from(call.id()).ok())
}

/// The whole range of numbers cut into ranges of one verdict: first number and verdict, in order.
fn segments(filter: &LinuxSeccomp, default: u32) -> Vec<(u32, Verdict)> {
    let (verdicts, highest) = verdicts(filter, default);
    let mut segments: Vec<(u32, Verdict)> = Vec::new();
    let mut add = |start: u32, verdict: Verdict| {
        if segments.last().is_none_or(|(_, last)| *last != verdict) {
            segments.push((start, verdict));
        }
    };
    let mut next = 0;
    for (number, verdict) in verdicts {
        if number > next {
            add(next, Verdict::Always(default));
        }
        add(number, verdict);
        next = number + 1;
    }
    let beyond = if default & RET_ACTION == RET_ERRNO { NO_SUCH_CALL } else { default };
    match highest {
        Some(highest) => {
            if highest >= next {
                add(next, Verdict::Always(default));
            }
            add(highest + 1, Verdict::Always(beyond));
        }
        None => add(0, Verdict::Always(default)),
    }
    if let Some(x32) = X32 {
        add(x32, Verdict::Always(NO_SUCH_CALL));
    }
    segments
}

/// A search tree over the segments; the accumulator holds the number.
fn tree(program: &mut Assembler, segments: &[(u32, Verdict)], default: u32) -> Label {
    match segments {
        [] => program.ret(default),
        [(_, Verdict::Always(value))] => program.ret(*value),
        [(_, Verdict::ByArguments(rules))] => arguments(program, rules, default),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let right = tree(program, high, default);
            let left = tree(program, low, default);
            let start = high.first().map_or(0, |(start, _)| *start);
            program.branch(JUMP_GE, start, right, left)
        }
    }
}

/// Rules with arguments, tried in order.
fn arguments(program: &mut Assembler, rules: &[(Vec<LinuxSeccompArg>, u32)], default: u32) -> Label {
    let mut otherwise = program.ret(default);
    for (comparisons, value) in rules.iter().rev() {
        let mut hold = program.ret(*value);
        for argument in comparisons.iter().rev() {
            hold = compare(program, argument, hold, otherwise);
        }
        otherwise = hold;
    }
    otherwise
}

/// One comparison of a 64-bit argument, unsigned, half by half.
fn compare(program: &mut Assembler, argument: &LinuxSeccompArg, hold: Label, fail: Label) -> Label {
    use LinuxSeccompOperator as Op;
    let index = u32::try_from(argument.index()).unwrap_or(0);
    let (low_at, high_at) = halves_at(OFFSET_ARGS + 8 * index);
    let (low, high) = halves(argument.value());
    let mut two_halves = |code: u16, hold: Label, fail: Label| {
        let low_test = program.branch(code, low, hold, fail);
        let low_load = program.before(LOAD, low_at, low_test);
        let equal = program.branch(JUMP_EQ, high, low_load, fail);
        let above = if code == JUMP_EQ { equal } else { program.branch(JUMP_GT, high, hold, equal) };
        program.before(LOAD, high_at, above)
    };
    match argument.op() {
        Op::ScmpCmpEq => two_halves(JUMP_EQ, hold, fail),
        Op::ScmpCmpNe => two_halves(JUMP_EQ, fail, hold),
        Op::ScmpCmpGt => two_halves(JUMP_GT, hold, fail),
        Op::ScmpCmpGe => two_halves(JUMP_GE, hold, fail),
        Op::ScmpCmpLe => two_halves(JUMP_GT, fail, hold),
        Op::ScmpCmpLt => two_halves(JUMP_GE, fail, hold),
        Op::ScmpCmpMaskedEq => {
            let (low_wanted, high_wanted) = halves(argument.value_two().unwrap_or(0));
            let mut next = hold;
            for (at, mask, wanted) in [(low_at, low, low_wanted), (high_at, high, high_wanted)] {
                if mask != 0 {
                    let test = program.branch(JUMP_EQ, wanted, next, fail);
                    let masked = program.before(AND, mask, test);
                    next = program.before(LOAD, at, masked);
                }
            }
            next
        }
    }
}

/// Low and high half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// Offsets of the low and high half of the argument at `offset`.
fn halves_at(offset: u32) -> (u32, u32) {
    if cfg!(target_endian = "little") { (offset, offset + 4) } else { (offset + 4, offset) }
}
