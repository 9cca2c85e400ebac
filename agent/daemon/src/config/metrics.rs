//! Where metrics are told, and what of containers' labels.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::error::{Error, Result};

/// Most labels of containers that metrics carry: each is on every line.
const MAX_LABELS: usize = 32;
/// Longest key of one.
const MAX_KEY: usize = 256;

/// Where and what metrics tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetricsConfig {
    pub(crate) listen: SocketAddr,
    /// Labels of containers, and under which name metrics carry them.
    pub(crate) labels: BTreeMap<String, String>,
}

pub(super) fn check(listen: Option<&str>, open: bool, keys: Vec<String>) -> Result<Option<MetricsConfig>> {
    let labels = labels(keys)?;
    let Some(address) = listen else {
        let useless = if open { Some("metrics-open") } else { (!labels.is_empty()).then_some("metrics-label") };
        return match useless {
            Some(key) => Err(Error::invalid(key, "says nothing without metrics-listen")),
            None => Ok(None),
        };
    };
    let wrong = |problem: &str| Error::invalid("metrics-listen", format!("{address}: {problem}"));
    let listen: SocketAddr = address.parse().map_err(|_| wrong("is not IP:PORT"))?;
    if !listen.ip().is_loopback() && !open {
        let problem = "is not a loopback address, and whoever reaches it would be told of every container";
        return Err(
            wrong(problem).hint("add metrics-open if that is meant, or put a proxy that asks who it is before it")
        );
    }
    Ok(Some(MetricsConfig { listen, labels }))
}

fn labels(keys: Vec<String>) -> Result<BTreeMap<String, String>> {
    let wrong = |problem: String| Error::invalid("metrics-label", problem);
    if keys.len() > MAX_LABELS {
        return Err(wrong(format!("more than {MAX_LABELS} are named")));
    }
    let (mut labels, mut names) = (BTreeMap::new(), BTreeMap::new());
    for key in keys {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(wrong(format!("{key:?} is empty or longer than {MAX_KEY} bytes")));
        }
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let name: String = "container_label_".chars().chain(key.chars().map(letter)).collect();
        match names.insert(name.clone(), key.clone()) {
            Some(other) if other != key => return Err(wrong(format!("{other:?} and {key:?} would both be {name}"))),
            _ => labels.insert(key, name),
        };
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(keys: &[&str]) -> Result<Option<MetricsConfig>> {
        check(Some("127.0.0.1:9471"), false, keys.iter().map(|key| (*key).to_owned()).collect())
    }

    #[test]
    fn nothing_is_told_to_others_unasked() {
        assert_eq!(check(None, false, Vec::new()), Ok(None));
        for loopback in ["127.0.0.1:9471", "127.9.9.9:1", "[::1]:9471"] {
            assert!(check(Some(loopback), false, Vec::new()).unwrap().is_some(), "{loopback}");
        }
        for other in ["0.0.0.0:9471", "[::]:9471", "192.0.2.1:9471"] {
            let error = check(Some(other), false, Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with("metrics-listen: ") && error.contains("metrics-open"), "{error}");
            assert!(check(Some(other), true, Vec::new()).unwrap().is_some(), "{other}");
        }
        for wrong in ["", "9471", "localhost:9471", "127.0.0.1", "tcp://127.0.0.1:9471"] {
            assert!(check(Some(wrong), false, Vec::new()).is_err(), "{wrong}");
        }
        assert!(check(None, true, Vec::new()).unwrap_err().message.starts_with("metrics-open: "));
        assert!(check(None, false, vec!["a".into()]).unwrap_err().message.starts_with("metrics-label: "));
    }

    #[test]
    fn labels_have_names_that_metrics_can_carry() {
        let labels = named(&["app", "io.kubernetes.pod/name", "app"]).unwrap().unwrap().labels;
        let names: Vec<&str> = labels.values().map(String::as_str).collect();
        assert_eq!(names, ["container_label_app", "container_label_io_kubernetes_pod_name"]);
        for wrong in [vec!["a.b", "a-b"], vec![""], vec!["x"; 33]] {
            assert!(named(&wrong).unwrap_err().message.starts_with("metrics-label: "), "{wrong:?}");
        }
    }
}
