//! Pulls on bad days: connections that end or stand still, registries that are busy or lie, agents that are killed.

use std::time::{Duration, Instant};

use hull_proto::v1::{ContainerConfig, PullImageRequest, pull_image_response};
use hull_tests::harness::oci::{self, Compression, Layout, digest};
use hull_tests::harness::site::{Site, begin_pull, blob_layer};
use hull_tests::harness::{Asked, Fault, RegistryOptions, Rootfs, assert_error, wait};
use serde_json::{Value, json};
use tonic::Code;

/// An image with one layer of a megabyte, that layer's digest and its size.
struct Big {
    site: Site,
    name: String,
    blob: String,
    size: u64,
}

async fn big(arguments: &[&str]) -> Big {
    let site = Site::with(RegistryOptions::default(), arguments).await;
    let layer = site.publish_blob("demo/big:1", 1 << 20);
    let name = site.proxy.name("demo/big:1");
    Big { name, blob: digest(&layer), size: layer["size"].as_u64().expect("a size"), site }
}

impl Big {
    /// Pulls it, and checks in a container that every byte is right.
    async fn pulls(&self) {
        self.site.pull(&self.name).await.expect("PullImage");
        let layers =
            [(Rootfs::base().tar(), Compression::None), (blob_layer("demo/big:1", 1 << 20), Compression::None)];
        self.site.publish("demo/check:1", &layers);
        let image = self.site.registry.name("demo/check:1");
        self.site.pull(&image).await.expect("PullImage");
        let show = self.site.hull.command(&["cat", "/blob/demo-big-1"]);
        let output = self.site.hull.output(ContainerConfig { image, ..show }).await;
        assert!(output.stdout == file_of(&blob_layer("demo/big:1", 1 << 20)), "the file in the container is another");
        self.site.hull.remove(&output.id).await;
        assert_eq!(self.site.kept()["parts"], [""; 0]);
    }

    fn asked(&self) -> Vec<Asked> {
        self.site.proxy.asked_for("GET", &self.blob)
    }

    fn sent(&self) -> u64 {
        self.asked().iter().map(|asked| asked.sent).sum()
    }
}

/// The contents of the one file in a layer.
fn file_of(layer: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(layer);
    let mut entries = archive.entries().expect("a tar").map(|entry| entry.expect("an entry"));
    let mut file = entries.find(|entry| entry.header().entry_type().is_file()).expect("a file");
    let mut data = Vec::new();
    file.read_to_end(&mut data).expect("reading");
    data
}

#[tokio::test]
async fn a_cut_connection_is_gone_on_from() {
    let big = big(&[]).await;
    big.site.proxy.fault("GET", &big.blob, 1, Fault::Cut(300_000));
    big.site.proxy.fault("GET", &big.blob, 1, Fault::Cut(400_000));
    big.pulls().await;
    let ranges: Vec<String> = big.asked().iter().map(|asked| asked.header("range").to_owned()).collect();
    assert_eq!(ranges, ["", "bytes=300000-", "bytes=700000-"]);
    assert_eq!(big.sent(), big.size, "no byte came twice");
}

#[tokio::test]
async fn a_server_without_ranges_sends_it_all_again() {
    let big = big(&[]).await;
    big.site.proxy.fault("GET", &big.blob, 1, Fault::Cut(300_000));
    big.site.proxy.fault("GET", &big.blob, 1, Fault::IgnoreRange);
    big.pulls().await;
    let statuses: Vec<u16> = big.asked().iter().map(|asked| asked.status).collect();
    assert_eq!((statuses, big.sent()), (vec![200, 200], big.size + 300_000));
}

