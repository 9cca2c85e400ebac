use std::io::Write as _;

use super::*;

fn load(args: &[&str]) -> Result<Config> {
    Config::load(Flags::try_parse_from(std::iter::once("hulld").chain(args.iter().copied())).unwrap())
}

fn with_file(contents: &str, args: &[&str]) -> Result<Config> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    load(&[&["--config", &path], args].concat())
}

fn problem(args: &[&str]) -> String {
    load(args).unwrap_err().to_string()
}

#[test]
fn defaults() {
    let config = with_file("", &[]).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/hull"));
    assert_eq!(config.listen, [Listen::Unix("/run/hull/hull.sock".into())]);
    assert_eq!(config.cgroup_parent, "/hull");
    assert_eq!(config.socket_mode, SocketMode(0o660));
    assert_eq!(config.userns, UsernsRanges { base: 524_288, count: 4096 });
    assert_eq!(config.warm_shims, 2);
    assert_eq!(config.registries, RegistryConfig::default());
    assert_eq!(config.registries.stall_timeout, Duration::from_secs(30));
    assert_eq!(config.tls, None);
}

#[test]
fn flags_win_over_the_file() {
    let file =
        "data-dir = \"/a\"\nrun-dir = \"/b/\"\nlisten = [\"unix:///c.sock\"]\nwarm-shims = 5\nlog-format = \"json\"\n";
    let config = with_file(file, &["--data-dir", "/x", "--listen", "unix:///d.sock"]).unwrap();
    assert_eq!(config.data_dir, Path::new("/x"));
    assert_eq!(config.run_dir.as_os_str(), "/b");
    assert_eq!(config.listen, [Listen::Unix("/d.sock".into())]);
    assert_eq!((config.warm_shims, config.log_format), (5, LogFormat::Json));
}

#[test]
fn the_default_socket_lies_in_the_run_directory() {
    let config = with_file("", &["--run-dir", "/run/h2"]).unwrap();
    assert_eq!(config.listen, [Listen::Unix("/run/h2/hull.sock".into())]);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = with_file("warm-shims = 1\nmagic = true\n", &[]).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("magic"), "{error}");
}

#[test]
fn a_named_file_must_exist() {
    assert!(problem(&["--config", "/nonexistent/hulld.toml"]).contains("ENOENT"));
}

#[test]
fn tcp_needs_all_of_mutual_tls() {
    let tcp = ["--listen", "tcp://127.0.0.1:7443"];
    assert!(problem(&tcp).starts_with("tls-cert: is required"));
    let cert = [&tcp[..], &["--tls-cert", "/c"]].concat();
    assert!(problem(&cert).starts_with("tls-key: is required"));
    let key = [&cert[..], &["--tls-key", "/k"]].concat();
    assert!(problem(&key).starts_with("tls-client-ca: is required"));
    let config = load(&[&key[..], &["--tls-client-ca", "/a"]].concat()).unwrap();
    assert_eq!(config.tls.unwrap().client_ca, Path::new("/a"));
    assert!(problem(&["--tls-cert", "/c"]).starts_with("tls-key: is required"));
}

#[test]
fn wrong_values_are_named() {
    for (args, start) in [
        (["--data-dir", "relative"], "data-dir: "),
        (["--data-dir", "/a/../b"], "data-dir: "),
        (["--data-dir", "/run/hull/"], "run-dir: "),
        (["--cgroup-parent", "/"], "cgroup-parent: "),
        (["--registry-config", "certs.d"], "registry-config: "),
        (["--registry-auth-file", "config.json"], "registry-auth-file: "),
        (["--registry-stall-timeout", "1"], "registry-stall-timeout: "),
        (["--registry-stall-timeout", "1ms"], "registry-stall-timeout: "),
        (["--cgroup-parent", "hull"], "cgroup-parent: "),
        (["--listen", "127.0.0.1:1"], "listen: "),
        (["--listen", "tcp://localhost:1"], "listen: "),
        (["--listen", "unix://relative"], "listen: "),
        (["--userns-base", "0"], "userns-base: "),
        (["--userns-count", "0"], "userns-count: "),
        (["--userns-count", "65535"], "userns-count: "),
        (["--warm-shims", "65"], "warm-shims: "),
        (["--log-level", "hulld=loud"], "log-level: "),
        (["--log-format", "xml"], "log-format: "),
        (["--socket-mode", "888"], "socket-mode: "),
        (["--socket-mode", "1777"], "socket-mode: "),
    ] {
        let problem = problem(&args);
        assert!(problem.starts_with(start), "{args:?}: {problem}");
    }
}

#[test]
fn paths_of_sockets_are_bounded() {
    let long = format!("/run/{}", "x".repeat(49));
    assert!(problem(&["--run-dir", &long]).starts_with("run-dir: is longer than 53 bytes"));
    let address = format!("unix:///{}", "x".repeat(107));
    assert!(problem(&["--listen", &address]).contains("longer than 98 bytes"));
}
