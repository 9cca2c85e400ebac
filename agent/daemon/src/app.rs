//! The one place where the agent's parts are put together: bind, restore, serve, drain.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hull_proto::v1;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::service::Routes;
use tower::util::MapFutureLayer;

use crate::config::Config;
use crate::error::{Error, Reason, Result, causes};
use crate::events::{Events, What};
use crate::exposition::{Endpoint, Exposition, Sources};
use crate::images::{Images, LayerMounts};
use crate::lifecycle::{COPIES_MAX, Containers, Context, Host, SeccompCache, UsernsRanges, WritableLayers};
use crate::metrics::Metrics;
use crate::runtime::cgroup::CgroupManager;
use crate::runtime::dirs::Dirs;
use crate::runtime::features;
use crate::runtime::shim::{ShimBinary, ShimPool};
use crate::service::listen::{self, Listener};
use crate::service::{CallsLayer, DeadlineLayer, Edge, NodeInfo};
use crate::stats::StatsHub;
use crate::store::{Commit, Store};

/// Time that calls under way have once the agent is asked to end.
const GRACE: Duration = Duration::from_secs(10);
/// Time that answers have to reach their clients once no call is under way: streams were told to end, and a client that does not read
/// its stream, or does not read at all, is not waited for.
const LINGER: Duration = Duration::from_secs(1);
/// Of struct flock, in its types.
#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const WRITE_LOCK: nix::libc::c_short = nix::libc::F_WRLCK as nix::libc::c_short;
#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const FROM_THE_START: nix::libc::c_short = nix::libc::SEEK_SET as nix::libc::c_short;
/// Name of the file in a directory that says which agent has it.
const LOCK: &str = "hulld.lock";

/// Runs the agent until it is asked to end. Containers run on.
///
/// # Errors
/// If the agent cannot start.
pub(crate) async fn run(config: Config) -> Result<()> {
    lift_descriptor_limit();
    let _locks = (lock(&config.data_dir, "data-dir")?, lock(&config.run_dir, "run-dir")?);
    // Before anything is made: an address that is taken leaves nothing to be removed.
    let endpoint = match &config.metrics {
        Some(metrics) => Some(Endpoint::bind(metrics.listen).await?),
        None => None,
    };
    let shutdown = CancellationToken::new();
    let parts = config.clone();
    let context = tokio::task::spawn_blocking(move || context(&parts))
        .await
        .map_err(|error| Error::new(Reason::Internal, format!("starting: {error}")))??;
    let context = Arc::new(context);
    let node = Arc::new(node(&config, &context)?);
    let containers = Containers::new(Arc::clone(&context));
    containers.restore().await?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let events = vec![What::AgentStarted { version }.encode_now()?];
    context.store.commit_later(Commit { writes: Vec::new(), events });
    context.shims.refill();
    let edge = Edge {
        containers: containers.clone(),
        images: context.images.clone(),
        events: Events::new(context.store.clone()),
        stats: context.stats.clone(),
        node,
        shutdown: shutdown.clone(),
    };
    tokio::spawn(containers.clone().measure_writable_layers(shutdown.clone()));
    let listeners = listen::bind(&config).await?;
    let metrics = endpoint.map(|endpoint| {
        let exposition = exposition(&config, &context, &containers);
        tokio::spawn(endpoint.serve(exposition, shutdown.clone()))
    });
    let asked = asked_to_end()?;
    let serving = serve(&config, listeners, &edge, &shutdown).await?;
    notify("READY=1");
    tracing::info!(listen = ?config.listen, metrics = ?config.metrics.as_ref().map(|metrics| metrics.listen), "ready");
    asked.await;
    notify("STOPPING=1");
    tracing::info!("draining; containers run on");
    context.stats.close();
    drain(serving, &shutdown).await;
    if let Some(metrics) = metrics {
        // It ends by itself, soon, and a panic of its is in the log.
        let _ = metrics.await;
    }
    containers.settle().await;
    Ok(())
}

/// Every container takes a few descriptors of the agent: the soft limit, kept low for programs that select(2), is lifted to the hard one.
fn lift_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let lifted =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(errno) = lifted {
        tracing::warn!(%errno, "cannot raise the limit of open descriptors");
    }
}

/// The parts below the life cycle. Blocking.
fn context(config: &Config) -> Result<Context> {
    let dirs = Dirs::create(&config.data_dir, &config.run_dir)?;
    let binary = ShimBinary::load(&config.shim)?;
    let store = Store::open(&config.data_dir.join("hull.redb"))?;
    let images = Images::open(&config.data_dir, store.clone(), config.registries.clone())?;
    Ok(Context {
        layers: LayerMounts::new(&config.run_dir, images.clone(), binary.path())?,
        cgroups: CgroupManager::detect(&config.cgroup_parent)?,
        stats: StatsHub::new(config.data_dir.clone()),
        metrics: Metrics::default(),
        shims: ShimPool::new(binary, usize::try_from(config.warm_shims).unwrap_or(usize::MAX)),
        copies: Arc::new(Semaphore::new(COPIES_MAX)),
        userns: UsernsRanges::new(config.userns.base, config.userns.count),
        seccomp: SeccompCache::default(),
        logs: config.logs,
        host: Host::read()?,
        store,
        images,
        dirs,
        writable: WritableLayers::default(),
    })
}

