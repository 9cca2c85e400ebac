//! Deadlines: a call ends when its `grpc-timeout` has passed, whatever it is doing.
//!
//! tonic's own timer answers CANCELLED and stops at the first byte of an answer; this one answers DEADLINE_EXCEEDED
//! and holds for streams as well. What a handler was waiting for goes on in the container's task: dropping it is safe.

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::{Code, Status};
use tower::Layer;

use super::status::from_transport;
use crate::error::{Error, Reason};

/// Header with the time that the client gives the call.
const TIMEOUT: &str = "grpc-timeout";
/// Most digits of a timeout, by the gRPC protocol.
const MAX_DIGITS: usize = 8;

/// Gives every call of a service its deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadlines<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadlines { inner }
    }
}

/// A service whose calls end at their deadline.
#[derive(Debug, Clone)]
pub(crate) struct Deadlines<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for Deadlines<S>
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
        let timeout = match request.headers().get(TIMEOUT).map(|value| value.to_str().ok().and_then(parse)) {
            None => None,
            Some(Some(timeout)) => Some(timeout),
            Some(None) => {
                let status = Status::from(Error::invalid(TIMEOUT, "is not a timeout of the gRPC protocol"));
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let Some(deadline) = timeout.and_then(|timeout| Instant::now().checked_add(timeout)) else {
                return answer.await.map(in_our_codes);
            };
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(answer) => answer.map(in_our_codes).map(|answer| answer.map(|body| limited(body, deadline))),
                Err(_) => Ok(exceeded().into_http()),
            }
        })
    }
}

/// An answer that the transport made itself, e.g. to a request that is too large, in hull's codes.
fn in_our_codes(answer: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(answer.headers()) {
        Some(status) if matches!(status.code(), Code::OutOfRange | Code::Unimplemented) => {
            from_transport(status).into_http()
        }
        _ => answer,
    }
}

fn exceeded() -> Status {
    Error::new(Reason::DeadlineExceeded, "the deadline of the call has passed").into()
}

fn limited(body: Body, deadline: Instant) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(Limited { body, deadline: Box::pin(tokio::time::sleep_until(deadline)), ended: false })
}

/// The body of an answer, cut at the deadline.
struct Limited {
    body: Body,
    deadline: Pin<Box<Sleep>>,
    ended: bool,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // First the deadline: a stream that always has more would never come to it.
        if self.deadline.as_mut().poll(context).is_ready() {
            self.ended = true;
            self.body = Body::empty();
            let mut trailers = http::HeaderMap::new();
            return Poll::Ready(match exceeded().add_header(&mut trailers) {
                Ok(()) => Some(Ok(Frame::trailers(trailers))),
                Err(status) => Some(Err(status)),
            });
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A timeout as gRPC sends it: at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_those_of_the_protocol() {
        assert_eq!(parse("3H"), Some(Duration::from_secs(10_800)));
        assert_eq!(parse("99999999u"), Some(Duration::from_micros(99_999_999)));
        for wrong in ["", "S", "1", "1s", "+1S", "-1S", "1.5S", "123456789S", "١S", "1é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
