//! `login` and `logout`.

use std::io::{self, Read as _};

use hull_proto::v1::{CheckRegistryAuthRequest, RegistryAuth};

use crate::cli::{LoginFlags, LogoutFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output;
use crate::registry::{self, DOCKER_HUB, DockerConfig, Kept};
use crate::terminal::{ask, ask_secretly, stdin_is_terminal};

/// Longest password that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// Lets the agent try credentials at a registry, and keeps them as Docker does.
pub(crate) async fn login(connect: impl Future<Output = Result<Client>>, flags: LoginFlags) -> Result<u8> {
    let registry = registry::server(flags.server.as_deref().unwrap_or(DOCKER_HUB)).to_owned();
    let mut config = DockerConfig::open()?;
    let asks = flags.username.is_none() || (flags.password.is_none() && !flags.password_stdin);
    if asks && !stdin_is_terminal() {
        return Err(Error::new("standard input is not a terminal: give --username and --password-stdin"));
    }
    let username = match flags.username {
        Some(username) => username,
        None => ask(&format!("Username for {registry}: ")).await?,
    };
    let password = match flags.password {
        Some(password) => {
            output::warn("a password on the command line may be seen by others on this machine; use --password-stdin");
            password
        }
        None if flags.password_stdin => password_from_stdin()?,
        None => ask_secretly("Password: ").await?,
    };
    if username.is_empty() || password.is_empty() {
        return Err(Error::new("user name and password must not be empty"));
    }
    let mut auth = RegistryAuth { username, password, ..RegistryAuth::default() };
    let request = CheckRegistryAuthRequest { registry: registry.clone(), auth: Some(auth.clone()) };
    let token = connect.await?.images().check_registry_auth(request).await?.into_inner().identity_token;
    if !token.is_empty() {
        auth.password.clear();
        auth.identity_token = token;
    }
    if let Kept::File(path) = config.store(&registry, &auth)? {
        output::warn(&format!(
            "the credentials are kept unencrypted in {}; a credential helper would hide them",
            path.display()
        ));
    }
    output::line("Login Succeeded")?;
    Ok(0)
}

/// Forgets credentials.
pub(crate) fn logout(flags: LogoutFlags) -> Result<u8> {
    let registry = registry::server(flags.server.as_deref().unwrap_or(DOCKER_HUB)).to_owned();
    let known = DockerConfig::open()?.erase(&registry)?;
    output::line(&if known {
        format!("Removed login credentials for {registry}")
    } else {
        format!("Not logged in to {registry}")
    })?;
    Ok(0)
}

/// All of standard input but the end of its last line.
fn password_from_stdin() -> Result<String> {
    let mut password = String::new();
    let read = io::stdin().lock().take(LONGEST).read_to_string(&mut password);
    read.map_err(|error| Error::new(format!("reading the password: {error}")))?;
    let password = password.strip_suffix('\n').unwrap_or(&password);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_owned())
}
