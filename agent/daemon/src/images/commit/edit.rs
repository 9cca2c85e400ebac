//! The config of a committed image: its base's, whatever that holds, with what is new.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::CommitOptions;
use crate::error::{Error, Reason, Result};
use crate::images::record::ImageConfig;

/// What Docker says in a config about the container that the image was made from: of the base, not of this one.
const OF_THE_BASE: [&str; 5] = ["author", "container", "container_config", "id", "parent"];

/// A config, as far as a commit changes it.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Map<String, Value>>,
    #[serde(default)]
    history: Option<Vec<Value>>,
    rootfs: RootFs,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Edits the config of an image for one more layer.
pub(super) fn config(base: &[u8], options: &CommitOptions, diff_id: &str) -> Result<Vec<u8>> {
    let failed = |error| Error::new(Reason::Internal, format!("the config of the container's image: {error}"));
    let mut document: Document = serde_json::from_slice(base).map_err(failed)?;
    for key in OF_THE_BASE {
        document.others.remove(key);
    }
    let now = jiff::Timestamp::now().to_string();
    document.others.insert("created".into(), json!(now));
    let mut step = json!({"created": now, "created_by": options.created_by});
    if !options.author.is_empty() {
        document.others.insert("author".into(), json!(options.author));
        step["author"] = json!(options.author);
    }
    if !options.comment.is_empty() {
        step["comment"] = json!(options.comment);
    }
    change(document.config.get_or_insert_default(), &options.config);
    // Tools count on one step for each layer.
    let history = document.history.get_or_insert_default();
    let told = history.iter().filter(|step| step["empty_layer"] != json!(true)).count();
    let untold = document.rootfs.diff_ids.len().saturating_sub(told);
    history.extend(std::iter::repeat_n(json!({"comment": "made without a history"}), untold));
    history.push(step);
    document.rootfs.diff_ids.push(diff_id.to_owned());
    serde_json::to_vec(&document).map_err(failed)
}

fn change(config: &mut Map<String, Value>, with: &ImageConfig) {
    for (key, text) in [("User", &with.user), ("WorkingDir", &with.working_dir), ("StopSignal", &with.stop_signal)] {
        if !text.is_empty() {
            config.insert(key.into(), json!(text));
        }
    }
    for (key, words) in [("Entrypoint", &with.entrypoint), ("Cmd", &with.cmd)] {
        if !words.is_empty() {
            config.insert(key.into(), json!(words));
        }
    }
    let labels = with.labels.iter().map(|(key, value)| (key.clone(), json!(value)));
    let keys = |keys: &[String]| keys.iter().map(|key| (key.clone(), json!({}))).collect::<Vec<_>>();
    for (key, more) in
        [("Labels", labels.collect()), ("ExposedPorts", keys(&with.exposed_ports)), ("Volumes", keys(&with.volumes))]
    {
        if !more.is_empty() {
            let mut all = match config.remove(key) {
                Some(Value::Object(old)) => old,
                _ => Map::new(),
            };
            all.extend(more);
            config.insert(key.into(), Value::Object(all));
        }
    }
    if !with.env.is_empty() {
        let mut all = match config.remove("Env") {
            Some(Value::Array(old)) => old,
            _ => Vec::new(),
        };
        for variable in &with.env {
            let name = variable_name(variable);
            all.retain(|old| old.as_str().is_none_or(|old| variable_name(old) != name));
            all.push(json!(variable));
        }
        config.insert("Env".into(), Value::Array(all));
    }
}

fn variable_name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(base: &Value, options: &CommitOptions) -> Value {
        serde_json::from_slice(&config(base.to_string().as_bytes(), options, "sha256:new").unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_changed_is_kept_whatever_it_is() {
        let base = json!({
            "architecture": "amd64", "os": "linux", "variant": "v3", "author": "them", "container": "abc",
            "container_config": {"Cmd": ["x"]}, "created": "2001-01-01T00:00:00Z",
            "config": {"Env": ["A=1", "B=2"], "Cmd": ["old"], "Healthcheck": {"Test": ["CMD", "x"]}, "Labels": {"a": "1"}},
            "history": [{"created_by": "one"}, {"created_by": "ENV", "empty_layer": true}],
            "rootfs": {"type": "layers", "diff_ids": ["sha256:a", "sha256:b"]},
        });
        let options = CommitOptions {
            author: "us".into(),
            comment: "why".into(),
            created_by: "/bin/sh".into(),
            config: ImageConfig {
                env: vec!["B=3".into(), "C=".into()],
                entrypoint: vec!["e".into()],
                labels: [("b".to_owned(), "2".to_owned())].into(),
                exposed_ports: vec!["80/tcp".into()],
                ..ImageConfig::default()
            },
            ..CommitOptions::default()
        };
        let new = edited(&base, &options);
        let created = new["created"].clone();
        assert_eq!(
            new["config"],
            json!({
                "Env": ["A=1", "B=3", "C="], "Cmd": ["old"], "Entrypoint": ["e"], "Healthcheck": {"Test": ["CMD", "x"]},
                "Labels": {"a": "1", "b": "2"}, "ExposedPorts": {"80/tcp": {}},
            })
        );
        assert_eq!(new["rootfs"], json!({"type": "layers", "diff_ids": ["sha256:a", "sha256:b", "sha256:new"]}));
        assert_eq!(
            new["history"],
            json!([
                {"created_by": "one"}, {"created_by": "ENV", "empty_layer": true}, {"comment": "made without a history"},
                {"created": created, "created_by": "/bin/sh", "author": "us", "comment": "why"},
            ])
        );
        assert_eq!((&new["variant"], &new["author"]), (&json!("v3"), &json!("us")));
        assert!(new.get("container").is_none() && new.get("container_config").is_none());
        assert_ne!(created, base["created"]);
    }

    #[test]
    fn a_bare_config_gets_what_is_missing() {
        let base = json!({
            "architecture": "amd64", "os": "linux", "config": null, "history": null,
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        let new = edited(&base, &CommitOptions::default());
        assert_eq!((&new["config"], new["history"].as_array().unwrap().len()), (&json!({}), 1));
    }
}
