//! Who asks: passwords and tokens, per call, of the node and of `hullctl login`; and who never gets to see them.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hull_proto::v1::{CheckRegistryAuthRequest, RegistryAuth};
use hull_tests::harness::oci::{Compression, Layout};
use hull_tests::harness::registry::{PASSWORD, USER};
use hull_tests::harness::site::{Site, remove_image, user};
use hull_tests::harness::{Ctl, Fault, Proxy, RegistryOptions, Rootfs, assert_error};
use tonic::{Code, Status};

const LOCKED: RegistryOptions = RegistryOptions { tls: false, client_certificates: false, auth: true, address: None };

fn layer() -> Vec<(Vec<u8>, Compression)> {
    vec![(Rootfs::empty().dir("etc", 0o755).file("etc/x", 0o644, "x").tar(), Compression::Gzip)]
}

fn basic() -> String {
    BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"))
}

/// Fails if a file below a directory holds the password, as it is or encoded.
fn assert_no_secret(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("reading a directory").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            assert_no_secret(&path);
        } else if kind.is_file() {
            let data = std::fs::read(&path).expect("reading");
            for secret in [PASSWORD, &basic()] {
                let found = data.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} holds {secret}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn a_password_comes_with_the_call_and_is_not_kept() {
    let site = Site::with(LOCKED, &["--log-level", "debug"]).await;
    site.publish("demo/x:1", &layer());
    let name = site.proxy.name("demo/x:1");
    let refused = site.pull(&name).await;
    assert_error(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "no credentials");
    let wrong = RegistryAuth { password: "wrong".into(), ..user() };
    let refused = site.pull_as(&name, wrong.clone()).await;
    assert_error(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "401");
    assert_eq!(site.proxy.asked_for("", "/blobs/").len(), 0);
    site.pull_as(&name, user()).await.expect("PullImage");
    // What was let in is let in alone.
    remove_image(&site.hull, &name).await;
    for refused in [site.pull(&name).await, site.pull_as(&name, wrong).await] {
        assert_error(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "");
    }
    assert_no_secret(site.hull.agent.dir());
    assert!(site.hull.agent.log().contains("DEBUG"), "the log was looked at, too");
}

#[tokio::test]
async fn the_node_has_credentials_of_its_own() {
    let file = tempfile::tempdir().expect("a directory");
    let path = file.path().join("config.json").display().to_string();
    let site = Site::with(LOCKED, &["--registry-auth-file", &path]).await;
    site.publish("demo/x:1", &layer());
    let name = site.proxy.name("demo/x:1");
    let write = |host: &str| {
        std::fs::write(&path, format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{}\"}}}}}}", basic()))
            .expect("writing");
    };
    write("other.test");
    assert_error(site.pull(&name).await, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "no credentials");
    write(&site.proxy.host());
    site.pull(&name).await.expect("PullImage");
    // What comes with a call goes before it.
    let wrong = RegistryAuth { password: "wrong".into(), ..user() };
    assert_error(site.pull_as(&name, wrong).await, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "401");
    std::fs::write(&path, "{").expect("writing");
    assert_error(site.pull(&name).await, Code::FailedPrecondition, "REGISTRY_CONFIG", "config.json");
}

#[tokio::test]
async fn tokens_are_asked_for_where_the_registry_says() {
    let site = Site::new().await;
    site.publish("demo/x:1", &layer());
    let name = site.proxy.name("demo/x:1");
    // The token server: one that knows the user.
    let tokens = Proxy::before(&site.registry);
    let grant = b"{\"token\": \"t0ken\", \"expires_in\": 300}".to_vec();
    tokens.fault("GET", "/token", 99, Fault::Answer(200, Vec::new(), grant));
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"tests\"", tokens.host());
    let challenge = vec![("www-authenticate".to_owned(), realm)];
    let locked = Fault::Unless("authorization", "Bearer t0ken".into(), 401, challenge, Vec::new());
    site.proxy.fault("", "/v2/", 99, locked);
    site.pull_as(&name, user()).await.expect("PullImage");
    let asked = tokens.asked();
    assert_eq!(asked.len(), 1, "a token is used again: {asked:?}");
    assert_eq!(asked[0].header("authorization"), format!("Basic {}", basic()));
    for part in ["service=tests", "scope=repository%3Ademo%2Fx%3Apull"] {
        assert!(asked[0].path.contains(part), "{}", asked[0].path);
    }
    let to_registry = site.proxy.asked();
    assert!(to_registry.iter().all(|asked| !asked.header("authorization").starts_with("Basic")), "{to_registry:?}");
    // Nobody gets a token of nobody, and that is used, too.
    tokens.forget();
    remove_image(&site.hull, &name).await;
    site.pull(&name).await.expect("PullImage");
    assert_eq!(tokens.asked()[0].header("authorization"), "");
    // A token server that refuses.
    tokens.mend();
    tokens.fault("GET", "/token", 99, Fault::status(401));
    let other = RegistryAuth { username: "other".into(), ..user() };
    assert_error(site.pull_as(&name, other).await, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "/token");
    // A token that the caller has is sent as it is.
    let auth = RegistryAuth { registry_token: "t0ken".into(), ..RegistryAuth::default() };
    tokens.forget();
    site.pull_as(&name, auth).await.expect("PullImage");
    assert_eq!(tokens.asked().len(), 0);
    // A refresh token is exchanged.
    let grant = b"{\"access_token\": \"t0ken\"}".to_vec();
    tokens.fault("POST", "/token", 99, Fault::Answer(200, Vec::new(), grant));
    let auth = RegistryAuth { identity_token: "refresh".into(), ..RegistryAuth::default() };
    site.pull_as(&name, auth).await.expect("PullImage");
    assert_eq!(tokens.asked_for("POST", "/token").len(), 1);
}

