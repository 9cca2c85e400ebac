//! Where a registry is reached: containerd's `certs.d/HOST/hosts.toml`.
//!
//! ```text
//! server = "https://registry-1.docker.io"      the registry itself; the keys of a host hold for it, too
//! [host."https://mirror.example"]              tried before it, in the order of the file
//!   capabilities = ["pull", "resolve"]         default: pull, resolve and push
//!   ca = "mirror.pem"                          one file or several; relative to the directory
//!   client = [["cert.pem", "key.pem"]]         or one file with both
//!   skip_verify = false
//!   override_path = false                      whether the URL's path stands for "/v2"
//!   dial_timeout = "10s"
//!   [host."https://mirror.example".header]
//!     x-team = "build"
//! ```
//!
//! Keys that are not known are refused, as they may be meant to make a connection safer. Plain http is spoken where the file
//! says `http://`, and to loopback addresses.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::error::{Error, Reason, Result};

/// Docker's registry, and where its API is.
const DOCKER: &str = "docker.io";
const DOCKER_API: &str = "registry-1.docker.io";
/// The directory for registries that have none of their own.
const DEFAULT_DIRECTORY: &str = "_default";
const FILE: &str = "hosts.toml";
/// Most bytes of the file.
const FILE_MAX: u64 = 1 << 20;
/// Most mirrors of a registry.
const HOSTS_MAX: usize = 32;
/// Time that a connection has to come about.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// One place that serves a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) scheme: Scheme,
    /// "host" or "host:port".
    pub(super) authority: String,
    /// Path before "/NAME/manifests/…", such as "/v2"; no slash at its end.
    pub(super) prefix: String,
    pub(super) capabilities: Capabilities,
    /// Whether it is the registry itself and no mirror.
    pub(super) is_server: bool,
    /// The registry's name, for endpoints that serve several.
    pub(super) namespace: Option<String>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) tls: TlsFiles,
    pub(super) dial_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What an endpoint is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Blobs, and manifests by digest.
    pub(super) pull: bool,
    /// Manifests by tag.
    pub(super) resolve: bool,
    pub(super) push: bool,
}

/// Files for TLS, as the configuration names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// Authorities beside the system's.
    pub(super) authorities: Vec<PathBuf>,
    /// Certificate and key; the same file twice if it holds both.
    pub(super) client: Vec<(PathBuf, PathBuf)>,
    pub(super) skip_verify: bool,
}

/// hosts.toml.
#[derive(Debug, Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    keys: toml::Table,
}

/// What can be said of a host.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany<PathBuf>>,
    client: Option<Client>,
    skip_verify: bool,
    override_path: bool,
    dial_timeout: Option<String>,
    header: BTreeMap<String, OneOrMany<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// A file with certificate and key, several of those, or pairs of files.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    File(PathBuf),
    Files(Vec<PathBuf>),
    Pairs(Vec<(PathBuf, PathBuf)>),
}

/// The endpoints of the registry `domain`, in the order in which they are tried; the registry itself comes last.
pub(super) fn endpoints(directory: &Path, domain: &str) -> Result<Vec<Endpoint>> {
    for name in directories(domain) {
        let directory = directory.join(name);
        let path = directory.join(FILE);
        match read(&path) {
            Ok(text) => return parse(&text, &directory, domain),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => {}
            Err(error) => return Err(refused(&path, format_args!("cannot be read: {error}"))),
        }
    }
    Ok(vec![Endpoint::plain(domain)])
}

fn read(path: &Path) -> io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > FILE_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_MAX} bytes")));
    }
    fs::read_to_string(path)
}

/// Names of the directory that a registry may have; the first that is there counts. Not every file system takes a colon.
fn directories(domain: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((host, port)) = domain.rsplit_once(':').filter(|_| !domain.ends_with(']')) {
        names.push(format!("{host}_{port}_"));
    }
    names.push(domain.to_owned());
    names.push(DEFAULT_DIRECTORY.to_owned());
    names
}

/// Reads hosts.toml.
fn parse(text: &str, directory: &Path, domain: &str) -> Result<Vec<Endpoint>> {
    let path = directory.join(FILE);
    let file: File = toml::from_str(text).map_err(|error| refused(&path, error.message()))?;
    if file.host.len() > HOSTS_MAX {
        return Err(refused(&path, format_args!("names more than {HOSTS_MAX} hosts")));
    }
    let keys = |table: toml::Table| Keys::deserialize(table).map_err(|error| refused(&path, error.message()));
    let mut endpoints = Vec::new();
    for (url, table) in file.host {
        let toml::Value::Table(table) = table else {
            return Err(refused(&path, format_args!("host.{url:?} is no table")));
        };
        endpoints.push(Endpoint::new(&url, keys(table)?, directory, domain, false)?);
    }
    let mut server =
        Endpoint::new(file.server.as_deref().unwrap_or(domain), keys(file.keys)?, directory, domain, true)?;
    if file.server.is_none() {
        server.authority = Endpoint::plain(domain).authority;
    }
    // A host that names the registry itself says more about it than the bare server does.
    if !endpoints.iter().any(|host| host.scheme == server.scheme && host.authority == server.authority) {
        endpoints.push(server);
    } else if let Some(host) = endpoints.iter_mut().find(|host| host.authority == server.authority) {
        host.is_server = true;
    }
    Ok(endpoints)
}

