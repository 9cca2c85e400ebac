//! Completion on the command line: scripts that ask this program, which asks the agent for names.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use hull_proto::v1::{ContainerFilter, ListContainersRequest, ListImagesRequest};

use crate::cli::{Cli, Connection};
use crate::client::Client;
use crate::context::Store;
use crate::error::{Error, Result};
use crate::output::REASONS;
use crate::output::docker::familiar;

/// Names the shell that asks; set by the scripts.
const VARIABLE: &str = "HULLCTL_COMPLETE";
/// How long an agent is waited for: a person waits, too, and would rather have nothing.
const PATIENCE: Duration = Duration::from_millis(400);
/// Most names that are shown.
const MOST: i32 = 1000;

/// Answers a shell, if it is one that asks.
pub(crate) fn answer() -> Option<Result<()>> {
    std::env::var_os(VARIABLE)?;
    let env = CompleteEnv::with_factory(Cli::command).var(VARIABLE).bin("hullctl").completer("hullctl");
    let dir = std::env::current_dir().ok();
    match env.try_complete(std::env::args_os(), dir.as_deref()) {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(error) => Some(Err(Error::new(format!("completing: {error}")))),
    }
}

/// The script for a shell.
pub(crate) fn script(shell: Shell) -> Result<String> {
    let name = shell.to_string();
    let unknown = || Error::new(format!("{name}: no completion for this shell"));
    let shells = Shells::builtins();
    let completer = shells.completer(&name).ok_or_else(unknown)?;
    let mut script = Vec::new();
    let written = completer.write_registration(VARIABLE, "hullctl", "hullctl", "hullctl", &mut script);
    written.map_err(|error| Error::new(format!("the completion script: {error}")))?;
    String::from_utf8(script).map_err(|_| Error::new("the completion script is not UTF-8"))
}

/// Completes names of containers.
pub(crate) fn containers() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = ask(async |client: Client| {
            let request = ListContainersRequest {
                filter: Some(ContainerFilter::default()),
                page_size: MOST,
                ..ListContainersRequest::default()
            };
            let page = client.containers().list_containers(request).await.ok()?.into_inner();
            Some(page.containers.into_iter().map(|container| container.name).collect())
        });
        fitting(current, names)
    })
}

/// Completes names of images.
pub(crate) fn images() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = ask(async |client: Client| {
            let request = ListImagesRequest { page_size: MOST, ..ListImagesRequest::default() };
            let page = client.images().list_images(request).await.ok()?.into_inner();
            Some(page.images.iter().flat_map(|image| &image.names).map(|name| familiar(name).to_owned()).collect())
        });
        fitting(current, names)
    })
}

/// Completes names of contexts.
pub(crate) fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| fitting(current, Store::open().names().unwrap_or_default()))
}

/// Completes reasons of errors.
pub(crate) fn reasons() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let upper = current.to_string_lossy().to_ascii_uppercase();
        fitting(OsStr::new(&upper), REASONS.iter().map(|reason| reason.code.to_owned()).collect())
    })
}

/// Names that begin with what is there. A name that a shell would take for something else is left out.
fn fitting(current: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let harmless = |name: &String| !name.is_empty() && !name.starts_with('-') && !name.contains(char::is_control);
    names.into_iter().filter(|name| name.starts_with(current) && harmless(name)).map(CompletionCandidate::new).collect()
}

/// What the agent says in time, else nothing.
fn ask(question: impl AsyncFnOnce(Client) -> Option<Vec<String>>) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let connection = connection(std::env::args_os());
    let answer = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, async { question(Client::connect(&connection).await.ok()?).await }).await
    });
    // A name service that hangs has a thread of its own.
    runtime.shutdown_background();
    answer.ok().flatten().unwrap_or_default()
}

/// Which agent the line that is completed names.
fn connection(args: impl Iterator<Item = OsString>) -> Connection {
    let mut connection = Connection::default();
    let mut words = args.skip_while(|word| word != "--").map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || value.clone().or_else(|| words.next());
        match flag {
            "-H" | "--host" => connection.host = value(),
            "--context" => connection.context = value(),
            "--tls-ca" => connection.tls_ca = value().map(PathBuf::from),
            "--tls-cert" => connection.tls_cert = value().map(PathBuf::from),
            "--tls-key" => connection.tls_key = value().map(PathBuf::from),
            _ => {}
        }
    }
    connection
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_the_one_of_the_line() {
        let words = ["hullctl", "--", "hullctl", "-H", "unix:///x", "--tls-ca=/ca", "rm", "--context"];
        let connection = connection(words.iter().map(OsString::from));
        assert_eq!((connection.host.as_deref(), connection.tls_ca), (Some("unix:///x"), Some("/ca".into())));
        assert_eq!(connection.context, None);
    }

    #[test]
    fn candidates_begin_with_what_is_there() {
        let names = vec!["web".to_owned(), "wob".to_owned(), "-rf".to_owned(), "we\nb".to_owned()];
        assert_eq!(fitting(OsStr::new("we"), names.clone()).len(), 1);
        assert_eq!(fitting(OsStr::new(""), names).len(), 2);
    }

    #[test]
    fn every_shell_has_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = script(shell).unwrap();
            assert!(script.contains(VARIABLE) && script.contains("hullctl"), "{script}");
        }
    }
}
