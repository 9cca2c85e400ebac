//! Requests over HTTP/1.1: connections, redirects, and a watch over those that stand still.
//!
//! HTTP/1.1 on purpose: a connection carries one request, so several at once are several streams of TCP, and leaving an
//! answer unread closes the connection and nothing else with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderValue, LOCATION, RANGE, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::hosts::TlsFiles;
use super::retry::Trouble;
use super::tls;
use crate::error::{Error, Reason, Result, causes};

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 8;
/// Time that an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Unused connections that are kept for a host.
const IDLE_MAX: usize = 8;
const AGENT: &str = concat!("hull/", env!("CARGO_PKG_VERSION"));

/// The body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Connections to hosts, with one configuration of TLS. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    /// Time without a byte after which a connection counts as lost.
    stall: Duration,
}

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
}

/// What makes the body of a request.
#[derive(Clone)]
pub(super) enum Payload {
    Empty,
    Bytes(Bytes),
    /// A body of this many bytes, made anew for each attempt.
    Stream(u64, Arc<dyn Fn() -> Body + Send + Sync>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(length, _) => write!(f, "Stream({length})"),
        }
    }
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(in crate::images) struct Answer {
    pub(in crate::images) status: StatusCode,
    pub(in crate::images) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(super) uri: Uri,
    body: UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>,
    stall: Duration,
}

impl Transport {
    /// Connections for a configuration of TLS. Blocks on the disk.
    pub(super) fn new(files: &TlsFiles, dial_timeout: Duration, stall: Duration) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(dial_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(files)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Self { client, stall })
    }

    /// Sends a request and follows redirects. `authorization` goes to no other host than that of the request.
    pub(super) async fn send(&self, call: &Call, authorization: Option<&HeaderValue>) -> Result<Answer, Trouble> {
        let mut call = call.clone();
        if let Some(value) = authorization {
            call.headers.insert(AUTHORIZATION, value.clone());
        }
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.send_once(&call).await?;
            let safe = call.method == Method::GET || call.method == Method::HEAD;
            if !safe || !answer.status.is_redirection() || answer.status == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let location = answer.headers.get(LOCATION).and_then(|location| location.to_str().ok());
            let Some(next) = location.and_then(|location| resolve(&call.uri, location)) else {
                let line = format!("{} redirects without saying where to", shown(&call.uri));
                return Err(Error::new(Reason::RegistryError, line).into());
            };
            if call.uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                let line = format!("{} redirects from https to {}", shown(&call.uri), shown(&next));
                return Err(Error::new(Reason::RegistryError, line).into());
            }
            if origin(&next) != origin(&call.uri) {
                call.headers = without_credentials(&call.headers);
            }
            call.uri = next;
        }
        let line = format!("{} redirects more than {REDIRECTS_MAX} times", shown(&call.uri));
        Err(Error::new(Reason::RegistryError, line).into())
    }

    async fn send_once(&self, call: &Call) -> Result<Answer, Trouble> {
        let body = match &call.payload {
            Payload::Empty => full(Bytes::new()),
            Payload::Bytes(bytes) => full(bytes.clone()),
            Payload::Stream(_, make) => make(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.uri.clone();
        *request.headers_mut() = call.headers.clone();
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Payload::Stream(length, _) = call.payload {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        let sent = self.client.request(request);
        let answer = match &call.payload {
            // Sending takes as long as it takes; whoever makes the body watches over it.
            Payload::Stream(..) => sent.await,
            Payload::Empty | Payload::Bytes(_) => match tokio::time::timeout(self.stall, sent).await {
                Ok(answer) => answer,
                Err(_) => {
                    let line = format!("{} does not answer within {} s", shown(&call.uri), self.stall.as_secs_f32());
                    return Err(Trouble::passing(Error::new(Reason::RegistryUnavailable, line)));
                }
            },
        };
        let (head, body) = answer.map_err(|error| failed(&call.uri, &error))?.into_parts();
        let body = body.map_err(Into::into).boxed_unsync();
        Ok(Answer { status: head.status, headers: head.headers, uri: call.uri.clone(), body, stall: self.stall })
    }
}

/// The headers that may go to another host: neither credentials nor those of hosts.toml, which may be such.
fn without_credentials(headers: &HeaderMap) -> HeaderMap {
    let known = [ACCEPT, RANGE];
    known.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name.clone(), value.clone()))).collect()
}

