//! Verbs for registries.

use clap::{Args, ValueEnum};

use super::OutputFlag;
use crate::completion;

// `pull`.
#[derive(Debug, Args)]
pub(crate) struct PullFlags {
    /// Only the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Which image of an index, OS/ARCHITECTURE[/VARIANT]; the default is the node's
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
    /// Reference; a digest pins
    #[arg(add = completion::images())]
    pub(crate) image: String,
}

// `push`.
#[derive(Debug, Args)]
pub(crate) struct PushFlags {
    /// Only the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Reference, digest or prefix of a digest
    #[arg(add = completion::images())]
    pub(crate) image: String,
    /// Where to; the default is the image's name
    pub(crate) destination: Option<String>,
}

// `login`.
#[derive(Debug, Args)]
pub(crate) struct LoginFlags {
    /// User; asked for where it is not given
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password or token; others on this machine may see it, so rather give it to --password-stdin
    #[arg(short, long)]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password", requires = "username")]
    pub(crate) password_stdin: bool,
    /// Registry; the default is docker.io
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
}

// `logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutFlags {
    /// Registry; the default is docker.io
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
}

/// When `run` and `create` pull the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// If the node does not have it
    #[default]
    Missing,
    /// Each time, for its name may mean another by now
    Always,
    /// Not at all
    Never,
}
