"""The one door to the kernel: what Python's library does not offer, by ctypes. Linux only.

Every function raises `OSError` when the kernel says no, with the name of the call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from scillm_codeworld.sandbox.inside.numbers import TABLES

MACHINE = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine(), platform.machine())
NUMBERS = TABLES.get(MACHINE, {})

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
EVERY_NAMESPACE = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
)
SIGCHLD = 17

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 1, 4, 8, 38
CAPABILITY_V3 = 0x20080522
CAP_DAC_READ_SEARCH = 1 << 2

SECCOMP_SET_MODE_FILTER = 1
LANDLOCK_VERSION = 1
LANDLOCK_PATH_BENEATH = 1
READ_FILE, WRITE_FILE, EXECUTE, READ_DIR = 4, 2, 1, 8
FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of file access each version of Landlock knows; later ones know as many as 5."""
BIND_AND_CONNECT = 0b11
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

_libc = ctypes.CDLL(None, use_errno=True)
# This one keeps the interpreter's lock over the call, so that a clone wakes up holding it.
_held = ctypes.PyDLL(None, use_errno=True)


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _call(name: str, *arguments: int | bytes | ctypes.c_void_p | None) -> int:
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(NUMBERS[name]), *words), name)


def clone(flags: int) -> int:
    """Fork into new namespaces: the child's id in the parent, 0 in the child."""
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _held.syscall(
        ctypes.c_long(NUMBERS["clone"]), ctypes.c_long(flags | SIGCHLD), None, None, None, None
    )
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    return _checked(int(pid), "clone")


def unshare(flags: int) -> None:
    """Leave the shared namespaces named by `flags`."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _checked(result, f"mount {target}")


def make_read_only(path: str, flags: int = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV) -> None:
    """Nothing below the mount at `path` can be written any more, submounts included."""
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    _call("mount_setattr", AT_FDCWD, path.encode(), AT_RECURSIVE, attributes, len(attributes))


def become_root_of(path: str) -> None:
    """Make the mount at `path` the root, and let go of all the rest."""
    os.chdir(path)
    _call("pivot_root", b".", b".")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def set_host_name(name: str) -> None:
    """The host's name as this process sees it."""
    _checked(_libc.sethostname(name.encode(), len(name)), "sethostname")


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def keep_capabilities(kept: int) -> None:
    """Give up every capability but those of `kept` (bits below 32)."""
    header = struct.pack("=II", CAPABILITY_V3, 0)
    # Two halves of effective, permitted, inheritable; the kept bits lie in the lower half.
    data = struct.pack("=6I", kept, kept, 0, 0, 0, 0)
    _checked(_libc.capset(header, data), "capset")


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 where there is none."""
    try:
        return _call("landlock_create_ruleset", None, 0, LANDLOCK_VERSION)
    except OSError:
        return 0


def landlock_rules(version: int) -> int:
    """An empty ruleset that handles all that `version` knows, as a descriptor."""
    fs = (1 << FS_BITS[min(version, 5)]) - 1
    attributes = struct.pack("=Q", fs)
    if version >= 4:
        attributes += struct.pack("=Q", BIND_AND_CONNECT)
    if version >= 6:
        attributes += struct.pack("=Q", ABSTRACT_SOCKETS_AND_SIGNALS)
    return _call("landlock_create_ruleset", attributes, len(attributes), 0)


def landlock_everything(version: int) -> int:
    """All kinds of file access `version` knows."""
    return (1 << FS_BITS[min(version, 5)]) - 1


def landlock_allow(rules: int, path: str, access: int) -> None:
    """Allow `access` on `path` and below it."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _call(
            "landlock_add_rule", rules, LANDLOCK_PATH_BENEATH, struct.pack("=Qi", access, place), 0
        )
    finally:
        os.close(place)


def landlock_enforce(rules: int) -> None:
    """Bind this process to `rules`, for good."""
    _call("landlock_restrict_self", rules, 0)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("words", ctypes.c_char_p))


def enforce_filter(code: bytes) -> None:
    """Bind this process to the system-call filter `code`, for good."""
    program = _Program(len(code) // 8, code)
    pointer = ctypes.cast(ctypes.pointer(program), ctypes.c_void_p)
    _call("seccomp", SECCOMP_SET_MODE_FILTER, 0, pointer)
