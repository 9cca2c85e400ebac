//! Docker's `config.json`: credentials of registries, or the names of the helpers that keep them.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hull_proto::v1::RegistryAuth;
use serde_json::{Map, Value, json};

use super::{helper, key, server};
use crate::error::{Error, Result};

/// Name of the file in the configuration's directory.
const FILE: &str = "config.json";
const AUTHS: &str = "auths";

/// Where credentials were put.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A helper has them.
    Helper,
    /// They are in this file, unencrypted.
    File(PathBuf),
}

/// The configuration of the caller.
#[derive(Debug)]
pub(crate) struct DockerConfig {
    /// Nothing where the caller has no home.
    path: Option<PathBuf>,
    content: Map<String, Value>,
}

impl DockerConfig {
    /// Reads the configuration in DOCKER_CONFIG, by default that in the caller's home; empty where there is none.
    pub(crate) fn open() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker"))) {
            Some(dir) => Self::read(dir.join(FILE)),
            None => Ok(Self { path: None, content: Map::new() }),
        }
    }

    fn read(path: PathBuf) -> Result<Self> {
        let wrong = |error: &dyn std::fmt::Display| Error::new(format!("{}: {error}", path.display()));
        let content = match fs::read(&path) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Map::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(wrong(&error)),
        };
        Ok(Self { path: Some(path), content })
    }

    /// What there is for a registry, from its helper where it has one.
    pub(crate) fn credentials(&self, registry: &str) -> Result<Option<RegistryAuth>> {
        match self.helper(registry) {
            Some(helper) => helper::get(helper, key(registry)),
            None => self.entry(registry).map_or(Ok(None), |(name, entry)| self.parse(name, entry)),
        }
    }

    /// Keeps credentials for a registry, in its helper where it has one.
    pub(crate) fn store(&mut self, registry: &str, auth: &RegistryAuth) -> Result<Kept> {
        let Some(path) = self.path.clone() else {
            return Err(Error::new("there is no place for credentials: set HOME or DOCKER_CONFIG"));
        };
        let (kept, entry) = match self.helper(registry) {
            Some(helper) => {
                helper::store(helper, key(registry), auth)?;
                // As Docker does, so that the file tells who is known.
                (Kept::Helper, json!({}))
            }
            None => (Kept::File(path), entry(auth)),
        };
        let stale: Vec<String> = self.entries(registry).map(|(name, _)| name.clone()).collect();
        let auths = self.content.entry(AUTHS).or_insert_with(|| json!({}));
        let auths = auths.as_object_mut().ok_or_else(|| Error::new("config.json: auths is no object"))?;
        auths.retain(|name, _| !stale.contains(name));
        auths.insert(key(registry).to_owned(), entry);
        self.write()?;
        Ok(kept)
    }

    /// Forgets the credentials for a registry; whether there were any.
    pub(crate) fn erase(&mut self, registry: &str) -> Result<bool> {
        let mut known = false;
        if let Some(helper) = self.helper(registry) {
            known = helper::get(helper, key(registry))?.is_some();
            if known {
                helper::erase(helper, key(registry))?;
            }
        }
        let stale: Vec<String> = self.entries(registry).map(|(name, _)| name.clone()).collect();
        if stale.is_empty() {
            return Ok(known);
        }
        if let Some(auths) = self.content.get_mut(AUTHS).and_then(Value::as_object_mut) {
            auths.retain(|name, _| !stale.contains(name));
        }
        self.write()?;
        Ok(true)
    }

    /// Name of the helper that keeps the credentials of a registry.
    fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.content.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            let other = || helpers.iter().find(|(name, _)| server(name) == registry).map(|(_, helper)| helper);
            helpers.get(key(registry)).or_else(other)
        });
        own.or_else(|| self.content.get("credsStore")).and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    /// All entries of a registry, whichever way it is written.
    fn entries(&self, registry: &str) -> impl Iterator<Item = (&String, &Value)> {
        let auths = self.content.get(AUTHS).and_then(Value::as_object);
        auths.into_iter().flatten().filter(move |(name, _)| server(name) == registry)
    }

    /// The entry of a registry; one that is written as Docker writes it comes before others.
    fn entry(&self, registry: &str) -> Option<(&String, &Value)> {
        self.entries(registry).max_by_key(|(name, _)| name.as_str() == key(registry))
    }

    fn parse(&self, name: &str, entry: &Value) -> Result<Option<RegistryAuth>> {
        let field = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut auth = RegistryAuth {
            username: field("username"),
            password: field("password"),
            identity_token: field("identitytoken"),
            registry_token: field("registrytoken"),
        };
        let encoded = field("auth");
        if !encoded.is_empty() {
            let decoded = BASE64_STANDARD.decode(&encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let Some((username, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
                let path = self.path.as_deref().unwrap_or(Path::new(FILE)).display();
                return Err(Error::new(format!(
                    "{path}: the entry of {name} is not \"USER:PASSWORD\" in base64; log in again"
                )));
            };
            username.clone_into(&mut auth.username);
            // Some programs pad it.
            password.trim_end_matches('\0').clone_into(&mut auth.password);
        }
        Ok((auth != RegistryAuth::default()).then_some(auth))
    }

    /// Replaces the file as a whole. It is the owner's alone, as passwords may be in it.
    fn write(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let write = || -> io::Result<()> {
            // A link to it stays one.
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let dir = path.parent().unwrap_or(Path::new("/"));
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let mut file = tempfile::NamedTempFile::with_prefix_in(".config", dir)?;
            if let Ok(before) = fs::metadata(&path) {
                fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            serde_json::to_writer_pretty(&mut file, &self.content)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|error| Error::file(path, &error))
    }
}

/// Credentials as an entry of the file.
fn entry(auth: &RegistryAuth) -> Value {
    let mut entry = Map::new();
    if !auth.username.is_empty() {
        let encoded = BASE64_STANDARD.encode(format!("{}:{}", auth.username, auth.password));
        entry.insert("auth".to_owned(), encoded.into());
    }
    if !auth.identity_token.is_empty() {
        entry.insert("identitytoken".to_owned(), auth.identity_token.clone().into());
    }
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(content: &Value) -> DockerConfig {
        DockerConfig { path: None, content: content.as_object().unwrap().clone() }
    }

    fn user(username: &str, password: &str) -> RegistryAuth {
        RegistryAuth { username: username.into(), password: password.into(), ..Default::default() }
    }

    #[test]
    fn entries_are_found_however_they_are_written() {
        let entry = |text: &str| json!({"auth": BASE64_STANDARD.encode(text)});
        let config = config(&json!({"auths": {
            "https://index.docker.io/v1/": entry("hub:a"),
            "https://quay.io/v2/": entry("quay:b:c\0\0"),
            "127.0.0.1:5000": {"username": "plain", "password": "d"},
            "https://127.0.0.1:5000/": entry("other:e"),
            "token.io": {"identitytoken": "t", "auth": BASE64_STANDARD.encode("u:")},
            "empty.io": {},
        }}));
        let of = |registry: &str| config.credentials(registry).unwrap();
        assert_eq!(of("docker.io"), Some(user("hub", "a")));
        assert_eq!(of("quay.io"), Some(user("quay", "b:c")));
        assert_eq!(of("127.0.0.1:5000"), Some(user("plain", "d")));
        assert_eq!(of("token.io"), Some(RegistryAuth { identity_token: "t".into(), ..user("u", "") }));
        assert_eq!(of("empty.io"), None);
        assert_eq!(of("127.0.0.1"), None);
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_an_error() {
        let config = config(&json!({"auths": {"a.io": {"auth": "%"}, "b.io": {"auth": BASE64_STANDARD.encode("x")}}}));
        for registry in ["a.io", "b.io"] {
            assert!(config.credentials(registry).unwrap_err().to_string().contains(registry));
        }
    }

    #[test]
    fn what_is_stored_is_found_again_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.json");
        let mut config = DockerConfig::read(path.clone()).unwrap();
        assert_eq!(config.store("docker.io", &user("u", "p:w")).unwrap(), Kept::File(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let mut content: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(content["auths"]["https://index.docker.io/v1/"]["auth"], BASE64_STANDARD.encode("u:p:w"));
        content["HttpHeaders"] = json!({"X": "y"});
        content["auths"]["https://quay.io"] = json!({"auth": BASE64_STANDARD.encode("a:b")});
        fs::write(&path, content.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

        let mut config = DockerConfig::read(path.clone()).unwrap();
        config.store("quay.io", &RegistryAuth { identity_token: "t".into(), ..user("a", "") }).unwrap();
        let content: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(content["HttpHeaders"]["X"], "y");
        assert_eq!(content["auths"].as_object().unwrap().len(), 2, "the old way to write it is gone: {content}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut config = DockerConfig::read(path.clone()).unwrap();
        assert_eq!(config.credentials("quay.io").unwrap().unwrap().identity_token, "t");
        assert!(config.erase("quay.io").unwrap());
        assert!(!config.erase("quay.io").unwrap());
        let config = DockerConfig::read(path).unwrap();
        assert_eq!(config.credentials("quay.io").unwrap(), None);
        assert_eq!(config.credentials("docker.io").unwrap(), Some(user("u", "p:w")));
    }

    #[test]
    fn a_link_to_the_file_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target.json"), dir.path().join(FILE));
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        DockerConfig::read(link.clone()).unwrap().store("a.io", &user("u", "p")).unwrap();
        assert!(link.is_symlink());
        assert!(fs::read_to_string(&target).unwrap().contains("a.io"));
    }

    #[test]
    fn the_helper_of_a_registry_comes_before_that_of_all() {
        let config = config(&json!({"credsStore": "all", "credHelpers": {"https://a.io": "own", "b.io": ""}}));
        assert_eq!(config.helper("a.io"), Some("own"));
        assert_eq!(config.helper("b.io"), None);
        assert_eq!(config.helper("c.io"), Some("all"));
    }

    #[test]
    fn a_file_that_is_no_configuration_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "[]").unwrap();
        assert!(DockerConfig::read(path).unwrap_err().to_string().contains(FILE));
    }
}
