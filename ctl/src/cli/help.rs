//! Verbs that help with this program.

use std::path::PathBuf;

use clap::Args;

use crate::completion;

// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainFlags {
    /// Reason, e.g. IMAGE_NOT_FOUND; the default is a list of all
    #[arg(value_name = "REASON", add = completion::reasons())]
    pub(crate) reason: Option<String>,
}

// `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionFlags {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManFlags {
    /// Write the pages of all verbs into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    pub(crate) dir: Option<PathBuf>,
    /// Verb, e.g. image prune; the default is the page of all
    #[arg(value_name = "VERB")]
    pub(crate) verb: Vec<String>,
}
