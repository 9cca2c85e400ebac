/* The floor: one container made with only the system calls that the job needs. No agent, no monitor, no protocol, no files
 * of state; what it measures is the kernel's part of a start, which no runtime can be faster than.
 *
 *   floor LOWER STATE CGROUP SYSCALLS PROGRAM...
 *
 * LOWER     root file system, the lower layer of the overlay
 * STATE     empty directory on the file system that hull keeps writable layers on
 * CGROUP    name of a group of the benchmark's own, below the root of each hierarchy
 * SYSCALLS  file with one number of an allowed system call per line, ascending
 * PROGRAM   what init executes; must print CLOCK_MONOTONIC in nanoseconds
 *
 * Each line on standard input is one round, answered by one line: nanoseconds until the program's first instruction, until
 * everything is cleaned up, then "step=nanoseconds" each. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLONE_STACK (64 * 1024)
#define CLONE_INTO_CGROUP_FLAG 0x200000000ULL
#define MAX_RANGES 128
#define DOCKER_CAPS 0xa80425fbULL
#define LAST_CAP 40

struct clone_arguments {
    unsigned long long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* One directory of the container in a control group hierarchy, and its limit. */
struct hierarchy {
    const char *name;
    const char *file;
    const char *value;
    char directory[256];
    int tasks;
};

static struct hierarchy v1[] = {
    {"memory", "memory.limit_in_bytes", "67108864", "", -1},
    {"pids", "pids.max", "100", "", -1},
    {"cpu", "cpu.cfs_quota_us", "50000", "", -1},
};
static struct hierarchy v2[] = {
    {"", "memory.max", "67108864", "", -1},
    {"", "pids.max", "100", "", -1},
    {"", "cpu.max", "50000 100000", "", -1},
};

enum { CGROUP, CLONE, ATTACH, OVERLAY, MOUNTS, DEVICES, MASK, PIVOT, PRIVILEGES, SECCOMP, EXECUTE, STEPS };
static const char *const step_names[STEPS] = {"cgroup", "clone",  "attach", "overlay",    "mounts", "devices",
                                              "mask",   "pivot", "privileges", "seccomp", "execve"};

static const char *lower, *state;
static char **program;
static char upper[512], work[512], merged[512];
static int unified, cgroup_descriptor = -1, output[2];
static unsigned long long started, *step_end;
static struct sock_filter filter[4 * MAX_RANGES];
static unsigned short filter_length;
static unsigned ranges[MAX_RANGES][2], range_count;
static char stack[CLONE_STACK] __attribute__((aligned(16)));

static unsigned long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (unsigned long long)t.tv_sec * 1000000000ULL + (unsigned long long)t.tv_nsec;
}

static void die(const char *what) {
    dprintf(2, "floor: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static int need(long result, const char *what) {
    if (result < 0)
        die(what);
    return (int)result;
}

static void done(int step) { step_end[step] = now(); }

static void write_file(int directory, const char *name, const char *value) {
    int file = need(openat(directory, name, O_WRONLY | O_CLOEXEC), name);
    need(write(file, value, strlen(value)), name);
    close(file);
}

/* ---- the filter: a binary tree over the ranges of allowed numbers ---- */

static void emit(unsigned short code, unsigned char yes, unsigned char no, unsigned value) {
    filter[filter_length++] = (struct sock_filter){code, yes, no, value};
}

static void tree(unsigned low, unsigned high) {
    if (high - low == 1) {
        emit(BPF_JMP | BPF_JGT | BPF_K, 0, 1, ranges[low][1]);
        emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM);
        emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
        return;
    }
    unsigned middle = (low + high) / 2;
    unsigned short jump = filter_length;
    emit(BPF_JMP | BPF_JGE | BPF_K, 0, 0, ranges[middle][0]);
    tree(low, middle);
    unsigned distance = filter_length - jump - 1U;
    if (distance > 255) {
        /* A conditional jump reaches 255 instructions: hop over an unconditional one. */
        memmove(&filter[jump + 2], &filter[jump + 1], distance * sizeof filter[0]);
        filter_length++;
        filter[jump].jt = 0;
        filter[jump].jf = 1;
        filter[jump + 1] = (struct sock_filter){BPF_JMP | BPF_JA, 0, 0, distance};
    } else {
        filter[jump].jt = (unsigned char)distance;
    }
    tree(middle, high);
}

