//! execve(2) that allocates nothing: where a child borrows its parent's memory, what it allocates and never frees is lost to the parent.

use std::ffi::{CStr, CString};

use nix::errno::Errno;

/// Strings and the null-terminated array of pointers to them.
#[derive(Debug)]
pub(crate) struct Strings {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    /// Takes over arguments or environment.
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let mut this = Self { pointers: Vec::with_capacity(strings.len() + 1), strings };
        this.point();
        this
    }

    /// Adds one at the end.
    pub(crate) fn push(&mut self, string: CString) {
        self.strings.push(string);
        self.point();
    }

    /// The strings.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.strings.iter().map(CString::as_c_str)
    }

    fn point(&mut self) {
        self.pointers.clear();
        self.pointers.extend(self.strings.iter().map(|string| string.as_ptr()));
        self.pointers.push(std::ptr::null());
    }
}

/// Executes `path`; returns only what went wrong.
pub(crate) fn execute(path: &CStr, argv: &Strings, env: &Strings) -> Errno {
    // SAFETY: both arrays end with a null pointer, and all strings live in `argv` and `env`.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    Errno::last()
}
