//! Verbs for images.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::registry::{PullFlags, PushFlags};
use super::{ListOutputFlag, OutputFlag, PruneHow};
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Fetch an image from its registry
    Pull(PullFlags),
    /// Send an image to a registry
    Push(PushFlags),
    /// Give an image a further name
    Tag(TagFlags),
    /// Take in an archive or an OCI image layout
    Import(ImportFlags),
    /// Take in an archive that `save` wrote, or another tool
    Load(LoadFlags),
    /// Write images to an archive
    Save(SaveFlags),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImageListFlags),
    /// Show all there is to know of images
    Inspect(ImageInspectFlags),
    /// Show how an image was made
    History(HistoryFlags),
    /// Remove names of images, and images with their last name
    #[command(visible_alias = "remove")]
    Rm(ImageRemoveFlags),
    /// Remove images that no container uses, and files that no image needs
    Prune(PruneFlags),
    /// Compare the files of images with their digests
    Verify(VerifyFlags),
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
    /// Show the digests of their manifests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Taken for Docker's sake: there are none to hide
    #[arg(short, long)]
    all: bool,
    /// Condition: before=, dangling=BOOL, label=KEY[=VALUE], reference=PATTERN or since=
    #[arg(short, long = "filter", value_name = "CONDITION")]
    pub(crate) filters: Vec<String>,
    #[command(flatten)]
    pub(crate) output: ListOutputFlag,
    /// Only images with a name that contains this
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

// `image inspect`.
#[derive(Debug, Args)]
pub(crate) struct ImageInspectFlags {
    /// Go template with Docker's field names, or `json`
    #[arg(short = 'f', long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
    /// References, digests or prefixes of digests
    #[arg(required = true, value_name = "IMAGE", add = completion::images())]
    pub(crate) images: Vec<String>,
}

// `image rm`.
#[derive(Debug, Args)]
pub(crate) struct ImageRemoveFlags {
    /// References, digests or prefixes of digests
    #[arg(required = true, value_name = "IMAGE", add = completion::images())]
    pub(crate) images: Vec<String>,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Taken for Docker's sake; an image that a container uses is not removed all the same
    #[arg(short, long)]
    force: bool,
}

// `tag`.
#[derive(Debug, Args)]
pub(crate) struct TagFlags {
    /// Reference, digest or prefix of a digest
    #[arg(add = completion::images())]
    pub(crate) image: String,
    /// The new name, a reference without digest
    pub(crate) name: String,
}

// `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadFlags {
    /// Archive, or directory with an OCI image layout; the default is standard input
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    pub(crate) input: PathBuf,
    /// Only the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What `save` writes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SaveFormat {
    /// An OCI image layout as tar
    Oci,
    /// What `docker load` takes
    DockerArchive,
}

// `save`.
#[derive(Debug, Args)]
pub(crate) struct SaveFlags {
    /// File to write; the default is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Format of the archive
    #[arg(long, value_enum, default_value = "oci")]
    pub(crate) format: SaveFormat,
    /// References, digests or prefixes of digests
    #[arg(required = true, value_name = "IMAGE", add = completion::images())]
    pub(crate) images: Vec<String>,
}

// `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryFlags {
    /// Whole commands and digests
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[command(flatten)]
    pub(crate) output: ListOutputFlag,
    /// Reference, digest or prefix of a digest
    #[arg(add = completion::images())]
    pub(crate) image: String,
}

// `image prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneFlags {
    /// Images with names, too
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) how: PruneHow,
}

// `image verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyFlags {
    /// Make anew what is damaged: layers from their blobs, blobs from their registry
    #[arg(long)]
    pub(crate) repair: bool,
    /// No progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
    /// References, digests or prefixes of digests; the default is all images
    #[arg(value_name = "IMAGE", add = completion::images())]
    pub(crate) images: Vec<String>,
}
