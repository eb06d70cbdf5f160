"""The cell of one run: what a forked child puts on before it reads any program."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

from scillm_codeworld.sandbox.inside import filters, jail, syscalls

OPEN_FILES = 32
WORK_BYTES = 16 << 20
"""What a run may keep in its working folder, which lies in memory and goes with it."""
BUILD_BYTES = 256 << 20
RUNTIME_PROCESSES = 64
READING = syscalls.READ_FILE | syscalls.READ_DIR

PYTHON, RUNTIME, BUILD, KEPT = "python", "runtime", "build", "kept"
OTHER_PROGRAMS = (RUNTIME, KEPT)
"""Rooms whose child becomes another program, in one process that may have threads."""
MEMORY_HELD = {
    PYTHON: "rlimit_as",
    RUNTIME: "rlimit_data, watched",
    BUILD: "rlimit_data",
    KEPT: "rlimit_data, watched",
}


class Room(NamedTuple):
    """What all runs of one zygote share: its way to /proc, what may be read, how it is confined."""

    proc: int
    landlock: int
    confined: bool
    sources: Sequence[str]
    extra_memory: int
    profile: str
    leash: int
    filter: bytes
    """Made once where every run is process 1 of its namespace; empty elsewhere."""

    def holds(self) -> dict[str, Any]:
        """What is put on every run, in words."""
        version = f"landlock/{self.landlock}"
        if self.confined:
            return {
                "fs": f"own read-only tree, {version}",
                "net": "own empty network, seccomp",
                "procs": "own process namespace, seccomp, rlimit",
                "mem": MEMORY_HELD[self.profile],
                "kill": "process namespace",
            }
        return {
            "fs": version,
            "net": "seccomp",
            "procs": "seccomp, rlimit",
            "mem": "rlimit_as",
            "kill": "process",
        }

    @property
    def work(self) -> str:
        """The path of the working folder."""
        return jail.work_folder(self.sources)

    @property
    def work_bytes(self) -> int:
        """The size of the working folder."""
        return BUILD_BYTES if self.profile == BUILD else WORK_BYTES

    @property
    def flags(self) -> int:
        """The namespaces each run gets."""
        return syscalls.EVERY_NAMESPACE if self.confined else 0


def stand_by(room: Room, orders: int) -> Room:
    """Keep the way to /proc, the zygote's leash and `orders` (on ORDERS), and close the rest."""
    parked = [_parked(number) for number in (orders, room.proc, room.leash)]
    for number, place in enumerate(parked, start=ORDERS):
        os.dup2(place, number, inheritable=False)
    os.closerange(ORDERS + len(parked), 1 << 20)
    return room._replace(proc=ORDERS + 1, leash=ORDERS + 2)


def move_in(room: Room, *, uid: int, gid: int) -> None:
    """Put on all that does not depend on the run, and let go of /proc and of the leash.

    Raises `OSError` or `Refused` when a part cannot be had.
    """
    if room.confined:
        jail.write_maps("self/", uid, gid, room.proc)
        syscalls.mount(
            "work",
            room.work,
            "tmpfs",
            syscalls.MS_NOSUID | syscalls.MS_NODEV,
            f"mode=700,size={room.work_bytes},nr_inodes=1024",
        )
        os.chdir(room.work)
        syscalls.set_host_name("codeworld")
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    check_leash(room.leash)
    if room.confined:
        syscalls.keep_capabilities(0)
    enforce_paths(room)
    os.close(room.proc)
    os.close(room.leash)


def take_descriptors(descriptors: Sequence[int]) -> None:
    """Put input, answers, stdout and stderr on 3, 4, 1 and 2, nothing on 0, and close the rest."""
    nothing = os.open("/dev/null", os.O_RDONLY)
    # First out of the way of the numbers they go to, so that none overwrites another.
    parked = [
        _parked(number) for number in (nothing, descriptors[2], descriptors[3], *descriptors[:2])
    ]
    for number, place in enumerate(parked):
        os.dup2(place, number, inheritable=number < 3)
    os.closerange(len(parked), 1 << 20)


def _parked(number: int) -> int:
    import fcntl

    return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100)


ORDERS = 3
INPUT, ANSWERS = 3, 4


