//! The codec of `hull.v1`: protobuf, with requests held to what the schema knows.
//!
//! Protobuf lets an unknown field pass in silence. In a request that is an option of which the user would believe that
//! it holds, so it is refused by name. Answers are read leniently: an older client keeps working with a newer agent.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use prost::bytes::{Buf as _, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{Message, Name};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};
use tonic_types::{ErrorDetails, StatusExt as _};

/// End of the names of all requests, and of no other message (`buf lint`: RPC_REQUEST_STANDARD_NAME).
const REQUEST: &str = "Request";
/// Depth of nested messages at which decoding gives up; prost's own limit.
const MAX_DEPTH: usize = 100;

/// Field number to the type of its message; `None`: a scalar.
type Fields = HashMap<u32, Option<String>>;

/// What the descriptors say about messages.
struct Schema {
    /// Fields of each message, by its full name.
    messages: HashMap<String, Fields>,
}

/// Read by the first request that is decoded: a client, which decodes answers alone, never pays for it.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = Schema { messages: HashMap::new() };
    // The set is made by build.rs; a unit test holds it decodable.
    let set = FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap_or_default();
    for file in &set.file {
        for message in &file.message_type {
            schema.add(file.package(), message);
        }
    }
    schema
});

impl Schema {
    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        let fields = message.field.iter().map(|field| {
            let number = u32::try_from(field.number()).unwrap_or_default();
            let nested =
                (field.r#type() == Type::Message).then(|| field.type_name().trim_start_matches('.').to_owned());
            (number, nested)
        });
        self.messages.insert(name.clone(), fields.collect());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
    }

    /// Looks for a field that `name` does not have, in it or in the messages below it. Bytes that are no protobuf are
    /// left to the decoder, which says so.
    fn check(&self, name: &str, mut bytes: &[u8], depth: usize) -> Result<(), String> {
        let Some(fields) = self.messages.get(name) else { return Ok(()) };
        while !bytes.is_empty() {
            let Ok((number, wire_type)) = decode_key(&mut bytes) else { return Ok(()) };
            let Some(field) = fields.get(&number) else {
                return Err(format!("{name} has no field with number {number}"));
            };
            let length = match wire_type {
                WireType::Varint => decode_varint(&mut bytes).map(|_| 0),
                WireType::ThirtyTwoBit => Ok(4),
                WireType::SixtyFourBit => Ok(8),
                WireType::LengthDelimited => decode_varint(&mut bytes),
                WireType::StartGroup | WireType::EndGroup => return Ok(()),
            };
            let value = length.ok().and_then(|length| bytes.split_at_checked(usize::try_from(length).ok()?));
            let Some((value, rest)) = value else { return Ok(()) };
            if let (Some(nested), WireType::LengthDelimited, true) = (field, wire_type, depth < MAX_DEPTH) {
                self.check(nested, value, depth + 1)?;
            }
            bytes = rest;
        }
        Ok(())
    }
}

/// The codec that the generated clients and servers use: [`ProstCodec`], but unknown fields of requests are refused.
#[derive(Debug, Clone)]
pub struct StrictCodec<T, U> {
    types: PhantomData<(T, U)>,
}

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        Self { types: PhantomData }
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        let request = U::NAME.ends_with(REQUEST);
        StrictDecoder { name: request.then(U::full_name), message: PhantomData }
    }
}

/// Decodes messages and refuses requests with unknown fields.
#[derive(Debug)]
pub struct StrictDecoder<U> {
    /// Name of the message, if it is a request.
    name: Option<String>,
    message: PhantomData<U>,
}

impl<U: Message + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // One message is one contiguous piece of the receive buffer: this copies nothing.
        let bytes: Bytes = source.copy_to_bytes(source.remaining());
        match &self.name {
            Some(name) => {
                SCHEMA.check(name, &bytes, 0).map_err(|problem| refused(format!("unknown field: {problem}")))?;
                U::decode(bytes).map(Some).map_err(|error| refused(format!("malformed request: {error}")))
            }
            None => U::decode(bytes).map(Some).map_err(|error| Status::internal(format!("malformed answer: {error}"))),
        }
    }
}

fn refused(message: String) -> Status {
    let details = ErrorDetails::with_error_info("INVALID_ARGUMENT", "hull", HashMap::<String, String>::new());
    Status::with_error_details(tonic::Code::InvalidArgument, message, details)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::encoding::{encode_key, encode_varint};

    use super::*;
    use crate::v1;

    fn with_unknown_field(mut bytes: Vec<u8>) -> Vec<u8> {
        encode_key(999, WireType::Varint, &mut bytes);
        encode_varint(1, &mut bytes);
        bytes
    }

    fn check<M: Message + Name>(bytes: &[u8]) -> Result<(), String> {
        SCHEMA.check(&M::full_name(), bytes, 0)
    }

    #[test]
    fn every_request_of_every_method_is_known() {
        let set = FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
        let methods = set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
        let requests: BTreeSet<_> = methods.map(|method| method.input_type().trim_start_matches('.')).collect();
        let named: BTreeSet<_> =
            SCHEMA.messages.keys().map(String::as_str).filter(|name| name.ends_with(REQUEST)).collect();
        assert!(requests.len() >= 19, "{requests:?}");
        assert_eq!(requests, named);
        assert!(SCHEMA.messages.contains_key("google.protobuf.Duration"));
    }

    #[test]
    fn known_fields_pass() {
        let config = v1::ContainerConfig {
            image: "demo".into(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            stop_timeout: Some(prost_types::Duration { seconds: 3, nanos: 4 }),
            oom_score_adj: Some(-5),
            ..Default::default()
        };
        let request = v1::CreateContainerRequest { config: Some(config), ..Default::default() };
        assert_eq!(check::<v1::CreateContainerRequest>(&request.encode_to_vec()), Ok(()));
    }

    #[test]
    fn an_unknown_field_is_named_wherever_it_is() {
        let top = with_unknown_field(v1::GetInfoRequest {}.encode_to_vec());
        assert_eq!(
            check::<v1::GetInfoRequest>(&top),
            Err("hull.v1.GetInfoRequest has no field with number 999".to_owned())
        );
        let config = with_unknown_field(v1::ContainerConfig::default().encode_to_vec());
        let mut request = Vec::new();
        encode_key(2, WireType::LengthDelimited, &mut request);
        encode_varint(config.len() as u64, &mut request);
        request.extend(config);
        let problem = check::<v1::CreateContainerRequest>(&request).unwrap_err();
        assert!(problem.starts_with("hull.v1.ContainerConfig "), "{problem}");
    }

    #[test]
    fn garbage_is_left_to_the_decoder() {
        for length in 0..64 {
            let bytes: Vec<u8> = (0..length).map(|i| u8::try_from(i * 37 % 251).unwrap()).collect();
            let _ = check::<v1::CreateContainerRequest>(&bytes);
        }
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(check::<v1::CreateContainerRequest>(&huge), Ok(()));
    }
}