static void compile(const char *path) {
    FILE *file = fopen(path, "re");
    unsigned number;
    if (!file)
        die(path);
    while (fscanf(file, "%u", &number) == 1) {
        if (range_count && ranges[range_count - 1][1] + 1 == number)
            ranges[range_count - 1][1] = number;
        else if (range_count < MAX_RANGES)
            ranges[range_count][0] = ranges[range_count][1] = number, range_count++;
        else
            die("too many ranges");
    }
    fclose(file);
    if (range_count == 0)
        die("no allowed system call");
    /* Numbers below the first range fall into it: system call 0 (read, io_setup) is in every profile. */
    emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
#if defined(__x86_64__)
    emit(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, AUDIT_ARCH_X86_64);
#else
    emit(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, AUDIT_ARCH_AARCH64);
#endif
    emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
    tree(0, range_count);
}

/* ---- control groups ---- */

static void make_cgroups(void) {
    if (unified) {
        need(mkdir(v2[0].directory, 0755), v2[0].directory);
        cgroup_descriptor = need(open(v2[0].directory, O_PATH | O_DIRECTORY | O_CLOEXEC), v2[0].directory);
        for (unsigned i = 0; i < 3; i++)
            write_file(cgroup_descriptor, v2[i].file, v2[i].value);
        return;
    }
    for (unsigned i = 0; i < 3; i++) {
        need(mkdir(v1[i].directory, 0755), v1[i].directory);
        int directory = need(open(v1[i].directory, O_PATH | O_DIRECTORY | O_CLOEXEC), v1[i].directory);
        write_file(directory, v1[i].file, v1[i].value);
        v1[i].tasks = need(openat(directory, "tasks", O_WRONLY | O_CLOEXEC), "tasks");
        close(directory);
    }
}

static void remove_cgroups(void) {
    struct hierarchy *groups = unified ? v2 : v1;
    for (unsigned i = 0; i < (unified ? 1U : 3U); i++) {
        while (rmdir(groups[i].directory) < 0)
            if (errno != EBUSY)
                die(groups[i].directory);
    }
    if (unified)
        close(cgroup_descriptor);
    else
        for (unsigned i = 0; i < 3; i++)
            close(v1[i].tasks);
}

/* ---- mounts ---- */

static int make_mount(const char *type, const char *const options[][2], unsigned count, unsigned attributes) {
    int context = need(syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */), type);
    for (unsigned i = 0; i < count; i++)
        need(syscall(SYS_fsconfig, context, 1 /* FSCONFIG_SET_STRING */, options[i][0], options[i][1], 0), options[i][0]);
    need(syscall(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0), type);
    int mount = need(syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, attributes), type);
    close(context);
    return mount;
}

static void attach(int mount, int directory, const char *target) {
    need(syscall(SYS_move_mount, mount, "", directory, target, 4 /* MOVE_MOUNT_F_EMPTY_PATH */), target);
    close(mount);
}

static void bind_mount(int from, const char *source, int directory, const char *target, int read_only) {
    int tree = need(syscall(SYS_open_tree, from, source, 1 /* OPEN_TREE_CLONE */ | O_CLOEXEC), source);
    struct {
        unsigned long long set, clear, propagation, userns;
    } attributes = {1 /* MOUNT_ATTR_RDONLY */, 0, 0, 0};
    if (read_only)
        need(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes), source);
    attach(tree, directory, target);
}

