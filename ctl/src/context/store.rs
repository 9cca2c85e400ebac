//! Contexts as files below `$XDG_CONFIG_HOME/hull`: `contexts/NAME.json`, and `config.json` with the one in use. Readable
//! by their owner alone, and replaced as a whole.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{DEFAULT, Endpoint};
use crate::error::{Error, Result};

const CONTEXTS: &str = "contexts";
const CONFIG: &str = "config.json";
const ENDING: &str = ".json";
/// Longest name of a context.
const MAX_NAME: usize = 128;

/// An agent's address that is kept under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) description: String,
    pub(crate) endpoint: Endpoint,
}

/// The file of a context.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ContextFile {
    #[serde(default)]
    description: String,
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_cert: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_key: Option<PathBuf>,
}

/// The file that says which one is in use.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_context: Option<String>,
}

/// Where the caller's contexts are.
#[derive(Debug)]
pub(crate) struct Store {
    /// Nothing where the caller has no home.
    dir: Option<PathBuf>,
}

impl Store {
    /// The store of the caller.
    pub(crate) fn open() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // A relative path is ignored, as the base directory specification wants it.
        let config = set("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
        Self { dir: config.or_else(|| Some(set("HOME")?.join(".config"))).map(|dir| dir.join("hull")) }
    }

    /// The context in use; nothing for the default one.
    pub(crate) fn current(&self) -> Result<Option<String>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let config: Option<ConfigFile> = read(&dir.join(CONFIG))?;
        Ok(config.and_then(|config| config.current_context).filter(|name| name != DEFAULT))
    }

    /// Uses a context from now on.
    pub(crate) fn set_current(&self, name: &str) -> Result<()> {
        let current_context = (name != DEFAULT).then(|| name.to_owned());
        if current_context.is_some() {
            self.get(name)?;
        }
        write(self.dir()?, CONFIG, &ConfigFile { current_context }, true)
    }

    /// A context.
    pub(crate) fn get(&self, name: &str) -> Result<Context> {
        check(name)?;
        let missing = || Error::new(format!("no context {name}; `hullctl context ls` shows those that there are"));
        let dir = self.dir.as_ref().ok_or_else(missing)?;
        let file: ContextFile = read(&dir.join(CONTEXTS).join(file_name(name)))?.ok_or_else(missing)?;
        let ContextFile { description, host, tls_ca, tls_cert, tls_key } = file;
        Ok(Context { description, endpoint: Endpoint { host, tls_ca, tls_cert, tls_key } })
    }

    /// Keeps a context; one of this name must be there already, or must not.
    pub(crate) fn put(&self, name: &str, context: Context, replace: bool) -> Result<()> {
        check(name)?;
        if replace {
            self.get(name)?;
        }
        let Context { description, endpoint } = context;
        let Endpoint { host, tls_ca, tls_cert, tls_key } = endpoint;
        let file = ContextFile { description, host, tls_ca, tls_cert, tls_key };
        write(&self.dir()?.join(CONTEXTS), &file_name(name), &file, replace)
    }

    /// Forgets a context.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.get(name)?;
        let path = self.dir()?.join(CONTEXTS).join(file_name(name));
        fs::remove_file(&path).map_err(|error| Error::file(&path, &error))
    }

    /// The names of all contexts, sorted, without the default one.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let dir = dir.join(CONTEXTS);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(&dir, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::file(&dir, &error))?;
            let name = entry.file_name().into_string().unwrap_or_default();
            names.extend(name.strip_suffix(ENDING).filter(|name| check(name).is_ok()).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn dir(&self) -> Result<&Path> {
        let none = || Error::new("contexts have no place: neither XDG_CONFIG_HOME nor HOME is set");
        self.dir.as_deref().ok_or_else(none)
    }
}

fn file_name(name: &str) -> String {
    format!("{name}{ENDING}")
}

