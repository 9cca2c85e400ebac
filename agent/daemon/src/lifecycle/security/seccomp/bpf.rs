//! An assembler for classic BPF that works from the end to the start: every jump of such a program goes forward, so its target is there
//! already when the jump is written.

use std::collections::HashMap;

/// One instruction, struct sock_filter of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

/// BPF_LD | BPF_W | BPF_ABS: accumulator from struct seccomp_data.
pub(super) const LOAD: u16 = 0x20;
/// BPF_ALU | BPF_AND | BPF_K.
pub(super) const AND: u16 = 0x54;
/// BPF_JMP | BPF_JA.
pub(super) const JUMP: u16 = 0x05;
/// BPF_JMP | BPF_JEQ | BPF_K.
pub(super) const JUMP_EQ: u16 = 0x15;
/// BPF_JMP | BPF_JGT | BPF_K, unsigned.
pub(super) const JUMP_GT: u16 = 0x25;
/// BPF_JMP | BPF_JGE | BPF_K, unsigned.
pub(super) const JUMP_GE: u16 = 0x35;
/// BPF_RET | BPF_K.
pub(super) const RETURN: u16 = 0x06;

/// Farthest that a target may be for a conditional jump to reach it even when a long jump is put in between.
const REACH: usize = 253;

/// An instruction that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program under construction, its last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// The nearest return of each value.
    returns: HashMap<u32, Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// Instructions between the next one to be written and `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target.0
    }

    /// A label within reach that leads to `target`.
    fn near(&mut self, target: Label) -> Label {
        if self.distance(target) <= REACH { target } else { self.long_jump(target) }
    }

    fn long_jump(&mut self, target: Label) -> Label {
        // At most BPF_MAXINSNS here: longer programs are refused at the end, so the distance always fits.
        let distance = u32::try_from(self.distance(target)).unwrap_or(u32::MAX);
        self.push(JUMP, 0, 0, distance)
    }

    fn short(&self, target: Label) -> u8 {
        u8::try_from(self.distance(target)).unwrap_or(u8::MAX)
    }

    /// Returns `value` to the kernel; shared with an earlier request where that is in reach.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        match self.returns.get(&value) {
            Some(&label) if self.distance(label) <= REACH - 2 => label,
            _ => {
                let label = self.push(RETURN, 0, 0, value);
                self.returns.insert(value, label);
                label
            }
        }
    }

    /// A comparison of the accumulator with `k`.
    pub(super) fn branch(&mut self, code: u16, k: u32, then: Label, otherwise: Label) -> Label {
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        let (jt, jf) = (self.short(then), self.short(otherwise));
        self.push(code, jt, jf, k)
    }

    /// An instruction that goes on with `next`.
    pub(super) fn before(&mut self, code: u16, k: u32, next: Label) -> Label {
        if self.distance(next) != 0 {
            self.long_jump(next);
        }
        self.push(code, 0, 0, k)
    }

    /// The program, first instruction first.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }
}

impl Instruction {
    /// Its eight bytes.
    pub(super) fn to_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }
}