static int make_root(void) {
    need(mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private propagation");
    const char *const options[][2] = {{"lowerdir", lower}, {"upperdir", upper}, {"workdir", work}};
    attach(make_mount("overlay", options, 3, 0), AT_FDCWD, merged);
    return need(open(merged, O_PATH | O_DIRECTORY | O_CLOEXEC), merged);
}

static void make_mounts(int root) {
    const unsigned nosuid = 2, nodev = 4, noexec = 8, read_only = 1, safe = nosuid | nodev | noexec;
    const char *const dev[][2] = {{"mode", "755"}, {"size", "65536k"}};
    const char *const pts[][2] = {{"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", "5"}};
    const char *const shm[][2] = {{"mode", "1777"}, {"size", "65536k"}};
    const char *const group[][2] = {{"mode", "755"}};
    attach(make_mount("proc", NULL, 0, safe), root, "proc");
    attach(make_mount("tmpfs", dev, 2, nosuid), root, "dev");
    need(mkdirat(root, "dev/pts", 0755), "dev/pts");
    need(mkdirat(root, "dev/shm", 0755), "dev/shm");
    need(mkdirat(root, "dev/mqueue", 0755), "dev/mqueue");
    attach(make_mount("devpts", pts, 3, nosuid | noexec), root, "dev/pts");
    attach(make_mount("tmpfs", shm, 2, safe), root, "dev/shm");
    attach(make_mount("mqueue", NULL, 0, safe), root, "dev/mqueue");
    attach(make_mount("sysfs", NULL, 0, safe | read_only), root, "sys");
    if (unified) {
        attach(make_mount("cgroup2", NULL, 0, safe | read_only), root, "sys/fs/cgroup");
        return;
    }
    attach(make_mount("tmpfs", group, 1, safe), root, "sys/fs/cgroup");
    for (unsigned i = 0; i < 3; i++) {
        char target[64];
        snprintf(target, sizeof target, "sys/fs/cgroup/%s", v1[i].name);
        need(mkdirat(root, target, 0755), target);
        bind_mount(AT_FDCWD, v1[i].directory, root, target, 1);
    }
}

static void make_devices(int root) {
    static const struct {
        const char *path;
        unsigned major, minor;
    } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
                                           {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}, {"/proc/kcore", "dev/core"}};
    for (unsigned i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        need(mknodat(root, nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
        need(fchmodat(root, nodes[i].path, 0666, 0), nodes[i].path);
    }
    for (unsigned i = 0; i < sizeof links / sizeof links[0]; i++)
        need(symlinkat(links[i][0], root, links[i][1]), links[i][1]);
}

/* Docker's masked and read-only paths; those that this kernel lacks are skipped. */
static void mask(int root) {
    static const char *const files[] = {"proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/interrupts"};
    static const char *const directories[] = {"proc/asound", "proc/acpi", "proc/scsi", "sys/firmware", "sys/devices/virtual/powercap"};
    static const char *const read_only[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++)
        if (faccessat(root, files[i], F_OK, 0) == 0)
            bind_mount(AT_FDCWD, "/dev/null", root, files[i], 0);
    for (unsigned i = 0; i < sizeof directories / sizeof directories[0]; i++)
        if (faccessat(root, directories[i], F_OK, 0) == 0)
            attach(make_mount("tmpfs", NULL, 0, 1), root, directories[i]);
    for (unsigned i = 0; i < sizeof read_only / sizeof read_only[0]; i++)
        if (faccessat(root, read_only[i], F_OK, 0) == 0)
            bind_mount(root, read_only[i], root, read_only[i], 1);
}

static void pivot(int root) {
    need(fchdir(root), "fchdir");
    need(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    need(umount2(".", MNT_DETACH), "umount2");
    need(chdir("/"), "chdir");
}

/* ---- the process ---- */

static void loopback_up(void) {
    int descriptor = need(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    need(ioctl(descriptor, SIOCSIFFLAGS, &request), "lo up");
    close(descriptor);
}

static void drop_privileges(void) {
    for (unsigned capability = 0; capability <= LAST_CAP; capability++)
        if (!(DOCKER_CAPS >> capability & 1))
            need(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "capbset");
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{(unsigned)DOCKER_CAPS, (unsigned)DOCKER_CAPS, 0}, {0, 0, 0}};
    need(syscall(SYS_setgroups, 0, NULL), "setgroups");
    need(syscall(SYS_capset, &header, sets), "capset");
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static int child(void) {
    done(CLONE);
    if (!unified) {
        for (unsigned i = 0; i < 3; i++)
            need(write(v1[i].tasks, "0", 1), "tasks");
        /* The group's namespace is rooted where the process is when it is made. */
        need(unshare(CLONE_NEWCGROUP), "cgroup namespace");
    }
    done(ATTACH);
    need(sethostname("floor", 5), "sethostname");
    loopback_up();
    int root = make_root();
    done(OVERLAY);
    make_mounts(root);
    done(MOUNTS);
    make_devices(root);
    done(DEVICES);
    mask(root);
    done(MASK);
    pivot(root);
    done(PIVOT);
    need(dup2(output[1], 1), "dup2");
    drop_privileges();
    done(PRIVILEGES);
    struct sock_fprog compiled = {filter_length, filter};
    need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &compiled), "seccomp");
    done(SECCOMP);
    char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    execve(program[0], program, environment);
    die(program[0]);
    return 1;
}

/* clone3 on a stack of its own that shares the caller's memory until it executes: no page tables are copied. */
static pid_t spawn(void) {
    struct clone_arguments arguments = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS,
        .exit_signal = SIGCHLD,
        .stack = (unsigned long long)stack,
        .stack_size = sizeof stack,
    };
    if (unified) {
        arguments.flags |= CLONE_NEWCGROUP | CLONE_INTO_CGROUP_FLAG;
        arguments.cgroup = (unsigned long long)cgroup_descriptor;
    }
#if defined(__x86_64__)
    long result;
    register void *entry __asm__("r12") = (void *)child;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"(SYS_clone3), "D"(&arguments), "S"(sizeof arguments), "r"(entry)
                     : "rcx", "r11", "memory");
    if (result < 0) {
        errno = (int)-result;
        result = -1;
    }
#else
    arguments.flags &= ~(unsigned long long)(CLONE_VM | CLONE_VFORK);
    arguments.stack = arguments.stack_size = 0;
    long result = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (result == 0)
        _exit(child());
#endif
    return (pid_t)need(result, "clone3");
}