/// A name that is a file name, too.
fn check(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    if name == DEFAULT {
        return Err(Error::new("the context default is there always, and cannot be changed"));
    }
    if name.len() > MAX_NAME || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(good) {
        return Err(Error::new(format!(
            "{name}: no name for a context; letters, digits and _.+- are, at most {MAX_NAME}, the first a letter or digit"
        )));
    }
    Ok(())
}

/// What a file says; nothing where there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::new(format!("{}: {error}", path.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path, &error)),
    }
}

/// Writes a file, which is there as a whole or not at all; it is its owner's alone, as temporary files are.
fn write(dir: &Path, name: &str, content: &impl Serialize, replace: bool) -> Result<()> {
    let path = dir.join(name);
    let wrong = |error: io::Error| Error::file(&path, &error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(wrong)?;
    let mut text = serde_json::to_vec_pretty(content).map_err(|error| wrong(error.into()))?;
    text.push(b'\n');
    let mut file = NamedTempFile::with_prefix_in(".hullctl", dir).map_err(wrong)?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(wrong)?;
    let persisted = if replace { file.persist(&path) } else { file.persist_noclobber(&path) };
    persisted.map(drop).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::new(format!("there is a context {} already", name.trim_end_matches(ENDING)))
        }
        _ => wrong(error.error),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store { dir: Some(dir.path().join("hull")) };
        (dir, store)
    }

    fn context(host: &str) -> Context {
        Context { description: "d".into(), endpoint: Endpoint { host: host.into(), ..Endpoint::default() } }
    }

    #[test]
    fn contexts_are_kept_changed_used_and_forgotten() {
        let (_dir, store) = store();
        assert_eq!((store.names().unwrap(), store.current().unwrap()), (vec![], None));
        store.put("b", context("unix:///b"), false).unwrap();
        store.put("a", context("unix:///a"), false).unwrap();
        assert!(store.put("a", context("unix:///x"), false).unwrap_err().to_string().contains("already"));
        assert_eq!(store.get("a").unwrap(), context("unix:///a"));
        store.put("a", context("unix:///c"), true).unwrap();
        assert_eq!(store.get("a").unwrap(), context("unix:///c"));
        assert!(store.put("c", context("unix:///c"), true).is_err());
        assert_eq!(store.names().unwrap(), ["a", "b"]);
        store.set_current("a").unwrap();
        assert_eq!(store.current().unwrap().as_deref(), Some("a"));
        assert!(store.set_current("nope").is_err());
        store.set_current(DEFAULT).unwrap();
        assert_eq!(store.current().unwrap(), None);
        store.remove("a").unwrap();
        assert!(store.remove("a").is_err() && store.names().unwrap() == ["b"]);
    }

    #[test]
    fn files_are_their_owner_s() {
        let (_dir, store) = store();
        store.put("a", context("unix:///a"), false).unwrap();
        store.set_current("a").unwrap();
        let dir = store.dir.clone().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join(CONTEXTS))), (0o700, 0o700));
        assert_eq!((mode(&dir.join(CONFIG)), mode(&dir.join("contexts/a.json"))), (0o600, 0o600));
        assert_eq!(fs::read_dir(dir.join(CONTEXTS)).unwrap().count(), 1);
    }

    #[test]
    fn names_are_file_names() {
        for good in ["a", "prod-1", "a.b_c+d", "0"] {
            check(good).unwrap();
        }
        for wrong in ["", "default", "../x", "a/b", ".a", "-a", "a b", "é", &"a".repeat(129)] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn damaged_files_are_told() {
        let (_dir, store) = store();
        store.put("a", context("unix:///a"), false).unwrap();
        let path = store.dir.clone().unwrap().join("contexts/a.json");
        fs::write(&path, "{\"host\": \"unix:///a\", \"tlsCaa\": \"x\"}").unwrap();
        assert!(store.get("a").unwrap_err().to_string().contains("tlsCaa"));
    }
}
