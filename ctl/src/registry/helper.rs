//! Credential helpers: programs `docker-credential-NAME` that keep credentials for Docker and others.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use hull_proto::v1::RegistryAuth;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What helpers say where they have nothing.
const NOTHING: &str = "credentials not found in native keychain";
/// User name that says that the secret is a refresh token.
const TOKEN: &str = "<token>";

/// Credentials as helpers write them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// What a helper has for a registry.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<RegistryAuth>> {
    let answer = match run(helper, "get", server.as_bytes())? {
        Ok(answer) => answer,
        Err(problem) if problem == NOTHING => return Ok(None),
        Err(problem) => return Err(failed(helper, "get", &problem)),
    };
    let found: Credentials =
        serde_json::from_slice(&answer).map_err(|error| failed(helper, "get", &error.to_string()))?;
    let (username, secret) = (found.username, found.secret);
    Ok(Some(match username.as_str() {
        TOKEN => RegistryAuth { identity_token: secret, ..Default::default() },
        _ => RegistryAuth { username, password: secret, ..Default::default() },
    }))
}

/// Gives credentials of a registry to a helper.
pub(super) fn store(helper: &str, server: &str, auth: &RegistryAuth) -> Result<()> {
    let (username, secret) = match auth.identity_token.as_str() {
        "" => (auth.username.as_str(), auth.password.as_str()),
        token => (TOKEN, token),
    };
    let given = Credentials { server: server.to_owned(), username: username.to_owned(), secret: secret.to_owned() };
    let given = serde_json::to_vec(&given).map_err(|error| failed(helper, "store", &error.to_string()))?;
    run(helper, "store", &given)?.map(drop).map_err(|problem| failed(helper, "store", &problem))
}

/// Lets a helper forget a registry.
pub(super) fn erase(helper: &str, server: &str) -> Result<()> {
    run(helper, "erase", server.as_bytes())?.map(drop).map_err(|problem| failed(helper, "erase", &problem))
}

fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

fn failed(helper: &str, verb: &str, problem: &str) -> Error {
    Error::new(format!("{} {verb}: {problem}", program(helper)))
}

/// Runs a helper: what it wrote or, where it failed, what it said about that.
fn run(helper: &str, verb: &str, input: &[u8]) -> Result<Result<Vec<u8>, String>> {
    let work = || -> io::Result<_> {
        let mut child = Command::new(program(helper))
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input) {
                // One that does not read it says by its exit status what that means.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        child.wait_with_output()
    };
    let output = work().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            failed(helper, verb, "there is no such program; install it, or take it out of Docker's config.json")
        }
        _ => failed(helper, verb, &error.to_string()),
    })?;
    if output.status.success() {
        return Ok(Ok(output.stdout));
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(Err(if said.is_empty() { output.status.to_string() } else { said }))
}
