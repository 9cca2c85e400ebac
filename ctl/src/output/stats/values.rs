//! The values of statistics, with the field names of protobuf's JSON mapping; what is absent is left out.

use hull_proto::v1;
use serde::Serialize;

/// Views of messages that hold numbers alone: those that may be absent, then those that are always there.
macro_rules! views {
    ($($view:ident of $message:ident { $($optional:ident)* ; $($plain:ident: $type:ty)* })*) => { $(
        #[derive(Debug, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub(super) struct $view {
            $(#[serde(skip_serializing_if = "Option::is_none")]
            pub(super) $optional: Option<u64>,)*
            $(pub(super) $plain: $type,)*
        }

        impl From<v1::$message> for $view {
            fn from(message: v1::$message) -> Self {
                Self { $($optional: message.$optional,)* $($plain: message.$plain,)* }
            }
        }
    )* };
}

views! {
    CpuView of CpuStats {
        usage_nanos user_nanos system_nanos periods throttled_periods throttled_nanos;
        per_cpu_nanos: Vec<u64>
    }
    MemoryView of MemoryStats {
        usage working_set anon file kernel swap limit peak major_faults oom_kills faults mapped_file shmem active_anon
        inactive_anon active_file inactive_file unevictable low_events high_events max_events oom_events;
    }
    PidsView of PidsStats { current limit processes; }
    DeviceIoView of DeviceIo {
        ;
        major: u32 minor: u32 read_bytes: u64 write_bytes: u64 read_ops: u64 write_ops: u64
    }
    HugetlbSizeView of HugetlbSize { peak max_events; page_size: String usage: u64 }
    StallView of Stall { ; avg10: f64 avg60: f64 avg300: f64 total_nanos: u64 }
    InterfaceView of NetworkInterface {
        ;
        name: String rx_bytes: u64 rx_packets: u64 rx_errors: u64 rx_dropped: u64 tx_bytes: u64 tx_packets: u64
        tx_errors: u64 tx_dropped: u64
    }
    NodeCpuView of NodeCpuStats {
        ;
        cpus: u32 user_nanos: u64 system_nanos: u64 idle_nanos: u64 iowait_nanos: u64 steal_nanos: u64
    }
    NodeMemoryView of NodeMemoryStats { total free available buffers cached swap_total swap_free; }
    NodeLoadView of NodeLoad { ; load1: f64 load5: f64 load15: f64 running: u64 tasks: u64 }
    NodeDiskView of NodeDisk { ; bytes: u64 free_bytes: u64 inodes: u64 free_inodes: u64 }
}

#[derive(Debug, Serialize)]
pub(super) struct PressureView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu: Option<WaitingView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<WaitingView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) io: Option<WaitingView>,
}

#[derive(Debug, Serialize)]
pub(super) struct WaitingView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) some: Option<StallView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<StallView>,
}

impl From<v1::PressureStats> for PressureView {
    fn from(pressure: v1::PressureStats) -> Self {
        let [cpu, memory, io] = [pressure.cpu, pressure.memory, pressure.io].map(|one| one.map(WaitingView::from));
        Self { cpu, memory, io }
    }
}

impl From<v1::Pressure> for WaitingView {
    fn from(pressure: v1::Pressure) -> Self {
        Self { some: pressure.some.map(StallView::from), full: pressure.full.map(StallView::from) }
    }
}

impl PressureView {
    /// Share of the last 10 seconds in which something waited for a processor, memory, and input and output, in percent.
    pub(super) fn shares(pressure: Option<&Self>) -> [Option<f64>; 3] {
        let Some(Self { cpu, memory, io }) = pressure else { return [None; 3] };
        [cpu, memory, io].map(|one| Some(one.as_ref()?.some.as_ref()?.avg10))
    }
}
