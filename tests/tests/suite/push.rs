//! Images go to registries as they are, and what is there is not sent again.

use hull_proto::v1::ContainerConfig;
use hull_proto::v1::{ImageConfig, ImportStart, PullImageRequest, PushImageRequest, PushResult, RegistryAuth};
use hull_tests::harness::image::{base_config, import};
use hull_tests::harness::oci::{Compression, Layout, digest};
use hull_tests::harness::site::{Site, blob_layer, image, pull, push, remove_image, user};
use hull_tests::harness::{BASE_IMAGE, Ctl, Fault, RegistryOptions, Rootfs, assert_error};
use tonic::{Code, Status};

fn small(text: &str) -> Vec<u8> {
    Rootfs::empty().dir("etc", 0o755).file("etc/text", 0o644, text).tar()
}

async fn push_to(site: &Site, image: &str, destination: &str) -> Result<PushResult, Status> {
    let (image, destination) = (image.to_owned(), destination.to_owned());
    Ok(push(&site.hull, PushImageRequest { image, destination, auth: None }).await?.0)
}

#[tokio::test]
async fn another_agent_runs_what_was_pushed() {
    let site = Site::new().await;
    let name = site.registry.name("demo/base:1");
    let pushed = push_to(&site, BASE_IMAGE, &name).await.expect("PushImage");
    let own = image(&site.hull, BASE_IMAGE).await.expect("GetImage");
    assert_eq!((pushed.reference.as_str(), pushed.digest.as_str()), (name.as_str(), own.digest.as_str()));

    let seen = site.registry.inspect("demo/base:1", &[]);
    assert_eq!((seen["Digest"].as_str(), seen["Os"].as_str()), (Some(own.digest.as_str()), Some("linux")));
    let config = site.registry.inspect("demo/base:1", &["--config"]);
    assert_eq!(config["config"]["Cmd"][0], "/probe");
    // skopeo reads all of it and compares it with its digests.
    let copy = format!("dir:{}", site.path("copy").display());
    let source = format!("docker://{name}");
    site.registry.network().run("skopeo", &["copy", "--quiet", "--src-tls-verify=false", &source, &copy]);

    let other = site.another_agent().await;
    remove_image(&other, BASE_IMAGE).await;
    let pulled = pull(&other, PullImageRequest { image: name.clone(), ..Default::default() }).await.expect("PullImage");
    assert_eq!((pulled.image().digest.as_str(), pulled.image().config.clone()), (own.digest.as_str(), own.config));
    let output = other.output(ContainerConfig { image: name, ..other.command(&["/probe", "exit", "11"]) }).await;
    assert_eq!(output.exit.code, 11);
    other.remove(&output.id).await;
}

#[tokio::test]
async fn what_the_registry_has_is_not_sent_again() {
    let site = Site::new().await;
    let layers = [(small("one"), Compression::Gzip), (blob_layer("two", 300_000), Compression::None)];
    let manifest = digest(&site.publish("demo/x:1", &layers));
    site.pull(&site.proxy.name("demo/x:1")).await.expect("PullImage");
    let uploads = |site: &Site| site.proxy.asked_for("POST", "/blobs/uploads/");
    // The same repository: only a tag is new.
    let request = |destination: &str| PushImageRequest {
        image: manifest.clone(),
        destination: site.proxy.name(destination),
        auth: None,
    };
    let (result, progress) = push(&site.hull, request("demo/x:2")).await.expect("PushImage");
    assert_eq!((result.digest.as_str(), uploads(&site).len()), (manifest.as_str(), 0));
    assert_eq!(progress.blobs.len(), 3, "two layers and the config");
    assert!(progress.blobs.iter().all(|blob| blob.present && blob.bytes_done == 0), "{progress:?}");
    // Another one of the same registry: its blobs are taken over.
    push(&site.hull, request("other/y:1")).await.expect("PushImage");
    let asked = uploads(&site);
    assert!(asked.len() == 3 && asked.iter().all(|asked| asked.status == 201), "{asked:#?}");
    assert!(asked.iter().all(|asked| asked.path.contains("from=demo%2Fx")), "{asked:#?}");
    assert_eq!(site.proxy.asked_for("PUT", "/blobs/uploads/").len(), 0);
    assert_eq!(site.registry.inspect("other/y:1", &[])["Digest"], manifest.as_str());
    // Another registry: all of it is sent.
    let elsewhere = hull_tests::harness::Registry::start(site.registry.network(), RegistryOptions::default());
    let destination = elsewhere.name("demo/x:1");
    let (_, progress) = push(&site.hull, PushImageRequest { destination, ..request("") }).await.expect("PushImage");
    assert!(progress.blobs.iter().all(|blob| !blob.present && blob.bytes_done == blob.bytes_total), "{progress:?}");
    assert_eq!(elsewhere.inspect("demo/x:1", &[])["Digest"], manifest.as_str());
}

