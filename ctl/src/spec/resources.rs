//! Limits.

use std::collections::HashMap;

use hull_proto::v1::{IoMax, Resources};

use super::units::{decimal, limit, size};
use crate::cli::ResourceFlags;
use crate::error::{Error, Result};

/// Length of a processor period where none is given, in microseconds (the kernel's default).
const CPU_PERIOD: u64 = 100_000;

/// What the flags say; nothing for a flag that is absent.
pub(crate) fn resources(flags: &ResourceFlags) -> Result<Resources> {
    let memory_max = flags.memory.as_deref().map(|text| limit("--memory", text)).transpose()?;
    let (cpu_quota, cpu_period) = cpu_time(flags)?;
    Ok(Resources {
        memory_max,
        memory_high: flags.memory_high.as_deref().map(|text| limit("--memory-high", text)).transpose()?,
        memory_low: flags.memory_reservation.as_deref().map(|text| limit("--memory-reservation", text)).transpose()?,
        memory_swap_max: flags.memory_swap.as_deref().map(|text| swap(text, memory_max)).transpose()?,
        cpu_weight: flags.cpu_weight.or(flags.cpu_shares.and_then(weight_of_shares)),
        cpu_quota,
        cpu_period,
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        pids_max: flags.pids_limit.map(|limit| if limit == 0 { -1 } else { limit }),
        io_weight: flags.io_weight.or(flags.blkio_weight.map(io_weight_of_blkio)),
        io_max: io_max(flags)?,
        hugetlb: hugetlb(&flags.hugetlb)?,
    })
}

/// Docker counts memory and swap together; the kernel, and the API, count swap alone.
fn swap(text: &str, memory_max: Option<i64>) -> Result<i64> {
    let total = limit("--memory-swap", text)?;
    let Some(memory) = memory_max.filter(|memory| *memory >= 0) else {
        return Err(Error::new("--memory-swap is memory and swap together: give --memory, too"));
    };
    match total {
        -1 => Ok(-1),
        total if total < memory => {
            Err(Error::new("--memory-swap is memory and swap together: it must not be below --memory"))
        }
        total => Ok(total - memory),
    }
}

/// Quota and period.
fn cpu_time(flags: &ResourceFlags) -> Result<(Option<i64>, Option<u64>)> {
    let Some(text) = &flags.cpus else {
        return Ok((flags.cpu_quota, flags.cpu_period));
    };
    // Units of 10^-5 processors are microseconds of a period of 100 ms.
    match decimal(text, 5).and_then(|quota| i64::try_from(quota).ok()) {
        Some(quota) if quota > 0 => Ok((Some(quota), Some(CPU_PERIOD))),
        _ => Err(Error::new(format!("--cpus {text}: expected a number such as 0.5 or 2, above 0"))),
    }
}

