//! Reading from a repository: manifests, and blobs or parts of them. Mirrors come first, in the order of the file; the
//! registry itself has the last word.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RANGE};
use http::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::Session;
use super::answer;
use super::line::Line;
use super::retry::{Backoff, Kind, Trouble};
use super::transport::{Answer, Call};
use crate::error::{Error, Reason, Result};
use crate::images::limits::JSON_MAX;
use crate::images::media::MANIFESTS;
use crate::images::reference::is_digest;

/// The digest that a registry says a manifest has.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A document with its digest, which was compared with what was asked for.
#[derive(Debug, Clone)]
pub(in crate::images) struct Fetched {
    pub(in crate::images) bytes: Vec<u8>,
    pub(in crate::images) digest: String,
    /// As the registry says; empty if it does not.
    pub(in crate::images) media_type: String,
}

/// What an endpoint must be good for.
#[derive(Debug, Clone, Copy)]
enum Need {
    Pull,
    Resolve,
}

impl Session {
    /// Fetches the manifest of a tag or digest.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `REGISTRY_DENIED`, `REGISTRY_UNAUTHENTICATED`, `REGISTRY_UNAVAILABLE`, `REGISTRY_ERROR`,
    /// `BLOB_DAMAGED`, `LIMIT_EXCEEDED`.
    pub(in crate::images) async fn manifest(&self, reference: &str) -> Result<Fetched> {
        let mut backoff = Backoff::default();
        loop {
            match self.try_manifest(reference).await {
                Ok(fetched) => return Ok(fetched),
                Err(trouble) => backoff.after(trouble).await.map_err(|trouble| trouble.error)?,
            }
        }
    }

    async fn try_manifest(&self, reference: &str) -> Result<Fetched, Trouble> {
        let (need, separator) = if is_digest(reference) { (Need::Pull, '@') } else { (Need::Resolve, ':') };
        let what = format!("{}{separator}{reference}", self.repository());
        let path = format!("/{}/manifests/{reference}", self.repository);
        let make = |line: &Line| {
            let mut call = line.call(Method::GET, &path, &[])?;
            call.headers.insert(ACCEPT, header(&MANIFESTS.join(", "))?);
            Ok(call)
        };
        let (answer, line) = self.pass(need, &what, make, &[StatusCode::OK]).await?;
        let text =
            |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let said = text(CONTENT_DIGEST);
        let media_type = text(CONTENT_TYPE.as_str());
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let read = answer.read(JSON_MAX).await;
        if read.is_err() {
            // Others may do better.
            self.distrust(line);
        }
        let bytes = read?;
        let digest = sha256(&bytes);
        let promised = [reference, &said].into_iter().find(|digest| is_digest(digest));
        match promised.filter(|promised| **promised != digest) {
            None => Ok(Fetched { bytes, digest, media_type }),
            Some(promised) => {
                let error = self.damaged(line, &what, promised, &digest);
                // There may be another endpoint to ask.
                Err(if self.distrust(line) { Trouble::passing(error) } else { Trouble::lasting(error) })
            }
        }
    }

    /// The error of bytes that are not those of their digest.
    pub(in crate::images) fn damaged(&self, line: usize, what: &str, expected: &str, found: &str) -> Error {
        let from = self.lines.get(line).map(Line::name).unwrap_or_default();
        let text = format!("{what} from {from} is damaged: its digest is {found}, not {expected}");
        Error::new(Reason::BlobDamaged, text)
    }

    /// Asks other endpoints before this one, from now on. Returns whether there is one that has not failed.
    pub(in crate::images) fn distrust(&self, line: usize) -> bool {
        if let Some(line) = self.lines.get(line) {
            line.set_failed();
        }
        self.lines.iter().any(|line| line.endpoint.capabilities.pull && !line.has_failed())
    }

    /// Begins to fetch a blob, once: `range` is where from and, if it is not the blob's end, where to (exclusive).
    /// Also returns which line it came by.
    pub(in crate::images) async fn blob(
        &self,
        digest: &str,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<(Answer, usize), Trouble> {
        let path = format!("/{}/blobs/{digest}", self.repository);
        let make = |line: &Line| {
            let mut call = line.call(Method::GET, &path, &[])?;
            if let Some((from, to)) = range {
                let to = to.map_or_else(String::new, |to| to.saturating_sub(1).to_string());
                call.headers.insert(RANGE, header(&format!("bytes={from}-{to}"))?);
            }
            Ok(call)
        };
        let accepted = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        let accepted = if range.is_some() { &accepted[..] } else { &accepted[..1] };
        self.pass(Need::Pull, &format!("the blob {digest} of {}", self.repository()), make, accepted).await
    }

    /// Asks one endpoint after the other, each once. Those that failed before come last, but the registry's own answer
    /// counts if none has it.
    async fn pass(
        &self,
        need: Need,
        what: &str,
        make: impl Fn(&Line) -> Result<Call>,
        accepted: &[StatusCode],
    ) -> Result<(Answer, usize), Trouble> {
        let able = |line: &Line| match need {
            Need::Pull => line.endpoint.capabilities.pull,
            Need::Resolve => line.endpoint.capabilities.resolve,
        };
        let mut order: Vec<_> = self.lines.iter().enumerate().filter(|(_, line)| able(line)).collect();
        order.sort_by_key(|(_, line)| line.has_failed());
        let mut verdict: Option<(bool, Trouble)> = None;
        let mut others = Vec::new();
        for (index, line) in order {
            let call = make(line)?;
            let sent = line.send(&call, &self.registries.shared.tokens).await;
            let trouble = match sent {
                Ok(answer) if accepted.contains(&answer.status) => return Ok((answer, index)),
                Ok(answer) => answer::refusal(answer, &format!("fetching {what}")).await,
                Err(trouble) => trouble,
            };
            if matches!(trouble.kind, Kind::Passing { .. }) {
                line.set_failed();
            }
            match &verdict {
                Some((true, _)) => others.push(trouble.error.message),
                _ => {
                    let before = verdict.replace((line.endpoint.is_server, trouble));
                    others.extend(before.map(|(_, trouble)| trouble.error.message));
                }
            }
        }
        let Some((_, mut trouble)) = verdict else {
            let line = format!("no host of {} may be asked for {what}", self.domain);
            return Err(Error::new(Reason::RegistryConfig, line).hint("see `capabilities` in its hosts.toml").into());
        };
        if !others.is_empty() {
            trouble.error.message = format!("{} (and before: {})", trouble.error.message, others.join("; "));
        }
        Err(trouble)
    }
}

fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|_| Error::new(Reason::Internal, "a request's header holds a control character"))
}

/// The digest of a small document.
pub(in crate::images) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
