"""How much memory a process holds, by the kernel's account of its pages.

A limit on addresses does not suit a runtime that reserves far more than it uses, and a limit on
data does not see shared mappings, stacks, and what was made read-only after it was written.
"""

from __future__ import annotations

import os

COUNTED = (b"RssAnon:", b"RssShmem:", b"VmSwap:", b"VmPTE:")
"""Its own pages, shared ones, those put aside, and the tables of all of them, which can be large
where nothing is in them; not what it has mapped of programs' files."""
BESIDE_BYTES = 32 << 20
"""What a process may hold besides its data: a stack of 8 MiB and the files of its folder."""


def held_bytes(proc: int, pid: int) -> int:
    """Bytes `pid` holds; 0 when it has ended. `proc` is a descriptor of /proc.

    A first thread that has ended shows no memory, though the others go on with all of it.
    """
    found = _counted(proc, f"{pid}/status")
    if found:
        return found
    try:
        place = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
    except FileNotFoundError:
        return 0
    try:
        threads = os.listdir(place)  # noqa: PTH208
    except FileNotFoundError:
        return 0
    finally:
        os.close(place)
    return max((_counted(proc, f"{pid}/task/{thread}/status") for thread in threads), default=0)


def _counted(proc: int, path: str) -> int:
    try:
        place = os.open(path, os.O_RDONLY, dir_fd=proc)
    except FileNotFoundError:
        return 0
    try:
        lines = os.read(place, 8192).splitlines()
    except ProcessLookupError:
        return 0
    finally:
        os.close(place)
    rows = (line.split() for line in lines)
    return sum(int(row[1]) << 10 for row in rows if row and row[0] in COUNTED)
