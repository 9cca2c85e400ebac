//! Where registries are reached: TLS, mirrors, plain http, as hosts.toml says.

use hull_tests::harness::oci::{Compression, digest};
use hull_tests::harness::site::{Site, remove_image, user};
use hull_tests::harness::{Fault, Proxy, RegistryOptions, Rootfs, assert_error};
use tonic::Code;

/// A name that no name server knows.
const NAME: &str = "images.test";

fn layer() -> Vec<(Vec<u8>, Compression)> {
    vec![(Rootfs::empty().dir("etc", 0o755).file("etc/x", 0o644, "x").tar(), Compression::Gzip)]
}

#[tokio::test]
async fn tls_needs_an_authority_that_is_trusted() {
    let site = Site::with(RegistryOptions { tls: true, ..RegistryOptions::default() }, &[]).await;
    site.publish("demo/x:1", &layer());
    let (host, name) = (site.registry.host(), format!("{NAME}/demo/x:1"));
    let server = format!("server = \"https://{host}\"\n");
    site.configure(NAME, &server);
    let refused = site.pull(&name).await;
    let status = assert_error(refused, Code::FailedPrecondition, "REGISTRY_ERROR", "certificate");
    assert!(status.message().contains("`ca`"), "it says what to do: {}", status.message());
    site.configure(NAME, &format!("{server}ca = \"{}\"\n", site.registry.certificates().join("ca.crt").display()));
    assert_eq!(site.pull(&name).await.expect("PullImage").image().names[0], name);
    // Relative to the file.
    std::fs::copy(site.registry.certificates().join("ca.crt"), site.path("certs.d").join(NAME).join("own.pem"))
        .expect("copying");
    site.configure(NAME, &format!("{server}ca = [\"own.pem\"]\n"));
    assert!(site.pull(&name).await.expect("PullImage").result.up_to_date);
    site.configure(NAME, &format!("{server}skip_verify = true\n"));
    assert!(site.pull(&name).await.expect("PullImage").result.up_to_date);
    site.configure(NAME, &format!("{server}ca = \"missing.pem\"\n"));
    assert_error(site.pull(&name).await, Code::FailedPrecondition, "REGISTRY_CONFIG", "missing.pem");
}

#[tokio::test]
async fn a_registry_may_ask_for_a_certificate() {
    let site =
        Site::with(RegistryOptions { tls: true, client_certificates: true, ..RegistryOptions::default() }, &[]).await;
    site.publish("demo/x:1", &layer());
    let (name, directory) = (format!("{NAME}/demo/x:1"), site.path("certs.d").join(NAME));
    let server = format!("server = \"https://{}\"\nca = \"ca.crt\"\n", site.registry.host());
    site.configure(NAME, &server);
    for file in ["ca.crt", "client.cert", "client.key"] {
        std::fs::copy(site.registry.certificates().join(file), directory.join(file)).expect("copying");
    }
    assert_error(site.pull(&name).await, Code::FailedPrecondition, "REGISTRY_ERROR", "`client`");
    site.configure(NAME, &format!("{server}client = [[\"client.cert\", \"client.key\"]]\n"));
    site.pull(&name).await.expect("PullImage");
}

#[tokio::test]
async fn tls_and_a_password_go_together() {
    let site = Site::with(RegistryOptions { tls: true, auth: true, ..RegistryOptions::default() }, &[]).await;
    site.publish("demo/x:1", &layer());
    let ca = site.registry.certificates().join("ca.crt").display().to_string();
    site.configure(NAME, &format!("server = \"https://{}\"\nca = \"{ca}\"\n", site.registry.host()));
    let name = format!("{NAME}/demo/x:1");
    assert_error(site.pull(&name).await, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "credentials");
    site.pull_as(&name, user()).await.expect("PullImage");
}

#[tokio::test]
async fn plain_http_is_spoken_with_loopback_or_where_the_file_says_so() {
    let site = Site::at("10.77.0.1").await;
    site.publish("demo/x:1", &layer());
    let name = site.registry.name("demo/x:1");
    let refused = site.pull(&name).await;
    let status = assert_error(refused, Code::FailedPrecondition, "REGISTRY_ERROR", "https://10.77.0.1");
    assert!(status.message().contains("plain http"), "it says what to do: {}", status.message());
    let host = site.registry.host();
    site.configure(&host, &format!("server = \"http://{host}\"\n"));
    site.pull(&name).await.expect("PullImage");
}

