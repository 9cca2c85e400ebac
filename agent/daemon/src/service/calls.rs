//! Counts calls by method and code, and traces them. The methods are those of the descriptors: whatever else is asked for is
//! "unknown", so that nobody from outside makes a metric.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::{Code, Status};
use tower::Layer;

use crate::metrics::{Call, Calls, Kind, Method, Metrics};
use crate::traces::{CallTrace, Traces};

/// Counts every call of a service.
#[derive(Debug, Clone)]
pub(crate) struct CallsLayer {
    methods: Arc<Methods>,
    calls: Calls,
    traces: Traces,
}

impl CallsLayer {
    pub(crate) fn new(metrics: &Metrics, traces: &Traces) -> Self {
        Self { methods: Arc::new(Methods::served()), calls: metrics.calls.clone(), traces: traces.clone() }
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { inner, layer: self.clone() }
    }
}

/// The methods that the agent serves.
#[derive(Debug)]
struct Methods {
    by_path: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
}

impl Methods {
    fn served() -> Self {
        let sets = [
            hull_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut by_path = HashMap::new();
        // Written by the compilers of the .proto files; the tests read them.
        for file in sets.into_iter().filter_map(|set| FileDescriptorSet::decode(set).ok()).flat_map(|set| set.file) {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                for method in &service.method {
                    let found = Method { service: full.clone(), name: method.name().to_owned(), kind: kind(method) };
                    by_path.insert(format!("/{full}/{}", method.name()), Arc::new(found));
                }
            }
        }
        let unknown = Method { service: "unknown".to_owned(), name: "unknown".to_owned(), kind: Kind::Unary };
        Self { by_path, unknown: Arc::new(unknown) }
    }

    fn get(&self, path: &str) -> &Arc<Method> {
        self.by_path.get(path).unwrap_or(&self.unknown)
    }
}

fn kind(method: &MethodDescriptorProto) -> Kind {
    match (method.client_streaming(), method.server_streaming()) {
        (false, false) => Kind::Unary,
        (true, false) => Kind::ClientStream,
        (false, true) => Kind::ServerStream,
        (true, true) => Kind::BidiStream,
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    layer: CallsLayer,
}

impl<S> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = self.layer.methods.get(request.uri().path());
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let trace = self.layer.traces.call(&method.service, &method.name, header);
        let mut call = CallEnd { call: self.layer.calls.begin(method), trace };
        let answer = call.trace.around(self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await?;
            // What failed before there was anything to send has its code among the headers.
            if let Some(status) = Status::from_header_map(answer.headers()) {
                call.end(status.code());
                return Ok(answer);
            }
            Ok(answer.map(|body| Body::new(Answer { body, call })))
        })
    }
}

/// Where the end of a call is told. One that is dropped was cancelled.
struct CallEnd {
    call: Call,
    trace: CallTrace,
}

impl CallEnd {
    fn end(&mut self, code: Code) {
        self.call.end(name(code));
        self.trace.end(code.into(), name(code));
    }
}

/// The body of an answer; its end is the call's.
struct Answer {
    body: Body,
    call: CallEnd,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.call.end(status.code());
                }
            }
            Poll::Ready(Some(Err(status))) => self.call.end(status.code()),
            Poll::Ready(None) => self.call.end(Code::Unknown),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A code as gRPC's libraries write it in metrics.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_known_and_nothing_else() {
        let methods = Methods::served();
        for (path, kind) in [
            ("/hull.v1.ContainerService/CreateContainer", Kind::Unary),
            ("/hull.v1.ContainerService/Exec", Kind::BidiStream),
            ("/hull.v1.ImageService/ImportImage", Kind::BidiStream),
            ("/hull.v1.StatsService/StreamStats", Kind::ServerStream),
            ("/grpc.health.v1.Health/Check", Kind::Unary),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Kind::BidiStream),
            ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Kind::BidiStream),
        ] {
            let method = methods.get(path);
            assert_eq!((path, method.kind), (&*format!("/{}/{}", method.service, method.name), kind));
        }
        for path in ["", "/", "/hull.v1.ContainerService/", "/a.B/C", "/hull.v1.ContainerService/CreateContainer/"] {
            assert_eq!(methods.get(path), &methods.unknown, "{path}");
        }
    }

    #[test]
    fn codes_are_those_of_the_protocol() {
        for number in 0..=16 {
            let code = Code::from_i32(number);
            let name = name(code).to_lowercase();
            assert_eq!(name, format!("{code:?}").to_lowercase().replace("cancelled", "canceled"));
        }
    }
}
