//! Verbs for images.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{ListOutputFlag, OutputFlag};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Take in an archive or an OCI image layout
    Import(ImportFlags),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImageListFlags),
    /// Show all there is to know of images
    Inspect(ImageInspectFlags),
    /// Remove names of images, and images with their last name
    #[command(visible_alias = "remove")]
    Rm(ImageRemoveFlags),
}

/// What an archive is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FormatFlag {
    /// Found out from its contents
    Auto,
    /// A root file system as tar; plain, gzip or zstd
    Rootfs,
    /// An OCI image layout as tar
    Oci,
    /// What `docker save` writes
    Docker,
}

// `image import`.
#[derive(Debug, Args)]
pub(crate) struct ImportFlags {
    /// Name for the image; needed for a root file system
    #[arg(short, long = "tag", value_name = "REFERENCE")]
    pub(crate) tags: Vec<String>,
    /// Format of the archive
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) format: FormatFlag,
    /// Only the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) config: ImageConfigFlags,
    /// Archive, directory with an OCI image layout, or - for standard input
    pub(crate) path: PathBuf,
}

// What an image made from a root file system says about its containers.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "For a root file system")]
pub(crate) struct ImageConfigFlags {
    /// Entry point: words, or a JSON array
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Command, or arguments of the entry point: words, or a JSON array
    #[arg(long, value_name = "COMMAND")]
    pub(crate) cmd: Option<String>,
    /// Environment entry, NAME=VALUE
    #[arg(short, long, value_name = "ENTRY")]
    pub(crate) env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User and group, names or ids: USER[:GROUP]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Signal that asks its containers to stop
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Label, KEY[=VALUE]
    #[arg(short, long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
}

// `image ls`.
#[derive(Debug, Args)]
pub(crate) struct ImageListFlags {
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole digests
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[command(flatten)]
    pub(crate) output: ListOutputFlag,
    /// Only images with a name that contains this
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

// `image inspect`.
#[derive(Debug, Args)]
pub(crate) struct ImageInspectFlags {
    #[command(flatten)]
    pub(crate) output: OutputFlag,
    /// References, digests or prefixes of digests
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

// `image rm`.
#[derive(Debug, Args)]
pub(crate) struct ImageRemoveFlags {
    /// References, digests or prefixes of digests
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}
