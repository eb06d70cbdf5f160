"""Numbers of the system calls this package names, by processor. Data; standard library only.

From Linux's own tables: arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations


def _table(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in (row.split() for row in text.split(","))}


X86_64 = _table(
    """
    read 0, write 1, readv 19, writev 20, pread64 17, pwrite64 18, preadv 295, pwritev 296, lseek
    8, close 3, close_range 436, fstat 5, newfstatat 262, statx 332, stat 4, lstat 6, open 2,
    openat 257, access 21, faccessat 269, faccessat2 439, readlink 89, readlinkat 267, getdents64
    217, getcwd 79, chdir 80, fchdir 81, dup 32, dup2 33, dup3 292, pipe 22, pipe2 293, poll 7,
    ppoll 271, select 23, pselect6 270, epoll_create1 291, epoll_create 213, epoll_ctl 233,
    epoll_wait 232, epoll_pwait 281, eventfd2 290, mmap 9, munmap 11, mprotect 10, mremap 25,
    madvise 28, brk 12, msync 26, mincore 27, rt_sigaction 13, rt_sigprocmask 14, rt_sigreturn 15,
    rt_sigtimedwait 128, rt_sigpending 127, rt_sigsuspend 130, sigaltstack 131, pause 34,
    clock_gettime 228, clock_getres 229, clock_nanosleep 230, nanosleep 35, gettimeofday 96, time
    201, times 100, getitimer 36, setitimer 38, alarm 37, getpid 39, getppid 110, gettid 186,
    getuid 102, geteuid 107, getgid 104, getegid 108, getgroups 115, getpgrp 111, getpgid 121,
    getsid 124, getresuid 118, getresgid 120, exit 60, exit_group 231, futex 202, set_robust_list
    273, set_tid_address 218, rseq 334, arch_prctl 158, sched_yield 24, sched_getaffinity 204,
    getcpu 309, getrandom 318, uname 63, sysinfo 99, getrusage 98, getrlimit 97, setrlimit 160,
    mkdir 83, mkdirat 258, unlink 87, unlinkat 263, rmdir 84, rename 82, renameat 264, renameat2
    316, ftruncate 77, truncate 76, fsync 74, fdatasync 75, fallocate 285, fadvise64 221,
    utimensat 280, umask 95, chmod 90, fchmod 91, fchmodat 268, symlink 88, symlinkat 266, statfs
    137, fstatfs 138, restart_syscall 219, recvfrom 45, recvmsg 47, sendmsg 46, shutdown 48,
    getsockopt 55, get_mempolicy 239, copy_file_range 326, sendfile 40, fcntl 72, ioctl 16, kill
    62, tkill 200, tgkill 234, prlimit64 302, socketpair 53, sendto 44, clone 56, clone3 435, fork
    57, vfork 58, execve 59, execveat 322, wait4 61, waitid 247, prctl 157, sched_getparam 143,
    sched_getscheduler 145, sched_setscheduler 144, sched_get_priority_max 146,
    sched_get_priority_min 147, membarrier 324, capget 125, memfd_create 319, link 86, linkat 265,
    fchown 93, chown 92, lchown 94, fchownat 260, timerfd_create 283, timerfd_settime 286,
    pivot_root 155, seccomp 317, mount_setattr 442, landlock_create_ruleset 444, landlock_add_rule
    445, landlock_restrict_self 446, getpriority 140, setpriority 141, sched_setaffinity 203
    """
)
AARCH64 = _table(
    """
    read 63, write 64, readv 65, writev 66, pread64 67, pwrite64 68, preadv 69, pwritev 70, lseek
    62, close 57, close_range 436, fstat 80, newfstatat 79, statx 291, openat 56, faccessat 48,
    faccessat2 439, readlinkat 78, getdents64 61, getcwd 17, chdir 49, fchdir 50, dup 23, dup3 24,
    pipe2 59, ppoll 73, pselect6 72, epoll_create1 20, epoll_ctl 21, epoll_pwait 22, eventfd2 19,
    mmap 222, munmap 215, mprotect 226, mremap 216, madvise 233, brk 214, msync 227, mincore 232,
    rt_sigaction 134, rt_sigprocmask 135, rt_sigreturn 139, rt_sigtimedwait 137, rt_sigpending
    136, rt_sigsuspend 133, sigaltstack 132, clock_gettime 113, clock_getres 114, clock_nanosleep
    115, nanosleep 101, gettimeofday 169, times 153, getitimer 102, setitimer 103, getpid 172,
    getppid 173, gettid 178, getuid 174, geteuid 175, getgid 176, getegid 177, getgroups 158,
    getpgid 155, getsid 156, getresuid 148, getresgid 150, exit 93, exit_group 94, futex 98,
    set_robust_list 99, set_tid_address 96, rseq 293, sched_yield 124, sched_getaffinity 123,
    getcpu 168, getrandom 278, uname 160, sysinfo 179, getrusage 165, getrlimit 163, setrlimit
    164, mkdirat 34, unlinkat 35, renameat 38, renameat2 276, ftruncate 46, truncate 45, fsync 82,
    fdatasync 83, fallocate 47, fadvise64 223, utimensat 88, umask 166, fchmod 52, fchmodat 53,
    symlinkat 36, statfs 43, fstatfs 44, restart_syscall 128, recvfrom 207, recvmsg 212, sendmsg
    211, shutdown 210, getsockopt 209, get_mempolicy 236, copy_file_range 285, sendfile 71, fcntl
    25, ioctl 29, kill 129, tkill 130, tgkill 131, prlimit64 261, socketpair 199, sendto 206,
    clone 220, clone3 435, execve 221, execveat 281, wait4 260, waitid 95, prctl 167,
    sched_getparam 121, sched_getscheduler 120, sched_setscheduler 119, sched_get_priority_max
    125, sched_get_priority_min 126, membarrier 283, capget 90, memfd_create 279, linkat 37,
    fchown 55, fchownat 54, timerfd_create 85, timerfd_settime 86, pivot_root 41, seccomp 277,
    mount_setattr 442, landlock_create_ruleset 444, landlock_add_rule 445, landlock_restrict_self
    446, getpriority 141, setpriority 140, sched_setaffinity 122
    """
)

TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What the kernel calls each processor when it asks a filter (linux/audit.h)."""