#[tokio::test]
async fn a_killed_agent_goes_on_from_what_it_had() {
    let mut big = big(&[]).await;
    big.site.proxy.fault("GET", &big.blob, 1, Fault::Stall(600_000));
    let request = PullImageRequest { image: big.name.clone(), ..PullImageRequest::default() };
    let mut answers = begin_pull(&big.site.hull, request).await.expect("PullImage");
    loop {
        let answer = answers.message().await.expect("progress").expect("progress").message;
        let Some(pull_image_response::Message::Progress(now)) = answer else { panic!("{answer:?}") };
        if now.layers.first().is_some_and(|layer| layer.bytes_done == 600_000) {
            break;
        }
    }
    // The last of it is written a moment after it is counted.
    let part = big.site.hull.agent.data_dir().join("images/parts").join(big.blob.trim_start_matches("sha256:"));
    wait::until("it is written", || {
        let file = std::fs::read(&part).expect("reading the part");
        let trailer = file.len() - 8;
        (u64::from_le_bytes(file[trailer..].try_into().expect("8 bytes")) == 600_000).then_some(())
    });
    big.site.hull.agent.crash_and_restart();
    big.site.hull.reconnect().await;
    assert_eq!(big.site.images().await, [""; 0]);
    big.pulls().await;
    assert_eq!(big.asked()[1].header("range"), "bytes=600000-");
    assert_eq!(big.sent(), big.size);
}

#[tokio::test]
async fn a_connection_that_stands_still_is_given_up() {
    let stall = wait::scaled(Duration::from_millis(500));
    let big = big(&["--registry-stall-timeout", &format!("{}ms", stall.as_millis())]).await;
    big.site.proxy.fault("GET", &big.blob, 1, Fault::Stall(200_000));
    let start = Instant::now();
    big.pulls().await;
    assert!(start.elapsed() >= stall);
    assert_eq!(big.asked()[1].header("range"), "bytes=200000-");
    // One that is slow is not one that stands still.
    let name = big.site.proxy.name("demo/slow:1");
    let layer = big.site.publish_blob("demo/slow:1", 400_000);
    big.site.proxy.fault("GET", &digest(&layer), 1, Fault::Throttle(300_000));
    big.site.pull(&name).await.expect("PullImage");
    assert_eq!(big.site.proxy.asked_for("GET", &digest(&layer)).len(), 1);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let big = big(&[]).await;
    let later = |status| Fault::Answer(status, vec![("retry-after".into(), "1".into())], Vec::new());
    big.site.proxy.fault("GET", "/manifests/", 1, later(429));
    big.site.proxy.fault("GET", &big.blob, 1, Fault::status(503));
    big.site.proxy.fault("GET", &big.blob, 1, Fault::status(500));
    let start = Instant::now();
    big.pulls().await;
    assert!(start.elapsed() >= Duration::from_secs(1), "it came back after {:?}", start.elapsed());
    assert_eq!(big.site.proxy.asked_for("GET", "demo/big/manifests/").len(), 2);
    let statuses: Vec<u16> = big.asked().iter().map(|asked| asked.status).collect();
    assert_eq!(statuses, [503, 500, 200]);
}

