//! Compiles hull/v1 with protox, so that a fresh machine needs no protoc.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic_prost_build::Builder;

fn main() -> Result<(), Box<dyn Error>> {
    let files =
        ["container", "copy", "event", "image", "node", "spec", "stats"].map(|name| format!("hull/v1/{name}.proto"));
    println!("cargo::rerun-if-changed=hull");
    let descriptors = protox::compile(files, ["."])?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("hull.v1.bin"), descriptors.encode_to_vec())?;
    // The codec looks messages up in the descriptors by their names.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    let builder = || tonic_prost_build::configure().bytes(".").codec_path("crate::StrictCodec");
    builder().compile_fds_with_config(descriptors.clone(), config)?;
    rendered(builder(), descriptors, &out_dir.join("rendered"))
}

/// The server of StatsService once more, with the messages of above but for the one that an agent sends to many at once.
fn rendered(builder: Builder, descriptors: FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(out)?;
    let file = descriptors.file.into_iter().filter(|file| file.name() == "hull/v1/stats.proto").collect();
    builder
        .build_client(false)
        .extern_path(".hull.v1", "crate::v1")
        .extern_path(".hull.v1.StreamStatsResponse", "crate::RenderedStats")
        .out_dir(out)
        .compile_fds(FileDescriptorSet { file })?;
    Ok(())
}
