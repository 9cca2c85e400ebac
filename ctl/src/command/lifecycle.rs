//! Verbs that change containers by one call each.

use hull_proto::v1::{
    ContainerState, GetContainerRequest, KillContainerRequest, PauseContainerRequest, RemoveContainerRequest,
    RenameContainerRequest, Resources, ResumeContainerRequest, StartContainerRequest, StopContainerRequest,
    UpdateContainerRequest, WaitCondition, WaitContainerRequest,
};

use super::{attach, each};
use crate::cli::{
    Condition, KillFlags, RemoveFlags, RenameFlags, StartFlags, StopFlags, Targets, UpdateFlags, WaitFlags,
};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, short_id};
use crate::spec;

/// Gives a container another name.
pub(crate) async fn rename(client: Client, flags: RenameFlags) -> Result<u8> {
    let request = RenameContainerRequest { container: flags.container, name: flags.name };
    client.containers().rename_container(request).await?;
    Ok(0)
}

/// Starts containers; prints what they were called.
pub(crate) async fn start(client: Client, flags: StartFlags) -> Result<u8> {
    if flags.attach || flags.interactive {
        return Box::pin(attach::start(&client, flags)).await;
    }
    let client = &client;
    each(flags.targets.containers, |container| async move {
        client.containers().start_container(StartContainerRequest { container: container.clone() }).await?;
        Ok(Some(container))
    })
    .await
}

/// Stops containers; prints what they were called.
pub(crate) async fn stop(client: Client, flags: StopFlags) -> Result<u8> {
    let grace_period = grace_period(&flags);
    let client = &client;
    each(flags.targets.containers, |container| async move {
        client.containers().stop_container(StopContainerRequest { container: container.clone(), grace_period }).await?;
        Ok(Some(container))
    })
    .await
}

/// Stops containers and starts them again; prints what they were called. One that does not run is started.
pub(crate) async fn restart(client: Client, flags: StopFlags) -> Result<u8> {
    let grace_period = grace_period(&flags);
    let client = &client;
    each(flags.targets.containers, |container| async move {
        // By its id, for another container may have the name by then.
        let stopped = client.containers().get_container(GetContainerRequest { container: container.clone() }).await?;
        let id = stopped.into_inner().container.map_or_else(|| container.clone(), |container| container.id);
        client.containers().stop_container(StopContainerRequest { container: id.clone(), grace_period }).await?;
        client.containers().start_container(StartContainerRequest { container: id }).await?;
        Ok(Some(container))
    })
    .await
}

fn grace_period(flags: &StopFlags) -> Option<prost_types::Duration> {
    flags.time.map(|seconds| prost_types::Duration { seconds: seconds.into(), nanos: 0 })
}

/// Signals containers; prints what they were called.
pub(crate) async fn kill(client: Client, flags: KillFlags) -> Result<u8> {
    let KillFlags { signal, all, targets } = flags;
    let (client, signal) = (&client, &signal);
    each(targets.containers, |container| async move {
        let request = KillContainerRequest { container: container.clone(), signal: signal.clone(), all };
        client.containers().kill_container(request).await?;
        Ok(Some(container))
    })
    .await
}

/// Freezes containers; prints what they were called.
pub(crate) async fn pause(client: Client, targets: Targets) -> Result<u8> {
    let client = &client;
    each(targets.containers, |container| async move {
        client.containers().pause_container(PauseContainerRequest { container: container.clone() }).await?;
        Ok(Some(container))
    })
    .await
}

/// Thaws containers; prints what they were called.
pub(crate) async fn unpause(client: Client, targets: Targets) -> Result<u8> {
    let client = &client;
    each(targets.containers, |container| async move {
        client.containers().resume_container(ResumeContainerRequest { container: container.clone() }).await?;
        Ok(Some(container))
    })
    .await
}

/// Changes limits of containers; prints what they were called.
pub(crate) async fn update(connect: impl Future<Output = Result<Client>>, flags: UpdateFlags) -> Result<u8> {
    let resources = spec::resources(&flags.resources)?;
    if resources == Resources::default() {
        return Err(Error::new("no limit is given to change, e.g. --memory 128m"));
    }
    let client = &connect.await?;
    let resources = &resources;
    each(flags.targets.containers, |container| async move {
        let request = UpdateContainerRequest { container: container.clone(), resources: Some(resources.clone()) };
        client.containers().update_container(request).await?;
        Ok(Some(container))
    })
    .await
}

/// Removes containers; prints what they were called. With force, one that is not there is told and no failure.
pub(crate) async fn remove(client: Client, flags: RemoveFlags) -> Result<u8> {
    let RemoveFlags { force, dry_run, targets, .. } = flags;
    let client = &client;
    each(targets.containers, |container| async move {
        if dry_run {
            return would_remove(client, container, force).await.map(Some);
        }
        let request = RemoveContainerRequest { container: container.clone(), force };
        match client.containers().remove_container(request).await.map_err(Error::from) {
            Err(error) if force && error.is_not_found() => {
                output::complain(&error);
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(_) => Ok(Some(container)),
        }
    })
    .await
}

/// What a removal would do. The agent decides anew when it comes to that.
async fn would_remove(client: &Client, name: String, force: bool) -> Result<String> {
    let answer = client.containers().get_container(GetContainerRequest { container: name.clone() }).await?.into_inner();
    let container = answer.container.ok_or_else(|| Error::new("the agent answered without the container"))?;
    let id = short_id(&container.id);
    match container.state() {
        ContainerState::Unspecified | ContainerState::Created | ContainerState::Exited | ContainerState::Removing => {
            Ok(format!("Would remove: {} ({id})", container.name))
        }
        _ if force => Ok(format!("Would kill and remove: {} ({id})", container.name)),
        _ => Err(Error::new(format!("{name} cannot be removed: it runs; stop it first, or give --force"))),
    }
}

/// Waits for containers; prints their exit codes.
pub(crate) async fn wait(client: Client, flags: WaitFlags) -> Result<u8> {
    let condition = match flags.condition {
        Condition::NotRunning => WaitCondition::NotRunning,
        Condition::NextExit => WaitCondition::NextExit,
        Condition::Removed => WaitCondition::Removed,
    };
    let client = &client;
    each(flags.targets.containers, |container| async move {
        let request = WaitContainerRequest { container, condition: condition.into() };
        let exit = client.containers().wait_container(request).await?.into_inner().exit;
        Ok(Some(exit.map_or(0, |exit| exit.code).to_string()))
    })
    .await
}
