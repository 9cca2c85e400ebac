//! The program to execute, prepared before its process exists.

use std::ffi::{CStr, CString};

use hull_wire::{Failure, ProcessPlan, Step};
use nix::errno::Errno;

use crate::failure::{At, Result, failed, refused};
use crate::sys::exec::{Strings, execute};
use crate::sys::mount::c_string;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments, environment, and where the program may be.
#[derive(Debug)]
pub(crate) struct Program {
    argv: Strings,
    env: Strings,
    candidates: Vec<CString>,
}

impl Program {
    /// Prepares the plan's program.
    ///
    /// # Errors
    /// Step Plan: it has no arguments, or one with a NUL.
    pub(crate) fn new(plan: &ProcessPlan) -> Result<Self> {
        let strings = |list: &[String]| -> Result<Vec<CString>> {
            list.iter().map(|text| c_string(text).at(Step::Plan, "a NUL in an argument or variable")).collect()
        };
        let argv = strings(&plan.argv)?;
        let Some(name) = plan.argv.first().filter(|name| !name.is_empty()) else {
            return Err(refused(Step::Plan, "no program to execute"));
        };
        let candidates = if name.contains('/') {
            vec![argv[0].clone()]
        } else {
            let path = plan.env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
            // As in Go's exec.LookPath, the current directory is never searched.
            let found = path.split(':').filter(|entry| entry.starts_with('/')).map(|entry| format!("{entry}/{name}"));
            strings(&found.collect::<Vec<_>>())?
        };
        Ok(Self { argv: Strings::new(argv), env: Strings::new(strings(&plan.env)?), candidates })
    }

    /// Whether the environment lacks HOME.
    pub(crate) fn lacks_home(&self) -> bool {
        !self.env.iter().any(|entry| entry.to_bytes().starts_with(b"HOME="))
    }

    /// Adds HOME.
    pub(crate) fn set_home(&mut self, home: &str) {
        if let Ok(entry) = c_string(&format!("HOME={home}")) {
            self.env.push(entry);
        }
    }

    /// Executes it. Along PATH, a file that may not be executed is passed over, and reported if no other is found.
    pub(crate) fn execute(&self) -> Failure {
        let mut outcome = Errno::ENOENT;
        for path in &self.candidates {
            match execute(path, &self.argv, &self.env) {
                Errno::ENOENT | Errno::ENOTDIR if self.candidates.len() > 1 => {}
                errno @ Errno::EACCES => outcome = errno,
                errno => {
                    outcome = errno;
                    break;
                }
            }
        }
        failed(Step::Exec, outcome, &self.argv.iter().next().map_or_else(Default::default, CStr::to_string_lossy))
    }
}
