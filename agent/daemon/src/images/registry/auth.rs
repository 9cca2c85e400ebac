//! Takes up a registry's challenge, and remembers what it took until that expires.
//!
//! ```text
//! request ──> 401 Basic  ──> request with user and password
//!         ──> 401 Bearer ──> realm, with user and password (GET) or a refresh token (POST) ──> request with the token
//! ```
//!
//! Nothing of it is written down. Passwords go to https only, or to where the registry itself is plain http.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::answer;
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::retry::{Kind, Trouble};
use super::transport::{Call, Payload, Transport, shown};
use crate::error::{Error, Reason, Result};

/// Most bytes of a token server's answer.
const TOKEN_MAX: usize = 64 << 10;
/// How long a token holds whose server does not say; also how long one holds at least, by the specification.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long a registry's wish for Basic is remembered.
const BASIC_LIFETIME: Duration = Duration::from_secs(600);
/// Time before its end at which a token is not used any more.
const MARGIN: Duration = Duration::from_secs(5);
/// Most tokens that are remembered.
const TOKENS_MAX: usize = 1024;
/// How the agent calls itself to token servers.
const CLIENT: &str = "hull";
/// What stands for itself in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What requests were let in with. Shared by the whole agent.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Key, Token>>);

/// For whom, where and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Scheme, host and port.
    pub(super) endpoint: String,
    pub(super) scope: String,
    pub(super) fingerprint: [u8; 32],
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.lock().len())
    }
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &Key) -> Option<HeaderValue> {
        let tokens = self.lock();
        let token = tokens.get(key).filter(|token| token.until > Instant::now())?;
        Some(token.header.clone())
    }

    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn put(&self, key: Key, header: HeaderValue, lifetime: Duration) {
        let now = Instant::now();
        let mut tokens = self.lock();
        tokens.retain(|_, token| token.until > now);
        if tokens.len() < TOKENS_MAX {
            tokens.insert(key, Token { header, until: now + lifetime.saturating_sub(MARGIN) });
        }
    }
}

/// What a token server gives.
#[derive(Deserialize)]
struct Grant {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// A challenge taken up.
pub(super) struct Taken {
    /// Value of the Authorization header.
    pub(super) header: HeaderValue,
    /// A refresh token, if one was asked for and given.
    pub(super) refresh_token: Option<String>,
}

/// Who takes challenges up, and with what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) transport: &'a Transport,
    pub(super) tokens: &'a Tokens,
    pub(super) credentials: Option<&'a Credentials>,
    /// Whether the registry itself is plain http.
    pub(super) plain: bool,
    /// Whether a refresh token is asked for, too.
    pub(super) offline: bool,
}

impl Asker<'_> {
    /// Takes a challenge up and remembers the outcome as `key`.
    pub(super) async fn take_up(&self, challenge: &Challenge, scopes: &[String], key: Key) -> Result<Taken, Trouble> {
        let (text, lifetime, refresh_token) = match (challenge, self.credentials) {
            (Challenge::Bearer { .. }, Some(Credentials::Bearer(token))) => (format!("Bearer {token}"), LIFETIME, None),
            (Challenge::Basic, credentials) => match credentials.and_then(Credentials::basic) {
                Some(basic) => (basic, BASIC_LIFETIME, None),
                None => return Err(nobody(&key.endpoint, "asks for a user and a password").into()),
            },
            (Challenge::Bearer { realm, service, .. }, _) => {
                let grant = self.grant(realm, service.as_deref(), scopes).await?;
                let token = if grant.token.is_empty() { grant.access_token } else { grant.token };
                let lifetime = grant.expires_in.map_or(LIFETIME, Duration::from_secs).max(LIFETIME);
                (format!("Bearer {token}"), lifetime, Some(grant.refresh_token).filter(|token| !token.is_empty()))
            }
        };
        let mut header = HeaderValue::from_str(&text)
            .map_err(|_| Error::new(Reason::RegistryError, "a token or password holds bytes that no header can"))?;
        header.set_sensitive(true);
        self.tokens.put(key, header.clone(), lifetime);
        Ok(Taken { header, refresh_token })
    }

    /// Asks a token server.
    async fn grant(&self, realm: &str, service: Option<&str>, scopes: &[String]) -> Result<Grant, Trouble> {
        let uri: Uri = realm.parse().map_err(|_| wrong(format!("the realm {realm:?} is no URL")))?;
        if uri.host().is_none()
            || !(uri.scheme_str() == Some("https") || (self.plain && uri.scheme_str() == Some("http")))
        {
            return Err(wrong(format!("the realm {realm:?} is not https")).into());
        }
        let mut fields: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
        fields.push(("client_id", CLIENT));
        let call = match self.credentials {
            Some(Credentials::Identity(token)) => {
                fields.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
                let joined = scopes.join(" ");
                fields.push(("scope", &joined));
                post(uri, &fields)
            }
            credentials => {
                fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
                if let Some(Credentials::Password { username, .. }) = credentials {
                    fields.push(("account", username));
                }
                if self.offline {
                    fields.push(("offline_token", "true"));
                }
                get(&uri, &fields)?
            }
        };
        let basic = self.credentials.and_then(Credentials::basic).map(|basic| HeaderValue::from_str(&basic));
        let basic = basic.transpose().map_err(|_| wrong("the password holds bytes that no header can".to_owned()))?;
        let answer = self.transport.send(&call, basic.as_ref()).await?;
        if answer.status == StatusCode::UNAUTHORIZED || answer.status == StatusCode::FORBIDDEN {
            if self.credentials.is_none() {
                return Err(nobody(&shown(&call.uri), "gives no token to anybody").into());
            }
            let line = format!("{} does not take these credentials", shown(&call.uri));
            return Err(Error::new(Reason::RegistryUnauthenticated, line).hint("log in again").into());
        }
        if answer.status != StatusCode::OK {
            let mut refusal = answer::refusal(answer, "asking for a token").await;
            if refusal.kind == Kind::Missing {
                // It is not the image that is missing.
                (refusal.kind, refusal.error.reason) = (Kind::Final, Reason::RegistryError);
            }
            return Err(refusal);
        }
        let bytes = answer.read(TOKEN_MAX).await?;
        // The parser's own words could quote the token.
        let grant: Grant =
            serde_json::from_slice(&bytes).map_err(|_| wrong(format!("{} gives no token", shown(&call.uri))))?;
        if grant.token.is_empty() && grant.access_token.is_empty() {
            return Err(wrong(format!("{} gives no token", shown(&call.uri))).into());
        }
        Ok(grant)
    }
}

