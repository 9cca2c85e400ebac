//! Verbs for contexts.

use clap::{Args, Subcommand};

use super::{DataFormat, ListOutputFlag};
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Keep an agent's address: that of --host and the --tls flags
    Create(ContextFlags),
    /// Change a context: what flags are given for
    Update(ContextFlags),
    /// List contexts
    #[command(visible_alias = "list")]
    Ls(ContextListFlags),
    /// Use a context from now on
    Use(ContextName),
    /// Show which context is used
    Show,
    /// Show all there is to know of contexts
    Inspect(ContextInspectFlags),
    /// Forget contexts
    #[command(visible_alias = "remove")]
    Rm(ContextRemoveFlags),
}

// `context create`, `context update`.
#[derive(Debug, Args)]
pub(crate) struct ContextFlags {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// As Docker has it: host=ADDRESS[,ca=FILE,cert=FILE,key=FILE], in place of --host and the --tls flags
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) docker: Option<String>,
    /// Name of the context
    pub(crate) name: String,
}

// `context ls`.
#[derive(Debug, Args)]
pub(crate) struct ContextListFlags {
    /// Only names
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) output: ListOutputFlag,
}

// `context use`.
#[derive(Debug, Args)]
pub(crate) struct ContextName {
    /// Name of the context, or default
    #[arg(add = completion::contexts())]
    pub(crate) name: String,
}

// `context inspect`.
#[derive(Debug, Args)]
pub(crate) struct ContextInspectFlags {
    /// Go template with Docker's field names, or `json`
    #[arg(short = 'f', long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    /// Format of the answer
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<DataFormat>,
    /// Names; the default is the context in use
    #[arg(value_name = "CONTEXT", add = completion::contexts())]
    pub(crate) names: Vec<String>,
}

// `context rm`.
#[derive(Debug, Args)]
pub(crate) struct ContextRemoveFlags {
    /// The one in use, too; the default is used then
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Names
    #[arg(required = true, value_name = "CONTEXT", add = completion::contexts())]
    pub(crate) names: Vec<String>,
}
