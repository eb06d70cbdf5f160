"""What the child gives up before it sees any code. Runs in the child; standard library only."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_V3 = 0x20080522
CAP_DAC_READ_SEARCH = 1 << 2
NOBODY = 65534
OPEN_FILES = 32


class Refused(Exception):  # noqa: N818  (it is an answer, not a fault)
    """A limit could not be put on."""


def confine(*, memory_bytes: int, cpu_s: int, parent_pid: int) -> dict[str, object]:
    """Put every limit on this process, for good, and say what was put on.

    Raises `Refused`, `OSError` or `ValueError` when one cannot be had.
    """
    if sys.platform != "linux":
        raise Refused(f"the limits of level L1 need Linux; this is {sys.platform}")
    libc = ctypes.CDLL(None, use_errno=True)
    limits = {
        # Not 0: that keeps a core from a file, but not from a host's crash handler. 1 does both.
        "RLIMIT_CORE": (1, 1),
        "RLIMIT_FSIZE": (0, 0),
        "RLIMIT_NOFILE": (OPEN_FILES, OPEN_FILES),
        # The soft limit sends SIGXCPU, which can be ignored; the hard one a second later cannot.
        "RLIMIT_CPU": (cpu_s, cpu_s + 1),
        "RLIMIT_AS": (memory_bytes, memory_bytes),
    }
    put_on = {name: _limit(name, *values) for name, values in limits.items()}
    user = _leave_root()
    _drop_capabilities(libc, keep=CAP_DAC_READ_SEARCH if user == NOBODY else 0)
    put_on["RLIMIT_NPROC"] = _limit("RLIMIT_NPROC", 0, 0)
    _prctl(libc, PR_SET_NO_NEW_PRIVS, 1)
    # Changing the user clears the death signal, so it comes last.
    _prctl(libc, PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise Refused("the parent died while the child was starting")
    if _fork_works():
        raise Refused(
            f"new processes cannot be forbidden to uid {os.getuid()} here, so a program could "
            "leave some behind; run as an ordinary user"
        )
    return {"rlimits": put_on, "uid": user, "new_processes": "denied", "dies_with_parent": True}


def _limit(name: str, soft: int, hard: int) -> int:
    if soft < 0:  # the kernel would read it as no limit at all
        raise Refused(f"{name} cannot be {soft}")
    kind = getattr(resource, name)
    now = resource.getrlimit(kind)[1]
    ceiling = hard if now == resource.RLIM_INFINITY else min(hard, now)
    resource.setrlimit(kind, (min(soft, ceiling), ceiling))
    return min(soft, ceiling)


def _leave_root() -> int:
    """Become nobody when started as root, whom RLIMIT_NPROC does not bind; returns the uid."""
    if os.geteuid() != 0:
        return os.geteuid()
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        # A root that may not change its user (a bare user namespace): whether that is good enough
        # is decided by trying to fork, not by guessing.
        return os.geteuid()
    return NOBODY


def _drop_capabilities(libc: ctypes.CDLL, *, keep: int) -> None:
    """Keep at most the right to read files, without which nobody could not load root's Python."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_V3, 0)
    # Two halves of effective, permitted, inheritable; the kept bit lies in the lower half.
    data = (ctypes.c_uint32 * 6)(keep, keep, 0, 0, 0, 0)
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _fork_works() -> bool:
    try:
        child = os.fork()
    except BlockingIOError:
        return False
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True
