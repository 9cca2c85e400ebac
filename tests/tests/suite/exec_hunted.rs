//! Execs in a container whose root hunts them while they are born: it reaches nothing of the host's.
//!
//! With CAP_SYS_PTRACE in the host's user namespace the kernel lets it into every process that it sees; then it finds nothing there that
//! it does not have itself.
//!
//! `HULL_TEST_HUNTED_EXECS` sets how many execs each container makes; 150, by [`bulk`], unless given.

use hull_proto::v1::{ContainerConfig, ExecStart, Namespace, NamespaceMode, Namespaces, Security, UserNamespaceMode};
use hull_tests::harness::{ExecSession, Report, Session, bulk, error_info, given, wait};

/// Execs that run side by side.
const AT_ONCE: usize = 4;

fn execs() -> usize {
    given("HULL_TEST_HUNTED_EXECS").unwrap_or_else(|| bulk(150))
}

fn start(container: &str, words: &[&str]) -> ExecStart {
    let argv = words.iter().map(|word| (*word).to_owned()).collect();
    ExecStart { container: container.into(), argv, ..ExecStart::default() }
}

/// Hunts from within `hunter` while programs are executed in `target`.
async fn hunt(hull: &Session, hunter: &str, target: &str) {
    let seen = while_executing(hull, start(hunter, &["/probe", "hunt"]), target).await;
    assert!(!seen.contains("reached"), "{seen}");
    // Otherwise nothing was hunted, and the line above says nothing.
    assert!(number(&seen, "met ") > 0 && number(&seen, "tries ") > 0, "{seen}");
}

fn number(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).expect("a number")
}

/// What a hunter says that is at work while programs are executed in `target`.
async fn while_executing(hull: &Session, hunter: ExecStart, target: &str) -> String {
    let begin = ExecStart { stdin: true, ..hunter };
    let mut session = ExecSession::start(&hull.clients, begin).await.expect("Exec");
    wait::within("the hunter", session.until("hunting")).await.expect("output");
    for _ in 0..execs().div_ceil(AT_ONCE) {
        let some = (0..AT_ONCE).map(|_| hull.exec(target, &["/bin/true"]));
        for done in futures_util::future::join_all(some).await {
            assert_eq!(done.exit.code, 0, "{done:?}");
        }
    }
    assert!(session.sender().close().await);
    wait::within("the hunter's end", session.finish()).await.expect("Exec").text()
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

#[tokio::test]
async fn no_init_is_born_where_it_could_be_traced() {
    let hull = Session::own().await;
    let security = Some(Security { cap_add: vec!["SYS_PTRACE".into()], ..Security::default() });
    let quiet = hull.run(hull.probe(&["sleep"])).await;
    let join = |id: &str| {
        let pid = Some(Namespace { mode: NamespaceMode::Container.into(), container: id.to_owned() });
        let namespaces = Some(Namespaces { pid, ..Namespaces::default() });
        ContainerConfig { namespaces, ..hull.probe(&["sleep"]) }
    };
    // What looks into a container in order to find its faults.
    let tracer = hull.run(ContainerConfig { security, ..join(&quiet) }).await;
    for target in [&quiet, &tracer] {
        let refusal = hull.try_run(join(target)).await.expect_err("it could be traced");
        assert_eq!(error_info(&refusal).reason, "INVALID_STATE");
        assert!(refusal.message().contains("CAP_SYS_PTRACE"), "{refusal:?}");
    }
    hull.remove(&tracer).await;
    hull.run(join(&quiet)).await;
}

#[tokio::test]
async fn who_may_trace_everything_finds_nothing_of_the_host_s_in_an_exec_that_is_born() {
    let hull = Session::own().await;
    let security = Some(Security { cap_add: vec!["SYS_PTRACE".into()], ..Security::default() });
    let id = hull.run(ContainerConfig { security, ..hull.probe(&["sleep"]) }).await;
    let seen = while_executing(&hull, start(&id, &["/probe", "hunt", "trace"]), &id).await;
    assert!(!seen.contains("carried"), "{seen}");
    assert!(number(&seen, "met ") > 0, "{seen}");
}
