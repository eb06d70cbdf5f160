"""Making a zygote ready: what it loads once, its walls, and what all of its runs share."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from scillm_codeworld.sandbox.inside import cell, jail, memory, syscalls

WARM = """
abc array base64 bisect calendar cmath collections contextlib copy csv ctypes dataclasses datetime
decimal difflib enum fractions functools hashlib heapq html io itertools json keyword locale math
numbers operator os pathlib pprint queue random re secrets shutil socket statistics string struct
subprocess tempfile textwrap threading time traceback types typing unicodedata uuid warnings weakref
zlib
"""
"""Loaded once, so that no run pays for them."""


def ready(order: dict[str, Any]) -> cell.Room:
    """Warm up, move behind the wall, and check that what is needed can be had there."""
    if sys.platform != "linux" or not syscalls.NUMBERS:
        raise jail.Refused(f"no table of system calls for {sys.platform}/{syscalls.MACHINE}")
    landlock = syscalls.landlock_version()
    if landlock == 0:
        raise jail.Refused("the kernel offers no Landlock (Linux 5.13 or later, and switched on)")
    for name in WARM.split():
        __import__(name)
    sources = jail.outermost([*jail.needed(), *order["bind"]])
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    confined = order["level"] != "L2"
    real_root = jail.is_real_root()
    if confined:
        jail.enter_namespaces()
        jail.build(sources, program=order["program"])
    jail.leave_root(real_root=real_root, keep_reading=not confined)
    jail.check_readable([os.path.abspath(os.__file__), *sources])  # noqa: PTH100
    before = address_space(proc)
    sys.path += order["path"]
    for name in order["preload"]:
        __import__(name)
    if threads := threads_running(proc):
        raise jail.Refused(f"loading {', '.join(order['preload'])} left {threads} threads running")
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != order["parent_pid"]:
        raise jail.Refused("the parent died while its sandbox was starting")
    if order["profile"] in cell.OTHER_PROGRAMS:
        memory.check_watch(proc, syscalls.EVERY_NAMESPACE if confined else 0)
    leash, _ = os.pipe()  # the other end is open as long as this process is
    return cell.Room(
        proc=proc,
        landlock=landlock,
        confined=confined,
        sources=sources,
        extra_memory=address_space(proc) - before,
        profile=order["profile"],
        leash=leash,
        filter=cell.filter_for(order["profile"], 1, writing=True) if confined else b"",
    )


def address_space(proc: int) -> int:
    """Bytes of addresses this process has in use."""
    place = os.open("self/statm", os.O_RDONLY, dir_fd=proc)
    try:
        return int(os.read(place, 200).split()[0]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        os.close(place)


def threads_running(proc: int) -> int:
    """How many threads there are besides this one: a fork would leave them behind."""
    place = os.open("self/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
    try:
        return len(os.listdir(place)) - 1  # noqa: PTH208
    finally:
        os.close(place)