#[tokio::test]
async fn short_names_mean_dockers_registry_and_no_other() {
    let site = Site::new().await;
    site.publish("library/alpine:latest", &layer());
    site.publish("demo/app:1", &layer());
    site.configure("docker.io", &format!("server = \"http://{}\"\n", site.proxy.host()));
    let short = site.pull("alpine").await.expect("PullImage");
    assert_eq!(short.image().names, ["docker.io/library/alpine:latest"]);
    assert_eq!(site.proxy.asked()[0].path.split('?').next(), Some("/v2/library/alpine/manifests/latest"));
    assert!(site.pull("index.docker.io/library/alpine:latest").await.expect("PullImage").result.up_to_date);
    assert_eq!(site.pull("demo/app:1").await.expect("PullImage").image().names.len(), 2);
    site.proxy.forget();
    let refused = site.pull("missing").await;
    assert_error(refused, Code::NotFound, "IMAGE_NOT_FOUND", "docker.io/library/missing:latest");
    assert_eq!(site.proxy.asked().len(), 1);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_at_last() {
    let site = Site::new().await;
    let manifest = digest(&site.publish("demo/x:1", &layer()));
    let (mirror, own) = (&site.proxy, Proxy::before(&site.registry));
    let hosts = |keys: &str| format!("server = \"http://{}\"\n[host.\"http://{}\"]\n{keys}", own.host(), mirror.host());
    let name = format!("{NAME}/demo/x:1");
    let forget = || {
        mirror.forget();
        own.forget();
    };
    site.configure(NAME, &hosts(""));
    site.pull(&name).await.expect("PullImage");
    assert_eq!(own.asked().len(), 0, "{:?}", own.asked());
    assert!(mirror.asked().iter().all(|asked| asked.path.ends_with(&format!("?ns={NAME}"))), "{:?}", mirror.asked());

    // A mirror that may not say what a tag means is asked for the rest.
    remove_image(&site.hull, &name).await;
    forget();
    site.configure(NAME, &hosts("capabilities = [\"pull\"]\n"));
    site.pull(&name).await.expect("PullImage");
    assert_eq!((own.asked().len(), mirror.asked_for("GET", "/blobs/").len()), (1, 2));
    assert_eq!(own.asked()[0].path.split('?').next(), Some("/v2/demo/x/manifests/1"));

    // One that fails or lacks it is not the last word.
    for fault in [Fault::status(404), Fault::status(503), Fault::Cut(0)] {
        remove_image(&site.hull, &name).await;
        forget();
        mirror.mend();
        mirror.fault("", "", 99, fault);
        site.configure(NAME, &hosts(""));
        site.pull(&name).await.expect("PullImage");
        assert_eq!(own.asked().len(), 3, "{:?}", own.asked());
    }
    // Nor is one that lies.
    for path in ["/blobs/", "/manifests/"] {
        remove_image(&site.hull, &name).await;
        mirror.mend();
        mirror.fault("GET", path, 99, Fault::Corrupt(30));
        let pinned = format!("{NAME}/demo/x@{manifest}");
        assert_eq!(site.pull(&pinned).await.expect("PullImage").image().digest, manifest);
        site.pull(&name).await.expect("PullImage");
    }
}

#[tokio::test]
async fn a_mirror_gets_no_credentials_of_the_registry() {
    let site = Site::with(RegistryOptions { auth: true, ..RegistryOptions::default() }, &[]).await;
    site.publish("demo/x:1", &layer());
    let own = Proxy::before(&site.registry);
    let hosts = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.host(), site.proxy.host());
    site.configure(NAME, &hosts);
    site.pull_as(&format!("{NAME}/demo/x:1"), user()).await.expect("PullImage");
    let asked = site.proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.header("authorization").is_empty()), "{asked:?}");
    assert!(own.asked().iter().any(|asked| asked.header("authorization").starts_with("Basic ")), "{:?}", own.asked());
}

#[tokio::test]
async fn a_file_that_is_wrong_is_named() {
    let site = Site::new().await;
    site.publish_blob("demo/x:1", 1000);
    for (text, mentions) in [
        ("server = ", "hosts.toml"),
        ("[host.\"http://127.0.0.1:1\"]\nskip_verifi = true\n", "skip_verifi"),
        ("[host.\"ftp://x\"]\n", "ftp://x"),
        ("capabilities = [\"read\"]\n", "read"),
    ] {
        site.configure(NAME, text);
        let refused = site.pull(&format!("{NAME}/demo/x:1")).await;
        assert_error(refused, Code::FailedPrecondition, "REGISTRY_CONFIG", mentions);
    }
    // One for all that have none of their own.
    site.configure("_default", &format!("[host.\"http://{}\"]\n", site.registry.host()));
    site.pull("other.test/demo/x:1").await.expect("PullImage");
}
