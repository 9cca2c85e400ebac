//! Images come from registries by tag or digest, whatever form they have there, and nothing is fetched twice.

use std::process::Command;
use std::time::Instant;

use hull_proto::v1::{ContainerConfig, PullImageRequest, PullPhase};
use hull_tests::harness::oci::{Compression, Layout, digest};
use hull_tests::harness::registry::Registry;
use hull_tests::harness::site::{Site, begin_pull, blob_layer, image, pull, remove_image};
use hull_tests::harness::{Fault, Rootfs, Session, assert_error};
use tonic::Code;

/// A small layer that differs by its text.
fn small(text: &str) -> Vec<u8> {
    Rootfs::empty().dir("etc", 0o755).file("etc/text", 0o644, text).tar()
}

async fn runs(hull: &Session, image: &str) {
    let output = hull.output(ContainerConfig { image: image.into(), ..hull.command(&["/probe", "exit", "11"]) }).await;
    assert_eq!(output.exit.code, 11);
    hull.remove(&output.id).await;
}

#[tokio::test]
async fn a_container_runs_from_a_pulled_image() {
    let site = Site::new().await;
    let manifest = digest(&site.publish("demo/base:1", &[(Rootfs::base().tar(), Compression::Gzip)]));
    let name = site.registry.name("demo/base:1");
    let first = site.pull(&name).await.expect("PullImage");
    assert_eq!((first.image().digest.as_str(), &first.image().names), (manifest.as_str(), &vec![name.clone()]));
    assert!(!first.result.up_to_date && first.result.bytes_fetched > 100_000, "{:?}", first.result);
    runs(&site.hull, &name).await;
    assert_eq!(image(&site.hull, &name).await.expect("GetImage"), *first.image());

    let pinned = format!("{}@{manifest}", site.registry.name("demo/base"));
    let again = site.pull(&pinned).await.expect("PullImage by digest");
    assert!(again.result.up_to_date && again.result.bytes_fetched == 0);
    remove_image(&site.hull, &manifest).await;
    assert_eq!(site.images().await, [""; 0]);
    let anew = site.pull(&pinned).await.expect("PullImage by digest");
    assert_eq!((anew.image().digest.as_str(), anew.result.up_to_date), (manifest.as_str(), false));
    runs(&site.hull, &manifest).await;
}

#[tokio::test]
async fn what_is_not_in_the_registry_is_not_found() {
    let site = Site::new().await;
    let manifest = digest(&site.publish("demo/x:1", &[(small("x"), Compression::None)]));
    for (rest, mentions) in [
        ("demo/x:2".to_owned(), "manifest unknown"),
        ("demo/y:1".into(), "demo/y"),
        (format!("demo/x@sha256:{}", "0".repeat(64)), "manifest unknown"),
    ] {
        let refused = site.pull(&site.registry.name(&rest)).await;
        assert_error(refused, Code::NotFound, "IMAGE_NOT_FOUND", mentions);
    }
    let refused = site.pull(&site.registry.name("Demo/x")).await;
    assert_error(refused, Code::InvalidArgument, "INVALID_ARGUMENT", "lower-case");
    // A digest pins, whatever the tag beside it means.
    let both = site.pull(&format!("{}@{manifest}", site.registry.name("demo/x:other"))).await.expect("PullImage");
    assert_eq!(both.image().digest, manifest);
    assert_eq!(site.images().await, [""; 0], "no name was given to it");
    remove_image(&site.hull, &manifest).await;
}

#[tokio::test]
async fn a_tag_that_moved_takes_its_name_along() {
    let site = Site::new().await;
    let name = site.registry.name("demo/x:1");
    site.publish("demo/x:1", &[(small("one"), Compression::None)]);
    let one = site.pull(&name).await.expect("PullImage").image().digest.clone();
    std::fs::remove_dir_all(site.path("demo-x-1")).expect("removing the layout");
    site.publish("demo/x:1", &[(small("two"), Compression::None)]);
    let two = site.pull(&name).await.expect("PullImage");
    assert_ne!(one, two.image().digest);
    assert_eq!(image(&site.hull, &name).await.expect("GetImage").digest, two.image().digest);
    assert_eq!(image(&site.hull, &one).await.expect("GetImage").names, [""; 0]);
}

