//! Which image of an index: operating system, architecture and variant.
//!
//! An exact match wins; then the image of the highest variant that the wanted one can run (amd64: v3 runs v2 and v1; arm64:
//! v8.2 runs v8). A variant that is not said is the lowest: v1 of amd64, v8 of arm64.

use std::fmt;

use super::document::{Descriptor, host_architecture};
use crate::error::{Error, Reason, Result};

/// What an image is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedPlatform {
    architecture: String,
    variant: Level,
}

/// A variant in the order of what runs what: major and minor number.
type Level = (u32, u32);

impl Default for WantedPlatform {
    fn default() -> Self {
        Self { architecture: host_architecture().to_owned(), variant: host_level() }
    }
}

impl fmt::Display for WantedPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture)
    }
}

impl WantedPlatform {
    /// Reads "os/architecture[/variant]".
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is none, `UNSUPPORTED_FEATURE` for one that this node cannot run.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (*os, *architecture, ""),
            [os, architecture, variant] => (*os, *architecture, *variant),
            _ => return Err(Error::invalid("platform", format_args!("{text:?} is not os/architecture[/variant]"))),
        };
        let architecture = normal(architecture);
        let Some(level) = level(architecture, variant) else {
            return Err(Error::invalid("platform", format_args!("{architecture} has no variant {variant:?}")));
        };
        let host = Self::default();
        if os != "linux" || architecture != host.architecture || level > host.variant {
            let line = format!("this node is {host} and cannot run {text}");
            return Err(Error::new(Reason::UnsupportedFeature, line));
        }
        // Without a variant, the best that this node can run.
        let variant = if variant.is_empty() { host.variant } else { level };
        Ok(Self { architecture: architecture.to_owned(), variant })
    }

    /// How well an image of an index fits, if it does. Attestations say that they are for "unknown".
    fn fit(&self, descriptor: &Descriptor) -> Option<Level> {
        let Some(platform) = &descriptor.platform else { return Some((0, 0)) };
        if platform.os != "linux" || normal(&platform.architecture) != self.architecture {
            return None;
        }
        let level = level(&self.architecture, platform.variant.as_deref().unwrap_or_default())?;
        (level <= self.variant).then_some(level)
    }

    /// The entry of an index to use: of the best ones the first. What stands beside an image, such as signatures, is no choice.
    ///
    /// # Errors
    /// `UNSUPPORTED_FEATURE` if none fits.
    pub(super) fn choose<'a>(&self, entries: &'a [Descriptor]) -> Result<&'a Descriptor> {
        let mut best: Option<(Level, &Descriptor)> = None;
        for entry in entries.iter().filter(|entry| is_image(entry)) {
            if let Some(level) = self.fit(entry)
                && best.is_none_or(|(so_far, _)| level > so_far)
            {
                best = Some((level, entry));
            }
        }
        best.map(|(_, entry)| entry).ok_or_else(|| {
            let line = format!("none of the {} images of the index is for {self}", entries.len());
            let has: Vec<_> =
                entries.iter().filter_map(|entry| entry.platform.as_ref()).map(ToString::to_string).collect();
            let error = Error::new(Reason::UnsupportedFeature, line);
            if has.is_empty() { error } else { error.hint(format!("it has {}", has.join(", "))) }
        })
    }
}

fn is_image(entry: &Descriptor) -> bool {
    matches!(super::media::document(&entry.media_type), Ok(Some(_)))
}

