//! What the kernel says of a process in one line, see proc_pid_stat(5).

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// What the kernel counts in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Units {
    pub(crate) ticks_per_second: u64,
    pub(crate) page_bytes: u64,
}

impl Units {
    pub(crate) fn ask() -> Self {
        let ask = |variable, usual| {
            let value = sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
            value.filter(|value| *value > 0).unwrap_or(usual)
        };
        Self { ticks_per_second: ask(SysconfVar::CLK_TCK, 100), page_bytes: ask(SysconfVar::PAGE_SIZE, 4096) }
    }

    pub(crate) fn duration(&self, ticks: u64) -> Duration {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The line, in parts.
#[derive(Debug)]
pub(crate) struct ProcStat<'a> {
    /// Of the program; any bytes.
    pub(crate) name: &'a [u8],
    /// From the third on.
    fields: Vec<&'a str>,
    units: Units,
}

impl<'a> ProcStat<'a> {
    pub(crate) fn parse(line: &'a [u8], units: Units) -> Option<Self> {
        // A name may hold blanks and parentheses: it ends at the last one.
        let (open, close) = (line.iter().position(|byte| *byte == b'(')?, line.iter().rposition(|byte| *byte == b')')?);
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        Some(Self { name: line.get(open + 1..close)?, fields: rest.split_ascii_whitespace().collect(), units })
    }

    /// One letter.
    pub(crate) fn state(&self) -> Option<char> {
        self.fields.first()?.chars().next()
    }

    /// A field by its number in proc_pid_stat(5).
    pub(crate) fn number(&self, field: usize) -> Option<u64> {
        self.fields.get(field.checked_sub(3)?)?.parse().ok()
    }

    /// Processor time, user and system.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        Some(self.units.duration(self.number(14)?.saturating_add(self.number(15)?)))
    }

    /// When it started, since the boot.
    pub(crate) fn started(&self) -> Option<Duration> {
        self.number(22).map(|ticks| self.units.duration(ticks))
    }

    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.number(24).map(|pages| pages.saturating_mul(self.units.page_bytes))
    }
}
