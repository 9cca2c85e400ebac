//! Names of images: Docker's grammar and normalisation.
//!
//! `name[:tag][@digest]`, where name is `[host[:port]/]path/of/components`. "busybox" means
//! "docker.io/library/busybox:latest". Grammar: distribution/reference; a host is told from a path component by a dot,
//! a colon, an upper-case letter or being "localhost".

use std::fmt;

use crate::error::{Error, Result};

/// Longest name without tag and digest.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;
const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// A normalized reference; [`fmt::Display`] gives the text that names an image everywhere in hull.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Reads and normalizes a reference.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` that says which part is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |problem: &str| Error::invalid("image", format_args!("{text:?} is no reference: {problem}"));
        if text.len() > NAME_MAX + TAG_MAX + 80 {
            return Err(Error::invalid("image", "a reference is at most 463 bytes long"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(wrong("after @ comes sha256: and 64 lower-case hexadecimal digits")),
            None => (text, None),
        };
        // A colon before the last slash belongs to the host's port.
        let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path_start..].find(':') {
            Some(colon) => (&rest[..path_start + colon], Some(&rest[path_start + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "a tag is up to 128 letters, digits, dots, dashes and underscores, not starting with . or -",
            ));
        }
        let (domain, path) = split_domain(name);
        if !is_domain(&domain) {
            return Err(wrong("the host is not host[:port]"));
        }
        if !path.split('/').all(is_component) {
            return Err(wrong("a name is lower-case letters and digits, separated by one . or _, two _, or dashes"));
        }
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(wrong("the name is longer than 255 bytes"));
        }
        if digest.is_none() && is_hex(name, 64) {
            return Err(wrong("64 hexadecimal digits are a digest, not a name"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { domain, path, tag, digest })
    }

    /// The registry, "docker.io" or "host:port".
    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's name there, "library/alpine".
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Registry and repository.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, by default "latest" where there is no digest.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The name that an image has by it: none if a digest pins it.
    pub(crate) fn name(&self) -> Option<String> {
        self.digest.is_none().then(|| self.to_string())
    }

    /// The digest that it pins.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether `text` is "sha256:" and 64 lower-case hexadecimal digits.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}/{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        // The colons of an address in brackets are not a port's.
        Some((host, port)) if !domain.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// Lower-case letters and digits, in runs separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let runs_at_the_ends =
        component.bytes().next().is_some_and(alphanumeric) && component.bytes().last().is_some_and(alphanumeric);
    let separators = component.split(|c: char| u8::try_from(c).is_ok_and(alphanumeric)).filter(|run| !run.is_empty());
    runs_at_the_ends
        && separators.into_iter().all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> String {
        Reference::parse(text).unwrap().to_string()
    }

    #[test]
    fn names_are_normalized_as_docker_does() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        for (text, expected) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("demo/busybox:1", "docker.io/demo/busybox:1"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("docker.io/library/busybox", "docker.io/library/busybox:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("LOCALHOST/x", "LOCALHOST/x:latest"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("127.0.0.1:5000/a/b/c:T_1.x-y", "127.0.0.1:5000/a/b/c:T_1.x-y"),
            ("[2001:db8::1]:5000/a", "[2001:db8::1]:5000/a:latest"),
            ("[2001:db8::1]/a", "[2001:db8::1]/a:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
        ] {
            assert_eq!(normal(text), expected);
        }
        assert_eq!(normal(&format!("busybox@{digest}")), format!("docker.io/library/busybox@{digest}"));
        assert_eq!(normal(&format!("busybox:1@{digest}")), format!("docker.io/library/busybox:1@{digest}"));
        let pinned = Reference::parse(&format!("busybox:1@{digest}")).unwrap();
        assert_eq!(pinned.digest(), Some(digest.as_str()));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            " ",
            ":tag",
            "/x",
            "x/",
            "x//y",
            "Busybox",
            "a/Busybox",
            "busybox:",
            "busybox:-x",
            "busybox:.x",
            "busybox: x",
            "busybox@",
            "busybox@sha256:12",
            "busybox@md5:0123",
            "a..b",
            "a___b",
            "a_-b",
            "-a",
            "a-",
            "a\n",
            "a\0b",
            "../a",
            "./a",
            "a/../b",
            "host:port/a",
            "host:/a",
            "host.:5/a",
            "-h.x/a",
            "[::1/a",
            "[zz]:1/a",
            "a:b/c:d:e",
            "ä",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
        assert!(Reference::parse(&"a".repeat(64)).is_err(), "64 hexadecimal digits");
        assert!(Reference::parse(&"g".repeat(256)).is_err(), "too long");
        assert!(Reference::parse(&format!("x:{}", "t".repeat(129))).is_err(), "tag too long");
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(
            text in "([a-z0-9.-]{1,10}(:[0-9]{1,5})?/)?[a-z0-9._-]{1,12}(/[a-z0-9._-]{1,8}){0,2}(:[A-Za-z0-9_.-]{1,8})?"
        ) {
            if let Ok(reference) = Reference::parse(&text) {
                let normal = reference.to_string();
                prop_assert_eq!(Reference::parse(&normal).unwrap(), reference);
                prop_assert!(normal.split('/').all(|part| !part.starts_with('.')));
            }
        }

        #[test]
        fn any_text_is_read_without_harm(text in ".{0,60}") {
            drop(Reference::parse(&text));
        }
    }
}