static void clean_up(void) {
    char inner[600];
    snprintf(inner, sizeof inner, "%s/work", work);
    rmdir(inner);
    static const char *const made[] = {"dev", "proc", "sys"};
    for (unsigned i = 0; i < 3; i++) {
        snprintf(inner, sizeof inner, "%s/%s", upper, made[i]);
        rmdir(inner);
    }
    need(rmdir(work), work);
    need(rmdir(upper), upper);
    remove_cgroups();
}

static void round_trip(void) {
    char stamp[32] = "";
    int status;
    started = now();
    make_cgroups();
    need(mkdir(upper, 0755), upper);
    need(mkdir(work, 0755), work);
    need(pipe2(output, O_CLOEXEC), "pipe");
    done(CGROUP);
    pid_t pid = spawn();
    done(EXECUTE);
    close(output[1]);
    need(read(output[0], stamp, sizeof stamp - 1), "reading the stamp");
    close(output[0]);
    need(waitpid(pid, &status, 0), "waitpid");
    if (status != 0) {
        errno = ECANCELED;
        die("the program failed");
    }
    clean_up();
    unsigned long long ended = now();
    printf("%llu %llu", strtoull(stamp, NULL, 10) - started, ended - started);
    for (unsigned i = 0; i < STEPS; i++)
        printf(" %s=%llu", step_names[i], step_end[i] - (i ? step_end[i - 1] : started));
    printf("\n");
    fflush(stdout);
}

static void locate_cgroups(const char *name) {
    unified = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    for (unsigned i = 0; i < 3; i++) {
        snprintf(v1[i].directory, sizeof v1[i].directory, "/sys/fs/cgroup/%s/%s/floor", v1[i].name, name);
        snprintf(v2[i].directory, sizeof v2[i].directory, "/sys/fs/cgroup/%s/floor", name);
    }
}

int main(int count, char **arguments) {
    if (count < 6) {
        dprintf(2, "usage: floor LOWER STATE CGROUP SYSCALLS PROGRAM...\n");
        return 2;
    }
    lower = arguments[1];
    state = arguments[2];
    program = arguments + 5;
    snprintf(upper, sizeof upper, "%s/upper", state);
    snprintf(work, sizeof work, "%s/work", state);
    snprintf(merged, sizeof merged, "%s/merged", state);
    locate_cgroups(arguments[3]);
    compile(arguments[4]);
    if (mkdir(merged, 0755) < 0 && errno != EEXIST)
        die(merged);
    /* Shared, for where the child does not run in this process's memory. */
    step_end = mmap(NULL, STEPS * sizeof *step_end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (step_end == MAP_FAILED)
        die("mmap");
    /* A mount namespace with private propagation keeps every mount of a round out of the host's table. */
    need(unshare(CLONE_NEWNS), "mount namespace");
    need(mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private propagation");
    char line[16];
    while (fgets(line, sizeof line, stdin))
        round_trip();
    return 0;
}
