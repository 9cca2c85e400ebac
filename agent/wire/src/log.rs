//! The log on the disk: lines in Kubernetes' CRI format, "TIME stdout|stderr TAGS CONTENT\n".
//!
//! It lies in numbered files: `log.0`, `log.1` … with `log` as a symbolic link to the newest. A file that has a successor never
//! changes again, and numbers are never used twice, so a number and an offset are a place in the log for ever.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The log of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// The link to its newest file; the files lie beside it, made with mode 0640.
    pub path: String,
    /// Most bytes of one file; at least 64 KiB.
    pub max_size: u64,
    /// Most files; at least 1. The oldest is removed before there would be one more.
    pub max_files: u32,
    /// Most that is taken in a second; `None`: all.
    pub rate: Option<LogRate>,
}

/// How much is logged in each second at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRate {
    /// How much, at least 1.
    pub amount: u64,
    /// Of what.
    pub unit: LogUnit,
    /// What becomes of more.
    pub overrun: Overrun,
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogUnit {
    /// Bytes of output.
    Bytes,
    /// Lines, and parts of lines too long for one.
    Lines,
}

/// What becomes of output above the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overrun {
    /// The container waits.
    Block,
    /// It is not logged, which the log says.
    Drop,
}

/// Why output is missing in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostReason {
    /// There was more than the rate allows.
    Rate,
    /// It could not be written.
    Disk,
}

impl LostReason {
    /// From the word in a line's tags.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Rate, Self::Disk].into_iter().find(|reason| reason.to_string() == word)
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rate => "rate",
            Self::Disk => "disk",
        })
    }
}

/// Name of a file of the log whose link has the name `link`.
pub fn log_file(link: &str, number: u64) -> String {
    format!("{link}.{number}")
}

/// The number of a file from its name; `None`: it is no file of that log.
pub fn log_number(link: &str, name: &str) -> Option<u64> {
    let number = name.strip_prefix(link)?.strip_prefix('.')?.parse().ok()?;
    (log_file(link, number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for number in [0, 7, 10, u64::MAX] {
            assert_eq!(log_number("log", &log_file("log", number)), Some(number));
        }
        for foreign in ["log", "log.", "log.01", "log.+1", "log.1~", "lok.1", "log.-1", "log.18446744073709551616"] {
            assert_eq!(log_number("log", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn reasons_are_words() {
        for reason in [LostReason::Rate, LostReason::Disk] {
            assert_eq!(LostReason::parse(&reason.to_string()), Some(reason));
        }
        assert_eq!(LostReason::parse(""), None);
    }
}
