//! Signals by name or number.

use std::str::FromStr as _;

use nix::sys::signal::Signal;

use crate::error::{Error, Result};

/// First real-time signal that programs may use (glibc keeps 32 and 33 to itself), as `kill -l` counts them.
const RTMIN: i32 = 34;
/// Last real-time signal, see signal(7).
const RTMAX: i32 = 64;

/// The number of a signal given as "SIGHUP", "HUP", "hup", "1", "RTMIN+3" or "SIGRTMAX-2".
pub(crate) fn parse(field: &str, text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            1..=RTMAX => Ok(number),
            _ => Err(Error::invalid(field, format!("signal {number} is not between 1 and {RTMAX}"))),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(offset), _) => real_time(RTMIN, offset, '+'),
        (_, Some(offset)) => real_time(RTMAX, offset, '-'),
        _ => Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32),
    };
    number.ok_or_else(|| Error::invalid(field, format!("no signal is named {text:?}")))
}

/// A real-time signal: `base`, or `base` and an offset in the direction of `sign`.
fn real_time(base: i32, offset: &str, sign: char) -> Option<i32> {
    if offset.is_empty() {
        return Some(base);
    }
    let digits = offset.strip_prefix(sign)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let distance: i32 = digits.parse().ok().filter(|distance| *distance <= RTMAX - RTMIN)?;
    Some(if sign == '+' { base + distance } else { base - distance })
}

/// The name of a signal: "SIGHUP", "SIGRTMIN+3"; its number where it has no name.
pub(crate) fn name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if signal == RTMIN => "SIGRTMIN".to_owned(),
        Err(_) if (RTMIN..=RTMAX).contains(&signal) => format!("SIGRTMIN+{}", signal - RTMIN),
        Err(_) => signal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGHUP", 1),
            ("HUP", 1),
            ("hup", 1),
            ("sigterm", 15),
            ("9", 9),
            ("64", 64),
            ("RTMIN", 34),
            ("RTMIN+1", 35),
            ("SIGRTMIN+30", 64),
            ("RTMAX-1", 63),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(parse("signal", text), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_by_name() {
        for text in
            ["", "0", "-1", "65", "99999999999", "SIG", "SIGNOPE", "RTMIN-1", "RTMIN+31", "RTMIN+-1", "RTMAX+1", "1 "]
        {
            let error = parse("config.stop_signal", text).unwrap_err();
            assert!(error.message.starts_with("config.stop_signal: "), "{error}");
        }
    }

    #[test]
    fn every_signal_goes_round() {
        for number in 1..=RTMAX {
            assert_eq!(parse("signal", &name(number)), Ok(number));
        }
    }
}
