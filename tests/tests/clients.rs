//! Clients in other languages, made from the .proto files alone.

use std::process::Command;

use hull_tests::harness::{BASE_IMAGE, Session, workspace};

#[tokio::test]
async fn a_python_client_creates_execs_streams_and_reads_errors() {
    let hull = Session::own().await;
    let python = workspace().join("target/tools/python-client/bin/python");
    assert!(python.exists(), "{} is missing: run `make deps`", python.display());
    let output = Command::new(python)
        .arg(workspace().join("tests/clients/python/smoke.py"))
        .args([workspace().join("proto"), hull.agent.scratch("python"), hull.agent.socket()])
        .arg(BASE_IMAGE)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("starting Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
