//! Which devices a container may use: the rules of the runtime spec as a BPF program (version 2) or as lines of devices.allow
//! (version 1, see Documentation/admin-guide/cgroup-v1/devices.rst).

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Reason, Result};

/// Most instructions of a program that the kernel is asked to take.
const MAX_INSTRUCTIONS: usize = 4096;

/// What every container may use (major and minor as in Documentation/admin-guide/devices.txt): make any node, use the harmless ones.
const DEFAULT: [(LinuxDeviceType, Option<u32>, Option<u32>, &str); 10] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    // null, zero, full, random, urandom
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    // tty, ptmx, pts; not console (5:1), which is the host's: a container's /dev/console is its terminal
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
];

/// Rule of the runtime spec. `None`: any.
pub(crate) fn oci_rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<u32>,
    minor: Option<u32>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(kind))
        .set_major(major.map(i64::from))
        .set_minor(minor.map(i64::from))
        .set_access(Some(access.to_owned()));
    rule
}

/// Rules of a container: everything where it is privileged, else the default ones, to which the caller adds its own.
pub(crate) fn default_rules(privileged: bool) -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![oci_rule(privileged, LinuxDeviceType::A, None, None, "rwm")];
    if !privileged {
        rules.extend(DEFAULT.iter().map(|(kind, major, minor, access)| oci_rule(true, *kind, *major, *minor, access)));
    }
    rules
}

/// Kind of device node in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Block,
    Char,
}

/// One device, or one range of them, that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    /// [`MKNOD`] | [`READ`] | [`WRITE`].
    access: u32,
}

/// BPF_DEVCG_ACC_* of linux/bpf.h.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

/// The devices that a container may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DevicePolicy {
    /// `None`: all.
    allowed: Option<Vec<Allowed>>,
}

impl DevicePolicy {
    /// Reads `linux.resources.devices`: "all" or "nothing" first, then what is allowed beyond.
    pub(crate) fn from_rules(rules: &[LinuxDeviceCgroup]) -> Result<Self> {
        let unsupported = |index: usize, problem: &str| {
            Error::new(Reason::UnsupportedFeature, format!("linux.resources.devices[{index}]: {problem}"))
        };
        let Some((first, rest)) = rules.split_first() else {
            return Ok(Self { allowed: None });
        };
        if first.typ().unwrap_or_default() != LinuxDeviceType::A {
            return Err(unsupported(0, "the first rule must be about all devices"));
        }
        if first.allow() {
            return if rest.is_empty() {
                Ok(Self { allowed: None })
            } else {
                Err(unsupported(1, "no rule can follow one that allows everything"))
            };
        }
        let mut allowed: Vec<Allowed> = Vec::with_capacity(rest.len());
        for (index, rule) in rest.iter().enumerate() {
            let parsed = Allowed::parse(rule).map_err(|problem| unsupported(index + 1, problem))?;
            // Version 1 adds access rights up per device; so must version 2.
            match allowed.iter_mut().find(|other| other.same_devices(&parsed)) {
                Some(other) => other.access |= parsed.access,
                None => allowed.push(parsed),
            }
        }
        Ok(Self { allowed: Some(allowed) })
    }

    /// Lines of devices.allow for a version 1 group that denies everything.
    pub(crate) fn v1_lines(&self) -> Vec<String> {
        match &self.allowed {
            None => vec!["a *:* rwm".to_owned()],
            Some(allowed) => allowed.iter().map(Allowed::v1_line).collect(),
        }
    }

    /// Program of type BPF_PROG_TYPE_CGROUP_DEVICE: struct bpf_insn array, 8 bytes each, native byte order. `None`: no
    /// program is needed.
    pub(crate) fn program(&self) -> Result<Option<Vec<u8>>> {
        let Some(allowed) = &self.allowed else {
            return Ok(None);
        };
        // r2: access and type of struct bpf_cgroup_dev_ctx; r3: access; r4: major; r5: minor.
        let mut program = vec![
            insn(LOAD_WORD, 2, 1, 0, 0),
            insn(MOVE, 3, 2, 0, 0),
            insn(SHIFT_RIGHT, 3, 0, 0, 16),
            insn(AND, 2, 0, 0, 0xffff),
            insn(LOAD_WORD, 4, 1, 4, 0),
            insn(LOAD_WORD, 5, 1, 8, 0),
        ];
        for rule in allowed {
            rule.write(&mut program);
        }
        program.push(insn(MOVE_IMMEDIATE, 0, 0, 0, 0));
        program.push(insn(EXIT, 0, 0, 0, 0));
        if program.len() > MAX_INSTRUCTIONS {
            return Err(Error::new(
                Reason::LimitExceeded,
                format!(
                    "the device rules compile to {} instructions, at most {MAX_INSTRUCTIONS} are taken",
                    program.len()
                ),
            ));
        }
        Ok(Some(program.concat()))
    }
}

