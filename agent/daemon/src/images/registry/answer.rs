//! What a registry says when it refuses: its JSON of errors, in one line of hull's.

use http::{Method, StatusCode};
use serde::Deserialize;

use super::retry::{Kind, Trouble, kind};
use super::transport::{Answer, shown};
use crate::error::{Error, Reason};

/// Most bytes of an error's body that are read.
const BODY_MAX: usize = 64 << 10;
/// Most bytes of a registry's own words in an error.
const WORDS_MAX: usize = 300;

/// The distribution specification's error document.
#[derive(Deserialize)]
struct Document {
    errors: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Makes an error of an answer that is not the one hoped for. `what` says what was being done.
pub(super) async fn refusal(answer: Answer, what: &str) -> Trouble {
    let (status, uri) = (answer.status, shown(&answer.uri));
    let kind = kind(status, &answer.headers);
    // An answer to HEAD has no body; one that cannot be read says nothing.
    let said = answer.read(BODY_MAX).await.map(|body| words(&body)).unwrap_or_default();
    let reason = match status {
        StatusCode::UNAUTHORIZED => Reason::RegistryUnauthenticated,
        StatusCode::FORBIDDEN => Reason::RegistryDenied,
        StatusCode::NOT_FOUND => Reason::ImageNotFound,
        _ if matches!(kind, Kind::Passing { .. }) => Reason::RegistryUnavailable,
        _ => Reason::RegistryError,
    };
    let separator = if said.is_empty() { "" } else { ": " };
    Trouble { error: Error::new(reason, format!("{what}: {uri} answers {status}{separator}{said}")), kind }
}

/// The registry's own words, shortened.
fn words(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Document>(body) {
        Ok(document) => {
            let items = document.errors.iter().map(|item| match (item.code.as_str(), item.message.as_str()) {
                ("", message) => message.to_owned(),
                (code, "") => code.to_owned(),
                (code, message) => format!("{code} ({message})"),
            });
            items.collect::<Vec<_>>().join(", ")
        }
        Err(_) => String::from_utf8_lossy(body).split_whitespace().collect::<Vec<_>>().join(" "),
    };
    if text.starts_with('<') {
        // A page for people.
        return String::new();
    }
    text.chars().take(WORDS_MAX).collect()
}

/// A method, for errors.
pub(super) fn doing(method: &Method, thing: &str) -> String {
    let verb = match *method {
        Method::GET => "fetching",
        Method::HEAD => "looking for",
        _ => "sending",
    };
    format!("{verb} {thing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_s_words_are_kept_short() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}},{"code":"A"}]}"#;
        assert_eq!(words(body), "MANIFEST_UNKNOWN (manifest unknown), A");
        assert_eq!(words(b"plain\n text"), "plain text");
        assert_eq!(words(b"<html>"), "");
        assert_eq!(words(&[b'x'; 5000]).len(), WORDS_MAX);
        assert_eq!(words(b""), "");
    }
}