#[tokio::test]
async fn what_a_registry_refuses_is_not_asked_again() {
    let big = big(&[]).await;
    for (status, code, reason) in [
        (400, Code::FailedPrecondition, "REGISTRY_ERROR"),
        (401, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED"),
        (403, Code::PermissionDenied, "REGISTRY_DENIED"),
        (404, Code::NotFound, "IMAGE_NOT_FOUND"),
    ] {
        let body = br#"{"errors":[{"code":"X","message":"not for you"}]}"#;
        for path in ["/manifests/1", &big.blob] {
            big.site.proxy.forget();
            big.site.proxy.mend();
            big.site.proxy.fault("GET", path, 9, Fault::Answer(status, Vec::new(), body.to_vec()));
            assert_error(big.site.pull(&big.name).await, code, reason, "not for you");
            assert_eq!(big.site.proxy.asked_for("GET", path).len(), 1, "{status} for {path}");
        }
    }
    big.site.proxy.mend();
    big.pulls().await;
}

#[tokio::test]
async fn corrupt_bytes_are_refused_and_not_kept() {
    let big = big(&[]).await;
    let before = big.site.kept()["blobs"].clone();
    let nothing_of_it = || {
        let kept = big.site.kept();
        assert_eq!(kept["blobs"], before);
        assert!(!kept["parts"].iter().any(|part| big.blob.ends_with(part)), "{kept:?}");
    };
    let corrupt = |path: &str, at| {
        big.site.proxy.mend();
        big.site.proxy.fault("GET", path, 9, Fault::Corrupt(at));
    };
    let manifest: Value = serde_json::from_str(&big.site.registry.network().run(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", big.site.registry.name("demo/big:1"))],
    ))
    .expect("a manifest");
    let config = manifest["config"]["digest"].as_str().expect("a digest");
    corrupt(config, 20);
    assert_error(big.site.pull(&big.name).await, Code::DataLoss, "BLOB_DAMAGED", config);
    corrupt(&big.blob, 700_000);
    assert_error(big.site.pull(&big.name).await, Code::DataLoss, "BLOB_DAMAGED", &big.blob);
    nothing_of_it();
    // A header of the tar, so that it is no tar either.
    corrupt(&big.blob, 3);
    assert_error(big.site.pull(&big.name).await, Code::DataLoss, "BLOB_DAMAGED", &big.blob);
    corrupt("/manifests/", 20);
    assert_error(big.site.pull(&big.name).await, Code::DataLoss, "BLOB_DAMAGED", "demo/big:1");
    nothing_of_it();
    assert_eq!(big.site.images().await, [""; 0]);
    big.site.proxy.mend();
    big.pulls().await;
}

#[tokio::test]
async fn damage_in_what_an_earlier_pull_left_is_found_and_fetched_anew() {
    let big = big(&[]).await;
    big.site.proxy.fault("GET", &big.blob, 1, Fault::Cut(300_000));
    big.site.proxy.fault("GET", &big.blob, 1, Fault::status(403));
    assert_error(big.site.pull(&big.name).await, Code::PermissionDenied, "REGISTRY_DENIED", "403");
    let part = big.site.hull.agent.data_dir().join("images/parts").join(big.blob.trim_start_matches("sha256:"));
    let file = std::fs::File::options().write(true).open(part).expect("opening the part");
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 1000).expect("writing");
    drop(file);
    big.site.proxy.forget();
    big.pulls().await;
    let ranges: Vec<String> = big.asked().iter().map(|asked| asked.header("range").to_owned()).collect();
    assert_eq!(ranges, ["bytes=300000-", ""]);
}

/// Lets the registry answer with this document instead of its manifest.
fn pretend(site: &Site, media_type: &str, document: &Value) {
    let body = document.to_string().into_bytes();
    site.proxy.mend();
    let headers = vec![("content-type".to_owned(), media_type.to_owned())];
    site.proxy.fault("GET", "/manifests/", 9, Fault::Answer(200, headers, body));
}