/// BPF_LDX | BPF_MEM | BPF_W.
const LOAD_WORD: u8 = 0x61;
/// BPF_ALU | BPF_MOV | BPF_X.
const MOVE: u8 = 0xbc;
/// BPF_ALU | BPF_MOV | BPF_K.
const MOVE_IMMEDIATE: u8 = 0xb4;
/// BPF_ALU | BPF_RSH | BPF_K.
const SHIFT_RIGHT: u8 = 0x74;
/// BPF_ALU | BPF_AND | BPF_K.
const AND: u8 = 0x54;
/// BPF_JMP32 | BPF_JNE | BPF_K.
const JUMP_NE: u8 = 0x56;
/// BPF_JMP | BPF_EXIT.
const EXIT: u8 = 0x95;

/// struct bpf_insn: code, destination and source register, offset, immediate.
fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> [u8; 8] {
    let registers = if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    [code, registers, o0, o1, i0, i1, i2, i3]
}

impl Allowed {
    fn parse(rule: &LinuxDeviceCgroup) -> Result<Self, &'static str> {
        if !rule.allow() {
            return Err("devices can only be allowed beyond the first rule");
        }
        let kind = match rule.typ() {
            Some(LinuxDeviceType::B) => Kind::Block,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Char,
            _ => return Err("type must be b or c"),
        };
        let number = |number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number).map(Some).map_err(|_| "device number out of range"),
        };
        let mut access = 0;
        for letter in rule.access().iter().flat_map(|access| access.chars()) {
            access |= match letter {
                'm' => MKNOD,
                'r' => READ,
                'w' => WRITE,
                _ => return Err("access must be of r, w and m"),
            };
        }
        if access == 0 {
            return Err("access is empty");
        }
        Ok(Self { kind, major: number(rule.major())?, minor: number(rule.minor())?, access })
    }

    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn v1_line(&self) -> String {
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .into_iter()
            .filter_map(|(bit, letter)| (self.access & bit != 0).then_some(letter))
            .collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }

    /// Returns 1 if the request is about these devices and asks for no more than this access; else goes on after it.
    fn write(&self, program: &mut Vec<[u8; 8]>) {
        let kind = if self.kind == Kind::Block { 1 } else { 2 };
        let comparisons = [(2, Some(kind)), (4, self.major), (5, self.minor)];
        let all = MKNOD | READ | WRITE;
        let mut body = Vec::new();
        if self.access != all {
            body.push(insn(MOVE, 0, 3, 0, 0));
            body.push(insn(AND, 0, 0, 0, !self.access & all));
            body.push(insn(JUMP_NE, 0, 0, 2, 0));
        }
        body.push(insn(MOVE_IMMEDIATE, 0, 0, 0, 1));
        body.push(insn(EXIT, 0, 0, 0, 0));
        for (register, wanted) in comparisons.into_iter().rev() {
            if let Some(wanted) = wanted {
                // At most seven instructions follow.
                let past = i16::try_from(body.len()).unwrap_or(i16::MAX);
                body.insert(0, insn(JUMP_NE, register, 0, past, wanted));
            }
        }
        program.append(&mut body);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[u8], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u32; 11];
        let mut at = 0;
        loop {
            let bytes: [u8; 8] = program[at * 8..at * 8 + 8].try_into().unwrap();
            let (destination, source) = (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
            let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
            let immediate = u32::from_ne_bytes(bytes[4..8].try_into().unwrap());
            at += 1;
            match bytes[0] {
                LOAD_WORD => registers[destination] = context[usize::try_from(offset / 4).unwrap()],
                MOVE => registers[destination] = registers[source],
                MOVE_IMMEDIATE => registers[destination] = immediate,
                SHIFT_RIGHT => registers[destination] >>= immediate,
                AND => registers[destination] &= immediate,
                JUMP_NE => {
                    if registers[destination] != immediate {
                        at += usize::try_from(offset).unwrap();
                    }
                }
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn default_program() -> Vec<u8> {
        DevicePolicy::from_rules(&default_rules(false)).unwrap().program().unwrap().unwrap()
    }

    #[test]
    fn default_allows_what_it_should() {
        let program = default_program();
        let (block, char) = (1, 2);
        assert!(run(&program, char, READ | WRITE, 1, 3));
        assert!(run(&program, char, READ | WRITE, 136, 77));
        assert!(run(&program, char, MKNOD, 10, 200));
        assert!(run(&program, block, MKNOD, 8, 0));
        assert!(!run(&program, char, READ, 10, 200), "net/tun");
        assert!(!run(&program, char, READ, 1, 1), "mem");
        assert!(!run(&program, char, WRITE, 5, 1), "console");
        assert!(!run(&program, block, READ, 8, 0), "sda");
        assert!(!run(&program, block, READ | MKNOD, 8, 0));
        assert!(!run(&program, block, READ, 1, 3), "a block device with null's number");
    }

    #[test]
    fn version_1_lines() {
        let lines = DevicePolicy::from_rules(&default_rules(false)).unwrap().v1_lines();
        assert_eq!(lines.len(), 10);
        assert_eq!((lines[0].as_str(), lines[2].as_str(), lines[9].as_str()), ("c *:* m", "c 1:3 rwm", "c 136:* rwm"));
    }

    #[test]
    fn privileged_needs_nothing() {
        let policy = DevicePolicy::from_rules(&default_rules(true)).unwrap();
        assert_eq!(policy.program().unwrap(), None);
        assert_eq!(policy.v1_lines(), ["a *:* rwm"]);
    }

    #[test]
    fn rules_that_cannot_be_honoured_are_refused() {
        let deny = |kind| oci_rule(false, kind, Some(1), Some(3), "r");
        let mut rules = default_rules(false);
        rules.push(deny(LinuxDeviceType::C));
        assert_eq!(DevicePolicy::from_rules(&rules).unwrap_err().reason, Reason::UnsupportedFeature);
        assert!(DevicePolicy::from_rules(&[deny(LinuxDeviceType::C)]).is_err());
        for rule in [
            oci_rule(true, LinuxDeviceType::C, None, None, "x"),
            oci_rule(true, LinuxDeviceType::C, None, None, ""),
            oci_rule(true, LinuxDeviceType::P, None, None, "r"),
        ] {
            let rules = [oci_rule(false, LinuxDeviceType::A, None, None, "rwm"), rule];
            assert!(DevicePolicy::from_rules(&rules).is_err());
        }
    }

    proptest! {
        /// A request passes if and only if one entry, access rights of equal devices added up, covers it.
        #[test]
        fn programs_equal_their_naive_reading(
            rules in proptest::collection::vec((any::<bool>(), proptest::option::of(0u32..3), proptest::option::of(0u32..3), 1u32..8), 0..12),
            block in any::<bool>(), access in 1u32..8, major in 0u32..4, minor in 0u32..4,
        ) {
            let mut oci = vec![oci_rule(false, LinuxDeviceType::A, None, None, "rwm")];
            for (block, major, minor, access) in &rules {
                let kind = if *block { LinuxDeviceType::B } else { LinuxDeviceType::C };
                let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter()
                    .filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect();
                oci.push(oci_rule(true, kind, *major, *minor, &access));
            }
            let covered = rules.iter().any(|(b, ma, mi, _)| {
                let sum = rules.iter().filter(|(b2, ma2, mi2, _)| (b2, ma2, mi2) == (b, ma, mi)).fold(0, |sum, rule| sum | rule.3);
                *b == block && ma.is_none_or(|m| m == major) && mi.is_none_or(|m| m == minor) && access & !sum == 0
            });
            let program = DevicePolicy::from_rules(&oci).unwrap().program().unwrap().unwrap();
            prop_assert_eq!(run(&program, if block { 1 } else { 2 }, access, major, minor), covered);
        }
    }
}
