//! Which agent is meant: flags, environment, or a context, which is an agent's address that was kept under a name.

mod store;

use std::path::PathBuf;

use crate::cli::Connection;
use crate::client::Address;
use crate::error::{Error, Result};

pub(crate) use store::{Context, Store};

/// The name of what holds where nobody chose a context.
pub(crate) const DEFAULT: &str = "default";
const DEFAULT_HOST: &str = "unix:///run/hull/hull.sock";

/// An agent's address, and who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
}

/// Where the agent's address comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// The flag or HULL_HOST.
    Host(String),
    /// A context that was created.
    Context(String),
    /// Nobody chose: the socket on this machine.
    Default,
}

/// What is chosen: `--host`, then `--context`, then HULL_HOST, then HULL_CONTEXT, then what `context use` says.
pub(crate) fn chosen(connection: &Connection, store: &Store) -> Result<Chosen> {
    choose(connection, &variable, || store.current())
}

fn choose(
    connection: &Connection,
    variable: &dyn Fn(&str) -> Option<String>,
    current: impl FnOnce() -> Result<Option<String>>,
) -> Result<Chosen> {
    if let Some(host) = &connection.host {
        if connection.context.is_some() {
            return Err(Error::new("--host and --context both name an agent: give one of them"));
        }
        return Ok(Chosen::Host(host.clone()));
    }
    let context = |name: String| if name == DEFAULT { Chosen::Default } else { Chosen::Context(name) };
    if let Some(name) = &connection.context {
        return Ok(context(name.clone()));
    }
    if let Some(host) = variable("HULL_HOST") {
        return Ok(Chosen::Host(host));
    }
    let name = match variable("HULL_CONTEXT") {
        Some(name) => Some(name),
        None => current()?,
    };
    Ok(name.map_or(Chosen::Default, context))
}

/// The agent that is meant. Certificates come from the flags, then from the context, or where none is chosen, from HULL_TLS_CA,
/// HULL_TLS_CERT and HULL_TLS_KEY.
pub(crate) fn endpoint(connection: &Connection) -> Result<Endpoint> {
    let store = Store::open();
    let kept = match chosen(connection, &store)? {
        Chosen::Context(name) => store.get(&name)?.endpoint,
        Chosen::Host(host) => of_environment(host, &variable),
        Chosen::Default => of_environment(DEFAULT_HOST.to_owned(), &variable),
    };
    Ok(Endpoint {
        host: kept.host,
        tls_ca: connection.tls_ca.clone().or(kept.tls_ca),
        tls_cert: connection.tls_cert.clone().or(kept.tls_cert),
        tls_key: connection.tls_key.clone().or(kept.tls_key),
    })
}

/// What the default context means, and a host that was given.
pub(crate) fn of_environment(host: String, variable: &dyn Fn(&str) -> Option<String>) -> Endpoint {
    let file = |name| variable(name).map(PathBuf::from);
    Endpoint { host, tls_ca: file("HULL_TLS_CA"), tls_cert: file("HULL_TLS_CERT"), tls_key: file("HULL_TLS_KEY") }
}

/// The endpoint of a machine without contexts.
pub(crate) fn default_endpoint() -> Endpoint {
    of_environment(DEFAULT_HOST.to_owned(), &variable)
}

/// An environment variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Endpoint {
    /// The endpoint with absolute paths, if an agent can be reached by it.
    pub(crate) fn checked(mut self) -> Result<Self> {
        let address = Address::parse(&self.host)?;
        let files = [&mut self.tls_ca, &mut self.tls_cert, &mut self.tls_key];
        if matches!(address, Address::Tcp(_)) && files.iter().any(|file| file.is_none()) {
            return Err(Error::new("tcp:// needs mutual TLS: give --tls-ca, --tls-cert and --tls-key"));
        }
        for file in files.into_iter().flatten() {
            *file = file.canonicalize().map_err(|error| Error::file(file, &error))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(host: Option<&str>, context: Option<&str>) -> Connection {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Connection { host: owned(host), context: owned(context), tls_ca: None, tls_cert: None, tls_key: None }
    }

    fn pick(
        host: Option<&str>,
        context: Option<&str>,
        variables: &[(&str, &str)],
        used: Option<&str>,
    ) -> Result<Chosen> {
        let variable =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        choose(&connection(host, context), &variable, || Ok(used.map(str::to_owned)))
    }

    #[test]
    fn what_is_nearer_to_the_command_counts_more() {
        let (host, context) = (|text: &str| Chosen::Host(text.into()), |text: &str| Chosen::Context(text.into()));
        let all = [("HULL_HOST", "unix:///env"), ("HULL_CONTEXT", "env")];
        assert_eq!(pick(Some("unix:///flag"), None, &all, Some("used")).unwrap(), host("unix:///flag"));
        assert_eq!(pick(None, Some("flag"), &all, Some("used")).unwrap(), context("flag"));
        assert_eq!(pick(None, None, &all, Some("used")).unwrap(), host("unix:///env"));
        assert_eq!(pick(None, None, &all[1..], Some("used")).unwrap(), context("env"));
        assert_eq!(pick(None, None, &[], Some("used")).unwrap(), context("used"));
        assert_eq!(pick(None, None, &[], None).unwrap(), Chosen::Default);
        assert_eq!(pick(None, Some(DEFAULT), &all, Some("used")).unwrap(), Chosen::Default);
        assert_eq!(pick(None, None, &[("HULL_CONTEXT", DEFAULT)], Some("used")).unwrap(), Chosen::Default);
        assert!(pick(Some("unix:///flag"), Some("flag"), &[], None).is_err());
    }

    #[test]
    fn an_endpoint_that_cannot_work_is_not_kept() {
        let endpoint = |host: &str| Endpoint { host: host.into(), ..Endpoint::default() };
        assert!(endpoint("unix:///run/x.sock").checked().is_ok());
        assert!(endpoint("/run/x.sock").checked().is_err());
        assert!(endpoint("tcp://h:1").checked().unwrap_err().to_string().contains("--tls-ca"));
        let missing = Endpoint { tls_ca: Some("/nonexistent".into()), ..endpoint("unix:///x") };
        assert!(missing.checked().unwrap_err().to_string().contains("/nonexistent"));
    }
}