/// Other names of architectures.
fn normal(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The level that a variant means; `None` for one that does not exist.
fn level(architecture: &str, variant: &str) -> Option<Level> {
    let text = match (architecture, variant) {
        ("amd64", "") => "v1",
        ("arm64", "" | "8") => "v8",
        (_, "") => return Some((0, 0)),
        (_, variant) => variant,
    };
    let (major, minor) = text.strip_prefix('v')?.split_once('.').unwrap_or((text.strip_prefix('v')?, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What this node's processor runs.
#[cfg(target_arch = "x86_64")]
fn host_level() -> Level {
    let v2 = is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("cmpxchg16b");
    let v3 = v2
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    (1 + u32::from(v2) + u32::from(v3) + u32::from(v4), 0)
}

#[cfg(not(target_arch = "x86_64"))]
fn host_level() -> Level {
    level(host_architecture(), "").unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::document::Platform;
    use crate::images::media::OCI_MANIFEST;

    fn entry(os: &str, architecture: &str, variant: &str) -> Descriptor {
        Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: format!("sha256:{os}{architecture}{variant}"),
            size: 1,
            platform: Some(Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: (!variant.is_empty()).then(|| variant.to_owned()),
            }),
            annotations: None,
        }
    }

    fn wanted(architecture: &str, variant: &str) -> WantedPlatform {
        WantedPlatform { architecture: architecture.into(), variant: level(architecture, variant).unwrap() }
    }

    fn chosen(wanted: &WantedPlatform, entries: &[Descriptor]) -> Option<String> {
        wanted.choose(entries).ok().map(|entry| entry.platform.as_ref().unwrap().to_string())
    }

    #[test]
    fn the_best_variant_that_runs_is_chosen() {
        let amd64 = ["", "v2", "v3", "v4"].map(|variant| entry("linux", "amd64", variant));
        assert_eq!(chosen(&wanted("amd64", "v3"), &amd64).as_deref(), Some("linux/amd64/v3"));
        assert_eq!(chosen(&wanted("amd64", ""), &amd64).as_deref(), Some("linux/amd64"));
        assert_eq!(chosen(&wanted("amd64", "v3"), &amd64[..2]).as_deref(), Some("linux/amd64/v2"));
        assert_eq!(chosen(&wanted("amd64", "v2"), &amd64[2..]), None);
        let others = [entry("linux", "arm64", "v8"), entry("windows", "amd64", ""), entry("unknown", "unknown", "")];
        assert_eq!(chosen(&wanted("amd64", "v3"), &others), None);
        assert_eq!(chosen(&wanted("arm64", ""), &others).as_deref(), Some("linux/arm64/v8"));
        assert_eq!(chosen(&wanted("amd64", ""), &[entry("linux", "x86_64", "v1")]).as_deref(), Some("linux/x86_64/v1"));
        assert_eq!(
            chosen(&wanted("arm64", "v8.2"), &["v8", "v8.2", "v9"].map(|v| entry("linux", "arm64", v))).as_deref(),
            Some("linux/arm64/v8.2")
        );
    }

    #[test]
    fn a_choice_that_fails_says_what_there_is() {
        let error =
            wanted("amd64", "").choose(&[entry("linux", "s390x", ""), entry("linux", "arm", "v7")]).unwrap_err();
        assert!(error.to_string().ends_with("it has linux/s390x, linux/arm/v7"), "{error}");
    }

    #[test]
    fn artifacts_are_no_choice() {
        let mut signature = entry("linux", "amd64", "");
        signature.media_type = "application/vnd.example.signature".into();
        wanted("amd64", "").choose(&[signature]).unwrap_err();
    }

    #[test]
    fn wishes_are_read() {
        let host = host_architecture();
        assert_eq!(WantedPlatform::parse(&format!("linux/{host}")).unwrap(), WantedPlatform::default());
        for (text, reason) in [
            ("linux", Reason::InvalidArgument),
            ("linux/amd64/v1/x", Reason::InvalidArgument),
            ("linux/amd64/x1", Reason::InvalidArgument),
            ("windows/amd64", Reason::UnsupportedFeature),
            ("linux/s390x", Reason::UnsupportedFeature),
            ("linux/amd64/v9", Reason::UnsupportedFeature),
        ] {
            assert_eq!(WantedPlatform::parse(text).unwrap_err().reason, reason, "{text}");
        }
    }
}