impl Endpoint {
    /// The registry itself, where no file says anything.
    fn plain(domain: &str) -> Self {
        Self {
            scheme: default_scheme(domain),
            authority: if domain == DOCKER { DOCKER_API.to_owned() } else { domain.to_owned() },
            prefix: "/v2".to_owned(),
            capabilities: Capabilities { pull: true, resolve: true, push: true },
            is_server: true,
            namespace: None,
            headers: Vec::new(),
            tls: TlsFiles::default(),
            dial_timeout: DIAL_TIMEOUT,
        }
    }

    fn new(url: &str, keys: Keys, directory: &Path, domain: &str, is_server: bool) -> Result<Self> {
        let path = directory.join(FILE);
        let wrong = |problem: &dyn std::fmt::Display| refused(&path, format_args!("{url:?}: {problem}"));
        let (scheme, rest) = match url.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(_) => return Err(wrong(&"a host begins with https:// or http://")),
            None => (default_scheme(url.split('/').next().unwrap_or(url)), url),
        };
        let (authority, below) = rest.split_once('/').map_or((rest, ""), |(authority, below)| (authority, below));
        let parsed = authority.parse::<http::uri::Authority>();
        if authority.contains('@') || parsed.is_err() || rest.contains(['?', '#']) {
            return Err(wrong(&"is not a host, a port and a path"));
        }
        let below = below.trim_matches('/');
        let mut prefix = if below.is_empty() { String::new() } else { format!("/{below}") };
        if !keys.override_path {
            prefix.push_str("/v2");
        }
        let own = authority == domain || (domain == DOCKER && authority == DOCKER_API);
        Ok(Self {
            scheme,
            authority: authority.to_owned(),
            prefix,
            capabilities: capabilities(keys.capabilities.as_deref()).map_err(|problem| wrong(&problem))?,
            is_server,
            namespace: (!own).then(|| domain.to_owned()),
            headers: headers(keys.header).map_err(|problem| wrong(&problem))?,
            tls: TlsFiles {
                authorities: keys.ca.map_or_else(Vec::new, OneOrMany::into_vec),
                client: client(keys.client),
                skip_verify: keys.skip_verify,
            }
            .below(directory),
            dial_timeout: match keys.dial_timeout {
                Some(text) => {
                    humantime::parse_duration(&text).map_err(|error| wrong(&format_args!("dial_timeout: {error}")))?
                }
                None => DIAL_TIMEOUT,
            },
        })
    }
}

impl TlsFiles {
    /// With paths that are relative to `directory`.
    fn below(mut self, directory: &Path) -> Self {
        let pairs = self.client.iter_mut().flat_map(|(certificate, key)| [certificate, key]);
        for path in self.authorities.iter_mut().chain(pairs) {
            *path = directory.join(&*path);
        }
        self
    }
}

fn client(client: Option<Client>) -> Vec<(PathBuf, PathBuf)> {
    match client {
        None => Vec::new(),
        Some(Client::File(both)) => vec![(both.clone(), both)],
        Some(Client::Files(files)) => files.into_iter().map(|both| (both.clone(), both)).collect(),
        Some(Client::Pairs(pairs)) => pairs,
    }
}

fn capabilities(given: Option<&[String]>) -> Result<Capabilities, String> {
    let Some(given) = given else { return Ok(Capabilities { pull: true, resolve: true, push: true }) };
    let mut capabilities = Capabilities { pull: false, resolve: false, push: false };
    for capability in given {
        match capability.as_str() {
            "pull" => capabilities.pull = true,
            "resolve" => capabilities.resolve = true,
            "push" => capabilities.push = true,
            other => return Err(format!("the capability {other:?} is neither pull, resolve nor push")),
        }
    }
    Ok(capabilities)
}

fn headers(given: BTreeMap<String, OneOrMany<String>>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (name, values) in given {
        let header: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header"))?;
        for value in values.into_vec() {
            let mut value = HeaderValue::from_str(&value).map_err(|_| format!("{name}: is no header's value"))?;
            // It may be a token.
            value.set_sensitive(true);
            headers.push((header.clone(), value));
        }
    }
    Ok(headers)
}

/// http for loopback, https for all others.
fn default_scheme(authority: &str) -> Scheme {
    if is_loopback(authority) { Scheme::Http } else { Scheme::Https }
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, _)) if !authority.ends_with(']') => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn refused(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::new(Reason::RegistryConfig, format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests;
