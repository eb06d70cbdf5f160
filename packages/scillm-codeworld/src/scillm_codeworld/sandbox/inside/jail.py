"""The jail a zygote moves into: a small read-only tree with what its programs need to load."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from scillm_codeworld.sandbox.inside import syscalls

NOBODY = 65534
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
MOUNT_POINT = "/proc"
"""Where the new tree is put together: it exists everywhere and holds nothing a program needs."""
WORK, OTHER_WORK = "/tmp", "/codeworld"  # noqa: S108  (inside the jail)


class Refused(Exception):  # noqa: N818  (it is an answer, not a fault)
    """A part of the confinement could not be had."""


def needed() -> list[str]:
    """The folders and files Python reads while programs run: library, shared objects, zones."""
    stdlib = os.path.dirname(os.path.abspath(os.__file__))  # noqa: PTH100, PTH120
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123
        loaded = re.findall(r"(/\S+\.so\S*)$", maps.read(), re.MULTILINE)
    folders = {os.path.dirname(path) for path in loaded}  # noqa: PTH120
    # A folder that also holds other things is not bound whole: its objects are loaded already.
    shared = {path for path in folders if "site-packages" not in path and path.count("/") > 2}
    wanted = [stdlib, *shared, "/etc/ld.so.cache", "/usr/share/zoneinfo"]
    return outermost(path for path in wanted if os.path.exists(path))  # noqa: PTH110


def outermost(paths: Iterable[str]) -> list[str]:
    """`paths` without those that lie in another of them, each as it really is on the disk."""
    real = sorted({os.path.realpath(path) for path in paths})
    found: list[str] = []
    for path in real:
        if not any(path.startswith(f"{other}/") for other in found):
            found.append(path)
    return found


def enter_namespaces() -> None:
    """Get a mount tree of our own; as an ordinary user, by way of a user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        syscalls.unshare(syscalls.CLONE_NEWNS)
    else:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        write_maps("/proc/self/", uid, gid, None)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def write_maps(folder: str, uid: int, gid: int, proc: int | None) -> None:
    """Map this one user and group into the new user namespace, under their own numbers."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        place = os.open(folder + name, os.O_WRONLY, dir_fd=proc)
        try:
            os.write(place, text.encode())
        finally:
            os.close(place)


def work_folder(sources: Sequence[str]) -> str:
    """Where each run has its own empty folder: /tmp, unless an interpreter lives below it."""
    taken = any(path == WORK or path.startswith(f"{WORK}/") for path in sources)
    return OTHER_WORK if taken else WORK


def build(
    sources: Sequence[str], *, masked: Sequence[str] = (), program: str | None = None
) -> None:
    """Put the tree together from `sources`, move into it, and let go of the host's.

    `program` is the file that every process there will be of, empty where a script decides that;
    who gives none finds no /proc at all.
    """
    top = MOUNT_POINT
    syscalls.mount("jail", top, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=1m")
    for path in (*sources, *DEVICES):
        bind(path, top + path)
    for link in ("/lib", "/lib64", "/bin", "/sbin"):
        if os.path.islink(link):  # noqa: PTH114
            os.symlink(os.readlink(link), top + link)  # noqa: PTH115, PTH211
    for path in masked:
        if os.path.isdir(top + path):  # noqa: PTH112
            syscalls.mount("nothing", top + path, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=4k")
            syscalls.make_read_only(top + path)
    if program is not None:
        show_machine(f"{top}/proc", program)
    os.mkdir(top + work_folder(sources))  # noqa: PTH102
    syscalls.become_root_of(top)
    syscalls.make_read_only("/", syscalls.ATTR_RDONLY | syscalls.ATTR_NOSUID)


def show_machine(folder: str, program: str) -> None:
    """Of what /proc tells, what runtimes cannot start without: their own place, and processors."""
    os.makedirs(f"{folder}/self")  # noqa: PTH103
    os.symlink("self", f"{folder}/1")  # noqa: PTH211
    if program:
        os.symlink(program, f"{folder}/self/exe")  # noqa: PTH211
    usable = range(len(os.sched_getaffinity(0)))
    idle = "0 0 0 0 0 0 0 0 0 0"
    for name, text in (
        ("stat", "".join(f"cpu{number} {idle}\n" for number in ("", *usable))),
        ("cpuinfo", "".join(f"processor\t: {number}\nmodel name\t: any\n\n" for number in usable)),
    ):
        with open(f"{folder}/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)


def bind(source: str, target: str) -> None:
    """Show `source` at `target`, read-only."""
    if os.path.isdir(source):  # noqa: PTH112
        os.makedirs(target, mode=0o755, exist_ok=True)  # noqa: PTH103
    else:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    syscalls.mount(source, target, None, syscalls.MS_BIND | syscalls.MS_REC)
    if not source.startswith("/dev/"):
        syscalls.make_read_only(target)


def leave_root(*, real_root: bool, keep_reading: bool) -> None:
    """Become nobody when started as root, and give up every capability but that to read.

    Raises `Refused` for a root that cannot be left.
    """
    if real_root:
        if keep_reading:
            syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        except OSError as error:
            raise Refused(f"root cannot become uid {NOBODY}: {error.strerror}") from error
    else:
        keep_reading = False
    syscalls.keep_capabilities(syscalls.CAP_DAC_READ_SEARCH if keep_reading else 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    # Changing the user makes a process one that may not even name its own namespace's users.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)


def is_real_root() -> bool:
    """Root, but not in a user namespace that knows one user only, where root is that user."""
    if os.geteuid() != 0:
        return False
    with open("/proc/self/uid_map", encoding="ascii") as file:  # noqa: PTH123
        rows = [row.split() for row in file]
    return not (len(rows) == 1 and rows[0][2] == "1")


def check_readable(paths: Iterable[str]) -> None:
    """`Refused`, naming the path and the user, when one of `paths` cannot be read."""
    for path in paths:
        try:
            if os.path.isdir(path):  # noqa: PTH112
                os.listdir(path)  # noqa: PTH208
            else:
                os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            raise Refused(
                f"uid {os.geteuid()} cannot read {path}, which programs need: {error.strerror}; "
                "make it readable for others, or use an interpreter that is"
            ) from error
