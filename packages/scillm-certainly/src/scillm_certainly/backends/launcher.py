"""Puts limits on the process it is started in, says which, and becomes Lean.

Runs in the child; standard library only. What it says is what the system calls answered.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWIPC = 0x08000000
NO_FILE = 127


def main() -> None:
    """`launcher.py PARENT_PID MEMORY_MB WHY COMMAND…`; memory 0: no limit is put on it.

    WHY is told on: why there is no sandbox around it, empty where none is asked for.
    """
    parent, memory_mb, why, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    if sys.platform != "linux":
        os.write(
            1, f"Lean is only run confined, and that needs Linux, not {sys.platform}\n".encode()
        )
        os._exit(NO_FILE)
    libc = ctypes.CDLL(None, use_errno=True)
    die_with(libc, parent)
    uid, gid = os.getuid(), os.getgid()
    shut = separate(libc, uid, gid)
    limit("RLIMIT_CORE", 0)
    limit("RLIMIT_FSIZE", 0)
    if memory_mb:
        limit("RLIMIT_AS", memory_mb << 20)
    locked = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    # A child of the first process of a new namespace dies with it, whatever it does.
    inner = os.fork() if shut else 0
    if inner:
        stand_by(inner)
    if shut:
        die_with(libc, None)
    report = {
        "by": "launcher",
        "network": "none" if shut else "host",
        "processes": "own namespace" if shut else "own group",
        "file_reads": "host",
        "file_writes": "none",
        "memory_mb": memory_mb or None,
        "no_new_privileges": locked,
        "dies_with_parent": True,
        **({"why": why} if why else {}),
    }
    os.write(1, f"\x01launched {json.dumps(report)}\n".encode())
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - no shell, a fixed list
    except OSError as error:
        os.write(1, f"cannot start {command[0]}: {error.strerror}\n".encode())
        os._exit(NO_FILE)


def die_with(libc: ctypes.CDLL, parent: int | None) -> None:
    """End this process when the one that started it ends."""
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the death signal cannot be set")
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def separate(libc: ctypes.CDLL, uid: int, gid: int) -> bool:
    """Leave the host's network and processes; False where the system does not allow that."""
    flags = CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC
    if libc.unshare(flags) == 0:
        return True
    if libc.unshare(flags | CLONE_NEWUSER) != 0:
        return False
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - no pathlib: start-up time
            file.write(text)
    return True


def limit(name: str, value: int) -> None:
    """Bound one resource for good."""
    kind = getattr(resource, name)
    most = resource.getrlimit(kind)[1]
    ceiling = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(kind, (ceiling, ceiling))


def stand_by(inner: int) -> None:
    """Hold no pipe, wait for Lean, and end as it ended."""
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    _, status = os.waitpid(inner, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
