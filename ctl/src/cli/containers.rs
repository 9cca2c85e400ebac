//! The verbs for containers: as they are, and below `container`.

use clap::{Args, Subcommand};

use super::PruneHow;
use super::container::{
    AttachFlags, CommitFlags, CopyFlags, DiffFlags, ExecFlags, ExportFlags, KillFlags, RemoveFlags, StartFlags,
    StopFlags, Targets, UpdateFlags, WaitFlags,
};
use super::create::{Alone, RunFlags};
use super::history::{RenameFlags, TopFlags};
use super::observe::{InspectFlags, LogsFlags, PsFlags, StatsFlags};

/// What can be done with a container.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ContainerVerb {
    /// Create a container and start it
    Run(Box<RunFlags>),
    /// Create a container without starting it
    Create(Box<Alone>),
    /// Start containers that are created or exited
    Start(StartFlags),
    /// Ask containers to stop, and kill them after a grace period
    Stop(StopFlags),
    /// Stop containers and start them again
    Restart(StopFlags),
    /// Send a signal to containers
    Kill(KillFlags),
    /// Freeze all processes of containers
    Pause(Targets),
    /// Thaw containers
    Unpause(Targets),
    /// Change limits of containers
    Update(Box<UpdateFlags>),
    /// Remove containers
    Rm(RemoveFlags),
    /// List containers
    #[command(visible_aliases = ["ls", "list"])]
    Ps(PsFlags),
    /// Show all there is to know of containers or images
    Inspect(InspectFlags),
    /// Show what a container wrote
    Logs(LogsFlags),
    /// Wait for containers to end and print their exit codes
    Wait(WaitFlags),
    /// Run a further program in a container
    Exec(ExecFlags),
    /// Connect to the standard streams of a running container
    Attach(AttachFlags),
    /// Give a container another name
    Rename(RenameFlags),
    /// Watch all containers on a dashboard, or list the processes of one
    Top(TopFlags),
    /// Show what containers use
    Stats(StatsFlags),
    /// Make an image of a container
    Commit(CommitFlags),
    /// Copy files from or to a container, running or not
    Cp(CopyFlags),
    /// Write a container's root file system to an archive
    Export(ExportFlags),
    /// Show what a container changed in its root file system
    Diff(DiffFlags),
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ContainerCommand {
    #[command(flatten)]
    Verb(ContainerVerb),
    /// Remove all containers that do not run
    Prune(ContainerPruneFlags),
}

// `container prune`.
#[derive(Debug, Args)]
pub(crate) struct ContainerPruneFlags {
    /// Condition: until=TIME (created before then), label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long = "filter", value_name = "CONDITION")]
    pub(crate) filters: Vec<String>,
    #[command(flatten)]
    pub(crate) how: PruneHow,
}
