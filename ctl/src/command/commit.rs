//! `commit` and `diff`.

use hull_proto::v1::{ChangeKind, CommitContainerRequest, DiffContainerRequest, ImageConfig, PathChange};
use serde::Serialize;

use crate::cli::{CommitFlags, DiffFlags};
use crate::client::Client;
use crate::error::{Error, Result, one_line};
use crate::{output, spec};

/// Makes an image of a container; prints its digest.
pub(crate) async fn commit(connect: impl Future<Output = Result<Client>>, flags: CommitFlags) -> Result<u8> {
    let request = CommitContainerRequest {
        config: config(&flags.changes)?,
        container: flags.container,
        name: flags.name.unwrap_or_default(),
        author: flags.author.unwrap_or_default(),
        comment: flags.message.unwrap_or_default(),
        without_pause: !flags.pause,
    };
    let image = connect.await?.images().commit_container(request).await?.into_inner().image;
    output::line(&image.ok_or_else(|| Error::new("the agent answered without the image"))?.digest)?;
    Ok(0)
}

/// What lines of a Dockerfile say about an image's containers; nothing where there is no line.
fn config(lines: &[String]) -> Result<Option<ImageConfig>> {
    let mut config = ImageConfig::default();
    for line in lines {
        let flag = format!("--change {line}");
        let (instruction, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        if rest.is_empty() {
            return Err(Error::new(format!("{flag}: expected an instruction and what it sets")));
        }
        let words = || spec::words(&flag, rest);
        match instruction.to_ascii_uppercase().as_str() {
            "CMD" => config.cmd = command(&flag, rest)?,
            "ENTRYPOINT" => config.entrypoint = command(&flag, rest)?,
            "ENV" => {
                let pairs = pairs(&flag, rest)?;
                config.env.extend(pairs.into_iter().map(|(name, value)| format!("{name}={value}")));
            }
            "EXPOSE" => config.exposed_ports.extend(words()?.into_iter().map(port)),
            "LABEL" => config.labels.extend(pairs(&flag, rest)?),
            "STOPSIGNAL" => rest.clone_into(&mut config.stop_signal),
            "USER" => rest.clone_into(&mut config.user),
            "VOLUME" => config.volumes.extend(words()?),
            "WORKDIR" => rest.clone_into(&mut config.working_dir),
            _ => {
                let known = "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR";
                return Err(Error::new(format!("{flag}: not known; {known} are")));
            }
        }
    }
    Ok((!lines.is_empty()).then_some(config))
}

/// A JSON array as it is, anything else by the shell.
fn command(flag: &str, text: &str) -> Result<Vec<String>> {
    if text.starts_with('[') {
        return spec::words(flag, text);
    }
    Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

/// NAME=VALUE, several of them, or one as "NAME VALUE".
fn pairs(flag: &str, text: &str) -> Result<Vec<(String, String)>> {
    let words = spec::words(flag, text)?;
    let pairs = words.iter().map(|word| word.split_once('=')).collect::<Option<Vec<_>>>();
    if let Some(pairs) = pairs {
        return Ok(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    }
    match text.split_once(char::is_whitespace) {
        Some((name, value)) if !name.contains('=') => Ok(vec![(name.to_owned(), value.trim_start().to_owned())]),
        _ => Err(Error::new(format!("{flag}: expected NAME=VALUE"))),
    }
}

/// A port with its protocol.
fn port(text: String) -> String {
    if text.contains('/') { text } else { format!("{text}/tcp") }
}

/// A change, with the field names of protobuf's JSON mapping.
#[derive(Debug, Serialize)]
struct ChangeView {
    path: String,
    kind: &'static str,
}

impl From<PathChange> for ChangeView {
    fn from(change: PathChange) -> Self {
        Self { kind: change.kind().as_str_name(), path: change.path }
    }
}

/// Shows what a container changed, as Docker does: a letter and a path.
pub(crate) async fn diff(client: Client, flags: DiffFlags) -> Result<u8> {
    let request = DiffContainerRequest { container: flags.container };
    let mut answers = client.containers().diff_container(request).await?.into_inner();
    let mut views: Vec<ChangeView> = Vec::new();
    while let Some(answer) = answers.message().await? {
        if flags.output.output.is_some() {
            views.extend(answer.changes.into_iter().map(ChangeView::from));
        } else if !answer.changes.is_empty() {
            output::line(&answer.changes.iter().map(change_text).collect::<Vec<_>>().join("\n"))?;
        }
    }
    if let Some(format) = flags.output.output {
        output::data(format, &views)?;
    }
    Ok(0)
}

fn change_text(change: &PathChange) -> String {
    let letter = match change.kind() {
        ChangeKind::Unspecified => '?',
        ChangeKind::Added => 'A',
        ChangeKind::Modified => 'C',
        ChangeKind::Deleted => 'D',
    };
    // The name is the container's.
    format!("{letter} {}", one_line(&change.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Result<Option<ImageConfig>> {
        config(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn lines_of_a_dockerfile() {
        assert_eq!(lines(&[]).unwrap(), None);
        let got = lines(&[
            "CMD [\"httpd\", \"-f\"]",
            "entrypoint exec \"$0\"",
            "ENV A=1 B='2 3'",
            "ENV C with blanks",
            "EXPOSE 80 53/udp",
            "LABEL k=\"v w\"",
            "STOPSIGNAL SIGINT",
            "USER app",
            "VOLUME [\"/a\", \"/b\"]",
            "WORKDIR /srv",
        ]);
        let got = got.unwrap().unwrap();
        assert_eq!(got.cmd, ["httpd", "-f"]);
        assert_eq!(got.entrypoint, ["/bin/sh", "-c", "exec \"$0\""]);
        assert_eq!(got.env, ["A=1", "B=2 3", "C=with blanks"]);
        assert_eq!(got.exposed_ports, ["80/tcp", "53/udp"]);
        assert_eq!(got.labels["k"], "v w");
        assert_eq!((got.stop_signal.as_str(), got.user.as_str(), got.working_dir.as_str()), ("SIGINT", "app", "/srv"));
        assert_eq!(got.volumes, ["/a", "/b"]);
    }

    #[test]
    fn other_lines_are_refused() {
        for wrong in ["RUN x", "CMD", "ENV A", "ENV A=1 B", "LABEL 'a", ""] {
            let error = lines(&[wrong]).unwrap_err().to_string();
            assert!(error.starts_with("--change"), "{error}");
        }
    }
}
