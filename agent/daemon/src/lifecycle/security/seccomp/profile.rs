//! Profiles as users write them: Docker's format (archMap, conditions) and the runtime spec's, which is a subset of it but for `architectures`.
//! Anything that is not known is refused by name.

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};
use serde::{Deserialize, Deserializer};
use syscalls::Sysno;

use crate::lifecycle::security::capabilities;

/// The native architecture as profiles' `arches` name it (Go's names), and as `architectures` do.
#[cfg(target_arch = "x86_64")]
const NATIVE: (&str, Arch) = ("amd64", Arch::ScmpArchX86_64);
#[cfg(target_arch = "aarch64")]
const NATIVE: (&str, Arch) = ("arm64", Arch::ScmpArchAarch64);

/// Most errno that the kernel lets a filter return (MAX_ERRNO).
const MAX_ERRNO: u32 = 4095;

/// What decides about conditional rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Bounding set of the container.
    pub(crate) capabilities: u64,
    /// Kernel version, major and minor.
    pub(crate) kernel: (u32, u32),
}

/// A profile, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_as_default")]
    architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "null_as_default")]
    arch_map: Vec<ArchMapEntry>,
    #[serde(default, deserialize_with = "null_as_default")]
    flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default, deserialize_with = "null_as_default")]
    listener_path: String,
    #[serde(default, deserialize_with = "null_as_default")]
    listener_metadata: String,
    #[serde(default, deserialize_with = "null_as_default")]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchMapEntry {
    architecture: Arch,
    #[serde(default, deserialize_with = "null_as_default", rename = "subArchitectures")]
    _sub_architectures: Vec<Arch>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default, deserialize_with = "null_as_default")]
    names: Vec<String>,
    /// Older form of `names`.
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_as_default")]
    args: Vec<Argument>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    includes: Filter,
    #[serde(default, deserialize_with = "null_as_default")]
    excludes: Filter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: usize,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: LinuxSeccompOperator,
}

/// A condition on the container; an absent part always holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    #[serde(default, deserialize_with = "null_as_default")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Go writes empty lists as null.
fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Profile {
    /// Parses and checks a profile. The error says what is wrong and where.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        let mut profile: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        profile.check()?;
        for rule in &mut profile.syscalls {
            rule.keep_native_names();
        }
        Ok(profile)
    }

    fn check(&self) -> Result<(), String> {
        if !self.listener_path.is_empty() || !self.listener_metadata.is_empty() {
            return Err("listenerPath: notification of system calls is not offered".to_owned());
        }
        if self.flags.contains(&LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv) {
            return Err(
                "flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs notification, which is not offered".to_owned()
            );
        }
        check_action("defaultAction", self.default_action, "defaultErrnoRet", self.default_errno_ret)?;
        if !self.architectures.is_empty() && !self.arch_map.is_empty() {
            return Err("architectures and archMap exclude one another".to_owned());
        }
        let mut listed =
            self.architectures.iter().chain(self.arch_map.iter().map(|entry| &entry.architecture)).peekable();
        let native = |arch: &Arch| *arch == NATIVE.1 || *arch == Arch::ScmpArchNative;
        if listed.peek().is_some() && !listed.any(native) {
            return Err(format!("architectures: {} is not among them", NATIVE.1));
        }
        let default = (self.default_action, self.default_errno_ret);
        self.syscalls
            .iter()
            .enumerate()
            .try_for_each(|(index, rule)| rule.check(default).map_err(|problem| format!("syscalls[{index}].{problem}")))
    }

    /// The filter for one container: the rules whose conditions hold.
    pub(super) fn resolve(&self, conditions: &Conditions) -> LinuxSeccomp {
        let rules =
            self.syscalls.iter().filter(|rule| rule.applies(conditions)).filter_map(Rule::to_oci).collect::<Vec<_>>();
        let mut filter = LinuxSeccomp::default();
        filter
            .set_default_action(self.default_action)
            .set_default_errno_ret(self.default_errno_ret)
            .set_architectures(Some(vec![NATIVE.1]))
            .set_flags((!self.flags.is_empty()).then(|| self.flags.clone()))
            .set_syscalls(Some(rules));
        filter
    }
}

impl Rule {
    fn all_names(&self) -> impl Iterator<Item = &String> {
        self.names.iter().chain(&self.name)
    }

    fn check(&self, default: (LinuxSeccompAction, Option<u32>)) -> Result<(), String> {
        match (&self.name, self.names.is_empty()) {
            (Some(_), false) => return Err("name: names is given too".to_owned()),
            (None, true) => return Err("names: no system call is named".to_owned()),
            _ => {}
        }
        check_action("action", self.action, "errnoRet", self.errno_ret)?;
        // A name that is not known is harmless where the rule is laxer than the default: it is a call of a newer kernel. In a rule that is
        // stricter it would leave a hole.
        if strictness(self.action) < strictness(default.0)
            && let Some(name) = self.all_names().find(|name| !is_known(name))
        {
            return Err(format!("names: unknown system call {name:?}"));
        }
        let mut seen = BTreeSet::new();
        for (index, argument) in self.args.iter().enumerate() {
            argument.check().map_err(|problem| format!("args[{index}].{problem}"))?;
            if !seen.insert(argument.index) {
                return Err(format!(
                    "args[{index}].index: argument {} is compared twice, which runtimes take for \"or\"; write one rule per alternative",
                    argument.index
                ));
            }
        }
        self.includes.check().map_err(|problem| format!("includes.{problem}"))?;
        self.excludes.check().map_err(|problem| format!("excludes.{problem}"))
    }

