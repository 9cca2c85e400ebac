//! Debian's `docker-registry`, the reference implementation, in a network of the tests; and the tools that push to it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

use serde_json::json;

use super::{Authority, Network, host, wait};

/// User of a registry that asks for one.
pub const USER: &str = "tester";
/// The user's password.
pub const PASSWORD: &str = "p4ss:word";
/// The password as htpasswd keeps it.
const PASSWORD_HASH: &str = "$2b$05$abcdefghijklmnopqrstuufud1RNLFboou0RmDnIUjuF9.TruaFbW";

/// How a registry is to be; the default is plain and open to all.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegistryOptions {
    /// With TLS, by a certificate of an authority of its own.
    pub tls: bool,
    /// For clients that have a certificate of that authority, too.
    pub client_certificates: bool,
    /// For [`USER`] alone.
    pub auth: bool,
    /// At this address of the network instead of 127.0.0.1.
    pub address: Option<&'static str>,
}

impl RegistryOptions {
    fn address(self) -> &'static str {
        self.address.unwrap_or("127.0.0.1")
    }
}

/// A running registry. It and what it keeps go when it is dropped.
#[derive(Debug)]
pub struct Registry {
    network: Arc<Network>,
    dir: tempfile::TempDir,
    options: RegistryOptions,
    port: u16,
    child: Child,
}

impl Registry {
    /// Starts a registry and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(network: &Arc<Network>, options: RegistryOptions) -> Self {
        let dir = tempfile::Builder::new().prefix("hull-registry-").tempdir().expect("a directory");
        let port = network.port();
        if let Some(address) = options.address {
            network.add(address);
        }
        let config = dir.path().join("config.json");
        std::fs::write(&config, configuration(dir.path(), options, port)).expect("writing");
        let log = std::fs::File::create(dir.path().join("log")).expect("creating the log");
        let child = network
            .command("docker-registry")
            .arg("serve")
            .arg(config)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting nsenter");
        let mut registry = Self { network: Arc::clone(network), dir, options, port, child };
        wait::until("the registry listens", || {
            let ended = registry.child.try_wait().expect("waiting for the registry");
            assert!(ended.is_none(), "docker-registry ended: run `make deps`?\n{}", registry.log());
            registry.network.is_open(options.address(), port).then_some(())
        });
        registry
    }

    /// A plain registry, open to all, in a network of its own.
    pub fn open() -> Self {
        Self::start(&Network::new(), RegistryOptions::default())
    }

    /// The network that it is in.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its host and port, as in a reference.
    pub fn host(&self) -> String {
        format!("{}:{}", self.options.address(), self.port)
    }

    /// A reference to it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// Where the certificate of its authority is, `ca.crt`, and those for a client, `client.cert` and `client.key`.
    pub fn certificates(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    /// What it said.
    pub fn log(&self) -> String {
        host::text(self.dir.path().join("log"))
    }

    /// Copies an image with skopeo into it, as it is unless `words`, further flags, give another format. `from` is a source as
    /// skopeo has it.
    ///
    /// # Panics
    /// If that fails.
    pub fn push(&self, from: &str, name: &str, words: &[&str]) {
        let to = format!("docker://{}", self.name(name));
        let mut all = vec!["copy", "--quiet"];
        all.extend_from_slice(words);
        if !words.contains(&"--format") {
            all.push("--preserve-digests");
        }
        let certificates = self.certificates().display().to_string();
        let credentials = format!("{USER}:{PASSWORD}");
        if self.options.tls {
            all.extend(["--dest-cert-dir", &certificates]);
        } else {
            all.push("--dest-tls-verify=false");
        }
        if self.options.auth {
            all.extend(["--dest-creds", &credentials]);
        }
        all.extend([from, &to]);
        self.network.run("skopeo", &all);
    }

    /// What skopeo says of an image in it.
    ///
    /// # Panics
    /// If it says nothing.
    pub fn inspect(&self, name: &str, words: &[&str]) -> serde_json::Value {
        let image = format!("docker://{}", self.name(name));
        let all: Vec<&str> = ["inspect", "--tls-verify=false"].iter().chain(words).copied().chain([&*image]).collect();
        serde_json::from_str(&self.network.run("skopeo", &all)).expect("JSON of skopeo")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the registry:\n{}", self.log());
        }
    }
}

/// The configuration, in JSON, which is YAML, too.
fn configuration(dir: &Path, options: RegistryOptions, port: u16) -> String {
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": true}},
        "storage": {"filesystem": {"rootdirectory": dir.join("storage")}, "delete": {"enabled": true}},
        "http": {"addr": format!("{}:{port}", options.address()), "secret": "not one"},
    });
    if options.tls {
        // One directory as skopeo has it: an authority, and a client's certificate and key.
        std::fs::create_dir(dir.join("certs")).expect("mkdir");
        let authority = Authority::new();
        let ((server, server_key), (client, client_key)) = (authority.server(), authority.client());
        for (name, text) in [
            ("certs/ca.crt", &authority.pem),
            ("certs/client.cert", &client),
            ("certs/client.key", &client_key),
            ("server.pem", &server),
            ("server.key", &server_key),
        ] {
            std::fs::write(dir.join(name), text).expect("writing");
        }
        config["http"]["tls"] = json!({"certificate": dir.join("server.pem"), "key": dir.join("server.key")});
        if options.client_certificates {
            config["http"]["tls"]["clientcas"] = json!([dir.join("certs/ca.crt")]);
        }
    }
    if options.auth {
        let users = dir.join("htpasswd");
        std::fs::write(&users, format!("{USER}:{PASSWORD_HASH}\n")).expect("writing");
        config["auth"] = json!({"htpasswd": {"realm": "tests", "path": users}});
    }
    config.to_string()
}
