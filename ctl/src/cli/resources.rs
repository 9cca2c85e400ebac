//! Limits, for `run`, `create` and `update`.

use clap::Args;

// Limits of a container.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct ResourceFlags {
    /// Most memory, e.g. 64m; -1 for no limit
    #[arg(short, long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    /// Memory above which the container is throttled (cgroup v2)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_high: Option<String>,
    /// Memory protected from reclaim
    #[arg(long, visible_alias = "memory-low", value_name = "SIZE")]
    pub(crate) memory_reservation: Option<String>,
    /// Most memory and swap together; -1 for unlimited swap; needs --memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Processors' worth of time, e.g. 0.5
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["cpu_quota", "cpu_period"])]
    pub(crate) cpus: Option<String>,
    /// Share of the processor relative to others, cgroup v1 scale (default 1024)
    #[arg(long, short = 'c', value_name = "SHARES", conflicts_with = "cpu_weight")]
    pub(crate) cpu_shares: Option<u64>,
    /// Share of the processor relative to others, 1 to 10000 (default 100)
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) cpu_weight: Option<u32>,
    /// Processor time in microseconds per period; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Length of a period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// Processors it may use, e.g. 0-2,4
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Most processes and threads; 0 or -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Share of input and output relative to others, 1 to 10000 (default 100)
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) io_weight: Option<u32>,
    /// Share of input and output relative to others, cgroup v1 scale, 10 to 1000 (default 500)
    #[arg(long, value_name = "WEIGHT", conflicts_with = "io_weight", value_parser = clap::value_parser!(u32).range(10..=1000))]
    pub(crate) blkio_weight: Option<u32>,
    /// Most bytes read from a device per second, DEVICE:SIZE
    #[arg(long, value_name = "LIMIT")]
    pub(crate) device_read_bps: Vec<String>,
    /// Most bytes written to a device per second, DEVICE:SIZE
    #[arg(long, value_name = "LIMIT")]
    pub(crate) device_write_bps: Vec<String>,
    /// Most reads from a device per second, DEVICE:NUMBER
    #[arg(long, value_name = "LIMIT")]
    pub(crate) device_read_iops: Vec<String>,
    /// Most writes to a device per second, DEVICE:NUMBER
    #[arg(long, value_name = "LIMIT")]
    pub(crate) device_write_iops: Vec<String>,
    /// Most memory in huge pages, PAGE_SIZE=SIZE, e.g. 2MB=64m
    #[arg(long, value_name = "LIMIT")]
    pub(crate) hugetlb: Vec<String>,
}
