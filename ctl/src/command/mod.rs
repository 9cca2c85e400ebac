//! What each verb does.

mod archive;
mod attach;
mod commit;
mod context;
mod copy;
mod disk;
mod events;
mod exec;
mod explain;
mod filter;
mod image;
mod import;
mod inspect;
mod layout;
mod lifecycle;
mod list;
mod login;
mod logs;
mod node;
mod prune;
mod pull;
mod push;
mod run;
mod save;
mod stats;
mod top;
mod trace;
mod upkeep;
mod why;

use futures_util::{StreamExt as _, stream};

pub(crate) use list::pages;

use crate::cli::{Cli, Command, Connection, ContainerCommand, ContainerVerb, ImageCommand};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output;

/// Containers that are worked on at once.
const AT_ONCE: usize = 32;

/// Does what the command line says; the exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8> {
    let connect = Client::connect(&cli.connection);
    match cli.command {
        Command::Verb(verb) | Command::Container(ContainerCommand::Verb(verb)) => {
            Box::pin(containers(&cli.connection, connect, verb)).await
        }
        Command::Events(flags) => events::events(connect, flags).await,
        Command::Why(flags) => why::why(connect.await?, flags).await,
        Command::Trace(flags) => trace::trace(connect.await?, flags).await,
        Command::Container(ContainerCommand::Prune(flags)) => Box::pin(prune::prune(connect, flags)).await,
        Command::Image(command) => Box::pin(images(connect, command)).await,
        Command::Images(flags) => image::list(connect.await?, flags).await,
        Command::Rmi(flags) => image::remove(connect.await?, flags).await,
        Command::Pull(flags) => Box::pin(pull::pull(connect, flags)).await,
        Command::Push(flags) => Box::pin(push::push(connect, flags)).await,
        Command::Tag(flags) => image::tag(connect.await?, flags).await,
        Command::History(flags) => image::history(connect.await?, flags).await,
        Command::Save(flags) => Box::pin(save::save(connect, flags)).await,
        Command::Load(flags) => Box::pin(import::load(connect, flags)).await,
        Command::Login(flags) => Box::pin(login::login(connect, flags)).await,
        Command::Logout(flags) => login::logout(flags),
        Command::Df(flags) => disk::usage(connect, flags).await,
        Command::Info(flags) => node::info(connect, flags).await,
        Command::Context(command) => context::run(&cli.connection, command),
        Command::Version(flags) => node::version(connect, flags).await,
        Command::Explain(flags) => explain::explain(&flags),
        Command::Completion(flags) => explain::completion(flags.shell),
        Command::Man(flags) => explain::man(&flags),
    }
}

async fn containers(
    connection: &Connection,
    connect: impl Future<Output = Result<Client>>,
    verb: ContainerVerb,
) -> Result<u8> {
    match verb {
        ContainerVerb::Run(flags) => Box::pin(run::run(connect, *flags)).await,
        ContainerVerb::Create(flags) => Box::pin(run::create(connect, *flags)).await,
        ContainerVerb::Start(flags) => lifecycle::start(connect.await?, flags).await,
        ContainerVerb::Stop(flags) => lifecycle::stop(connect.await?, flags).await,
        ContainerVerb::Restart(flags) => lifecycle::restart(connect.await?, flags).await,
        ContainerVerb::Kill(flags) => lifecycle::kill(connect.await?, flags).await,
        ContainerVerb::Pause(targets) => lifecycle::pause(connect.await?, targets).await,
        ContainerVerb::Unpause(targets) => lifecycle::unpause(connect.await?, targets).await,
        ContainerVerb::Update(flags) => lifecycle::update(connect, *flags).await,
        ContainerVerb::Rm(flags) => lifecycle::remove(connect.await?, flags).await,
        ContainerVerb::Ps(flags) => list::list(connect, flags).await,
        ContainerVerb::Inspect(flags) => inspect::inspect(connect, flags).await,
        ContainerVerb::Logs(flags) => logs::logs(connect, flags).await,
        ContainerVerb::Wait(flags) => lifecycle::wait(connect.await?, flags).await,
        ContainerVerb::Exec(flags) => Box::pin(exec::exec(connect, flags)).await,
        ContainerVerb::Attach(flags) => Box::pin(attach::attach(connect, flags)).await,
        ContainerVerb::Rename(flags) => lifecycle::rename(connect.await?, flags).await,
        ContainerVerb::Top(flags) => Box::pin(top::top(connection, connect, flags)).await,
        ContainerVerb::Stats(flags) => stats::stats(connect, flags).await,
        ContainerVerb::Commit(flags) => Box::pin(commit::commit(connect, flags)).await,
        ContainerVerb::Cp(flags) => Box::pin(copy::copy(connect, flags)).await,
        ContainerVerb::Export(flags) => Box::pin(copy::export(connect, flags)).await,
        ContainerVerb::Diff(flags) => commit::diff(connect.await?, flags).await,
    }
}

async fn images(connect: impl Future<Output = Result<Client>>, command: ImageCommand) -> Result<u8> {
    match command {
        ImageCommand::Pull(flags) => pull::pull(connect, flags).await,
        ImageCommand::Push(flags) => push::push(connect, flags).await,
        ImageCommand::Tag(flags) => image::tag(connect.await?, flags).await,
        ImageCommand::Import(flags) => import::import(connect, flags).await,
        ImageCommand::Load(flags) => import::load(connect, flags).await,
        ImageCommand::Save(flags) => save::save(connect, flags).await,
        ImageCommand::Ls(flags) => image::list(connect.await?, flags).await,
        ImageCommand::Inspect(flags) => inspect::images(connect, flags).await,
        ImageCommand::History(flags) => image::history(connect.await?, flags).await,
        ImageCommand::Rm(flags) => image::remove(connect.await?, flags).await,
        ImageCommand::Prune(flags) => upkeep::prune(connect, flags).await,
        ImageCommand::Verify(flags) => upkeep::verify(connect, flags).await,
    }
}

/// Works on several things side by side; answers are printed in the order of the names, errors told apart.
async fn each<F>(names: Vec<String>, work: impl Fn(String) -> F) -> Result<u8>
where
    F: Future<Output = Result<Option<String>>>,
{
    let mut answers = stream::iter(names.into_iter().map(work)).buffered(AT_ONCE);
    let mut failed = false;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Some(text)) => output::line(&text)?,
            Ok(None) => {}
            Err(error) => {
                failed = true;
                output::complain(&error);
            }
        }
    }
    if failed { Err(Error::Reported) } else { Ok(0) }
}
