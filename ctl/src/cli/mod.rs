//! Flags and verbs, as Docker has them where Docker has them.

mod container;
mod containers;
mod context;
mod create;
mod help;
mod history;
mod image;
mod observe;
mod registry;
mod resources;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::completion;

pub(crate) use container::{AttachFlags, ExecFlags, KillFlags, RemoveFlags, StartFlags, StopFlags, Targets, WaitFlags};
pub(crate) use container::{CommitFlags, Condition, CopyFlags, DiffFlags, ExportFlags, UpdateFlags};
pub(crate) use containers::{ContainerCommand, ContainerPruneFlags, ContainerVerb};
pub(crate) use context::{ContextCommand, ContextFlags, ContextInspectFlags, ContextListFlags, ContextRemoveFlags};
pub(crate) use create::{
    Alone, CreateFlags, FilesystemFlags, ImageFlags, NamespaceFlags, RunFlags, SecurityFlags, StreamName,
};
pub(crate) use help::{CompletionFlags, ExplainFlags, ManFlags};
pub(crate) use history::{EventFormat, EventsFlags, RenameFlags, TopFlags, TraceFlags, WhyFlags};
pub(crate) use image::{
    FormatFlag, HistoryFlags, ImageCommand, ImageConfigFlags, ImageInspectFlags, ImageListFlags, ImageRemoveFlags,
    ImportFlags, LoadFlags, PruneFlags, SaveFlags, SaveFormat, TagFlags, VerifyFlags,
};
pub(crate) use observe::{
    DiskFlags, InfoFlags, InspectFlags, InspectType, LogsFlags, PsFlags, StatsFlags, VersionFlags,
};
pub(crate) use registry::{LoginFlags, LogoutFlags, PullFlags, PullPolicy, PushFlags};
pub(crate) use resources::ResourceFlags;

/// Exit code of errors of the agent or the command line, where other codes are the container's.
pub(crate) const RUN_ERROR: u8 = 125;
/// Exit code of errors elsewhere.
const ERROR: u8 = 1;

/// Drives a hull container agent.
#[derive(Debug, Parser)]
#[command(name = "hullctl", version, max_term_width = 120, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// When output is coloured; NO_COLOR, CLICOLOR and CLICOLOR_FORCE are heeded, too
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    pub(crate) color: ColorWhen,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal
    #[default]
    Auto,
    /// Wherever it goes
    Always,
    /// Not at all
    Never,
}

/// Which agent, and who asks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Where the agent listens: unix://PATH or tcp://HOST:PORT (with mutual TLS) [env: HULL_HOST] [default: unix:///run/hull/hull.sock]
    #[arg(short = 'H', long, global = true)]
    pub(crate) host: Option<String>,
    /// Agent whose address was kept under this name, see `hullctl context` [env: HULL_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", add = completion::contexts())]
    pub(crate) context: Option<String>,
    /// Certificate authority that the agent's certificate must come from (PEM) [env: HULL_TLS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Own certificate (PEM) [env: HULL_TLS_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the own certificate (PEM) [env: HULL_TLS_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// The verbs. Their flags are made when a verb is used: a hundred of them cost more than the rest of a start. So the
/// types of their flags have no doc comments: made last, they would replace the verbs' descriptions.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    #[command(flatten)]
    Verb(ContainerVerb),
    /// Show what happened on the node, and what happens
    Events(EventsFlags),
    /// Tell what happened to a container, in plain words
    Why(WhyFlags),
    /// Show how long each step of a container's last start took
    Trace(TraceFlags),
    /// Work with containers
    #[command(subcommand)]
    Container(ContainerCommand),
    /// Work with images
    #[command(subcommand)]
    Image(ImageCommand),
    /// List images
    Images(ImageListFlags),
    /// Remove images
    Rmi(ImageRemoveFlags),
    /// Fetch an image from its registry
    Pull(PullFlags),
    /// Send an image to a registry
    Push(PushFlags),
    /// Give an image a further name
    Tag(TagFlags),
    /// Show how an image was made
    History(HistoryFlags),
    /// Write images to an archive
    Save(SaveFlags),
    /// Take in an archive that `save` wrote, or another tool
    Load(LoadFlags),
    /// Keep a user's credentials for a registry
    Login(LoginFlags),
    /// Forget the credentials for a registry
    Logout(LogoutFlags),
    /// Show what images, containers and logs take of the disk
    Df(DiskFlags),
    /// Show the node and its agent
    Info(InfoFlags),
    /// Keep the addresses of several agents, and choose among them
    #[command(subcommand)]
    Context(ContextCommand),
    /// Show versions
    Version(VersionFlags),
    /// Explain the reason of an error
    Explain(ExplainFlags),
    /// Print a completion script for a shell
    Completion(CompletionFlags),
    /// Print a manual page
    Man(ManFlags),
}

