//! Reads what the node as a whole uses.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::kept::{Keep, Kept, Outcome, Scratch, Unopened};
use crate::space::Space;
use crate::stats::parse::{self, node as parse_node};
use crate::stats::sample::{Moment, NodeMemory, NodeSample, PressureStats};

/// The files that a reading takes, see proc(5) and Documentation/accounting/psi.rst.
const FILES: [&str; 6] = [
    "/proc/stat",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/pressure/io",
];

/// Reads the node.
#[derive(Debug)]
pub(in crate::stats) struct NodeReader {
    /// Whose file system counts.
    data_dir: PathBuf,
    files: [Kept; FILES.len()],
}

impl NodeReader {
    /// A reader that has opened nothing yet.
    pub(in crate::stats) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, files: Default::default() }
    }

    pub(in crate::stats) fn read(&mut self, scratch: &mut Scratch) -> NodeSample {
        let mut sample = NodeSample {
            at: Moment::now(),
            cpu: None,
            memory: NodeMemory::default(),
            load: None,
            pressure: PressureStats::default(),
            disk: Space::of(&self.data_dir).ok(),
        };
        for (at, (file, path)) in self.files.iter_mut().zip(FILES).enumerate() {
            let Outcome::Read(length) = file.read(|| open(path), Keep::First, scratch) else { continue };
            let text = &scratch.buffer[..length];
            match at {
                0 => sample.cpu = parse_node::cpu(text),
                1 => parse_node::memory(text, &mut sample.memory),
                2 => sample.load = parse_node::load(text),
                3 => parse::pressure(text, &mut sample.pressure.cpu),
                4 => parse::pressure(text, &mut sample.pressure.memory),
                _ => parse::pressure(text, &mut sample.pressure.io),
            }
        }
        sample
    }

    /// Closes its files.
    pub(in crate::stats) fn close(&mut self, scratch: &mut Scratch) {
        self.files.iter_mut().for_each(|file| file.close(&mut scratch.budget));
    }
}

fn open(path: &str) -> Result<File, Unopened> {
    File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unopened::Missing,
        _ => Unopened::Error(error),
    })
}
