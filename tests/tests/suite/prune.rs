//! `hullctl container prune`: containers that do not run go, by Docker's conditions; what went is told.

use std::collections::HashMap;

use hull_proto::v1::ContainerConfig;
use hull_tests::harness::{Ctl, Session};

/// Containers of a session with a further label: one created, one that has written and ended, one that runs.
async fn three(hull: &Session, label: &str) -> [String; 3] {
    let labelled = |mut config: ContainerConfig, name: &str| {
        config.labels.extend(HashMap::from([(label.to_owned(), name.to_owned())]));
        ContainerConfig { name: hull.name(name), ..config }
    };
    let created = hull.create(labelled(hull.probe(&["sleep"]), "created")).await;
    let ended = hull.run(labelled(hull.shell("head -c 300000 /dev/zero > /file; echo told"), "ended")).await;
    hull.wait(&ended).await;
    let running = hull.run(labelled(hull.probe(&["sleep"]), "running")).await;
    [created, ended, running]
}

#[tokio::test]
async fn what_does_not_run_goes_and_is_told() {
    let hull = Session::shared().await;
    let label = hull.name("pruned");
    let [created, ended, running] = three(&hull, &label).await;
    let filter = format!("label={label}");
    let prune = |words: &[&str]| Ctl::run(&hull.agent, &[&["container", "prune", "--filter", &filter], words].concat());
    let asked = prune(&[]);
    assert!(asked.code == 1 && asked.error().contains("--force"), "{asked:?}");
    let dry = prune(&["--dry-run"]).ok();
    for name in ["created", "ended"] {
        assert!(dry.contains(&format!("Would delete: {} (", hull.name(name))), "{dry}");
    }
    assert!(dry.contains("Reclaimable space: ") && !dry.contains(&hull.name("running")), "{dry}");
    assert!(prune(&["-f", "--filter", "until=1h"]).ok().starts_with("Total reclaimed space: 0B"));
    let kept = prune(&["-f", "--filter", &format!("label!={label}=ended")]).ok();
    assert!(kept.contains(&hull.name("created")) && !kept.contains(&hull.name("ended")), "{kept}");
    assert!(hull.try_get(&created).await.is_err() && hull.try_get(&ended).await.is_ok());
    let json = prune(&["-f", "-o", "json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((json["removed"].as_array().map(Vec::len), &json["removed"][0]["id"]), (Some(1), &ended.clone().into()));
    assert_eq!(json["freedBytes"].as_u64(), Some(json["removed"][0]["bytes"].as_u64().unwrap_or_default()));
    assert!(hull.try_get(&ended).await.is_err() && hull.try_get(&running).await.is_ok());
    let refused = prune(&["-f", "--filter", "name=x"]);
    assert!(refused.code == 1 && refused.error().contains("label, label! and until"), "{refused:?}");
}

#[tokio::test]
async fn verbs_for_containers_are_below_container_too() {
    let hull = Session::shared().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let filter = format!("id={id}");
    let listed = ["ls", "ps", "list"]
        .map(|verb| Ctl::run(&hull.agent, &["container", verb, "--no-trunc", "-q", "--filter", &filter]).ok());
    assert!(listed.iter().all(|list| *list == id), "{listed:?}");
    assert_eq!(Ctl::run(&hull.agent, &["container", "exec", &id, "/probe", "exit", "9"]).code, 9);
    assert_eq!(Ctl::run(&hull.agent, &["container", "exec", "--nonsense", &id, "true"]).code, 125);
}
