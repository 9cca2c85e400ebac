//! Files copied from and to containers, running or not.
//!
//! The files of a container that runs are found by its root as the shim has it mounted, so that volumes, tmpfs and bind mounts
//! are seen as the container sees them. The root of one that does not run is mounted by a shim of its own for the time, with
//! its bind mounts, where nobody else sees it.
//!
//! Whoever goes away is noticed by the stream that is read from or written to; the work ends then, and what it had goes with it.

use std::io::{Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use hull_wire::{Failure, IdMap, Outcome, PROTOCOL_VERSION, RequestBody, RootfsPlan, UserNamespace, ViewPlan};
use tokio::sync::oneshot;

use super::container::{Handle, Request, Visit, Way};
use super::containers::{Containers, wait_for};
use super::context::{COPIES_MAX, Context, KILL_DEADLINE, START_DEADLINE};
use super::record::{Record, start_error};
use super::security::capabilities;
use super::{plan, spec, userns};
use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::images::{Files, Owners, PathStat, Shrunk, UnpackOptions, Unpacked};
use crate::runtime::memfd;
use crate::runtime::shim::ShimClient;

/// What somebody wants of a container's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Read,
    Write,
    /// All files but those of mounts.
    Export,
}

impl Containers {
    /// What is at a path of a container; with `follow`, where it leads if it is a symbolic link.
    pub(crate) async fn stat_path(&self, reference: &str, path: String, follow: bool) -> Result<PathStat> {
        self.visit(reference, Want::Read, move |files, _| files.stat(&path, follow)).await
    }

    /// Writes what is at a path of a container to `output` as a tar, after `told` was told what it is.
    pub(crate) async fn copy_from(
        &self,
        reference: &str,
        path: String,
        follow: bool,
        told: oneshot::Sender<PathStat>,
        output: impl Write + Send + 'static,
    ) -> Result<Shrunk> {
        let told = |stat| {
            // Nobody may want to know any more.
            let _ = told.send(stat);
        };
        self.visit(reference, Want::Read, move |files, _| files.pack(&path, follow, told, output)).await
    }

    /// Unpacks a tar into the directory at a path of a container; `ownership`: with its owners.
    pub(crate) async fn copy_to(
        &self,
        reference: &str,
        path: String,
        ownership: bool,
        input: impl Read + Send + 'static,
    ) -> Result<Unpacked> {
        let work =
            move |files: Files, device_nodes| files.unpack(&path, UnpackOptions { ownership, device_nodes }, input);
        self.visit(reference, Want::Write, work).await
    }

    /// Writes the file system of a container to `output` as a tar.
    pub(crate) async fn export(&self, reference: &str, output: impl Write + Send + 'static) -> Result<Shrunk> {
        self.visit(reference, Want::Export, move |files, _| files.export(output)).await
    }

    /// Calls `work` with the files of a container, and whether the container may make device nodes, on a thread for it.
    async fn visit<T: Send + 'static>(
        &self,
        reference: &str,
        want: Want,
        work: impl FnOnce(Files, bool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let handle = self.find(reference)?;
        let permit = Arc::clone(&self.context.copies).try_acquire_owned().map_err(|_| {
            let line = format!("{COPIES_MAX} copies of files are under way");
            Error::new(Reason::LimitExceeded, line).hint("try again when one of them is done")
        })?;
        let (visit, root) = enter(&handle, want).await?;
        let (name, sent_out) = (visit.record.name.clone(), visit.sent_out.clone());
        let context = Arc::clone(&self.context);
        // Goes on to its end if the caller goes away, which the work notices by its stream.
        let visiting = tokio::spawn(async move {
            let _permit = permit;
            run(&context, visit, root, want, work).await
        });
        tokio::select! {
            result = visiting => match result {
                Ok(result) => result.map_err(|error| self.explain(error)),
                Err(error) => Err(Error::new(Reason::Internal, format!("a task ended early: {error}"))),
            },
            () = sent_out.cancelled() => Err(gone(&name)),
        }
    }
}

fn gone(name: &str) -> Error {
    let line = format!("container {name} was started or removed while its files were being copied");
    Error::new(Reason::InvalidState, line).hint("copy them again")
}

/// Lets the caller in, with the root of a container that runs.
async fn enter(handle: &Handle, want: Want) -> Result<(Visit, Option<OwnedFd>)> {
    let ask = || handle.ask(|reply| Request::Visit { write: want == Want::Write, reply });
    let visit = ask().await?;
    let Way::Running(client) = &visit.way else { return Ok((visit, None)) };
    match ask_for_root(client, RequestBody::Root, None, |failure| Error::from_failure(Reason::System, failure)).await {
        Err(error) if matches!(error.reason, Reason::InvalidState | Reason::ShimLost) => {
            // It has ended in this moment; its files are there all the same.
            let mut view = handle.watch();
            let ended = wait_for(&mut view, |view| !view.state.is_active());
            tokio::time::timeout(KILL_DEADLINE, ended).await.map_err(|_| error)?;
            Ok((ask().await?, None))
        }
        root => root.map(|root| (visit, Some(root))),
    }
}

