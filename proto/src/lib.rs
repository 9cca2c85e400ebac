//! The `hull.v1` gRPC API. The messages' and services' documentation is that of the protobuf sources in `proto/hull/v1`.
#![forbid(unsafe_code)]

mod codec;

pub use codec::{StrictCodec, StrictDecoder};

/// Messages, clients and servers of `hull.v1`.
#[allow(missing_docs, clippy::large_enum_variant, clippy::doc_markdown)]
pub mod v1 {
    tonic::include_proto!("hull.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of `hull.v1`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hull.v1.bin"));
