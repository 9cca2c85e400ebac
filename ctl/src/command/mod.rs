//! What each verb does.

mod attach;
mod exec;
mod image;
mod import;
mod inspect;
mod layout;
mod lifecycle;
mod list;
mod logs;
mod node;
mod run;
mod stats;

use futures_util::{StreamExt as _, stream};

use crate::cli::{Cli, Command, ImageCommand};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output;

/// Containers that are worked on at once.
const AT_ONCE: usize = 32;

/// Does what the command line says; the exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8> {
    let connect = Client::connect(&cli.connection);
    match cli.command {
        Command::Run(flags) => Box::pin(run::run(connect, *flags)).await,
        Command::Create(flags) => Box::pin(run::create(connect, flags.create)).await,
        Command::Start(flags) => lifecycle::start(connect.await?, flags).await,
        Command::Stop(flags) => lifecycle::stop(connect.await?, flags).await,
        Command::Kill(flags) => lifecycle::kill(connect.await?, flags).await,
        Command::Pause(targets) => lifecycle::pause(connect.await?, targets).await,
        Command::Unpause(targets) => lifecycle::unpause(connect.await?, targets).await,
        Command::Update(flags) => lifecycle::update(connect, flags).await,
        Command::Rm(flags) => lifecycle::remove(connect.await?, flags).await,
        Command::Ps(flags) => list::list(connect, flags).await,
        Command::Inspect(flags) => inspect::inspect(connect.await?, flags).await,
        Command::Logs(flags) => logs::logs(connect, flags).await,
        Command::Wait(flags) => lifecycle::wait(connect.await?, flags).await,
        Command::Exec(flags) => Box::pin(exec::exec(connect, flags)).await,
        Command::Attach(flags) => Box::pin(attach::attach(connect, flags)).await,
        Command::Stats(flags) => stats::stats(connect, flags).await,
        Command::Image(ImageCommand::Import(flags)) => import::import(connect, flags).await,
        Command::Image(ImageCommand::Ls(flags)) | Command::Images(flags) => image::list(connect.await?, flags).await,
        Command::Image(ImageCommand::Rm(flags)) | Command::Rmi(flags) => image::remove(connect.await?, flags).await,
        Command::Image(ImageCommand::Inspect(flags)) => inspect::images(connect.await?, flags).await,
        Command::Info(output) => node::info(connect.await?, output).await,
        Command::Version(flags) => node::version(connect, flags).await,
        Command::Completion { shell } => node::completion(shell),
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
