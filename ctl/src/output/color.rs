//! Whether what is printed is coloured.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

use crate::cli::ColorWhen;

/// What the flag says, for everything that this process prints.
static CHOICE: OnceLock<ColorWhen> = OnceLock::new();

/// What a piece of text is to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A heading.
    Heading,
    /// As it should be.
    Good,
    /// Between both, for now.
    Waiting,
    /// As it should not be.
    Bad,
}

impl Style {
    /// The text in this style; as it is where nothing is coloured.
    pub(crate) fn paint(self, text: &str, colored: bool) -> String {
        let code = match self {
            Self::Heading => "1",
            Self::Good => "32",
            Self::Waiting => "33",
            Self::Bad => "31",
        };
        if colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Takes the flag's word. The first one counts.
pub(crate) fn choose(when: ColorWhen) {
    // It is only ever chosen once, at the start.
    let _ = CHOICE.set(when);
}

/// Whether standard output is coloured.
pub(crate) fn on_stdout() -> bool {
    wanted(io::stdout().is_terminal())
}

/// Whether standard error is coloured.
pub(crate) fn on_stderr() -> bool {
    wanted(io::stderr().is_terminal())
}

fn wanted(terminal: bool) -> bool {
    decide(CHOICE.get().copied().unwrap_or_default(), terminal, |name| std::env::var_os(name))
}

/// The flag, then NO_COLOR and CLICOLOR_FORCE, then CLICOLOR and whether a terminal is there that knows colours.
fn decide(when: ColorWhen, terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto if given("NO_COLOR").is_some() => false,
        ColorWhen::Auto if given("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        ColorWhen::Auto => {
            let dumb = given("TERM").is_none_or(|term| term == "dumb");
            terminal && !dumb && given("CLICOLOR").is_none_or(|value| value != "0")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(terminal: bool, variables: &[(&str, &str)]) -> bool {
        decide(ColorWhen::Auto, terminal, |name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn colours_are_for_terminals_unless_somebody_says_otherwise() {
        assert!(auto(true, &[("TERM", "xterm")]));
        assert!(!auto(false, &[("TERM", "xterm")]));
        assert!(!auto(true, &[]) && !auto(true, &[("TERM", "dumb")]));
        assert!(!auto(true, &[("TERM", "xterm"), ("NO_COLOR", "1")]));
        assert!(auto(true, &[("TERM", "xterm"), ("NO_COLOR", "")]));
        assert!(!auto(true, &[("TERM", "xterm"), ("CLICOLOR", "0")]));
        assert!(auto(false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!auto(false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!auto(true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(decide(ColorWhen::Always, false, |_| Some("1".into())));
        assert!(!decide(ColorWhen::Never, true, |_| Some("1".into())));
    }

    #[test]
    fn paint() {
        assert_eq!(Style::Bad.paint("x", true), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Style::Bad.paint("x", false), "x");
    }
}
