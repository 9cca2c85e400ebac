//! Values in few letters.

use hull_proto::v1::{ContainerState, Pressure, PressureStats};
use jiff::Timestamp;

use super::super::row::Row;
use crate::error::one_line;
use crate::output::{bytes_decimal, moment, short_id, status_text};

/// What is not known.
pub(super) const ABSENT: &str = "-";

/// Percent.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), |value| format!("{value:.1}"))
}

/// Percent, with its sign.
pub(super) fn percent_sign(value: Option<f64>) -> String {
    percent(value) + if value.is_some() { "%" } else { "" }
}

/// Bytes a second.
pub(super) fn rate(value: Option<f64>) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "four digits are shown")]
    value.map_or_else(|| ABSENT.to_owned(), |value| bytes_decimal(value as u64))
}

/// Its state; of one that has ended, how.
pub(super) fn state(row: &Row) -> String {
    match (row.container.state(), &row.container.exit) {
        (ContainerState::Exited, Some(exit)) if exit.oom_killed => format!("oom {}", exit.code),
        (ContainerState::Exited, Some(exit)) => format!("exit {}", exit.code),
        _ => row.state_name().to_owned(),
    }
}

/// How long it runs, or is there.
pub(super) fn age(row: &Row, now: Timestamp) -> String {
    moment(row.since()).map_or_else(|| ABSENT.to_owned(), |since| span(now.as_second() - since.as_second()))
}

/// Two units at most.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        86_400..8_640_000 => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// Shares of the last 10 seconds in which something waited.
pub(super) fn stalls(pressure: Option<&PressureStats>) -> String {
    let share = |one: Option<&Pressure>| percent(one.and_then(|one| one.some.as_ref()).map(|stall| stall.avg10));
    let [cpu, memory, io] = match pressure {
        Some(all) => [all.cpu.as_ref(), all.memory.as_ref(), all.io.as_ref()].map(share),
        None => [ABSENT; 3].map(str::to_owned),
    };
    format!("stalls % cpu {cpu} mem {memory} io {io}")
}

/// The title of one container.
pub(super) fn title(row: Option<&Row>, id: &str) -> String {
    let Some(row) = row else { return format!(" {}: removed", short_id(id)) };
    let image = row.container.config.as_ref().map(|config| one_line(&config.image)).unwrap_or_default();
    let status = status_text(&row.container, Timestamp::now());
    format!(" {} ({})   {status}   {image}", one_line(row.name()), short_id(id))
}

#[cfg(test)]
mod tests {
    use hull_proto::v1::{Container, ExitStatus};

    use super::*;

    #[test]
    fn spans_are_short() {
        for (seconds, text) in [
            (-3, "0s"),
            (59, "59s"),
            (61, "1m01s"),
            (3_599, "59m59s"),
            (7_500, "2h05m"),
            (90_000, "1d01h"),
            (8_639_999, "99d23h"),
            (86_400_000, "1000d"),
        ] {
            assert_eq!(span(seconds), text);
            assert!(text.len() <= 7);
        }
    }

    #[test]
    fn states_tell_how_it_ended() {
        let state = |exit: Option<ExitStatus>| {
            let state = ContainerState::Exited.into();
            state_of(Container { state, exit, ..Container::default() })
        };
        assert_eq!(state(Some(ExitStatus { code: 137, oom_killed: true, ..Default::default() })), "oom 137");
        assert_eq!((state(Some(ExitStatus::default())), state(None)), ("exit 0".into(), "exited".into()));
    }

    fn state_of(container: Container) -> String {
        super::state(&Row::new(container))
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!(
            (percent(None), rate(None), percent(Some(12.34)), rate(Some(1500.5))),
            ("-".into(), "-".into(), "12.3".into(), "1.5kB".into())
        );
        assert_eq!(stalls(None), "stalls % cpu - mem - io -");
    }
}
