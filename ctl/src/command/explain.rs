//! `explain`, `completion` and `man`: what is known without an agent.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, ExplainFlags, ManFlags};
use crate::completion;
use crate::error::{Error, Result};
use crate::output::{self, REASONS, Reason, Table, find_reason};

/// Shows what the reason of an error means, or which there are.
pub(crate) fn explain(flags: &ExplainFlags) -> Result<u8> {
    let Some(code) = &flags.reason else {
        let mut table = Table::new(&["REASON", "MEANING"]).fitting(&["MEANING"]);
        REASONS.iter().for_each(|reason| table.row([reason.code.to_owned(), reason.meaning.to_owned()]));
        return table.print().map(|()| 0);
    };
    let unknown = || Error::new(format!("{code}: no such reason; `hullctl explain` lists them"));
    output::line(&text(find_reason(code).ok_or_else(unknown)?)).map(|()| 0)
}

fn text(reason: &Reason) -> String {
    let list = |items: &[&str]| items.iter().map(|item| format!("  - {item}\n")).collect::<String>();
    let (causes, remedies) = (list(reason.causes), list(reason.remedies));
    let text = format!("{}\n    {}\n\nLikely causes\n{causes}\nWhat to do\n{remedies}", reason.code, reason.meaning);
    text.trim_end().to_owned()
}

/// Prints a completion script.
pub(crate) fn completion(shell: Shell) -> Result<u8> {
    output::line(completion::script(shell)?.trim_end()).map(|()| 0)
}

/// Prints the manual page of hullctl or of a verb, or writes all of them.
pub(crate) fn man(flags: &ManFlags) -> Result<u8> {
    let wrong = |error: std::io::Error| Error::new(format!("writing a manual page: {error}"));
    if let Some(dir) = &flags.dir {
        return write_all(dir).map(|()| 0);
    }
    let mut command = Cli::command();
    command.build();
    let mut page = &command;
    for verb in &flags.verb {
        let found = page
            .get_subcommands()
            .find(|known| known.get_name() == verb || known.get_all_aliases().any(|alias| alias == verb));
        page = found.ok_or_else(|| Error::new(format!("{verb}: no such verb")))?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(page.clone()).render(&mut text).map_err(wrong)?;
    let mut out = output::stdout();
    out.write_all(&text)?;
    out.flush()?;
    Ok(0)
}

fn write_all(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|error| Error::file(dir, &error))?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| Error::file(dir, &error))
}