#[tokio::test]
async fn where_a_registry_sends_on_to_no_credentials_go() {
    let site = Site::with(LOCKED, &[]).await;
    site.publish("demo/x:1", &layer());
    // Blobs lie elsewhere.
    let elsewhere = Proxy::before(&site.registry);
    let data = Compression::Gzip.pack(&layer()[0].0);
    elsewhere.fault("GET", "/elsewhere", 9, Fault::Answer(200, Vec::new(), data.clone()));
    let location = vec![("location".to_owned(), format!("http://{}/elsewhere?sig=1", elsewhere.host()))];
    let blob = Layout::new(site.path("layer")).blob("x", &data);
    let digest = blob["digest"].as_str().expect("a digest");
    site.proxy.fault("GET", digest, 9, Fault::Answer(307, location, Vec::new()));
    site.pull_as(&site.proxy.name("demo/x:1"), user()).await.expect("PullImage");
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), "", "{asked:?}");
}

async fn check(site: &Site, registry: &str, auth: RegistryAuth) -> Result<String, Status> {
    let request = CheckRegistryAuthRequest { registry: registry.into(), auth: Some(auth) };
    Ok(site.hull.clients.images.clone().check_registry_auth(request).await?.into_inner().identity_token)
}

#[tokio::test]
async fn credentials_are_checked_for_a_login() {
    let site = Site::with(LOCKED, &[]).await;
    let host = site.proxy.host();
    assert_eq!(check(&site, &host, user()).await.expect("CheckRegistryAuth"), "");
    let wrong = RegistryAuth { password: "wrong".into(), ..user() };
    assert_error(check(&site, &host, wrong).await, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED", "");
    assert_error(check(&site, "no host", user()).await, Code::InvalidArgument, "INVALID_ARGUMENT", "registry");
    let nowhere = check(&site, "127.0.0.1:1", user()).await;
    assert_error(nowhere, Code::Unavailable, "REGISTRY_UNAVAILABLE", "127.0.0.1:1");
}

#[tokio::test]
async fn a_login_by_hullctl_lets_pull_until_the_logout() {
    let site = Site::with(LOCKED, &[]).await;
    site.publish("demo/x:1", &layer());
    let (host, name) = (site.registry.host(), site.registry.name("demo/x:1"));
    let hullctl = |words: &[&str]| {
        let mut command = Ctl::command(&site.hull.agent, words);
        command.env("DOCKER_CONFIG", site.path("docker"));
        command
    };
    let with_password = |password: &str| {
        let mut command = hullctl(&["login", "-u", USER, "--password-stdin", &host]);
        command.stdin(std::process::Stdio::piped());
        Ctl::finish(command, password.as_bytes())
    };
    let refused = with_password("wrong");
    assert!(refused.code == 1 && refused.error().contains("401"), "{}", refused.error());
    assert!(!site.path("docker").exists());
    assert_eq!(Ctl::finish(hullctl(&["pull", &name]), &[]).code, 1);
    assert_eq!(with_password(&format!("{PASSWORD}\n")).ok(), "Login Succeeded");
    assert!(Ctl::finish(hullctl(&["pull", &name]), &[]).ok().contains(": pulled sha256:"));
    Ctl::finish(hullctl(&["logout", &host]), &[]).ok();
    let refused = Ctl::finish(hullctl(&["pull", &name]), &[]);
    assert!(refused.code == 1 && refused.error().contains("no credentials"), "{}", refused.error());
    assert_no_secret(site.hull.agent.dir());
}
