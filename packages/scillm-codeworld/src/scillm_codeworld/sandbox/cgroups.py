"""Control groups of the host, one for each run of L4: found, made, read and removed.

The one door to /sys/fs/cgroup. Both versions, as found; nothing is changed but below the group this
process is in, or the one it is given.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import field, frozen
from scillm.errors import SandboxError

PREFIX = "codeworld-"
PROCESSES = 80
TRIED_BYTES = 64 << 20
NEEDED = ("memory", "pids")
REMOVE_S = 5.0


@frozen(kw_only=True)
class Group:
    """The group of one run: a folder for each hierarchy (one in version 2)."""

    folders: Mapping[str, Path]
    version: int

    def take(self, pid: int) -> None:
        """Put a process in; `OSError` when the host does not let it."""
        for folder in set(self.folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process in it for its memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.folders["memory"] / name).read_text().splitlines():
            words = line.split()
            if words[0] == "oom_kill":
                return int(words[1]) > 0
        return False

    def remove(self) -> None:
        """Remove it; what was in it has been reaped."""
        for folder in set(self.folders.values()):
            _remove(folder)


@frozen(kw_only=True)
class Groups:
    """Where groups can be made."""

    folders: Mapping[str, Path]
    version: int
    numbers: itertools.count[int] = field(factory=itertools.count)

    @property
    def holds(self) -> Mapping[str, str]:
        """What a group adds, in words."""
        return {
            "mem": f"rlimit, cgroup v{self.version} memory",
            "procs": f"own process namespace, seccomp, rlimit, cgroup v{self.version} pids",
        }

    def new(self, *, memory_bytes: int) -> Group:
        """A fresh group that bounds memory and processes; `OSError` when it cannot be made."""
        name = f"{PREFIX}{os.getpid()}-{next(self.numbers)}"
        folders = {kind: folder / name for kind, folder in self.folders.items()}
        made: list[Path] = []
        try:
            for folder in set(folders.values()):
                folder.mkdir()
                made.append(folder)
            self._bound(folders, memory_bytes)
        except OSError:
            for folder in made:
                _remove(folder)
            raise
        return Group(folders=folders, version=self.version)

    def _bound(self, folders: Mapping[str, Path], memory_bytes: int) -> None:
        limit = str(memory_bytes)
        if self.version == 2:
            (folders["memory"] / "memory.max").write_text(limit)
            swap = folders["memory"] / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        else:
            (folders["memory"] / "memory.limit_in_bytes").write_text(limit)
        (folders["pids"] / "pids.max").write_text(str(PROCESSES))


def find_groups(given: str | None = None) -> Groups:
    """Where this process may make groups; `SandboxError` saying what is missing.

    `given` is a delegated folder of version 2; otherwise this process's own groups are tried.
    """
    if given:
        return _unified(Path(given))
    own = _own_groups()
    mounts = _mounts()
    folders: dict[str, Path] = {}
    for kind in NEEDED:
        if kind in mounts and kind in own:
            folder = Path(mounts[kind] + own[kind])
            # A container sees its own group as the root, under a path of the host's.
            folders[kind] = folder if folder.is_dir() else Path(mounts[kind])
    if len(folders) == len(NEEDED):
        return _checked(Groups(folders=folders, version=1))
    if "" in mounts and "" in own:
        return _unified(Path(mounts[""] + own[""]))
    raise SandboxError("L4: this host shows no control groups with memory and pids")


def _unified(folder: Path) -> Groups:
    control = folder / "cgroup.subtree_control"
    try:
        active = control.read_text().split()
    except OSError as error:
        raise SandboxError(f"L4: {folder} is no control group: {error.strerror}") from error
    if not set(NEEDED) <= set(active):
        raise SandboxError(
            f"L4: {control} does not hand on memory and pids (it has {active or 'nothing'}); give "
            "a delegated group in SCILLM_CODEWORLD_CGROUP"
        )
    return _checked(Groups(folders=dict.fromkeys(NEEDED, folder), version=2))


def _checked(groups: Groups) -> Groups:
    """By making one and removing it; and what killed processes left is removed as well."""
    _sweep(groups.folders.values())
    try:
        groups.new(memory_bytes=TRIED_BYTES).remove()
    except OSError as error:
        raise SandboxError(f"L4: no control group can be made: {error}") from error
    return groups


def _sweep(folders: Iterable[Path]) -> None:
    for folder in set(folders):
        for left in folder.glob(f"{PREFIX}*-*"):
            owner = left.name.removeprefix(PREFIX).split("-")[0]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                _remove(left)


def _remove(folder: Path) -> None:
    end = time.monotonic() + REMOVE_S
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > end:
                raise SandboxError(f"The control group {folder} cannot be removed.") from error
            time.sleep(0.001)
        else:
            return


def _own_groups() -> dict[str, str]:
    """This process's group by controller; under "" that of version 2."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        for kind in kinds.split(","):
            found[kind] = path.rstrip("/")
    return found


def _mounts() -> dict[str, str]:
    """Where each controller's hierarchy is mounted; under "" version 2."""
    found = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found[""] = place
        elif kind == "cgroup":
            found.update({name: place for name in options.split(",") if name in NEEDED})
    return found