impl Command {
    /// Exit code for errors that are not the container's.
    pub(crate) fn error_code(&self) -> u8 {
        let (Self::Verb(verb) | Self::Container(ContainerCommand::Verb(verb))) = self else { return ERROR };
        match verb {
            ContainerVerb::Run(_) | ContainerVerb::Exec(_) | ContainerVerb::Attach(_) => RUN_ERROR,
            ContainerVerb::Start(flags) if flags.attach || flags.interactive => RUN_ERROR,
            _ => ERROR,
        }
    }
}

// Format of an answer that is one thing.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputFlag {
    /// Format of the answer
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<DataFormat>,
}

// How all that is not needed is removed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PruneHow {
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask first
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
}

// Format of an answer that is a list.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListOutputFlag {
    /// Go template with Docker's field names, `table TEMPLATE`, or `json` for a line each
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    /// Format of the list; the default is a table
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub(crate) output: ListFormat,
}

/// A format for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DataFormat {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// A format for programs or people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ListFormat {
    /// Aligned columns
    Table,
    /// Aligned columns, more of them
    Wide,
    /// Names alone
    Name,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Says what is wrong with the flags; the verbs whose exit codes are the container's keep 125 apart for it.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Nobody can be told that standard error is closed.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let verb = verb(std::env::args().skip(1));
    match verb.as_deref() {
        Some("run" | "create" | "exec" | "start" | "attach") => ExitCode::from(RUN_ERROR),
        _ => ExitCode::from(ERROR),
    }
}

/// The first argument that is neither a flag nor a flag's value; of those for containers, the second.
fn verb(args: impl Iterator<Item = String>) -> Option<String> {
    let mut value_follows = false;
    for arg in args {
        if value_follows {
            value_follows = false;
        } else if matches!(
            arg.as_str(),
            "-H" | "--host" | "--context" | "--color" | "--tls-ca" | "--tls-cert" | "--tls-key"
        ) {
            value_follows = true;
        } else if !arg.starts_with('-') && arg != "container" {
            return Some(arg);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_verb_describes_itself_in_its_help_as_in_the_list() {
        fn check(list: &clap::Command) {
            for verb in list.get_subcommands().filter(|verb| verb.get_name() != "help") {
                let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
                let mut built = verb.clone();
                built.build();
                assert_eq!(built.get_about().map(ToString::to_string), Some(about), "{}", verb.get_name());
                check(&built);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn the_verb_is_found_behind_global_flags() {
        let verb_of = |line: &str| verb(line.split(' ').map(str::to_owned));
        assert_eq!(verb_of("-H tcp://x:1 run img").as_deref(), Some("run"));
        assert_eq!(verb_of("--host=unix:///x exec c ls").as_deref(), Some("exec"));
        assert_eq!(verb_of("-H tcp://x:1 container exec c ls").as_deref(), Some("exec"));
        assert_eq!(verb_of("--help"), None);
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("hullctl").chain(line.split(' ')))
    }

    fn run(line: &str) -> RunFlags {
        match parse(line).unwrap().command {
            Command::Verb(ContainerVerb::Run(flags)) => *flags,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_behind_the_image_is_the_programs() {
        let flags = run("run -it --rm demo/busybox:1 sh -d --rm -- -h --name x");
        assert_eq!(flags.create.command, ["demo/busybox:1", "sh", "-d", "--rm", "--", "-h", "--name", "x"]);
        assert!(flags.create.interactive && flags.create.tty && flags.create.auto_remove && !flags.detach);
        assert_eq!(run("run -d img -x").create.command, ["img", "-x"]);
        assert_eq!(run("run -- img -x").create.command, ["img", "-x"]);
    }

    #[test]
    fn short_h_is_the_host_name_and_help_remains() {
        assert_eq!(run("run -h web img").create.namespaces.hostname.as_deref(), Some("web"));
        let error = parse("run --help").unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp);
    }

    #[test]
    fn unknown_flags_are_refused() {
        assert_eq!(parse("run --frob img").unwrap_err().kind(), clap::error::ErrorKind::UnknownArgument);
        assert!(parse("run").is_err());
        assert!(parse("exec web").is_err());
        assert!(parse("rm").is_err());
    }

    #[test]
    fn exec_takes_flags_only_before_the_container() {
        for line in ["exec -it -e A=b web ls -l -e", "container exec -it -e A=b web ls -l -e"] {
            let command = parse(line).unwrap().command;
            assert_eq!(command.error_code(), RUN_ERROR);
            let (Command::Verb(verb) | Command::Container(ContainerCommand::Verb(verb))) = command else { panic!() };
            let ContainerVerb::Exec(flags) = verb else { panic!() };
            assert_eq!(flags.command, ["web", "ls", "-l", "-e"]);
        }
    }

    #[test]
    fn sig_proxy_takes_a_value_with_an_equals_sign() {
        assert!(run("run img").sig_proxy);
        assert!(!run("run --sig-proxy=false img").sig_proxy);
        assert!(run("run --sig-proxy img").sig_proxy);
    }
}