#[tokio::test]
async fn what_was_imported_can_be_pushed() {
    let site = Site::new().await;
    let mut layout = Layout::new(site.path("layout"));
    let layers = [(Rootfs::base().tar(), Compression::Zstd), (small("upper"), Compression::Gzip)];
    let made = layout.image(&layers, "linux/amd64");
    layout.name(&made, "x");
    let archive = hull_tests::harness::oci::tar_of(&site.path("layout"));
    let name = site.registry.name("demo/imported:1");
    let start = |name: &str, config: Option<ImageConfig>| ImportStart {
        tags: vec![name.into()],
        config,
        ..ImportStart::default()
    };
    import(&site.hull.clients, start(&name, None), archive).await.expect("ImportImage");
    // By its name alone.
    assert_eq!(push_to(&site, &name, "").await.expect("PushImage").digest, digest(&made));
    // A root file system, which hull made an image of.
    let rootfs = site.registry.name("demo/rootfs:1");
    import(&site.hull.clients, start(&rootfs, Some(base_config())), small("x")).await.expect("ImportImage");
    push_to(&site, &rootfs, "").await.expect("PushImage");
    assert_eq!(site.registry.inspect("demo/rootfs:1", &["--config"])["config"]["Cmd"][0], "/probe");
    let copy = format!("dir:{}", site.path("copy").display());
    for name in [name, rootfs] {
        let source = format!("docker://{name}");
        site.registry.network().run("skopeo", &["copy", "--quiet", "--src-tls-verify=false", &source, &copy]);
    }
}

#[tokio::test]
async fn a_push_needs_a_name_and_an_image() {
    let site = Site::new().await;
    let own = image(&site.hull, BASE_IMAGE).await.expect("GetImage").digest;
    let name = site.registry.name("demo/x:1");
    assert_error(push_to(&site, "missing", &name).await, Code::NotFound, "IMAGE_NOT_FOUND", "missing");
    assert_error(push_to(&site, &own, "").await, Code::InvalidArgument, "INVALID_ARGUMENT", "destination");
    let pinned = format!("{}@{own}", site.registry.name("demo/x"));
    assert_error(push_to(&site, &own, &pinned).await, Code::InvalidArgument, "INVALID_ARGUMENT", "digest");
    assert_error(push_to(&site, &own, "a/B").await, Code::InvalidArgument, "INVALID_ARGUMENT", "");
}

#[tokio::test]
async fn a_push_needs_a_password_where_the_registry_does() {
    let site = Site::with(RegistryOptions { auth: true, ..RegistryOptions::default() }, &[]).await;
    let name = site.registry.name("demo/x:1");
    let refused = push_to(&site, BASE_IMAGE, &name).await;
    assert_error(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "no credentials");
    let request =
        |auth: RegistryAuth| PushImageRequest { image: BASE_IMAGE.into(), destination: name.clone(), auth: Some(auth) };
    let wrong = push(&site.hull, request(RegistryAuth { password: "wrong".into(), ..user() })).await;
    assert_error(wrong, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "401");
    push(&site.hull, request(user())).await.expect("PushImage");
}

#[tokio::test]
async fn a_push_is_tried_again_where_that_may_help() {
    let site = Site::new().await;
    site.proxy.fault("POST", "/blobs/uploads/", 1, Fault::status(503));
    site.proxy.fault("PUT", "/blobs/uploads/", 1, Fault::status(500));
    site.proxy.fault("PUT", "/manifests/", 1, Fault::status(429));
    let name = site.proxy.name("demo/x:1");
    push_to(&site, BASE_IMAGE, &name).await.expect("PushImage");
    assert_eq!(site.proxy.asked_for("PUT", "/manifests/").len(), 2);
    site.registry.inspect("demo/x:1", &[]);
    site.proxy.forget();
    site.proxy.fault("PUT", "/manifests/", 9, Fault::status(403));
    let refused = push_to(&site, BASE_IMAGE, &site.proxy.name("demo/x:2")).await;
    assert_error(refused, Code::PermissionDenied, "REGISTRY_DENIED", "403");
    assert_eq!(site.proxy.asked_for("PUT", "/manifests/").len(), 1);
}

#[tokio::test]
async fn hullctl_pushes() {
    let site = Site::new().await;
    let own = image(&site.hull, BASE_IMAGE).await.expect("GetImage").digest;
    let name = site.registry.name("demo/x:1");
    let line = Ctl::run(&site.hull.agent, &["push", BASE_IMAGE, &name]).ok();
    assert_eq!(line, format!("{name}: pushed {own}"));
    assert_eq!(Ctl::run(&site.hull.agent, &["push", "-q", BASE_IMAGE, &name]).ok(), own);
}
