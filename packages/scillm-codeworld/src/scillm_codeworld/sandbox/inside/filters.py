"""Which system calls a program may make, as a list and as the kernel's filter. Pure.

An allow-list: whatever is not named fails with EPERM, so that a program sees an exception instead
of dying. Calls that could reach another process or a socket are allowed with one argument only.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence

from scillm_codeworld.sandbox.inside.numbers import AUDIT, TABLES

Test = tuple[int, int, tuple[int, ...]]
"""Argument number, mask, and the values one of which (argument & mask) must be."""
Rule = tuple[str, tuple[Test, ...]]

ALL, WHOLE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
"""Masks: the half of an argument that a number has, and both halves, for a pointer."""
EPERM, ENOSYS = 1, 38
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, AND, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
X32_BIT = 0x40000000
CLONE_THREAD = 0x00010000
NEW_NAMESPACES = 0x7E020080
"""Every CLONE_NEW… flag of clone(2), and the bit of NEWTIME."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PLAIN = _names("""
read write readv writev pread64 pwrite64 preadv pwritev lseek close close_range fstat newfstatat
statx stat lstat open openat access faccessat faccessat2 readlink readlinkat getdents64 getcwd
chdir fchdir dup dup2 dup3 pipe pipe2 poll ppoll select pselect6 epoll_create1 epoll_create
epoll_ctl epoll_wait epoll_pwait eventfd2 mmap munmap mprotect mremap madvise brk msync mincore
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait rt_sigpending rt_sigsuspend sigaltstack
pause nanosleep gettimeofday time times getitimer setitimer alarm getpid getppid gettid getuid
geteuid getgid getegid getgroups getpgrp getresuid getresgid exit exit_group futex set_robust_list
set_tid_address rseq arch_prctl sched_yield getcpu getrandom uname sysinfo getrusage getrlimit
fsync fdatasync fadvise64 umask statfs fstatfs restart_syscall recvfrom shutdown
getsockopt get_mempolicy sendfile
""")
WRITING = _names("""
mkdir mkdirat unlink unlinkat rmdir rename renameat renameat2 ftruncate truncate fallocate utimensat
chmod fchmod fchmodat symlink symlinkat copy_file_range
""")
"""Only where there is a working folder. Landlock does not look at rights and times of files."""

ABOUT_A_PROCESS = _names("getpgid getsid sched_getaffinity")
TIMING = _names("clock_gettime clock_getres clock_nanosleep")
CLOCKS = tuple(range(12))
"""The system's clocks and its own. A negative number is the processor time of any process."""

RLIMIT_CORE = 4
RESOURCES = tuple(kind for kind in range(16) if kind != RLIMIT_CORE)
"""What a program may limit further. At a core limit of 0 the host's crash handler is called."""