#[tokio::test]
async fn layers_come_plain_gzipped_or_with_zstd() {
    let site = Site::new().await;
    let mut diff_ids = Vec::new();
    for (name, packing) in [("plain", Compression::None), ("gz", Compression::Gzip), ("zst", Compression::Zstd)] {
        let tag = format!("demo/{name}:1");
        site.publish(&tag, &[(Rootfs::base().tar(), packing), (small("upper"), packing)]);
        let pulled = site.pull(&site.registry.name(&tag)).await.expect(name);
        diff_ids.push(pulled.image().layers.clone());
        let show = ContainerConfig { image: site.registry.name(&tag), ..site.hull.command(&["cat", "/etc/text"]) };
        let output = site.hull.output(show).await;
        assert_eq!(output.text(), "upper");
        site.hull.remove(&output.id).await;
    }
    assert!(diff_ids.iter().all(|layers| *layers == diff_ids[0]), "the layers are the same, however they are packed");
}

#[tokio::test]
async fn of_an_index_the_image_of_the_platform_is_chosen() {
    let site = Site::new().await;
    let mut layout = Layout::new(site.path("index"));
    let image = |text: &str, platform: &str| layout.image(&[(small(text), Compression::Gzip)], platform);
    let (amd, old, arm) = (image("amd", "linux/amd64"), image("old", "linux/386"), image("arm", "linux/arm64/v8"));
    let (own, foreign) = if cfg!(target_arch = "x86_64") { (&amd, "linux/arm64") } else { (&arm, "linux/amd64") };
    let index =
        layout.index(&[(old.clone(), "linux/386"), (arm.clone(), "linux/arm64/v8"), (amd.clone(), "linux/amd64")]);
    site.registry.push(&layout.name(&index, "all"), "demo/multi:1", &["--all"]);
    let other = layout.index(&[(old, "linux/386")]);
    site.registry.push(&layout.name(&other, "old"), "demo/old:1", &["--all"]);
    let alien = layout.image(&[(small("alien"), Compression::Gzip)], foreign);
    site.registry.push(&layout.name(&alien, "alien"), "demo/alien:1", &[]);

    let name = site.registry.name("demo/multi:1");
    let pulled = site.pull(&name).await.expect("PullImage");
    assert_eq!(pulled.image().digest, digest(own));
    let by_index = format!("{}@{}", site.registry.name("demo/multi"), digest(&index));
    assert!(site.pull(&by_index).await.expect("PullImage by the index's digest").result.up_to_date);
    let request = |platform: &str| PullImageRequest { image: name.clone(), platform: platform.into(), auth: None };
    let own_platform = format!("linux/{}", pulled.image().architecture);
    assert!(pull(&site.hull, request(&own_platform)).await.expect("PullImage for its own").result.up_to_date);
    let refused = pull(&site.hull, request(foreign)).await;
    assert_error(refused, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", "cannot run");
    let refused = pull(&site.hull, request("linux")).await;
    assert_error(refused, Code::InvalidArgument, "INVALID_ARGUMENT", "os/architecture");
    let refused = site.pull(&site.registry.name("demo/old:1")).await;
    assert_error(refused, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", "linux/386");
    // One without an index is of one platform, too.
    let refused = site.pull(&site.registry.name("demo/alien:1")).await;
    assert_error(refused, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", foreign.trim_start_matches("linux/"));
}

/// Runs buildah with a storage of its own.
fn buildah(site: &Site, words: &[&str]) -> String {
    let root = site.path("buildah");
    let store = |name: &str| root.join(name).display().to_string();
    let output = Command::new("buildah")
        .args(["--root", &store("root"), "--runroot", &store("run"), "--storage-driver", "vfs"])
        .args(words)
        .env("BUILDAH_ISOLATION", "chroot")
        .output()
        .expect("buildah: run `make deps`");
    assert!(output.status.success(), "buildah {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn images_of_other_makers_run() {
    let site = Site::new().await;
    let tar = site.path("rootfs.tar");
    Rootfs::base().write(&tar);
    let tar = tar.display().to_string();
    for (format, name) in [("oci", "buildah-oci"), ("docker", "buildah-docker")] {
        let container = buildah(&site, &["from", "scratch"]);
        buildah(&site, &["add", &container, &tar, "/"]);
        buildah(&site, &["config", "--cmd", "[\"/probe\"]", "--env", "FROM=buildah", &container]);
        let layout = format!("dir:{}", site.path(name).display());
        buildah(&site, &["commit", "--format", format, &container, &layout]);
        site.registry.push(&layout, &format!("demo/{name}:1"), &[]);
        buildah(&site, &["rm", &container]);
        let reference = site.registry.name(&format!("demo/{name}:1"));
        let pulled = site.pull(&reference).await.expect(name);
        assert!(pulled.image().config.as_ref().is_some_and(|config| config.env.contains(&"FROM=buildah".into())));
        runs(&site.hull, &reference).await;
    }
    // Docker's own manifest.
    let mut layout = Layout::new(site.path("schema2"));
    let image = layout.image(&[(Rootfs::base().tar(), Compression::Gzip)], "linux/amd64");
    site.registry.push(&layout.name(&image, "x"), "demo/schema2:1", &["--format", "v2s2"]);
    let manifest: serde_json::Value =
        serde_json::from_str(&raw_manifest(&site.registry, "demo/schema2:1")).expect("a manifest");
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    site.pull(&site.registry.name("demo/schema2:1")).await.expect("a manifest of Docker's schema 2");
    runs(&site.hull, &site.registry.name("demo/schema2:1")).await;
}

fn raw_manifest(registry: &Registry, name: &str) -> String {
    let image = format!("docker://{}", registry.name(name));
    registry.network().run("skopeo", &["inspect", "--raw", "--tls-verify=false", &image])
}

#[tokio::test]
async fn an_image_of_umoci_runs() {
    let site = Site::new().await;
    let (layout, bundle) = (site.path("umoci").display().to_string(), site.path("bundle").display().to_string());
    let image = format!("{layout}:one");
    let tar = site.path("rootfs.tar");
    Rootfs::base().write(&tar);
    for (program, words) in [
        ("umoci", vec!["init", "--layout", &layout]),
        ("umoci", vec!["new", "--image", &image]),
        ("umoci", vec!["unpack", "--image", &image, &bundle]),
        ("tar", vec!["-C", &format!("{bundle}/rootfs"), "-xf", &tar.display().to_string()]),
        ("umoci", vec!["repack", "--image", &image, &bundle]),
    ] {
        site.registry.network().run(program, &words);
    }
    site.registry.push(&format!("oci:{image}"), "demo/umoci:1", &[]);
    site.pull(&site.registry.name("demo/umoci:1")).await.expect("PullImage");
    runs(&site.hull, &site.registry.name("demo/umoci:1")).await;
}

#[tokio::test]
async fn an_image_that_is_there_costs_one_request() {
    let site = Site::new().await;
    site.publish("demo/x:1", &[(small("one"), Compression::Gzip), (small("two"), Compression::Gzip)]);
    let name = site.proxy.name("demo/x:1");
    site.pull(&name).await.expect("PullImage");
    site.proxy.forget();
    assert!(site.pull(&name).await.expect("PullImage").result.up_to_date);
    let asked = site.proxy.asked();
    assert_eq!(asked.len(), 1, "{asked:#?}");
    // Another name for the same: its blobs are there.
    site.proxy.forget();
    site.registry.push(&format!("oci:{}:x", site.path("demo-x-1").display()), "other/y:1", &[]);
    let other = site.pull(&site.proxy.name("other/y:1")).await.expect("PullImage");
    assert!(other.result.up_to_date);
    assert_eq!(other.image().names.len(), 2, "{:?}", other.image().names);
    assert_eq!(site.proxy.asked().len(), 1);
}

#[tokio::test]
async fn pulls_side_by_side_fetch_a_blob_once() {
    let site = Site::new().await;
    let shared = (blob_layer("shared", 1 << 20), Compression::None);
    let one = site.publish("demo/one:1", &[shared.clone(), (small("one"), Compression::None)]);
    site.publish("demo/two:1", &[shared.clone(), (small("two"), Compression::None)]);
    let layout = Layout::new(site.path("blobs"));
    let blob = digest(&layout.blob("x", &shared.0));
    // Slow enough for all of them to meet.
    site.proxy.fault("GET", &blob, 9, Fault::Throttle(2 << 20));
    let names = ["demo/one:1", "demo/two:1", "demo/one:1", "demo/two:1"].map(|name| site.proxy.name(name));
    let pulls = names.iter().map(|name| site.pull(name));
    let pulled = futures_util::future::join_all(pulls).await;
    for pull in &pulled {
        pull.as_ref().expect("PullImage");
    }
    assert_eq!(pulled[0].as_ref().expect("PullImage").image().digest, digest(&one));
    let asked = site.proxy.asked_for("GET", "/blobs/");
    let mut digests: Vec<_> = asked.iter().filter_map(|asked| asked.path.rsplit('/').next()).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!((digests.len(), asked.len()), (5, 5), "three layers and two configs: {asked:#?}");
    assert_eq!(site.proxy.asked_for("GET", &blob)[0].sent, shared.0.len() as u64);
    assert_eq!(site.kept()["parts"], [""; 0], "nothing is left over");
}

#[tokio::test]
async fn progress_tells_layers_phases_and_bytes() {
    let site = Site::new().await;
    let base = (small("base"), Compression::None);
    let layer = site.publish_blob("demo/big:0", 2 << 20);
    site.publish("demo/base:1", std::slice::from_ref(&base));
    let big = (blob_layer("demo/big:0", 2 << 20), Compression::None);
    let manifest = site.publish("demo/big:1", &[base, big]);
    site.pull(&site.proxy.name("demo/base:1")).await.expect("PullImage");
    site.proxy.fault("GET", layer["digest"].as_str().expect("a digest"), 1, Fault::Throttle(4 << 20));
    let start = Instant::now();
    let pulled = site.pull(&site.proxy.name("demo/big:1")).await.expect("PullImage");
    let most = start.elapsed().as_millis() / 100 + 3;
    let known: Vec<_> = pulled.progress.iter().filter(|now| !now.layers.is_empty()).collect();
    assert!(known.len() >= 3, "told {} times in half a second", known.len());
    assert!(pulled.progress.len() as u128 <= most, "told {} times, more than ten a second", pulled.progress.len());
    let total = layer["size"].as_u64().expect("a size");
    let mut before = 0;
    for now in &known {
        assert_eq!((now.digest.as_str(), now.layers.len()), (digest(&manifest).as_str(), 2));
        assert_eq!(now.layers[0].phase(), PullPhase::Present);
        let second = &now.layers[1];
        assert_eq!((second.digest.as_str(), second.bytes_total), (layer["digest"].as_str().unwrap_or(""), total));
        assert!(before <= second.bytes_done && second.bytes_done <= total);
        before = second.bytes_done;
    }
    assert!(known.iter().any(|now| {
        let second = &now.layers[1];
        second.phase() == PullPhase::Downloading && (1..total).contains(&second.bytes_done)
    }));
    let last = known.last().expect("progress");
    assert_eq!((last.layers[1].phase(), last.layers[1].bytes_done), (PullPhase::Done, total));
    // Its config, too, came over the network.
    assert!((total..total + 10_000).contains(&pulled.result.bytes_fetched), "{}", pulled.result.bytes_fetched);
}

#[tokio::test]
async fn other_tools_read_what_is_kept() {
    let site = Site::new().await;
    let manifest = site.publish("demo/x:1", &[(small("one"), Compression::Gzip), (small("two"), Compression::Zstd)]);
    let name = site.registry.name("demo/x:1");
    site.pull(&name).await.expect("PullImage");
    let content = site.hull.agent.data_dir().join("images/content");
    let copy = site.path("copy").display().to_string();
    let network = site.registry.network();
    network.run("skopeo", &["copy", "--quiet", &format!("oci:{}:{name}", content.display()), &format!("oci:{copy}:x")]);
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{copy}/index.json")).expect("reading")).expect("JSON");
    assert_eq!(index["manifests"][0]["digest"], manifest["digest"]);
    network.run("umoci", &["ls", "--layout", &content.display().to_string()]);
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_leaves_parts_alone() {
    let site = Site::new().await;
    let layer = site.publish_blob("demo/x:1", 1 << 20);
    let (blob, size) = (digest(&layer), layer["size"].as_u64().expect("a size"));
    site.proxy.fault("GET", &blob, 1, Fault::Stall(600_000));
    let before = site.kept()["blobs"].clone();
    let name = site.proxy.name("demo/x:1");
    let request = PullImageRequest { image: name.clone(), ..PullImageRequest::default() };
    let mut answers = begin_pull(&site.hull, request).await.expect("PullImage");
    loop {
        let answer = answers.message().await.expect("progress").expect("progress").message;
        let Some(hull_proto::v1::pull_image_response::Message::Progress(now)) = answer else { panic!("{answer:?}") };
        if now.layers.first().is_some_and(|layer| layer.bytes_done == 600_000) {
            break;
        }
    }
    drop(answers);
    assert!(site.kept()["parts"].iter().any(|part| blob.ends_with(part)));
    assert_eq!(site.kept()["blobs"], before);
    assert_eq!(site.images().await, [""; 0]);
    site.proxy.forget();
    let pulled = site.pull(&name).await.expect("PullImage");
    let asked = site.proxy.asked_for("GET", &blob);
    assert_eq!((asked.len(), asked[0].header("range")), (1, "bytes=600000-"), "{asked:#?}");
    assert!(pulled.result.bytes_fetched < size - 600_000 + 10_000, "{}", pulled.result.bytes_fetched);
    assert_eq!(site.kept()["parts"], [""; 0]);
}
