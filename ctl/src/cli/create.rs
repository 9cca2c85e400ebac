//! `run` and `create`.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::container::UntilFlag;
use super::registry::PullPolicy;
use super::resources::ResourceFlags;
use crate::completion;

// `run`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct RunFlags {
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Run in the background and print the id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Stream to connect: stdin, stdout or stderr; the default is both outputs, and stdin with --interactive
    #[arg(short, long = "attach", value_name = "STREAM", value_enum, ignore_case = true, conflicts_with = "detach")]
    pub(crate) attach: Vec<StreamName>,
    #[command(flatten)]
    pub(crate) detach_keys: UntilFlag,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) image: ImageFlags,
    #[command(flatten)]
    pub(crate) create: CreateFlags,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamName {
    /// Standard input
    Stdin,
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

// `create`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Alone {
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    pub(crate) image: ImageFlags,
    #[command(flatten)]
    pub(crate) create: CreateFlags,
}

// Where the image comes from.
#[derive(Debug, Args)]
pub(crate) struct ImageFlags {
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: PullPolicy,
    /// Which image of an index, OS/ARCHITECTURE[/VARIANT]; pulled where the node has another
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Pull without a word
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

// What a container is to be.
#[derive(Debug, Default, Args)]
pub(crate) struct CreateFlags {
    /// Keep standard input open and connect it
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Run on a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Run a small init that reaps orphans; no agent offers it yet
    #[arg(long)]
    pub(crate) init: bool,
    /// Remove the container when it has exited
    #[arg(long = "rm")]
    pub(crate) auto_remove: bool,
    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Write the id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Label, KEY[=VALUE]
    #[arg(short, long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// File of labels, one a line
    #[arg(long = "label-file", value_name = "FILE")]
    pub(crate) label_files: Vec<PathBuf>,

    /// Environment entry, NAME=VALUE; NAME alone takes the caller's value
    #[arg(short, long, value_name = "ENTRY")]
    pub(crate) env: Vec<String>,
    /// File of environment entries, one a line
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
    /// Program instead of the image's entry point; "" for none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User and group, names or ids: USER[:GROUP]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Further group, name or id
    #[arg(long = "group-add", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// File mode creation mask in octal
    #[arg(long, value_name = "MASK")]
    pub(crate) umask: Option<String>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<u32>,
    /// Resource limit, NAME=SOFT[:HARD]; -1 for none
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub(crate) ulimits: Vec<String>,
    /// Whom the kernel kills first when memory is short, -1000 to 1000
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub(crate) oom_score_adj: Option<i32>,

    /// How output is logged: cri, as lines in files that rotate
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Limit of the log: max-size=SIZE, max-file=N, rate-bytes=SIZE or rate-lines=N a second with rate-mode=block|drop
    #[arg(long = "log-opt", value_name = "OPTION")]
    pub(crate) log_options: Vec<String>,

    #[command(flatten)]
    pub(crate) filesystem: FilesystemFlags,
    #[command(flatten)]
    pub(crate) namespaces: NamespaceFlags,
    #[command(flatten)]
    pub(crate) security: SecurityFlags,
    #[command(flatten)]
    pub(crate) resources: ResourceFlags,

    /// Image, then the program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "ARG"], add = completion::images(), help_heading = "Arguments")]
    pub(crate) command: Vec<String>,
}

// Mounts and devices.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "File system")]
pub(crate) struct FilesystemFlags {
    /// File or directory of the node, SOURCE:TARGET[:ro,…]
    #[arg(short, long = "volume", value_name = "MOUNT")]
    pub(crate) volumes: Vec<String>,
    /// Mount, type=bind|tmpfs,source=…,target=…[,readonly,…]
    #[arg(long = "mount", value_name = "MOUNT")]
    pub(crate) mounts: Vec<String>,
    /// File system in memory, TARGET[:size=…,mode=…]
    #[arg(long, value_name = "MOUNT")]
    pub(crate) tmpfs: Vec<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Size of /dev/shm, e.g. 64m
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Device of the node, PATH[:TARGET][:rwm]
    #[arg(long = "device", value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,
    /// Path to hide beside the default ones
    #[arg(long = "masked-path", value_name = "PATH")]
    pub(crate) masked_paths: Vec<String>,
    /// Path to make read-only beside the default ones
    #[arg(long = "readonly-path", value_name = "PATH")]
    pub(crate) readonly_paths: Vec<String>,
}

// Namespaces and what is in them.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Namespaces")]
pub(crate) struct NamespaceFlags {
    /// Network: none, host or container:ID
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    pub(crate) network: Option<String>,
    /// Processes: private, host or container:ID
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// System V IPC and message queues: private, host or container:ID
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// Host name: private or host
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// Control groups: private or host
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// Users: host or auto (a range of ids of its own)
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
    /// Offsets of the clocks, monotonic=DURATION[,boottime=DURATION]
    #[arg(long, value_name = "OFFSETS")]
    pub(crate) time_offset: Option<String>,
    /// Host name
    #[arg(short = 'h', long)]
    pub(crate) hostname: Option<String>,
    /// NIS domain name
    #[arg(long)]
    pub(crate) domainname: Option<String>,
    /// Line of /etc/hosts, NAME:ADDRESS
    #[arg(long = "add-host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Address of a name server
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of the resolver, e.g. ndots:2
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Kernel parameter of the container's namespaces, NAME=VALUE
    #[arg(long = "sysctl", value_name = "SYSCTL")]
    pub(crate) sysctls: Vec<String>,
}

// What processes may do.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct SecurityFlags {
    /// All capabilities, all devices, no seccomp filter, nothing masked
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Capability to add, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Capability to take away, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// seccomp=unconfined, seccomp=FILE or no-new-privileges[=BOOL] (true is the default)
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub(crate) options: Vec<String>,
}
