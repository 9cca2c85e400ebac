//! Compiles hull/v1 with protox, so that a fresh machine needs no protoc.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["container", "copy", "image", "node", "spec", "stats"].map(|name| format!("hull/v1/{name}.proto"));
    println!("cargo::rerun-if-changed=hull");
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("hull.v1.bin");
    std::fs::write(out, descriptors.encode_to_vec())?;
    // The codec looks messages up in the descriptors by their names.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    let builder = tonic_prost_build::configure().bytes(".").codec_path("crate::StrictCodec");
    builder.compile_fds_with_config(descriptors, config)?;
    Ok(())
}
