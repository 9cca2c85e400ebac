//! The probe's raw system calls: a test program has to try what a safe wrapper would not offer.
#![expect(unsafe_code, reason = "the probe tries system calls that a container must not get")]

use std::io;

/// Makes a system call; the result, or the errno.
fn call(number: libc::c_long, arguments: [libc::c_long; 6]) -> Result<libc::c_long, i32> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every caller passes numbers, null pointers or pointers to live C strings, as the call at hand reads them;
    // none lets the kernel write to memory of this process.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(result) }
}

fn pointer(text: &std::ffi::CStr) -> libc::c_long {
    text.as_ptr() as libc::c_long
}

/// renameat2 with RENAME_EXCHANGE: each gets the other's name.
pub fn exchange(one: &std::ffi::CStr, other: &std::ffi::CStr) -> Result<(), i32> {
    let here = libc::c_long::from(libc::AT_FDCWD);
    let flags = libc::c_long::from(libc::RENAME_EXCHANGE);
    call(libc::SYS_renameat2, [here, pointer(one), here, pointer(other), flags, 0]).map(drop)
}

/// Tries a system call by name with arguments that would be harmless if it were let through; `None`: unknown name.
pub fn attempt(name: &str) -> Option<Result<libc::c_long, i32>> {
    let z = [0; 6];
    let (number, arguments) = match name {
        "mount" => (libc::SYS_mount, [pointer(c"none"), pointer(c"/tmp"), pointer(c"tmpfs"), 0, 0, 0]),
        "umount2" => (libc::SYS_umount2, [pointer(c"/proc"), libc::c_long::from(libc::MNT_DETACH), 0, 0, 0, 0]),
        "unshare" => (libc::SYS_unshare, [libc::c_long::from(libc::CLONE_NEWNS), 0, 0, 0, 0, 0]),
        "unshare_user" => (libc::SYS_unshare, [libc::c_long::from(libc::CLONE_NEWUSER), 0, 0, 0, 0, 0]),
        "setns" => (libc::SYS_setns, [-1, 0, 0, 0, 0, 0]),
        "clone3" => (libc::SYS_clone3, z),
        "clone_newuser" => (libc::SYS_clone, [libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0, 0, 0, 0]),
        "keyctl" => (libc::SYS_keyctl, [0, -3, 0, 0, 0, 0]),
        "add_key" => (libc::SYS_add_key, [pointer(c"user"), pointer(c"probe"), pointer(c"x"), 1, -3, 0]),
        "request_key" => (libc::SYS_request_key, [pointer(c"user"), pointer(c"probe"), 0, 0, 0, 0]),
        "ptrace" => (libc::SYS_ptrace, [0, 0, 0, 0, 0, 0]),
        "reboot" => (libc::SYS_reboot, z),
        "kexec_load" => (libc::SYS_kexec_load, z),
        "kexec_file_load" => (libc::SYS_kexec_file_load, [-1, -1, 0, 0, 0, 0]),
        "init_module" => (libc::SYS_init_module, z),
        "finit_module" => (libc::SYS_finit_module, [-1, 0, 0, 0, 0, 0]),
        "delete_module" => (libc::SYS_delete_module, [pointer(c"no-such-module"), 0, 0, 0, 0, 0]),
        "bpf" => (libc::SYS_bpf, [0, 0, 0, 0, 0, 0]),
        "perf_event_open" => (libc::SYS_perf_event_open, z),
        "io_uring_setup" => (libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        "userfaultfd" => (libc::SYS_userfaultfd, [0; 6]),
        "open_by_handle_at" => (libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0, 0]),
        "name_to_handle_at" => (libc::SYS_name_to_handle_at, [-1, 0, 0, 0, 0, 0]),
        "swapon" => (libc::SYS_swapon, [pointer(c"/none"), 0, 0, 0, 0, 0]),
        "settimeofday" => (libc::SYS_settimeofday, z),
        "clock_settime" => (libc::SYS_clock_settime, [0, 0, 0, 0, 0, 0]),
        "acct" => (libc::SYS_acct, [pointer(c"/none"), 0, 0, 0, 0, 0]),
        "pivot_root" => (libc::SYS_pivot_root, [pointer(c"/none"), pointer(c"/none"), 0, 0, 0, 0]),
        "chroot" => (libc::SYS_chroot, [pointer(c"/"), 0, 0, 0, 0, 0]),
        "iopl" => (libc::SYS_iopl, [3, 0, 0, 0, 0, 0]),
        "ioperm" => (libc::SYS_ioperm, [0, 1, 1, 0, 0, 0]),
        "lookup_dcookie" => (libc::SYS_lookup_dcookie, z),
        "personality" => (libc::SYS_personality, [0x004_0000, 0, 0, 0, 0, 0]),
        "fsopen" => (libc::SYS_fsopen, [pointer(c"tmpfs"), 0, 0, 0, 0, 0]),
        "open_tree" => (libc::SYS_open_tree, [-100, pointer(c"/"), 1, 0, 0, 0]),
        "move_mount" => (libc::SYS_move_mount, [-1, 0, -1, 0, 0, 0]),
        "mount_setattr" => (libc::SYS_mount_setattr, [-1, 0, 0, 0, 0, 0]),
        "syslog" => (libc::SYS_syslog, [10, 0, 0, 0, 0, 0]),
        "quotactl" => (libc::SYS_quotactl, z),
        "vhangup" => (libc::SYS_vhangup, z),
        "sethostname" => (libc::SYS_sethostname, [pointer(c"probe"), 5, 0, 0, 0, 0]),
        "getpid" => (libc::SYS_getpid, z),
        "socket_vsock" => (libc::SYS_socket, [40, 1, 0, 0, 0, 0]),
        "socket_alg" => (libc::SYS_socket, [38, 5, 0, 0, 0, 0]),
        "socket_packet" => (libc::SYS_socket, [17, 3, 0, 0, 0, 0]),
        "socket_raw" => (libc::SYS_socket, [2, 3, 1, 0, 0, 0]),
        "mkdir" => (libc::SYS_mkdir, [pointer(c"/tmp/probe-mkdir"), 0o755, 0, 0, 0, 0]),
        "prctl_dumpable" => (libc::SYS_prctl, [3, 0, 0, 0, 0, 0]),
        "ioctl_tiocsti" => (libc::SYS_ioctl, [0, 0x5412, pointer(c"x"), 0, 0, 0]),
        _ => return None,
    };
    let result = call(number, arguments);
    if name.starts_with("clone") && result == Ok(0) {
        // The child of a clone that was let through.
        std::process::exit(0);
    }
    Some(result)
}