impl Answer {
    /// The next bytes of the body; `None` at its end.
    pub(in crate::images) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            let frame = match tokio::time::timeout(self.stall, self.body.frame()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(_) => {
                    let seconds = self.stall.as_secs_f32();
                    let line = format!("{} stands still: no byte for {seconds} s", shown(&self.uri));
                    return Err(Trouble::passing(Error::new(Reason::RegistryUnavailable, line)));
                }
            };
            let frame = frame.map_err(|error| {
                let line = format!("{} broke off: {}", shown(&self.uri), causes(&*error));
                Trouble::passing(Error::new(Reason::RegistryUnavailable, line))
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// All of a body of at most `max` bytes.
    pub(in crate::images) async fn read(mut self, max: usize) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while let Some(data) = self.next().await? {
            if bytes.len() + data.len() > max {
                let line = format!("{} answers with more than {max} bytes", shown(&self.uri));
                return Err(Error::new(Reason::LimitExceeded, line).into());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}

/// A body of these bytes.
fn full(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A request that got no answer.
fn failed(uri: &Uri, error: &hyper_util::client::legacy::Error) -> Trouble {
    let error = error as &(dyn std::error::Error + 'static);
    let line = format!("cannot reach {}: {}", shown(uri), causes(error));
    // What TLS refuses it refuses again.
    let refused = |line, hint| Trouble::lasting(Error::new(Reason::RegistryError, line).hint(hint));
    match tls_error(error) {
        Some(rustls::Error::InvalidMessage(_)) => {
            refused(line, "does it speak plain http? then hosts.toml must say so")
        }
        Some(rustls::Error::AlertReceived(_)) => {
            refused(line, "if it wants a certificate of this node, hosts.toml can name one as `client`")
        }
        Some(_) => refused(line, "its authority can be named as `ca` in hosts.toml"),
        None => Trouble::passing(Error::new(Reason::RegistryUnavailable, line)),
    }
}

fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    None
}

/// The place that a Location header means.
pub(super) fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = if location.contains("://") && !location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = absolute.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let named = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    (known && named).then_some(uri)
}

/// Scheme, host and port.
pub(super) fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let port = uri.port_u16().or(match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    });
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), port)
}

/// A place as errors name it: without its query, which may hold a signature.
pub(super) fn shown(uri: &Uri) -> String {
    format!(
        "{}://{}{}",
        uri.scheme_str().unwrap_or_default(),
        uri.authority().map_or("", |host| host.as_str()),
        uri.path()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(location: &str) -> Option<String> {
        let base = "https://r.example:5000/v2/a/blobs/x?q=1".parse().unwrap();
        resolve(&base, location).map(|uri| uri.to_string())
    }

    #[test]
    fn locations_are_resolved_against_the_request() {
        for (location, expected) in [
            ("https://cdn.example/y?sig=1", "https://cdn.example/y?sig=1"),
            ("//cdn.example/y", "https://cdn.example/y"),
            ("/y?z=1#f", "https://r.example:5000/y?z=1"),
            ("y", "https://r.example:5000/v2/a/blobs/y"),
            ("/y?next=http://z", "https://r.example:5000/y?next=http://z"),
        ] {
            assert_eq!(resolved(location).as_deref(), Some(expected));
        }
        for wrong in ["ftp://x/y", "https://user@x/y", "file:///etc/passwd", "http://"] {
            assert_eq!(resolved(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert_eq!(origin(&uri("https://A.example/x")), origin(&uri("https://a.example:443/y")));
        for other in ["http://a.example/", "https://a.example:444/", "https://b.example/"] {
            assert_ne!(origin(&uri("https://a.example/")), origin(&uri(other)));
        }
    }

    #[test]
    fn queries_are_not_shown() {
        let uri: Uri = "https://a.example/x?sig=secret".parse().unwrap();
        assert_eq!(shown(&uri), "https://a.example/x");
    }

    #[test]
    fn other_hosts_get_no_credentials() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", "Basic x"), ("x-token", "y"), ("accept", "*/*"), ("range", "bytes=1-")]
        {
            headers.insert(name, value.parse().unwrap());
        }
        let headers = without_credentials(&headers);
        let mut left: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "range"]);
    }
}
