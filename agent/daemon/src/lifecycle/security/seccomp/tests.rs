//! The compiled programs run in an interpreter and judged against a naive reading of the rules.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Op};
use proptest::prelude::*;
use syscalls::Sysno;

use super::bpf::{AND, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, RETURN};
use super::compile::{KILL_PROCESS, NATIVE_AUDIT_ARCH, NO_SUCH_CALL, X32, compile};
use super::*;
use crate::lifecycle::security::capabilities::{bit, default_set};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

const MODERN: Conditions = Conditions { capabilities: 0, kernel: (6, 1) };

/// struct seccomp_data.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    arch: u32,
    args: [u64; 6],
}

impl Call {
    fn new(number: u32, args: [u64; 6]) -> Self {
        Self { number, arch: NATIVE_AUDIT_ARCH, args }
    }

    fn word(&self, offset: u32) -> u32 {
        let mut bytes = Vec::new();
        bytes.extend(self.number.to_ne_bytes());
        bytes.extend(self.arch.to_ne_bytes());
        bytes.extend(0u64.to_ne_bytes());
        self.args.iter().for_each(|arg| bytes.extend(arg.to_ne_bytes()));
        let at = usize::try_from(offset).unwrap();
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    }
}

/// Runs a program as the kernel would; returns its verdict and the number of instructions executed.
fn run(program: &Program, call: &Call) -> (u32, usize) {
    let instructions: Vec<&[u8]> = program.instructions.chunks_exact(8).collect();
    let (mut at, mut accumulator, mut steps) = (0, 0u32, 0);
    loop {
        let bytes = instructions[at];
        let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let k = u32::from_ne_bytes(bytes[4..8].try_into().unwrap());
        let branch = |holds: bool| usize::from(if holds { bytes[2] } else { bytes[3] });
        at += 1;
        steps += 1;
        match code {
            LOAD => accumulator = call.word(k),
            AND => accumulator &= k,
            JUMP => at += usize::try_from(k).unwrap(),
            JUMP_EQ => at += branch(accumulator == k),
            JUMP_GT => at += branch(accumulator > k),
            JUMP_GE => at += branch(accumulator >= k),
            RETURN => return (k, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn holds(argument: &LinuxSeccompArg, call: &Call) -> bool {
    let (actual, value) = (call.args[argument.index()], argument.value());
    match argument.op() {
        Op::ScmpCmpNe => actual != value,
        Op::ScmpCmpLt => actual < value,
        Op::ScmpCmpLe => actual <= value,
        Op::ScmpCmpEq => actual == value,
        Op::ScmpCmpGe => actual >= value,
        Op::ScmpCmpGt => actual > value,
        Op::ScmpCmpMaskedEq => actual & value == argument.value_two().unwrap_or(0),
    }
}

/// The verdict as the module's documentation words it, rule by rule.
fn naive(filter: &LinuxSeccomp, call: &Call) -> u32 {
    if call.arch != NATIVE_AUDIT_ARCH {
        return KILL_PROCESS;
    }
    if X32.is_some_and(|x32| call.number >= x32) {
        return NO_SUCH_CALL;
    }
    let default = filter.default_action().as_u32(filter.default_errno_ret());
    let number = |name: &String| name.parse::<Sysno>().ok().map(|call| u32::try_from(call.id()).unwrap());
    let rules = filter.syscalls().as_deref().unwrap_or_default();
    let highest = rules.iter().flat_map(|rule| rule.names()).filter_map(number).max();
    if highest.is_some_and(|highest| call.number > highest) && default & 0xffff_0000 == 0x0005_0000 {
        return NO_SUCH_CALL;
    }
    let mine = || {
        rules
            .iter()
            .filter(|rule| rule.names().iter().any(|name| number(name) == Some(call.number)))
            .map(|rule| (rule.args().clone().unwrap_or_default(), rule.action().as_u32(rule.errno_ret())))
            .filter(|(_, value)| *value != default)
    };
    mine()
        .find(|(args, _)| args.is_empty())
        .or_else(|| mine().find(|(args, _)| args.iter().all(|argument| holds(argument, call))))
        .map_or(default, |(_, value)| value)
}

fn resolved(security: &Security, conditions: &Conditions) -> LinuxSeccomp {
    resolve(security, conditions).unwrap().unwrap()
}

fn default_filter(capabilities: u64) -> LinuxSeccomp {
    resolved(&Security::default(), &Conditions { capabilities, ..MODERN })
}

fn json_filter(json: &str) -> Result<LinuxSeccomp> {
    let security = Security { seccomp: SeccompProfile::Json(json.to_owned()), ..Security::default() };
    Ok(resolve(&security, &Conditions { capabilities: default_set(), ..MODERN })?.unwrap())
}

fn verdict(program: &Program, name: &str, args: [u64; 6]) -> u32 {
    let number = u32::try_from(name.parse::<Sysno>().unwrap().id()).unwrap();
    run(program, &Call::new(number, args)).0
}

/// Values at which the rules of the default profile change their mind, and some around them.
fn interesting_values() -> Vec<u64> {
    let mut values = vec![0, 8, 0x20000, 0x20008, 0xffff_ffff, 0x7e02_0000, 0x1000_0000, 0x0001_0f00, 17, u64::MAX];
    values.extend(36..47);
    values.extend(values.clone().into_iter().map(|value| value | 1 << 32));
    values
}

#[test]
fn default_profile_equals_its_naive_reading() {
    let sys_admin = 1 << bit("SYS_ADMIN").unwrap();
    for capabilities in [0, default_set(), default_set() | sys_admin, u64::MAX] {
        let filter = default_filter(capabilities);
        let program = compile(&filter).unwrap();
        for number in (0..600).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0001, u32::MAX]) {
            for value in interesting_values() {
                let call = Call::new(number, [value, 0, value, 0, 0, 0]);
                assert_eq!(run(&program, &call).0, naive(&filter, &call), "{call:?}");
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn default_profile_is_small() {
    let program = compile(&default_filter(default_set())).unwrap();
    let count = program.instructions.len() / 8;
    let lengths: Vec<usize> = (0..470).map(|number| run(&program, &Call::new(number, [0; 6])).1).collect();
    let mean = lengths.iter().sum::<usize>() / lengths.len();
    assert!(count <= 250 && mean <= 12, "{count} instructions, {mean} executed on average");
}

#[test]
fn default_profile_refuses_what_it_should() {
    let program = compile(&default_filter(default_set())).unwrap();
    let refused = "mount umount2 unshare setns pivot_root bpf perf_event_open keyctl add_key request_key userfaultfd io_uring_setup \
                   io_uring_enter io_uring_register kexec_load kexec_file_load init_module reboot swapon swapoff open_by_handle_at ptrace_none \
                   quotactl syslog acct settimeofday clock_settime mount_setattr move_mount open_tree fsopen kcmp pidfd_getfd \
                   process_madvise nfsservctl move_pages migrate_pages sethostname";
    for name in refused.split_whitespace().filter(|name| name.parse::<Sysno>().is_ok()) {
        assert_eq!(verdict(&program, name, [0; 6]), EPERM, "{name}");
    }
    for name in ["read", "execve", "ptrace", "chroot", "openat2", "clone", "futex", "seccomp"] {
        assert_eq!(verdict(&program, name, [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(verdict(&program, "clone3", [0; 6]), ENOSYS);
    for flag in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(verdict(&program, "clone", [flag | 17, 0, 0, 0, 0, 0]), EPERM, "{flag:#x}");
    }
    for family in 0..46 {
        let expected = if family == 38 || family == 40 { EPERM } else { ALLOW };
        assert_eq!(verdict(&program, "socket", [family, 1, 0, 0, 0, 0]), expected, "family {family}");
        assert_eq!(verdict(&program, "socket", [family | 1 << 32, 1, 0, 0, 0, 0]), EPERM, "family {family} + 2^32");
    }
}

#[test]
fn other_calling_conventions_are_refused() {
    let program = compile(&json_filter(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap()).unwrap();
    let foreign = Call { arch: 0x4000_0003, ..Call::new(0, [0; 6]) };
    assert_eq!(run(&program, &foreign).0, KILL_PROCESS);
    assert_eq!(run(&program, &Call::new(0, [0; 6])).0, ALLOW);
    assert_eq!(run(&program, &Call::new(100_000, [0; 6])).0, ALLOW);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(run(&program, &Call::new(0x4000_0000 | 59, [0; 6])).0, NO_SUCH_CALL);
}

#[test]
fn newer_calls_do_not_exist() {
    let filter = json_filter(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["openat2"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    let program = compile(&filter.unwrap()).unwrap();
    assert_eq!(verdict(&program, "read", [0; 6]), EPERM);
    assert_eq!(verdict(&program, "faccessat2", [0; 6]), ENOSYS);
}

#[test]
fn kernel_of_the_host() {}

#[test]
fn privileged_and_unconfined() {
    let unconfined = Security { seccomp: SeccompProfile::Unconfined, ..Security::default() };
    assert_eq!(resolve(&unconfined, &MODERN).unwrap(), None);
    let privileged = Security { privileged: true, ..Security::default() };
    assert_eq!(resolve(&privileged, &MODERN).unwrap(), None);
    let json = SeccompProfile::Json(r#"{"defaultAction":"SCMP_ACT_LOG"}"#.to_owned());
    let explicit = Security { privileged: true, seccomp: json, ..Security::default() };
    assert!(resolve(&explicit, &MODERN).unwrap().is_some());
}

#[test]
fn both_formats_are_read() {
    let docker = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
        "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]},
                   {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":null}],
        "syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW","args":[],"comment":"old form"},
                    {"names":["write","chown32","future_call"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{},"excludes":null},
                    {"names":["sync"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}},
                    {"names":["chroot"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_CHROOT"],"arches":["amd64","arm64"]}},
                    {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
                    {"names":["close"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_CHOWN"]}}]}"#;
    let filter = json_filter(docker).unwrap();
    let names: Vec<&String> = filter.syscalls().iter().flatten().flat_map(|rule| rule.names()).collect();
    assert_eq!(names, ["read", "write", "chroot"]);
    let oci = r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],
        "flags":["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#;
    let program = compile(&json_filter(oci).unwrap()).unwrap();
    assert_eq!(program.flags, 2);
    assert_eq!(verdict(&program, "read", [0; 6]), 0x0005_000d);
    assert_eq!(verdict(&program, "write", [0; 6]), KILL_PROCESS);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (json, words) in [
        ("", "EOF"),
        (r#"{"syscalls":[]}"#, "defaultAction"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","colour":1}"#, "colour"),
        (r#"{"defaultAction":"SCMP_ACT_DENY"}"#, "SCMP_ACT_DENY"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#, "listenerPath"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#, "defaultErrnoRet"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_X"]}"#, "SECCOMP_FILTER_FLAG_X"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]}"#, "SCMP_ARCH_VAX"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"]}"#, "is not among them"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mout"],"action":"SCMP_ACT_ERRNO"}]}"#, "mout"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO"}]}"#,
            "syscalls[0].names",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"name":"write","action":"SCMP_ACT_ERRNO"}]}"#,
            "name:",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}]}"#,
            "4096",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            "args[0].index",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_LIKE"}]}]}"#,
            "SCMP_CMP_LIKE",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_GE"},{"index":0,"value":4,"op":"SCMP_CMP_LE"}]}]}"#,
            "compared twice",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_FLY"]}}]}"#,
            "CAP_FLY",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"six"}}]}"#,
            "minKernel",
        ),
    ] {
        let error = validate(&SeccompProfile::Json(json.to_owned())).unwrap_err();
        assert!(error.message.starts_with("config.security.seccomp.json: "), "{error}");
        assert!(error.message.contains(words), "{json}: {error}");
    }
    let huge = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"}}{}"#, " ".repeat(MAX_PROFILE));
    assert!(validate(&SeccompProfile::Json(huge)).is_err());
}

#[test]
fn too_long_programs_are_refused() {
    let rules: Vec<String> = (0..1500)
        .map(|value| {
            format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{value},"op":"SCMP_CMP_EQ"}}]}}"#)
        })
        .collect();
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(","));
    let error = compile(&json_filter(&json).unwrap()).unwrap_err();
    assert!(error.message.contains("4096"), "{error}");
}

#[test]
fn cache_is_shared_and_bounded() {
    let cache = SeccompCache::default();
    let first = cache.compile(&default_filter(0)).unwrap();
    assert!(Arc::ptr_eq(&first, &cache.compile(&default_filter(0)).unwrap()));
    assert!(!Arc::ptr_eq(&first, &cache.compile(&default_filter(u64::MAX)).unwrap()));
    for errno in 0..200 {
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":{errno}}}"#);
        cache.compile(&json_filter(&json).unwrap()).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.compile(&default_filter(0)).unwrap()));
    }
    assert_eq!(cache.compiled.lock().unwrap().len(), MAX_CACHED);
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..4, Just(u64::MAX), Just(1 << 32), Just((1 << 32) | 2), Just(0xffff_ffff), any::<u64>()]
}

fn any_argument() -> impl Strategy<Value = String> {
    let op = prop_oneof![Just("NE"), Just("LT"), Just("LE"), Just("EQ"), Just("GE"), Just("GT"), Just("MASKED_EQ")];
    (any_value(), any_value(), op).prop_map(|(value, second, op)| {
        let second = if op == "MASKED_EQ" { second & value } else { 0 };
        format!(r#""value":{value},"valueTwo":{second},"op":"SCMP_CMP_{op}""#)
    })
}

fn any_rule() -> impl Strategy<Value = String> {
    let name = (0usize..40).prop_filter_map("a hole in the table", |number| Sysno::new(number * 11));
    let action = prop_oneof![
        Just(r#""SCMP_ACT_ALLOW""#),
        Just(r#""SCMP_ACT_ERRNO","errnoRet":1"#),
        Just(r#""SCMP_ACT_ERRNO","errnoRet":13"#),
        Just(r#""SCMP_ACT_KILL_PROCESS""#),
        Just(r#""SCMP_ACT_LOG""#)
    ];
    let args = proptest::collection::vec(any_argument(), 0..4);
    (name, action, args).prop_map(|(name, action, args)| {
        let args: Vec<String> =
            args.iter().enumerate().map(|(index, body)| format!(r#"{{"index":{},{body}}}"#, index % 6)).collect();
        format!(r#"{{"names":["{}"],"action":{action},"args":[{}]}}"#, name.name(), args.join(","))
    })
}

proptest! {
    /// Whatever the rules, program and naive reading agree, in programs with long jumps too.
    #[test]
    fn programs_equal_their_naive_reading(
        default in prop_oneof![Just("SCMP_ACT_ERRNO"), Just("SCMP_ACT_ALLOW"), Just("SCMP_ACT_KILL_PROCESS")],
        rules in proptest::collection::vec(any_rule(), 0..120),
        values in proptest::collection::vec(any_value(), 8),
    ) {
        let json = format!(r#"{{"defaultAction":"{default}","syscalls":[{}]}}"#, rules.join(","));
        let filter = json_filter(&json).unwrap();
        let program = compile(&filter).unwrap();
        for number in (0..600).chain([0x3fff_ffff, 0x4000_0000, u32::MAX]) {
            for window in values.windows(3) {
                let call = Call::new(number, [window[0], window[1], window[2], 0, 0, 0]);
                prop_assert_eq!(run(&program, &call).0, naive(&filter, &call), "{:?} {}", call, json);
            }
        }
    }
}