/// cpu.shares (2 to 262144, default 1024) to cpu.weight (1 to 10000, default 100): the curve through both ends and both
/// defaults that runc uses since 1.3. 0 means the default.
fn weight_of_shares(shares: u64) -> Option<u32> {
    if shares == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 262144")]
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = log.mul_add(log, 125.0 * log) / 612.0 - 7.0 / 34.0;
    // Both defaults and both ends meet exactly; rounding noise must not lift them by one.
    let weight = (10f64.powf(exponent) - 1e-6).ceil().clamp(1.0, 10_000.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    Some(weight as u32)
}

/// blkio.weight (10 to 1000) to io.weight (1 to 10000), as runc converts it.
fn io_weight_of_blkio(weight: u32) -> u32 {
    1 + weight.saturating_sub(10) * 9999 / 990
}

/// One entry per device, in the order in which devices are named.
fn io_max(flags: &ResourceFlags) -> Result<Vec<IoMax>> {
    let mut limits: Vec<IoMax> = Vec::new();
    let mut set = |flag: &str, texts: &[String], bytes: bool, field: fn(&mut IoMax) -> &mut Option<u64>| {
        for text in texts {
            let wrong = || Error::new(format!("{flag} {text}: expected DEVICE:LIMIT, e.g. /dev/vda:1m"));
            let (device, rate) =
                text.rsplit_once(':').filter(|(device, _)| device.starts_with('/')).ok_or_else(wrong)?;
            let rate = if bytes { size(flag, rate)? } else { rate.parse().map_err(|_| wrong())? };
            let at = limits.iter().position(|limit| limit.device == device).unwrap_or_else(|| {
                limits.push(IoMax { device: device.to_owned(), ..IoMax::default() });
                limits.len() - 1
            });
            if field(&mut limits[at]).replace(rate).is_some() {
                return Err(Error::new(format!("{flag} {text}: {device} was limited before")));
            }
        }
        Ok(())
    };
    set("--device-read-bps", &flags.device_read_bps, true, |limit| &mut limit.read_bps)?;
    set("--device-write-bps", &flags.device_write_bps, true, |limit| &mut limit.write_bps)?;
    set("--device-read-iops", &flags.device_read_iops, false, |limit| &mut limit.read_iops)?;
    set("--device-write-iops", &flags.device_write_iops, false, |limit| &mut limit.write_iops)?;
    Ok(limits)
}

fn hugetlb(texts: &[String]) -> Result<HashMap<String, u64>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((page, bytes)) if !page.is_empty() => Ok((page.to_owned(), size("--hugetlb", bytes)?)),
            _ => Err(Error::new(format!("--hugetlb {text}: expected PAGE_SIZE=SIZE, e.g. 2MB=64m"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> ResourceFlags {
        ResourceFlags::default()
    }

    #[test]
    fn nothing_given_is_nothing_asked() {
        assert_eq!(resources(&flags()).unwrap(), Resources::default());
    }

    #[test]
    fn swap_counts_from_memory() {
        let given = |memory: Option<&str>, swap: &str| {
            let (memory, memory_swap) = (memory.map(str::to_owned), Some(swap.to_owned()));
            resources(&ResourceFlags { memory, memory_swap, ..flags() }).map(|r| r.memory_swap_max)
        };
        assert_eq!(given(Some("64m"), "128m").unwrap(), Some(64 << 20));
        assert_eq!(given(Some("64m"), "64m").unwrap(), Some(0));
        assert_eq!(given(Some("64m"), "-1").unwrap(), Some(-1));
        assert!(given(Some("64m"), "32m").is_err());
        assert!(given(Some("-1"), "32m").is_err());
        assert!(given(None, "32m").unwrap_err().to_string().contains("--memory"));
    }

    #[test]
    fn processors_become_quota_and_period() {
        let given = |cpus: &str| resources(&ResourceFlags { cpus: Some(cpus.into()), ..flags() });
        let half = given("0.5").unwrap();
        assert_eq!((half.cpu_quota, half.cpu_period), (Some(50_000), Some(100_000)));
        assert_eq!(given("2").unwrap().cpu_quota, Some(200_000));
        for wrong in ["0", "-1", "x", "0.0000001", ""] {
            assert!(given(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_meet_the_weights_of_runc() {
        for (shares, weight) in [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (1 << 40, 10_000)] {
            assert_eq!(weight_of_shares(shares), Some(weight), "{shares}");
        }
        assert_eq!(weight_of_shares(0), None);
        assert!((2..2000).all(|shares| weight_of_shares(shares) <= weight_of_shares(shares + 1)));
        assert_eq!([10, 500, 1000].map(io_weight_of_blkio), [1, 4950, 10_000]);
    }

    #[test]
    fn limits_of_one_device_come_together() {
        let limits = resources(&ResourceFlags {
            device_read_bps: vec!["/dev/vda:1m".into(), "/dev/vdb:2k".into()],
            device_write_iops: vec!["/dev/vda:100".into()],
            ..flags()
        });
        let limits = limits.unwrap().io_max;
        assert_eq!(limits.len(), 2);
        assert_eq!((limits[0].read_bps, limits[0].write_iops, limits[0].write_bps), (Some(1 << 20), Some(100), None));
        for wrong in ["/dev/vda", "vda:1m", "/dev/vda:x", "/dev/vda:-1"] {
            assert!(resources(&ResourceFlags { device_read_bps: vec![wrong.into()], ..flags() }).is_err(), "{wrong}");
        }
        let twice = vec!["/dev/vda:1m".into(), "/dev/vda:2m".into()];
        assert!(resources(&ResourceFlags { device_read_bps: twice, ..flags() }).is_err());
    }

    #[test]
    fn no_limit_of_processes_is_minus_one() {
        let given = |limit| resources(&ResourceFlags { pids_limit: Some(limit), ..flags() }).unwrap().pids_max;
        assert_eq!([0, -1, 100].map(given), [Some(-1), Some(-1), Some(100)]);
    }
}