async fn run<T: Send + 'static>(
    context: &Arc<Context>,
    visit: Visit,
    root: Option<OwnedFd>,
    want: Want,
    work: impl FnOnce(Files, bool) -> Result<T> + Send + 'static,
) -> Result<T> {
    let record = &visit.record;
    let owners = record.userns_base.map_or(Owners::Host, |base| Owners::Mapped { base, size: userns::RANGE });
    let device_nodes = may_make_device_nodes(context, record)?;
    let work = move |root| work(Files::new(root, owners), device_nodes);
    if let Some(root) = root {
        return on_a_thread(move || work(root)).await;
    }
    let turn = match &visit.way {
        Way::Running(_) => {
            return Err(Error::new(Reason::InvalidState, "the container was started again").hint("try again"));
        }
        Way::Reading => None,
        Way::Writing(turn) => tokio::select! {
            turn = Arc::clone(turn).lock_owned() => Some(turn),
            () = visit.sent_out.cancelled() => return Err(gone(&record.name)),
        },
    };
    let prepared = {
        let (context, record, image) = (Arc::clone(context), record.clone(), Arc::clone(&visit.image));
        blocking(move || {
            let layers = context.layers.acquire(&image)?;
            let plan = view_plan(&context, &record, &layers, want, turn.is_some());
            if plan.is_err() {
                context.layers.release(&image)?;
            }
            plan.map(|plan| (plan, turn))
        })
    };
    let (plan, turn) = prepared.await?;
    let result = with_view(context, plan, work).await;
    let (context, image) = (Arc::clone(context), Arc::clone(&visit.image));
    let released = blocking(move || context.layers.release(&image)).await;
    drop(turn);
    result.and_then(|value| released.map(|()| value))
}

/// Calls `work` with the root of a container that does not run, which is mounted for the time.
async fn with_view<T: Send + 'static>(
    context: &Context,
    plan: OwnedFd,
    work: impl FnOnce(OwnedFd) -> Result<T> + Send + 'static,
) -> Result<T> {
    let shim = context.shims.take().await?.client;
    context.shims.refill();
    // What keeps it from being mounted would keep the container from being started.
    let root = ask_for_root(&shim, RequestBody::View, Some(plan), start_error).await?;
    let result = on_a_thread(move || work(root)).await;
    // The shim ends at any word, and with it what it has mounted.
    let _ended = shim.call(RequestBody::Status, &[], START_DEADLINE).await;
    result
}

async fn ask_for_root(
    client: &ShimClient,
    body: RequestBody,
    plan: Option<OwnedFd>,
    error: fn(&Failure) -> Error,
) -> Result<OwnedFd> {
    let fds: Vec<_> = plan.iter().map(|plan| plan.as_fd()).collect();
    let answer = client.call(body, &fds, START_DEADLINE).await?;
    match (answer.outcome, answer.fds.into_iter().next()) {
        (Outcome::Root, Some(root)) => Ok(root),
        (Outcome::Failed(failure), _) => Err(error(&failure)),
        (Outcome::Ended, _) => Err(ShimClient::ended_error()),
        (other, _) => Err(Error::new(Reason::Internal, format!("the shim answered with {other:?}"))),
    }
}

/// Makes what is missing, and the plan of the view, in a memfd.
fn view_plan(
    context: &Context,
    record: &Record,
    layers: &[std::path::PathBuf],
    want: Want,
    writable: bool,
) -> Result<OwnedFd> {
    let dirs = context.dirs.container(&record.id);
    if writable {
        dirs.prepare_layer(record.userns_base.unwrap_or(0))?;
    }
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| Error::new(Reason::System, format!("the path {} is not UTF-8", path.display())))
    };
    let config = &record.config;
    let mounts = match want {
        Want::Export => Vec::new(),
        Want::Read | Want::Write => plan::binds(&spec::mounts::binds(config, record.userns_base.is_some())?)?,
    };
    let map = |base| vec![IdMap { container: 0, host: base, size: userns::RANGE }];
    let plan = ViewPlan {
        version: PROTOCOL_VERSION,
        rootfs: RootfsPlan {
            layers: layers.iter().map(|path| text(path)).collect::<Result<_>>()?,
            upper: text(&dirs.upper())?,
            work: text(&dirs.work())?,
            read_only: config.read_only_rootfs,
            volatile: false,
        },
        writable,
        cover: text(context.dirs.data())?,
        user: record.userns_base.map(|base| UserNamespace { uid_maps: map(base), gid_maps: map(base) }),
        mounts,
    };
    memfd::encoded("hull-view", &plan)
}

/// Whether the container's own root could make device nodes.
fn may_make_device_nodes(context: &Context, record: &Record) -> Result<bool> {
    let available = context.host.capabilities.available(record.userns_base.is_some());
    let bits = capabilities::resolve(&record.config.security, available)?;
    let mknod = capabilities::bit("CAP_MKNOD").is_some_and(|bit| bits & (1 << bit) != 0);
    Ok(mknod && record.userns_base.is_none())
}

/// Runs work on a thread that ends with it.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().name("copy".into()).spawn(move || {
        // Nobody may wait for it any more.
        let _ = sender.send(work());
    });
    thread.map_err(|error| Error::io("starting a thread", &error))?;
    receiver.await.unwrap_or_else(|_| Err(Error::new(Reason::Internal, "a thread failed")))
}
