use super::*;

fn of(text: &str, domain: &str) -> Vec<Endpoint> {
    parse(text, Path::new("/certs/x"), domain).unwrap()
}

fn names(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|host| format!("{}://{}{}", host.scheme.name(), host.authority, host.prefix)).collect()
}

fn wrong(text: &str) -> String {
    let error = parse(text, Path::new("/certs/x"), "r.example").unwrap_err();
    assert_eq!(error.reason, Reason::RegistryConfig);
    assert!(error.message.starts_with("/certs/x/hosts.toml: "), "{error}");
    error.message
}

#[test]
fn without_a_file_the_registry_itself_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let names = |domain: &str| names(&endpoints(dir.path(), domain).unwrap());
    assert_eq!(names("docker.io"), ["https://registry-1.docker.io/v2"]);
    assert_eq!(names("ghcr.io"), ["https://ghcr.io/v2"]);
    for loopback in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "[::1]"] {
        assert_eq!(names(loopback), [format!("http://{loopback}/v2")]);
    }
    for other in ["10.0.0.1:5000", "[2001:db8::1]:5000", "localhost.example", "registry:5000"] {
        assert_eq!(names(other), [format!("https://{other}/v2")]);
    }
}

#[test]
fn mirrors_come_in_the_order_of_the_file_and_the_server_last() {
    let text = r#"
        server = "https://registry-1.docker.io"
        [host."https://z.example"]
        capabilities = ["pull"]
        [host."http://a.example:5000/cache/"]
        [host."m.example/api/docker"]
        override_path = true
    "#;
    let hosts = of(text, "docker.io");
    let expected = [
        "https://z.example/v2",
        "http://a.example:5000/cache/v2",
        "https://m.example/api/docker",
        "https://registry-1.docker.io/v2",
    ];
    assert_eq!(names(&hosts), expected);
    assert_eq!(hosts[0].capabilities, Capabilities { pull: true, resolve: false, push: false });
    assert_eq!(hosts[1].capabilities, Capabilities { pull: true, resolve: true, push: true });
    let namespaces: Vec<_> = hosts.iter().map(|host| host.namespace.as_deref()).collect();
    assert_eq!(namespaces, [Some("docker.io"), Some("docker.io"), Some("docker.io"), None]);
    assert_eq!(hosts.iter().map(|host| host.is_server).collect::<Vec<_>>(), [false, false, false, true]);
}

#[test]
fn what_is_said_of_a_host_is_read() {
    let text = r#"
        ca = ["/abs/ca.pem", "rel.pem"]
        dial_timeout = "3s"
        [host."https://m.example"]
        ca = "m.pem"
        client = [["c.pem", "c.key"]]
        skip_verify = true
        [host."https://m.example".header]
        x-one = "1"
        x-two = ["2", "3"]
    "#;
    let [mirror, server] = of(text, "r.example:443").try_into().unwrap();
    assert_eq!(mirror.tls.authorities, [Path::new("/certs/x/m.pem")]);
    assert_eq!(mirror.tls.client, [("/certs/x/c.pem".into(), "/certs/x/c.key".into())]);
    assert!(mirror.tls.skip_verify && !server.tls.skip_verify);
    let headers: Vec<_> = mirror.headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(headers, [("x-one", "1"), ("x-two", "2"), ("x-two", "3")]);
    assert!(!format!("{mirror:?}").contains("\"3\""), "a header may be a secret");
    assert_eq!(server.tls.authorities, [Path::new("/abs/ca.pem"), Path::new("/certs/x/rel.pem")]);
    assert_eq!((server.dial_timeout, mirror.dial_timeout), (Duration::from_secs(3), DIAL_TIMEOUT));
    assert_eq!(server.authority, "r.example:443");
    for (text, expected) in [("client = \"both.pem\"", 1), ("client = [\"a.pem\", \"b.pem\"]", 2)] {
        assert_eq!(of(text, "r.example")[0].tls.client.len(), expected);
    }
}

#[test]
fn a_host_that_is_the_server_itself_is_not_asked_twice() {
    let hosts = of("server = \"https://r.example\"\n[host.\"https://r.example\"]\nskip_verify = true\n", "r.example");
    assert_eq!(names(&hosts), ["https://r.example/v2"]);
    assert!(hosts[0].is_server && hosts[0].tls.skip_verify);
    assert_eq!(hosts[0].namespace, None);
}

#[test]
fn plain_http_needs_to_be_said() {
    assert_eq!(names(&of("server = \"http://r.example\"", "r.example")), ["http://r.example/v2"]);
    assert_eq!(names(&of("server = \"https://127.0.0.1:5000\"", "127.0.0.1:5000")), ["https://127.0.0.1:5000/v2"]);
    assert_eq!(names(&of("", "127.0.0.1:5000")), ["http://127.0.0.1:5000/v2"]);
}

#[test]
fn what_is_not_known_or_wrong_is_named() {
    assert!(wrong("skip_verfy = true").contains("skip_verfy"));
    assert!(wrong("[host.\"https://m\"]\nca_file = \"x\"").contains("ca_file"));
    assert!(wrong("[host.\"https://m\"]\ncapabilities = [\"pull\", \"delete\"]").contains("\"delete\""));
    assert!(wrong("[host.\"ftp://m\"]").contains("ftp://m"));
    assert!(wrong("[host.\"https://user:pass@m\"]").contains("is not a host"));
    assert!(wrong("[host.\"https://m?x=y\"]").contains("is not a host"));
    assert!(wrong("server = 5").contains("string"));
    assert!(wrong("[host]\nm = 5").contains("no table"));
    assert!(wrong("dial_timeout = \"soon\"").contains("dial_timeout"));
    assert!(wrong("[host.\"https://m\".header]\n\"a b\" = \"c\"").contains("a b"));
    assert!(wrong("server = \"https://x\"\nserver = \"https://y\"").contains("duplicate"));
}

#[test]
fn the_directory_of_a_registry_comes_before_the_default_one() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join(FILE), text).unwrap();
    };
    let first = |domain: &str| names(&endpoints(dir.path(), domain).unwrap())[0].clone();
    write("_default", "[host.\"https://every.example\"]");
    assert_eq!(first("r.example:5000"), "https://every.example/v2");
    write("r.example:5000", "[host.\"https://colon.example\"]");
    assert_eq!(first("r.example:5000"), "https://colon.example/v2");
    write("r.example_5000_", "[host.\"https://underscore.example\"]");
    assert_eq!(first("r.example:5000"), "https://underscore.example/v2");
    assert_eq!(first("r.example"), "https://every.example/v2");
    let all = endpoints(dir.path(), "docker.io").unwrap();
    assert_eq!(names(&all), ["https://every.example/v2", "https://registry-1.docker.io/v2"]);
    fs::create_dir(dir.path().join("empty.example")).unwrap();
    assert_eq!(endpoints(dir.path(), "empty.example").unwrap_err().reason, Reason::RegistryConfig);
}
