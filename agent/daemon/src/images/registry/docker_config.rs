//! Credentials of the node: a Docker config.json, and the helpers that it names.
//!
//! A helper `X` is the program `docker-credential-X`, which gets a registry's name on its standard input and answers with
//! JSON. It has a deadline: one that hangs holds up no pull for ever.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::credentials::Credentials;
use crate::error::{Error, Reason, Result};

/// Most bytes of the file, and of a helper's answer.
const FILE_MAX: u64 = 1 << 20;
/// Time that a helper has.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
/// Docker's own registry has this name in its config.
const DOCKER_KEYS: [&str; 3] = ["https://index.docker.io/v1/", "docker.io", "index.docker.io"];
/// The user name of an answer whose secret is a refresh token.
const TOKEN_USER: &str = "<token>";

/// config.json. Docker keeps much more in it, which is none of hull's business.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    /// base64 of "user:password".
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// A helper's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// What the config at `path` has for the registry `domain`.
pub(super) async fn credentials(path: &Path, domain: &str) -> Result<Option<Credentials>> {
    let wrong = |problem: String| Error::new(Reason::RegistryConfig, format!("{}: {problem}", path.display()));
    let mut text = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(|error| wrong(format!("cannot be opened: {error}")))?;
    let read = file.take(FILE_MAX + 1).read_to_end(&mut text).await;
    read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if text.len() as u64 > FILE_MAX {
        return Err(wrong(format!("is larger than {FILE_MAX} bytes")));
    }
    // The parser's own words could quote a secret.
    let config: DockerConfig = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("is no Docker config (line {}, column {})", error.line(), error.column())))?;
    let keys = keys(domain);
    let helper = keys.iter().find_map(|key| Some((config.cred_helpers.get(key)?, key)));
    if let Some((helper, key)) = helper {
        return ask(helper, key).await;
    }
    if let Some(store) = &config.creds_store {
        for key in &keys {
            if let Some(found) = ask(store, key).await? {
                return Ok(Some(found));
            }
        }
    }
    match keys.iter().find_map(|key| Some((key, config.auths.get(key)?))) {
        Some((key, entry)) => entry.credentials().map_err(|problem| wrong(format!("auths.{key:?}: {problem}"))),
        None => Ok(None),
    }
}

/// Names that a registry may have in the file.
fn keys(domain: &str) -> Vec<String> {
    if DOCKER_KEYS.contains(&domain) {
        return DOCKER_KEYS.map(str::to_owned).to_vec();
    }
    vec![domain.to_owned(), format!("https://{domain}"), format!("https://{domain}/"), format!("http://{domain}")]
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Bearer(self.registrytoken.clone())));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(self.identitytoken.clone())));
        }
        if !self.auth.is_empty() {
            let decoded = STANDARD_NO_PAD.decode(self.auth.trim_end_matches('='));
            let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or("auth is not base64 of a text")?;
            let (username, password) = decoded.split_once(':').ok_or("auth is not base64 of user:password")?;
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credentials::Password { username: username.to_owned(), password }));
        }
        if self.username.is_empty() {
            return Ok(None);
        }
        Ok(Some(Credentials::Password { username: self.username.clone(), password: self.password.clone() }))
    }
}

/// Asks a helper. One that has nothing says so on its output and fails.
async fn ask(helper: &str, key: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{helper}");
    let failed = |problem: String| Error::new(Reason::RegistryConfig, format!("{program}: {problem}"));
    if helper.is_empty() || !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(failed("is no name of a credential helper".to_owned()));
    }
    let run = async {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(key.as_bytes()).await?;
        }
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(FILE_MAX).read_to_end(&mut output).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, output))
    };
    let (status, output) = match tokio::time::timeout(HELPER_TIMEOUT, run).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("did not answer within {} s", HELPER_TIMEOUT.as_secs()))),
    };
    if !status.success() {
        let said = String::from_utf8_lossy(&output);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("ended with {status}")));
    }
    let answer: Answer = serde_json::from_slice(&output).map_err(|_| failed("its answer is no JSON".to_owned()))?;
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Credentials::Identity(answer.secret),
        _ => Credentials::Password { username: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(json: &str, domain: &str) -> Result<Option<Credentials>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        credentials(file.path(), domain).await
    }

    fn user(username: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password { username: username.into(), password: password.into() })
    }

    #[tokio::test]
    async fn entries_are_found_by_every_spelling_of_the_registry() {
        let auth = STANDARD_NO_PAD.encode("ann:s3:cret") + "=";
        for key in ["r.example:5000", "https://r.example:5000", "https://r.example:5000/"] {
            let json = format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}},"HttpHeaders":{{"a":"b"}}}}"#);
            assert_eq!(of(&json, "r.example:5000").await.unwrap(), user("ann", "s3:cret"));
            assert_eq!(of(&json, "r.example").await.unwrap(), None);
        }
        let json = format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}}}}}}"#);
        assert_eq!(of(&json, "docker.io").await.unwrap(), user("ann", "s3:cret"));
    }

    #[tokio::test]
    async fn tokens_come_before_passwords() {
        let json = r#"{"auths":{"r":{"auth":"YTpi","identitytoken":"T"}}}"#;
        assert_eq!(of(json, "r").await.unwrap(), Some(Credentials::Identity("T".into())));
        assert_eq!(of(r#"{"auths":{"r":{"username":"a","password":"b"}}}"#, "r").await.unwrap(), user("a", "b"));
        assert_eq!(of(r#"{"auths":{"r":{}}}"#, "r").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_without_the_secret() {
        for json in [r#"{"auths":{"r":{"auth":"s3cret!"}}}"#, r#"{"auths":{"r":{"auth":5,"password":"s3cret"}}}"#] {
            let error = of(json, "r").await.unwrap_err();
            assert_eq!(error.reason, Reason::RegistryConfig);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        let error = of(r#"{"credsStore":"../evil"}"#, "r").await.unwrap_err();
        assert!(error.to_string().contains("is no name"), "{error}");
        let error = of(r#"{"credHelpers":{"r":"hull-has-no-such"}}"#, "r").await.unwrap_err();
        assert!(error.to_string().starts_with("docker-credential-hull-has-no-such: "), "{error}");
    }
}
