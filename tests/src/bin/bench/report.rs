//! What a section found: tables for people, JSON with every sample for programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Result;
use crate::summary::{median, p99};

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) samples: Vec<f64>,
}

impl Measure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, samples: Vec<f64>) -> Self {
        Self { name: name.into(), unit, median: median(&samples), p99: p99(&samples), samples }
    }
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// For comparison.
    None,
}

/// One figure and its goal.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) goal: Goal,
    /// Absent without a goal.
    pub(crate) met: Option<bool>,
}

/// A section's findings.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) section: &'static str,
    pub(crate) title: String,
    pub(crate) host: Host,
    pub(crate) measures: Vec<Measure>,
    pub(crate) figures: Vec<Figure>,
    /// What a reader must know to read the figures.
    pub(crate) notes: Vec<String>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    kernel: String,
    cpus: usize,
    cgroups: &'static str,
}

impl Host {
    fn here() -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Self { kernel, cpus, cgroups: if unified { "v2" } else { "v1 or hybrid" } }
    }
}

impl Report {
    pub(crate) fn new(section: &'static str, title: impl Into<String>) -> Self {
        let title = title.into();
        Self { section, title, host: Host::here(), measures: Vec::new(), figures: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn measure(&mut self, measure: Measure) {
        self.measures.push(measure);
    }

    pub(crate) fn figure(&mut self, name: impl Into<String>, unit: &'static str, value: f64, goal: Goal) {
        let met = match goal {
            Goal::AtMost(limit) => Some(value <= limit),
            Goal::AtLeast(limit) => Some(value >= limit),
            Goal::None => None,
        };
        self.figures.push(Figure { name: name.into(), unit, value, goal, met });
    }

    /// Prints the tables and writes the JSON file.
    pub(crate) fn publish(&self) -> Result<()> {
        let path = output_directory()?.join(format!("{}.json", self.section));
        std::fs::write(&path, serde_json::to_vec_pretty(self)?).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut text = format!("\n== {}: {}\n", self.section, self.title);
        let Host { kernel, cpus, cgroups } = &self.host;
        text.push_str(&format!("   kernel {kernel}, {cpus} processors, control groups {cgroups}\n\n"));
        text.push_str(&table(&["measured", "median", "p99", "unit", "n"], self.measures.iter().map(measure_row)));
        text.push('\n');
        text.push_str(&table(&["figure", "value", "goal", "unit", "verdict"], self.figures.iter().map(figure_row)));
        for note in &self.notes {
            text.push_str(&format!("   note: {note}\n"));
        }
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}

/// A line on standard error.
pub(crate) fn complain(line: &str) {
    // Nobody is left to tell if even this fails.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `target/bench`, beside the directory that this program was built into.
pub(crate) fn output_directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).ok_or("the benchmark does not run from target/release")?;
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    Ok(directory)
}

fn measure_row(measure: &Measure) -> Vec<String> {
    let Measure { name, unit, median, p99, samples } = measure;
    vec![name.clone(), number(*median), number(*p99), (*unit).into(), samples.len().to_string()]
}

fn figure_row(figure: &Figure) -> Vec<String> {
    let goal = match figure.goal {
        Goal::AtMost(limit) => format!("<= {}", number(limit)),
        Goal::AtLeast(limit) => format!(">= {}", number(limit)),
        Goal::None => String::new(),
    };
    let verdict = match figure.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "",
    };
    vec![figure.name.clone(), number(figure.value), goal, figure.unit.into(), verdict.into()]
}

/// Three significant digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// An aligned table: the first column to the left, numbers to the right.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|&h| h.to_owned()).collect()).chain(rows).collect();
    if rows.len() == 1 {
        return String::new();
    }
    let widths: Vec<usize> =
        (0..head.len()).map(|c| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(&format!("   {}\n", cells.collect::<Vec<_>>().join("  ").trim_end()));
    }
    text
}
