//! TCP is served with mutual TLS or not at all.

use std::path::{Path, PathBuf};

use hull_proto::v1::GetInfoRequest;
use hull_tests::harness::{AgentOptions, Authority, Clients, Ctl, Session, wait};
use hyper_util::rt::TokioIo;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tower::service_fn;

const PORT: u16 = 7443;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(pairs: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in pairs {
            std::fs::write(dir.path().join(name), text).expect("writing");
            std::fs::set_permissions(dir.path().join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("chmod");
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// A TCP connection made inside a process's network namespace.
async fn connect_in(pid: i32) -> std::io::Result<tokio::net::TcpStream> {
    let stream = std::thread::spawn(move || -> std::io::Result<std::net::TcpStream> {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        std::net::TcpStream::connect(("127.0.0.1", PORT))
    })
    .join()
    .expect("the connecting thread")?;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}

async fn info(pid: i32, tls: Option<ClientTlsConfig>) -> Result<String, String> {
    let mut endpoint = Endpoint::from_static(if tls.is_some() { "https://localhost" } else { "http://localhost" });
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).map_err(|error| error.to_string())?;
    }
    let connector = service_fn(move |_| async move { connect_in(pid).await.map(TokioIo::new) });
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| format!("{error:?}"))?;
    let answer =
        Clients::over(channel).node.get_info(GetInfoRequest {}).await.map_err(|status| format!("{status:?}"))?;
    Ok(answer.into_inner().api_version)
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_are_served() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.server();
    let client = ours.client();
    let foreign = theirs.client();
    let files = Files::new(&[
        ("ca.pem", &ours.pem),
        ("server.pem", &server.0),
        ("server.key", &server.1),
        ("client.pem", &client.0),
        ("client.key", &client.1),
        ("foreign.pem", &foreign.0),
        ("foreign.key", &foreign.1),
    ]);
    let hull = Session::own_with(AgentOptions { arguments: flags(&files), ..AgentOptions::default() }).await;
    let pid = hull.agent.pid();
    let trusting = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ours.pem)).domain_name("localhost");

    let good = trusting().identity(Identity::from_pem(&client.0, &client.1));
    assert_eq!(wait::within("a good client", info(pid, Some(good))).await, Ok("hull.v1".into()));
    let refused = [
        ("no certificate", Some(trusting())),
        ("a certificate of another authority", Some(trusting().identity(Identity::from_pem(&foreign.0, &foreign.1)))),
        ("no TLS", None),
    ];
    for (what, tls) in refused {
        assert!(wait::within(what, info(pid, tls)).await.is_err(), "{what} was let in");
    }
    hullctl(&hull, &files);
}

fn flags(files: &Files) -> Vec<String> {
    [
        "--listen",
        &format!("tcp://127.0.0.1:{PORT}"),
        "--tls-cert",
        &files.text("server.pem"),
        "--tls-key",
        &files.text("server.key"),
        "--tls-client-ca",
        &files.text("ca.pem"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The command line over TLS, in the agent's network namespace.
fn hullctl(hull: &Session, files: &Files) {
    let run = |cert: &str, ca: &Path| {
        let program = Ctl::command(&hull.agent, &[]).get_program().to_owned();
        let mut command = std::process::Command::new("nsenter");
        command.args(["--net", "--target", &hull.agent.pid().to_string()]).arg(program);
        command.args(["-H", &format!("tcp://127.0.0.1:{PORT}"), "--tls-ca"]).arg(ca);
        command.args([
            "--tls-cert",
            &files.text(&format!("{cert}.pem")),
            "--tls-key",
            &files.text(&format!("{cert}.key")),
        ]);
        command.args(["info", "-o", "json"]);
        Ctl::finish(command, &[])
    };
    assert!(run("client", &files.path("ca.pem")).ok().contains("hull.v1"));
    let foreign = run("foreign", &files.path("ca.pem"));
    assert_ne!(foreign.code, 0);
    let distrusting = run("client", &files.path("foreign.pem"));
    assert_ne!(distrusting.code, 0);
    assert_eq!(distrusting.error().lines().count(), 1, "{}", distrusting.error());
}
