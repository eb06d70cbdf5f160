"""How much memory a process holds, by the kernel's account of its pages.

A limit on addresses does not suit a runtime that reserves far more than it uses, and a limit on
data does not see shared mappings, stacks, and what was made read-only after it was written.
"""

from __future__ import annotations

import os

from scillm_codeworld.sandbox.inside import jail, syscalls

COUNTED = (b"RssAnon:", b"RssShmem:", b"VmSwap:", b"VmPTE:")
"""Its own pages, shared ones, those put aside, and the tables of all of them, which can be large
where nothing is in them; not what it has mapped of programs' files."""
BESIDE_BYTES = 32 << 20
"""What a process may hold besides its data: a stack of 8 MiB and the files of its folder."""


def held_bytes(proc: int, number: int) -> int | None:
    """Bytes held by the process that /proc calls `number`; 0 when it has ended, and is not reaped.

    None when /proc does not show it. `proc` is a descriptor of /proc. A first thread that has ended
    shows no memory, though the others go on with all of it.
    """
    found = _counted(proc, f"{number}/status")
    if found or found is None:
        return found
    try:
        place = os.open(f"{number}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
    except FileNotFoundError:
        return 0
    try:
        threads = os.listdir(place)  # noqa: PTH208
    except FileNotFoundError:
        return 0
    finally:
        os.close(place)
    counts = (_counted(proc, f"{number}/task/{thread}/status") for thread in threads)
    return max((count or 0 for count in counts), default=0)


def _counted(proc: int, path: str) -> int | None:
    try:
        place = os.open(path, os.O_RDONLY, dir_fd=proc)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        lines = os.read(place, 8192).splitlines()
    except ProcessLookupError:
        return 0
    finally:
        os.close(place)
    rows = (line.split() for line in lines)
    return sum(int(row[1]) << 10 for row in rows if row and row[0] in COUNTED)


def number_in(proc: int, pidfd: int) -> int:
    """What /proc calls the process behind `pidfd`; 0 or less when it does not show it.

    That is not our own number for it where /proc is the one of a namespace around ours.
    """
    place = os.open(f"self/fdinfo/{pidfd}", os.O_RDONLY, dir_fd=proc)
    try:
        rows = [line.split() for line in os.read(place, 4096).splitlines()]
    finally:
        os.close(place)
    return next((int(row[1]) for row in rows if row[:1] == [b"Pid:"]), 0)


def check_watch(proc: int, flags: int) -> None:
    """`Refused` when the memory of a child in the namespaces `flags` could not be watched here."""
    ours, theirs = os.pipe()
    pid = syscalls.clone(flags)
    if pid == 0:
        try:
            os.close(theirs)
            os.read(ours, 1)  # until we have looked, or are gone
        finally:
            os._exit(0)
    pidfd = os.pidfd_open(pid)
    try:
        seen = held_bytes(proc, number_in(proc, pidfd))
    except FileNotFoundError:
        seen = None
    finally:
        for number in (pidfd, ours, theirs):
            os.close(number)
        os.waitpid(pid, 0)
    if not seen:
        raise jail.Refused(
            "the memory of a run cannot be watched: /proc does not show our processes, or is not "
            "the one of their namespace"
        )
