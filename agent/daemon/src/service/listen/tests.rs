use super::*;

async fn bound(path: &Path, mode: u32) -> Result<Listener> {
    let socket = bind_unix(path, SocketMode(mode), None).await?;
    Ok(Listener { socket, connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)) })
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_socket_has_its_mode_and_goes_with_the_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hull.sock");
    for mode in [0o600, 0o666, 0o660] {
        let listener = bound(&path, mode).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        assert_eq!(names(directory.path()), ["hull.sock"]);
        let _client = UnixStream::connect(&path).await.unwrap();
        drop(listener);
        assert!(names(directory.path()).is_empty());
    }
}

#[tokio::test]
async fn a_live_socket_is_left_alone_and_a_stale_one_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hull.sock");
    let stale = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let problem = bound(&path, 0o600).await.unwrap_err();
    assert!(problem.message.starts_with("another agent listens on "), "{problem}");
    drop(stale);
    let listener = bound(&path, 0o600).await.unwrap();
    UnixStream::connect(&path).await.unwrap();
    drop(listener);
}

#[tokio::test]
async fn what_is_no_socket_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hull.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(bound(&path, 0o600).await.unwrap_err().message.contains("is not a socket"));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn an_unknown_group_is_named_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hull.sock");
    let problem = bind_unix(&path, SocketMode(0o660), Some("no-such-group")).await.unwrap_err();
    assert_eq!(problem.message, "socket-group: there is no group \"no-such-group\"");
    assert!(names(directory.path()).is_empty());
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hull.sock");
    let mut listener = bound(&path, 0o600).await.unwrap();
    listener.connections = Arc::new(Semaphore::new(1));
    let mut connections = Box::pin(listener.connections());
    let (_one, _two) = (UnixStream::connect(&path).await.unwrap(), UnixStream::connect(&path).await.unwrap());
    let first = tokio_stream::StreamExt::next(&mut connections).await.unwrap().unwrap();
    let mut second = Box::pin(tokio_stream::StreamExt::next(&mut connections));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err());
    drop(first);
    assert!(second.await.unwrap().is_ok());
}