/// A directory that no other agent has, made if missing. The lock is one of the process, see fcntl(2): one of the open file would be
/// held by a child, too, that a killed agent had just begun to make.
fn lock(directory: &Path, key: &str) -> Result<File> {
    let failed = |error| Error::io(format_args!("{key}: preparing {}", directory.display()), &error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let path = directory.join(LOCK);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(failed)?;
    let whole = nix::libc::flock { l_type: WRITE_LOCK, l_whence: FROM_THE_START, l_start: 0, l_len: 0, l_pid: 0 };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(file),
        Err(Errno::EACCES | Errno::EAGAIN) => {
            Err(Error::new(Reason::InvalidState, format!("{key}: another agent has {}", directory.display()))
                .hint("stop it, or choose another directory"))
        }
        Err(errno) => Err(Error::os(format_args!("{key}: locking {}", directory.display()), errno)),
    }
}

fn node(config: &Config, context: &Context) -> Result<NodeInfo> {
    let names = nix::sys::utsname::uname().map_err(|errno| Error::os("asking for the kernel's version", errno))?;
    let kernel_version = names.release().to_string_lossy().into_owned();
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(NodeInfo {
        hostname: names.nodename().to_string_lossy().into_owned(),
        architecture: architecture(std::env::consts::ARCH).to_owned(),
        cgroup_mode: context.cgroups.mode(),
        cgroup_controllers: context.cgroups.controllers().into_iter().map(str::to_owned).collect(),
        cgroup_parent: config.cgroup_parent.clone(),
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory_bytes: features::memory_bytes(),
        features: features::probe(&kernel_version, &config.cgroup_parent),
        started_at_nanos: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
        kernel_version,
    })
}

/// Rust's name of an architecture in OCI's (Go's) terms.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// What metrics tell, and where that comes from.
fn exposition(config: &Config, context: &Context, containers: &Containers) -> Exposition {
    Exposition::new(Sources {
        metrics: context.metrics.clone(),
        containers: containers.clone(),
        images: context.images.clone(),
        store: context.store.clone(),
        shims: context.shims.clone(),
        stats: context.stats.clone(),
        data_dir: config.data_dir.clone(),
        labels: config.metrics.as_ref().map(|metrics| metrics.labels.clone()).unwrap_or_default(),
    })
}

/// The services of all listeners, while they serve.
struct Serving {
    listeners: JoinSet<Result<(), tonic::transport::Error>>,
    /// Calls that have no answer yet; a stream is one from its first message.
    calls: TaskTracker,
    health: tonic_health::server::HealthReporter,
}

async fn serve(
    config: &Config,
    listeners: Vec<Listener>,
    edge: &Edge,
    shutdown: &CancellationToken,
) -> Result<Serving> {
    let (health, routes) = routes(edge).await?;
    let mut tasks = JoinSet::new();
    let calls = TaskTracker::new();
    let counted = CallsLayer::new(edge.containers.metrics());
    for listener in listeners {
        let tracked = calls.clone();
        let track = MapFutureLayer::new(move |call: Call| tracked.track_future(call));
        let mut server = listen::server().layer(counted.clone()).layer(track).layer(DeadlineLayer);
        if let (true, Some(tls)) = (listener.is_tcp(), &config.tls) {
            server = server
                .tls_config(listen::tls(tls)?)
                .map_err(|error| Error::invalid("tls-cert, tls-key, tls-client-ca", causes(&error)))?;
        }
        let router = server.add_routes(routes.clone());
        let shutdown = shutdown.clone().cancelled_owned();
        tasks.spawn(router.serve_with_incoming_shutdown(listener.connections(), shutdown));
    }
    Ok(Serving { listeners: tasks, calls, health })
}

/// A call until its answer begins.
type Call = BoxFuture<http::Response<Body>, Infallible>;

/// hull.v1, health and reflection.
async fn routes(edge: &Edge) -> Result<(tonic_health::server::HealthReporter, Routes)> {
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in SERVICES {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(hull_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let failed = |error| Error::new(Reason::Internal, format!("reflection: {error}"));
    let routes = edge
        .routes()
        .add_service(health_service)
        .add_service(reflection().build_v1().map_err(failed)?)
        .add_service(reflection().build_v1alpha().map_err(failed)?);
    Ok((health, routes))
}

/// Names under which health is told; the empty one is the server as a whole.
const SERVICES: [&str; 6] = [
    "",
    v1::container_service_server::SERVICE_NAME,
    v1::image_service_server::SERVICE_NAME,
    v1::event_service_server::SERVICE_NAME,
    v1::stats_service_server::SERVICE_NAME,
    v1::node_service_server::SERVICE_NAME,
];

/// Stops accepting, ends streams, and lets calls under way come to their end within [`GRACE`].
async fn drain(mut serving: Serving, shutdown: &CancellationToken) {
    for service in SERVICES {
        serving.health.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
    }
    shutdown.cancel();
    let closed = async {
        while let Some(served) = serving.listeners.join_next().await {
            if let Ok(Err(error)) = served {
                tracing::warn!(error = causes(&error), "a listener failed");
            }
        }
    };
    serving.calls.close();
    let answered = async {
        serving.calls.wait().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = closed => {}
        () = answered => tracing::info!("clients that do not read their streams to the end are cut off"),
        () = tokio::time::sleep(GRACE) => tracing::warn!("calls under way did not end in time and are cut off"),
    }
}

/// SIGTERM or SIGINT, from now on.
fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let failed = |error| Error::io("waiting for signals", &error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Tells the service manager, where there is one, see sd_notify(3).
fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match socket.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&socket),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, state, "telling the service manager failed");
    }
}