def settle(room: Room, *, memory_bytes: int, cpu_s: int | None, uid: int) -> dict[str, Any]:
    """Put the limits and the filter on this process, for good, and say all that it has on.

    Raises `OSError`, `ValueError` or `Refused` when a part cannot be had.
    """
    limits = put_limits(room, memory_bytes=memory_bytes, cpu_s=cpu_s)
    if room.profile not in OTHER_PROGRAMS:  # to become one would undo it, and /proc may hide it
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # no core either where the limit was 0 already
    code = room.filter or filter_for(room.profile, os.getpid(), writing=room.confined)
    syscalls.enforce_filter(code)
    return {
        **room.holds(),
        "rlimits": limits,
        "uid": uid,
        "new_processes": "allowed inside" if room.profile == BUILD else "denied",
        "dies_with_parent": True,
    }


def filter_for(profile: str, pid: int, *, writing: bool) -> bytes:
    """The filter of system calls for what a room is for."""
    if profile in OTHER_PROGRAMS:
        rules = filters.runtime_rules(pid)
    elif profile == BUILD:
        rules = filters.build_rules(pid)
    else:
        rules = filters.program_rules(pid, writing=writing)
    return filters.filter_bytes(rules, syscalls.MACHINE)


def check_leash(leash: int) -> None:
    """`Refused` when the zygote died before our death signal was on: its pipe is at its end."""
    os.set_blocking(leash, False)
    try:
        os.read(leash, 1)
    except BlockingIOError:
        return
    raise jail.Refused("the sandbox ended while the run was starting")


def put_limits(room: Room, *, memory_bytes: int, cpu_s: int | None) -> dict[str, int]:
    """Hard limits, and what they really are: no higher than the parent's own.

    `cpu_s` is None for a process that may work for as long as it lives.
    """
    python = room.profile == PYTHON
    # In a user namespace of its own the count of processes is the run's alone.
    processes = (1 if room.confined else 0) if python else RUNTIME_PROCESSES
    memory = memory_bytes + room.extra_memory
    wanted = {
        # Not 0: that keeps a core from a file, but not from a host's crash handler, which runs as
        # root. At 1 the kernel calls none.
        "RLIMIT_CORE": (1, 1),
        "RLIMIT_FSIZE": (room.work_bytes, room.work_bytes) if room.confined else (0, 0),
        "RLIMIT_NOFILE": (OPEN_FILES, OPEN_FILES) if python else (256, 256),
        "RLIMIT_NPROC": (processes, processes),
        "RLIMIT_MEMLOCK": (0, 0),
        "RLIMIT_MSGQUEUE": (0, 0),
        # A runtime reserves far more addresses than it uses; what it may write to is counted.
        "RLIMIT_AS" if python else "RLIMIT_DATA": (memory, memory),
    }
    if cpu_s is not None:
        # The first process of a namespace never gets SIGXCPU; the hard limit's SIGKILL it gets.
        wanted["RLIMIT_CPU"] = (cpu_s, cpu_s + 1)
    return {name: _limit(name, soft, hard) for name, (soft, hard) in wanted.items()}


def _limit(name: str, soft: int, hard: int) -> int:
    if soft < 0:  # the kernel would read it as no limit at all
        raise jail.Refused(f"{name} cannot be {soft}")
    kind = getattr(resource, name)
    now = resource.getrlimit(kind)[1]
    ceiling = hard if now == resource.RLIM_INFINITY else min(hard, now)
    resource.setrlimit(kind, (min(soft, ceiling), ceiling))
    return min(soft, ceiling)


def enforce_paths(room: Room) -> None:
    """Only what is needed can be read, only the working folder and /dev/null be written."""
    reading = READING if room.profile == PYTHON else READING | syscalls.EXECUTE
    rules = syscalls.landlock_rules(room.landlock)
    try:
        for path in ("/",) if room.confined else (*room.sources, *jail.DEVICES):
            folder = os.path.isdir(path)  # noqa: PTH112
            syscalls.landlock_allow(
                rules, path, reading if folder else reading & ~syscalls.READ_DIR
            )
        syscalls.landlock_allow(rules, "/dev/null", syscalls.READ_FILE | syscalls.WRITE_FILE)
        if room.confined:
            everything = syscalls.landlock_everything(room.landlock)
            syscalls.landlock_allow(rules, room.work, everything)
        syscalls.landlock_enforce(rules)
    finally:
        os.close(rules)
