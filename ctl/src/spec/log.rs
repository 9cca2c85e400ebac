//! `--log-driver` and `--log-opt`.

use hull_proto::v1::{LogConfig, LogOverrun, LogRate, log_rate::Amount};

use super::units;
use crate::error::{Error, Result};

/// How a container's output is logged; `None`: as the node has it.
pub(super) fn log(driver: Option<&str>, options: &[String]) -> Result<Option<LogConfig>> {
    if let Some(driver) = driver
        && driver != "cri"
    {
        return Err(Error::new(format!("--log-driver {driver}: not offered; expected cri")));
    }
    let (mut log, mut amount, mut mode) = (LogConfig::default(), None, None);
    for option in options {
        let flag = |name: &str| format!("--log-opt {name}");
        match option.split_once('=') {
            Some((name @ "max-size", text)) => log.max_size = Some(units::size(&flag(name), text)?),
            Some((name @ "max-file", text)) => log.max_files = Some(number(name, text)?),
            Some((name @ "rate-bytes", text)) => set(&mut amount, Amount::Bytes(units::size(&flag(name), text)?))?,
            Some((name @ "rate-lines", text)) => set(&mut amount, Amount::Lines(number(name, text)?))?,
            Some(("rate-mode", "block")) => mode = Some(LogOverrun::Block),
            Some(("rate-mode", "drop")) => mode = Some(LogOverrun::Drop),
            _ => {
                let expected = "max-size=SIZE, max-file=N, rate-bytes=SIZE, rate-lines=N or rate-mode=block|drop";
                return Err(Error::new(format!("--log-opt {option}: not offered; expected {expected}")));
            }
        }
    }
    log.rate = match (amount, mode) {
        (None, None) => None,
        (Some(amount), Some(mode)) => Some(LogRate { amount: Some(amount), overrun: mode.into() }),
        (Some(_), None) => return Err(Error::new("--log-opt: a rate needs rate-mode=block or rate-mode=drop")),
        (None, Some(_)) => return Err(Error::new("--log-opt rate-mode: needs rate-bytes or rate-lines")),
    };
    Ok((log != LogConfig::default()).then_some(log))
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::new(format!("--log-opt {name}={text}: expected a number")))
}

fn set(amount: &mut Option<Amount>, given: Amount) -> Result<()> {
    match amount.replace(given) {
        None => Ok(()),
        Some(_) => Err(Error::new("--log-opt: a log has one rate, of bytes or of lines")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(options: &[&str]) -> Result<Option<LogConfig>> {
        log(None, &options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_dockers_and_a_rate() {
        assert_eq!(given(&[]).unwrap(), None);
        let log = given(&["max-size=8m", "max-file=100", "rate-lines=5", "rate-mode=drop"]).unwrap().unwrap();
        assert_eq!((log.max_size, log.max_files), (Some(8 << 20), Some(100)));
        let rate = LogRate { amount: Some(Amount::Lines(5)), overrun: LogOverrun::Drop.into() };
        assert_eq!(log.rate, Some(rate));
    }

    #[test]
    fn others_are_refused_by_name() {
        for wrong in
            ["compress=true", "max-size", "max-size=x", "max-file=-1", "rate-lines=5", "rate-mode=drop", "rate-mode=x"]
        {
            let error = given(&[wrong]).unwrap_err().to_string();
            assert!(error.contains("--log-opt"), "{wrong}: {error}");
        }
        assert!(given(&["rate-lines=5", "rate-bytes=5", "rate-mode=drop"]).is_err());
        assert!(super::log(Some("syslog"), &[]).unwrap_err().to_string().contains("syslog"));
        assert_eq!(super::log(Some("cri"), &[]).unwrap(), None);
    }
}
