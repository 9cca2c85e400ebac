//! A line to one endpoint: requests with the credentials that hold there.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::HeaderValue;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::auth::{self, Asker, Key, Tokens};
use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::hosts::{Endpoint, Scheme};
use super::retry::Trouble;
use super::transport::{Answer, Call, Payload, Transport, origin};
use crate::error::{Error, Reason, Result};

/// One endpoint, and who the agent is there.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) endpoint: Endpoint,
    transport: Transport,
    credentials: Option<Credentials>,
    /// What tokens are asked for.
    scopes: Vec<String>,
    /// It failed: others come first.
    failed: AtomicBool,
}

impl Line {
    pub(super) fn new(
        endpoint: Endpoint,
        transport: Transport,
        credentials: Option<Credentials>,
        scopes: Vec<String>,
    ) -> Self {
        Self { endpoint, transport, credentials, scopes, failed: AtomicBool::new(false) }
    }

    /// "https://mirror.example".
    pub(super) fn name(&self) -> String {
        format!("{}://{}", self.endpoint.scheme.name(), self.endpoint.authority)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// A request for `path` below the endpoint's prefix.
    pub(super) fn call(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Result<Call> {
        let mut query: Vec<_> = query.to_vec();
        if let Some(namespace) = &self.endpoint.namespace {
            query.push(("ns", namespace));
        }
        let text = format!("{}{}{path}", self.name(), self.endpoint.prefix);
        let uri = auth::with_query(&text, &query)?;
        Ok(self.call_at(method, uri))
    }

    /// A request for a place that the endpoint itself named.
    pub(super) fn call_at(&self, method: Method, uri: Uri) -> Call {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.endpoint.headers {
            headers.append(name.clone(), value.clone());
        }
        Call { method, uri, headers, payload: Payload::Empty }
    }

    /// Sends a request; takes up the challenge that may come back.
    pub(super) async fn send(&self, call: &Call, tokens: &Tokens) -> Result<Answer, Trouble> {
        let key = self.key();
        // An upload may go on elsewhere, where the registry's credentials are none.
        let home = origin(&call.uri) == origin(&self.home()?);
        let known = if home { tokens.get(&key) } else { None };
        let answer = self.transport.send(call, known.as_ref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED || !home || origin(&answer.uri) != origin(&call.uri) {
            return Ok(answer);
        }
        tokens.forget(&key);
        let Some(challenge) = challenge::parse(&answer.headers) else { return Ok(answer) };
        drop(answer);
        let header = self.take_up(&challenge, tokens, key).await?;
        let answer = self.transport.send(call, Some(&header)).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            tokens.forget(&self.key());
            if self.credentials.is_none() {
                return Err(auth::nobody(&self.name(), "wants to know who asks").into());
            }
        }
        Ok(answer)
    }

    /// Sends a request as it is.
    pub(super) async fn send_bare(&self, call: &Call, authorization: Option<&HeaderValue>) -> Result<Answer, Trouble> {
        self.transport.send(call, authorization).await
    }

    async fn take_up(&self, challenge: &Challenge, tokens: &Tokens, key: Key) -> Result<HeaderValue, Trouble> {
        let scopes = auth::scopes(&self.scopes, challenge);
        let taken = self.asker(tokens, false).take_up(challenge, &scopes, key).await?;
        Ok(taken.header)
    }

    pub(super) fn asker<'a>(&'a self, tokens: &'a Tokens, offline: bool) -> Asker<'a> {
        let plain = self.endpoint.scheme == Scheme::Http;
        Asker { transport: &self.transport, tokens, credentials: self.credentials.as_ref(), plain, offline }
    }

    pub(super) fn key(&self) -> Key {
        let fingerprint = Credentials::fingerprint(self.credentials.as_ref());
        Key { endpoint: self.name(), scope: self.scopes.join(" "), fingerprint }
    }

    fn home(&self) -> Result<Uri> {
        let wrong = |_| Error::new(Reason::RegistryConfig, format!("{} is no URL", self.name()));
        self.name().parse().map_err(wrong)
    }
}