#[tokio::test]
async fn what_is_no_image_is_refused_by_name() {
    let site = Site::new().await;
    let name = site.proxy.name("demo/x:1");
    let layout = Layout::new(site.path("layout"));
    let blob = |media_type: &str, data: &str| layout.blob(media_type, data.as_bytes());
    let config = blob(oci::CONFIG, "{}");
    let manifest = |config: &Value, layers: &[Value]| json!({"schemaVersion": 2, "mediaType": oci::MANIFEST, "config": config, "layers": layers});
    for (document, media_type, mentions) in [
        (manifest(&config, &[blob("application/x-zip", "x")]), oci::MANIFEST, "application/x-zip"),
        (
            manifest(&config, &[blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "x")]),
            oci::MANIFEST,
            "foreign.diff",
        ),
        (
            manifest(&config, &[blob("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "x")]),
            oci::MANIFEST,
            "nondistributable",
        ),
        (
            manifest(&config, &[blob("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "x")]),
            oci::MANIFEST,
            "encrypted",
        ),
        (manifest(&blob("application/vnd.oci.empty.v1+json", "{}"), &[]), oci::MANIFEST, "oci.empty"),
        (
            json!({"schemaVersion": 1, "name": "x", "tag": "1", "fsLayers": [], "history": []}),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "schema 1",
        ),
        (manifest(&config, &[]), "application/vnd.cncf.helm.chart.v1+json", "helm"),
    ] {
        pretend(&site, media_type, &document);
        let refused = site.pull(&name).await;
        assert_error(refused, Code::FailedPrecondition, "UNSUPPORTED_FEATURE", mentions);
        assert_eq!(site.proxy.asked_for("GET", "/blobs/").len(), 0, "nothing of it is fetched");
    }
    assert_eq!(site.kept()["parts"], [""; 0]);
}

#[tokio::test]
async fn a_document_that_may_be_read_in_two_ways_is_refused() {
    let site = Site::new().await;
    let name = site.proxy.name("demo/x:1");
    let layout = Layout::new(site.path("layout"));
    let image = layout.image(&[(blob_layer("x", 100), Compression::Gzip)], "linux/amd64");
    let config = layout.blob(oci::CONFIG, b"{}");
    let both = |media_type: &str| json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [], "manifests": [image]});
    let index = json!({"schemaVersion": 2, "mediaType": oci::INDEX, "manifests": []});
    let mut unsaid = both(oci::MANIFEST);
    unsaid.as_object_mut().expect("an object").remove("mediaType");
    for (document, media_type) in [
        (both(oci::MANIFEST), oci::MANIFEST),
        (both(oci::INDEX), oci::INDEX),
        (unsaid, oci::MANIFEST),
        (index, oci::MANIFEST),
        (json!({"schemaVersion": 2}), oci::MANIFEST),
        (json!([]), oci::MANIFEST),
    ] {
        pretend(&site, media_type, &document);
        let refused = site.pull(&name).await;
        assert_error(refused, Code::InvalidArgument, "INVALID_ARCHIVE", "");
    }
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let site = Site::new().await;
    let mut layout = Layout::new(site.path("layout"));
    let (one, other) = (blob_layer("one", 1000), blob_layer("other", 1000));
    let image = layout.image(&[(one, Compression::Gzip)], "linux/amd64");
    let path =
        |descriptor: &Value| site.path("layout/blobs/sha256").join(digest(descriptor).trim_start_matches("sha256:"));
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(path(&image)).expect("reading")).expect("JSON");
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &Compression::Gzip.pack(&other));
    manifest["layers"] = json!([layer]);
    pretend(&site, oci::MANIFEST, &manifest);
    for descriptor in [&layer, &manifest["config"]] {
        let data = std::fs::read(path(descriptor)).expect("reading");
        site.proxy.fault("GET", &digest(descriptor), 9, Fault::Answer(200, Vec::new(), data));
    }
    let refused = site.pull(&site.proxy.name("demo/x:1")).await;
    assert_error(refused, Code::InvalidArgument, "INVALID_ARCHIVE", "sha256:");
    assert_eq!(site.images().await, [""; 0]);
    // What a manifest promises of sizes holds, too.
    manifest["layers"][0]["size"] = (layer["size"].as_u64().expect("a size") + 1).into();
    let before = site.proxy.asked().len();
    site.proxy.mend();
    pretend(&site, oci::MANIFEST, &manifest);
    for descriptor in [&layer, &manifest["config"]] {
        let data = std::fs::read(path(descriptor)).expect("reading");
        site.proxy.fault("GET", &digest(descriptor), 9, Fault::Answer(200, Vec::new(), data));
    }
    let refused = site.pull(&site.proxy.name("demo/x:1")).await;
    assert_error(refused, Code::FailedPrecondition, "REGISTRY_ERROR", "the manifest says");
    assert!(site.proxy.asked().len() - before < 6, "that is not tried again");
    assert!(!site.kept()["parts"].iter().any(|part| digest(&layer).ends_with(part)), "{:?}", site.kept());
    // The config is of use for the image as it should be.
    site.proxy.mend();
    site.registry.push(&layout.name(&image, "x"), "demo/x:1", &[]);
    site.pull(&site.proxy.name("demo/x:1")).await.expect("PullImage");
    assert_eq!(site.kept()["parts"], [""; 0]);
}
