//! A frame of statistics whose samples are encoded once for all readers.

use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::v1;

/// The tag of `StreamStatsResponse.stats`.
const STATS: u32 = 1;

/// [`v1::StreamStatsResponse`] on the wire. Most of it is the same for all readers, and is shared; encoding it for each would cost
/// more than reading the kernel's files does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderedStats {
    /// Samples, as [`Self::samples`] encodes them; they come before those of `rest`.
    pub samples: Bytes,
    /// What is this reader's alone.
    pub rest: v1::StreamStatsResponse,
}

impl RenderedStats {
    /// Encodes samples as the field `stats`.
    pub fn samples(samples: impl Iterator<Item = v1::ContainerStats>) -> Bytes {
        let mut encoded = Vec::new();
        samples.for_each(|sample| prost::encoding::message::encode(STATS, &sample, &mut encoded));
        encoded.into()
    }
}

impl Message for RenderedStats {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.samples);
        self.rest.encode_raw(buffer);
    }

    fn encoded_len(&self) -> usize {
        self.samples.len() + self.rest.encoded_len()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.rest.merge_field(tag, wire_type, buffer, context)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_message() {
        let sample = |id: &str| v1::ContainerStats { id: id.to_owned(), monotonic_nanos: 7, ..Default::default() };
        let rest = v1::StreamStatsResponse {
            missed: 300,
            started: vec!["b".to_owned()],
            stopped: vec!["c".to_owned()],
            node: Some(v1::NodeStats { monotonic_nanos: 8, ..Default::default() }),
            ..Default::default()
        };
        let rendered =
            RenderedStats { samples: RenderedStats::samples(["a", "b"].map(sample).into_iter()), rest: rest.clone() };
        let expected = v1::StreamStatsResponse { stats: ["a", "b"].map(sample).into(), ..rest };
        assert_eq!(rendered.encode_to_vec(), expected.encode_to_vec());
        assert_eq!(RenderedStats::decode(&*rendered.encode_to_vec()).unwrap().rest, expected);
    }
}
