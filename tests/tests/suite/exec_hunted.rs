//! Execs in a container whose root hunts them while they are born: it reaches nothing of the host's.
//!
//! Not so with CAP_SYS_PTRACE in the host's user namespace, which the kernel lets into every process that it sees.
//!
//! `HULL_TEST_HUNTED_EXECS` sets how many execs each container makes; 150, by [`bulk`], unless given.

use hull_proto::v1::{ContainerConfig, ExecStart, Namespace, NamespaceMode, Namespaces, UserNamespaceMode};
use hull_tests::harness::{ExecSession, Report, Session, bulk, wait};

/// Execs that run side by side.
const AT_ONCE: usize = 4;

fn execs() -> usize {
    std::env::var("HULL_TEST_HUNTED_EXECS").ok().and_then(|number| number.parse().ok()).unwrap_or_else(|| bulk(150))
}

fn start(container: &str, words: &[&str]) -> ExecStart {
    let argv = words.iter().map(|word| (*word).to_owned()).collect();
    ExecStart { container: container.into(), argv, ..ExecStart::default() }
}

/// Hunts from within `hunter` while programs are executed in `target`.
async fn hunt(hull: &Session, hunter: &str, target: &str) {
    let begin = ExecStart { stdin: true, ..start(hunter, &["/probe", "hunt"]) };
    let mut session = ExecSession::start(&hull.clients, begin).await.expect("Exec");
    wait::within("the hunter", session.until("hunting")).await.expect("output");
    for _ in 0..execs().div_ceil(AT_ONCE) {
        let some = (0..AT_ONCE).map(|_| hull.exec(target, &["/bin/true"]));
        for done in futures_util::future::join_all(some).await {
            assert_eq!(done.exit.code, 0, "{done:?}");
        }
    }
    assert!(session.sender().close().await);
    let seen = wait::within("the hunter's end", session.finish()).await.expect("Exec");
    let (text, number) = (seen.text(), |name: &str| -> u64 {
        seen.text().lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).expect("a number")
    });
    assert!(!text.contains("reached"), "{text}");
    // Otherwise nothing was hunted, and the line above says nothing.
    assert!(number("met ") > 0 && number("tries ") > 0, "{text}");
}

/// What a process that is executed there holds.
async fn holds_its_streams_only(hull: &Session, container: &str) {
    let done = hull.exec(container, &["/probe"]).await;
    let report: Report = serde_json::from_str(&done.text()).expect("a report");
    assert_eq!(report.fds.iter().map(|fd| fd.number).collect::<Vec<_>>(), [0, 1, 2], "{:?}", report.fds);
}

#[tokio::test]
async fn root_of_a_container_reaches_nothing_of_an_exec_that_is_born() {
    let hull = Session::own().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    hunt(&hull, &id, &id).await;
    holds_its_streams_only(&hull, &id).await;
}

#[tokio::test]
async fn root_of_a_user_namespace_reaches_nothing_either() {
    let hull = Session::own().await;
    let namespaces = Some(Namespaces { user: UserNamespaceMode::Auto.into(), ..Namespaces::default() });
    let id = hull.run(ContainerConfig { namespaces, ..hull.probe(&["sleep"]) }).await;
    hunt(&hull, &id, &id).await;
    holds_its_streams_only(&hull, &id).await;
}

#[tokio::test]
async fn nor_does_who_shares_the_pid_namespace() {
    let hull = Session::own().await;
    let id = hull.run(hull.probe(&["sleep"])).await;
    let pid = Some(Namespace { mode: NamespaceMode::Container.into(), container: id.clone() });
    let namespaces = Some(Namespaces { pid, ..Namespaces::default() });
    let other = hull.run(ContainerConfig { namespaces, ..hull.probe(&["sleep"]) }).await;
    hunt(&hull, &other, &id).await;
    hunt(&hull, &id, &other).await;
    holds_its_streams_only(&hull, &other).await;
}