/// The error of a registry that wants to know who asks, when nobody said so.
pub(super) fn nobody(endpoint: &str, wants: &str) -> Error {
    let line = format!("{endpoint} {wants}, and there are no credentials for it");
    Error::new(Reason::RegistryUnauthenticated, line).hint("log in, or name a Docker config with registry-auth-file")
}

fn wrong(problem: String) -> Error {
    Error::new(Reason::RegistryError, problem)
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, QUERY)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A URL with more in its query.
pub(super) fn with_query(base: &str, fields: &[(&str, &str)]) -> Result<Uri> {
    let separator = match (fields, base.contains('?')) {
        ([], _) => "",
        (_, true) => "&",
        (_, false) => "?",
    };
    let text = format!("{base}{separator}{}", form(fields));
    text.parse().map_err(|_| wrong(format!("{base} with what has to be added to it is no URL")))
}

fn get(uri: &Uri, fields: &[(&str, &str)]) -> Result<Call> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    Ok(Call { method: Method::GET, uri: with_query(&uri.to_string(), fields)?, headers, payload: Payload::Empty })
}

fn post(uri: Uri, fields: &[(&str, &str)]) -> Call {
    let headers = HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
    ]);
    Call { method: Method::POST, uri, headers, payload: Payload::Bytes(Bytes::from(form(fields))) }
}

/// The scopes to ask for: this agent's own for the repository, which know all that will be done, and what else the registry
/// says is needed.
pub(super) fn scopes(own: &[String], challenge: &Challenge) -> Vec<String> {
    let mut scopes = own.to_vec();
    if let Challenge::Bearer { scope: Some(asked), .. } = challenge {
        let names = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_owned());
        for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
            if !scopes.iter().any(|own| names(own) == names(scope)) {
                scopes.push(scope.to_owned());
            }
        }
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let uri = "https://auth.example/token?x=1".parse().unwrap();
        let call = get(&uri, &[("scope", "repository:a/b:pull,push"), ("account", "a&b=ü ")]).unwrap();
        assert_eq!(
            call.uri.to_string(),
            "https://auth.example/token?x=1&scope=repository%3Aa%2Fb%3Apull%2Cpush&account=a%26b%3D%C3%BC%20"
        );
    }

    #[test]
    fn own_scopes_win_for_the_same_repository() {
        let own = ["repository:a/b:pull,push".to_owned()];
        let challenge =
            |scope: &str| Challenge::Bearer { realm: String::new(), service: None, scope: Some(scope.into()) };
        assert_eq!(scopes(&own, &challenge("repository:a/b:pull")), own);
        assert_eq!(
            scopes(&own, &challenge("repository:proxy/a/b:pull registry:x:*")),
            ["repository:a/b:pull,push", "repository:proxy/a/b:pull", "registry:x:*"]
        );
    }

    #[test]
    fn tokens_expire() {
        let tokens = Tokens::default();
        let key = |scope: &str| Key { endpoint: "https://r".into(), scope: scope.into(), fingerprint: [0; 32] };
        let header = HeaderValue::from_static("Bearer x");
        tokens.put(key("a"), header.clone(), LIFETIME);
        tokens.put(key("b"), header.clone(), MARGIN);
        assert_eq!(tokens.get(&key("a")), Some(header));
        assert_eq!(tokens.get(&key("b")), None);
        tokens.forget(&key("a"));
        assert_eq!(tokens.get(&key("a")), None);
        assert!(!format!("{tokens:?}").contains("Bearer"));
    }
}