/// Makes a device node.
pub fn mknod(path: &std::ffi::CStr, block: bool, major: u32, minor: u32) -> Result<libc::c_long, i32> {
    let kind = if block { libc::S_IFBLK } else { libc::S_IFCHR };
    let device = libc::makedev(major, minor);
    call(libc::SYS_mknod, [pointer(path), libc::c_long::from(kind | 0o600), device as libc::c_long, 0, 0, 0])
}

/// Soft and hard limit of a resource.
pub fn rlimit(resource: u32) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable structure of the type that the call fills.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// PR_GET_DUMPABLE.
pub fn dumpable() -> i32 {
    // SAFETY: takes and returns numbers only.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
}

/// Whole seconds of a clock.
pub fn clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live, writable structure of the type that the call fills.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0)
}

/// Processor time of this process in nanoseconds.
pub fn processor_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live, writable structure of the type that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Session id of this process.
pub fn session() -> i32 {
    // SAFETY: takes and returns numbers only.
    unsafe { libc::getsid(0) }
}

/// Rows and columns of the terminal at a descriptor; `None` if it is none.
pub fn window(fd: i32) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a live, writable structure of the type that TIOCGWINSZ fills.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some((size.ws_row, size.ws_col))
}

/// Forks: the child waits for ever; the parent gets the result.
pub fn fork_sleeper() -> Result<i32, i32> {
    // SAFETY: the probe has one thread; the child only sleeps.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        0 => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        pid => Ok(pid),
    }
}

/// Blocks the signals, then returns the next one that comes; `None` after a failed call.
pub fn block_and_take(signals: &[i32]) -> impl FnMut() -> Option<i32> + use<> {
    // SAFETY: `set` is filled by sigemptyset before it is used; all pointers are to live structures.
    let set = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    };
    move || {
        loop {
            // SAFETY: `set` is initialised; the siginfo may be null.
            let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
            // Being frozen and thawed interrupts the call.
            if signal > 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return (signal > 0).then_some(signal);
            }
        }
    }
}

/// Reads a word of another process's memory; its address is one that every static program has, but any would do: the right to
/// read is checked first (EPERM), the address later (EFAULT), which therefore counts as success.
pub fn read_memory(pid: u32) -> Result<(), i32> {
    let mut word = [0_u8; 8];
    let local = libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: word.len() };
    let remote = libc::iovec { iov_base: 0x40_0000 as *mut libc::c_void, iov_len: word.len() };
    // SAFETY: both vectors are live, and `local` describes a live, writable buffer of its length.
    let read = unsafe { libc::process_vm_readv(pid.cast_signed(), &raw const local, 1, &raw const remote, 1, 0) };
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EFAULT) if read < 0 => Ok(()),
        Some(errno) if read < 0 => Err(errno),
        _ => Ok(()),
    }
}

/// Looks at a process that this one traces and holds still, and lets it go.
pub fn while_traced<T>(pid: u32, look: impl FnOnce() -> T) -> Result<T, i32> {
    let id = libc::c_long::from(pid);
    call(libc::SYS_ptrace, [libc::c_long::from(libc::PTRACE_SEIZE), id, 0, 0, 0, 0])?;
    let _gone = call(libc::SYS_ptrace, [libc::c_long::from(libc::PTRACE_INTERRUPT), id, 0, 0, 0, 0]);
    // SAFETY: the status may be null.
    unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), libc::__WALL) };
    let seen = look();
    let _gone = call(libc::SYS_ptrace, [libc::c_long::from(libc::PTRACE_DETACH), id, 0, 0, 0, 0]);
    Ok(seen)
}
