//! The `hull.v1` gRPC API. The messages' and services' documentation is that of the protobuf sources in `proto/hull/v1`.
#![forbid(unsafe_code)]

mod codec;
mod rendered;

pub use codec::{StrictCodec, StrictDecoder};
pub use rendered::RenderedStats;

/// Messages, clients and servers of `hull.v1`.
#[allow(missing_docs, clippy::large_enum_variant, clippy::doc_markdown)]
pub mod v1 {
    tonic::include_proto!("hull.v1");
}

/// The server of StatsService for an agent that renders a frame once for all of its readers, see [`RenderedStats`].
#[allow(missing_docs)]
pub mod rendered_v1 {
    include!(concat!(env!("OUT_DIR"), "/rendered/hull.v1.rs"));
}

/// The encoded `google.protobuf.FileDescriptorSet` of `hull.v1`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hull.v1.bin"));