FCNTL = (0, 1, 2, 3, 4, 1030, 1032)
"""Duplicate, flags, size of a pipe. Not F_SETOWN, by which a pipe signals any process."""
IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""Is it a terminal, its size, bytes waiting, (non-)blocking, (no) close on exec."""
PRCTL = ((0, ALL, (15, 16, 38, 0x53564D41)),)
"""Names of threads and of memory, and no new privileges."""
AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET, SOCK_TYPE_MASK = 1, 1, 5, 0xF


def program_rules(own_pid: int, *, writing: bool) -> list[Rule]:
    """What a program run by our interpreter may do: no process, no thread, no address."""
    return [
        *((name, ()) for name in (*PLAIN, *(WRITING if writing else ()))),
        ("fcntl", ((1, ALL, FCNTL),)),
        ("ioctl", ((1, ALL, IOCTL),)),
        ("kill", ((0, ALL, (own_pid,)),)),
        ("tkill", ((0, ALL, (own_pid,)),)),
        ("tgkill", ((0, ALL, (own_pid,)),)),
        ("prlimit64", ((0, ALL, (0, own_pid)), (1, ALL, RESOURCES))),
        ("setrlimit", ((0, ALL, RESOURCES),)),
        *((name, ((0, ALL, (0, own_pid)),)) for name in ABOUT_A_PROCESS),
        *((name, ((0, ALL, CLOCKS),)) for name in TIMING),
        # An event loop wakes itself through such a pair; it has no other end to reach.
        ("socketpair", ((0, ALL, (AF_UNIX,)), (1, SOCK_TYPE_MASK, (SOCK_STREAM, SOCK_SEQPACKET)))),
        # An address: both halves of the pointer, or one that ends in zeros would pass for none.
        ("sendto", ((4, WHOLE, (0,)),)),
    ]


def runtime_rules(own_pid: int) -> list[Rule]:
    """What a compiled program or another language's runtime may do besides: threads, and exec.

    There is one process all the same, so what exec starts takes its place.
    """
    return [
        *_without({*ABOUT_A_PROCESS, *TIMING}, program_rules(own_pid, writing=True)),
        ("clone", ((0, NEW_NAMESPACES, (0,)), (0, CLONE_THREAD, (CLONE_THREAD,)))),
        ("prctl", PRCTL),
        *((name, ()) for name in (*ABOUT_A_PROCESS, *TIMING, *RUNTIME)),
    ]


def build_rules(own_pid: int) -> list[Rule]:
    """What a compiler may do: start processes of its own, in a process namespace that dies."""
    several = {"kill", "tkill", "tgkill", "prlimit64", "clone"}
    return [
        *_without(several, runtime_rules(own_pid)),
        ("clone", ((0, NEW_NAMESPACES, (0,)),)),
        ("prlimit64", ((1, ALL, RESOURCES),)),
        *((name, ()) for name in BUILD),
    ]


def _without(names: Collection[str], rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule[0] not in names]


RUNTIME = _names("""
execve execveat sched_getparam sched_getscheduler sched_setscheduler sched_get_priority_max
sched_get_priority_min membarrier capget getpriority sched_setaffinity timerfd_create
timerfd_settime
""")
BUILD = _names("""
fork vfork wait4 waitid kill tgkill link linkat fchown chown memfd_create recvmsg sendmsg
""")


def filter_bytes(rules: Iterable[Rule], machine: str) -> bytes:
    """`rules` as a filter program for `machine`; KeyError for a machine without a table."""
    numbers = TABLES[machine]
    code = [
        _word(LOAD, 4),
        _jump(JUMP_EQUAL, AUDIT[machine], 1, 0),
        _word(RETURN, KILL_PROCESS),
        _word(LOAD, 0),
        _jump(JUMP_AT_LEAST, X32_BIT, 0, 1),
        _word(RETURN, ERRNO | ENOSYS),
        # glibc then falls back to clone, whose flags can be looked at.
        _jump(JUMP_EQUAL, numbers["clone3"], 0, 1),
        _word(RETURN, ERRNO | ENOSYS),
    ]
    for name, tests in rules:
        if name in numbers:  # the younger processor never had some of the oldest calls
            body = [word for test in tests for word in _checked(test)]
            code += [_jump(JUMP_EQUAL, numbers[name], 0, len(body) + 1), *body]
            code.append(_word(RETURN, ALLOW))
    code.append(_word(RETURN, ERRNO | EPERM))
    return b"".join(code)


def _checked(test: Test) -> list[bytes]:
    """Go on when the argument is one of the values, else return EPERM.

    Where the mask is wider than ALL, each half must be one of the values' halves.
    """
    number, mask, values = test
    place = 16 + 8 * number
    words = _half(place, mask & ALL, [value & ALL for value in values])
    if mask > ALL:
        words += _half(place + 4, mask >> 32, [value >> 32 for value in values])
    return words


def _half(place: int, mask: int, values: Sequence[int]) -> list[bytes]:
    words = [_word(LOAD, place)]
    if mask != ALL:
        words.append(_word(AND, mask))
    last = len(values)
    words += [_jump(JUMP_EQUAL, value, last - turn, 0) for turn, value in enumerate(values)]
    words.append(_word(RETURN, ERRNO | EPERM))
    return words


def _word(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_so: int, if_not: int) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, value)