    /// As Docker does it: an exclusion needs one of its conditions to hold, an inclusion all of them.
    fn applies(&self, conditions: &Conditions) -> bool {
        let has = |name: &String| capabilities::bit(name).is_some_and(|bit| conditions.capabilities >> bit & 1 == 1);
        let native = |name: &String| name == NATIVE.0;
        let reached = |version: &String| parse_kernel(version).is_ok_and(|minimum| conditions.kernel >= minimum);
        let excluded = self.excludes.arches.iter().any(native)
            || self.excludes.caps.iter().any(has)
            || self.excludes.min_kernel.as_ref().is_some_and(reached);
        let included = (self.includes.arches.is_empty() || self.includes.arches.iter().any(native))
            && self.includes.caps.iter().all(has)
            && self.includes.min_kernel.as_ref().is_none_or(reached);
        !excluded && included
    }

    /// Puts all names in one list and drops those that this architecture does not have.
    fn keep_native_names(&mut self) {
        self.names.extend(self.name.take());
        self.names.retain(|name| name.parse::<Sysno>().is_ok());
    }

    /// The rule as the runtime spec has it; `None` if it names no call.
    fn to_oci(&self) -> Option<LinuxSyscall> {
        if self.names.is_empty() {
            return None;
        }
        let mut rule = LinuxSyscall::default();
        let args = self.args.iter().copied().map(Argument::to_oci).collect::<Vec<_>>();
        rule.set_names(self.names.clone())
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args((!args.is_empty()).then_some(args));
        Some(rule)
    }
}

impl Argument {
    fn check(&self) -> Result<(), String> {
        if self.index > 5 {
            return Err(format!("index: {} is above 5", self.index));
        }
        match self.op {
            LinuxSeccompOperator::ScmpCmpMaskedEq if self.value_two & !self.value != 0 => {
                Err("valueTwo: has bits outside of the mask (value), so the rule never matches".to_owned())
            }
            LinuxSeccompOperator::ScmpCmpMaskedEq => Ok(()),
            _ if self.value_two != 0 => Err("valueTwo: only SCMP_CMP_MASKED_EQ takes one".to_owned()),
            _ => Ok(()),
        }
    }

    fn to_oci(self) -> LinuxSeccompArg {
        let builder = LinuxSeccompArgBuilder::default().index(self.index).value(self.value).op(self.op);
        // Every field has a default, so building cannot fail.
        builder.value_two(self.value_two).build().unwrap_or_default()
    }
}

impl Filter {
    fn check(&self) -> Result<(), String> {
        if let Some(name) = self.caps.iter().find(|name| capabilities::bit(name).is_none()) {
            return Err(format!("caps: unknown capability {name:?}"));
        }
        self.min_kernel.as_deref().map_or(Ok(()), |version| parse_kernel(version).map(|_| ()))
    }
}

fn parse_kernel(version: &str) -> Result<(u32, u32), String> {
    version
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| format!("minKernel: {version:?} is not of the form \"4.8\""))
}

fn check_action(field: &str, action: LinuxSeccompAction, errno_field: &str, errno: Option<u32>) -> Result<(), String> {
    match (action, errno) {
        (LinuxSeccompAction::ScmpActNotify, _) => {
            Err(format!("{field}: SCMP_ACT_NOTIFY needs a listener, which is not offered"))
        }
        (LinuxSeccompAction::ScmpActErrno, Some(errno)) if errno > MAX_ERRNO => {
            Err(format!("{errno_field}: {errno} is above {MAX_ERRNO}"))
        }
        (LinuxSeccompAction::ScmpActTrace, Some(data)) if data > 0xffff => {
            Err(format!("{errno_field}: {data} is above 65535"))
        }
        (LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace, _) | (_, None) => Ok(()),
        (_, Some(_)) => Err(format!("{errno_field}: {field} {action} takes none")),
    }
}

/// Place of an action in the kernel's order of precedence; the lowest is the strictest.
fn strictness(action: LinuxSeccompAction) -> u8 {
    match action {
        LinuxSeccompAction::ScmpActKillProcess => 0,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 1,
        LinuxSeccompAction::ScmpActTrap => 2,
        LinuxSeccompAction::ScmpActErrno => 3,
        LinuxSeccompAction::ScmpActNotify => 4,
        LinuxSeccompAction::ScmpActTrace => 5,
        LinuxSeccompAction::ScmpActLog => 6,
        LinuxSeccompAction::ScmpActAllow => 7,
    }
}

/// Whether any architecture that profiles are written for has a call of this name.
fn is_known(name: &str) -> bool {
    macro_rules! any {
        ($($arch:ident)*) => { $(name.parse::<syscalls::$arch::Sysno>().is_ok())||* };
    }
    any!(x86_64 x86 aarch64 arm mips mips64 powerpc powerpc64 riscv64 s390x loongarch64)
}
