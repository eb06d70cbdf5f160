"""The restricted child: puts its walls on, then runs one program. Standard library only.

Run by path. Its first line of input says what to run and what may be read. It answers on descriptor
2 only when it refuses; what the program prints goes straight to 1 and 2. It is run on a leash: what
the program leaves is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
import time
from typing import Any

REFUSED, LATE = 97, 98
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
MOST_PAUSE_S = 0.02


def libc() -> Any:
    """The C library."""
    return ctypes.CDLL(None, use_errno=True)


def own_namespaces(c: Any) -> bool:
    """Processes, network and shared memory of its own from the next fork on."""
    flags = NEW_PID | NEW_NET | NEW_IPC
    if os.geteuid() != 0:
        flags |= NEW_USER
    return bool(c.unshare(flags) == 0)


def landlock(c: Any, readable: list[str], writable: list[str]) -> int:
    """See only these paths from now on; the version of Landlock, or 0 when there is none."""
    abi = int(c.syscall(CREATE_RULESET, None, 0, 1))
    if abi < 1:
        return 0
    known = (1 << (13 + (abi >= 2) + (abi >= 3) + (abi >= 5))) - 1
    rules = struct.pack("QQQ", known, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = int(c.syscall(CREATE_RULESET, rules, size, 0))
    if ruleset < 0:
        return 0
    for paths, right in ((readable, EXECUTE | READ_FILE | READ_DIR), (writable, known)):
        for path in paths:
            allow(c, ruleset, path, right)
    c.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if c.syscall(RESTRICT_SELF, ruleset, 0) != 0:
        return 0
    os.close(ruleset)
    return abi


def allow(c: Any, ruleset: int, path: str, right: int) -> None:
    """Let what is at `path` be used."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there cannot be reached either
    if not os.path.isdir(path):  # noqa: PTH112  (pathlib costs a tenth of the start)
        right &= EXECUTE | WRITE_FILE | READ_FILE
    c.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", right, place), 0)
    os.close(place)


def limit(order: dict[str, Any]) -> None:
    """Put the limits on that the kernel counts."""
    seconds, memory = int(order["time_s"]) + 1, int(order["memory_bytes"])
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_FSIZE, 64 << 20),
        (resource.RLIMIT_DATA, memory),
    ):
        hard = resource.getrlimit(kind)[1]
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (ceiling, ceiling))


def inside(c: Any, order: dict[str, Any], namespaces: bool) -> None:
    """In the child: wall up, then become the program."""
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    limit(order)
    abi = landlock(c, order["readable"], order["writable"])
    if not abi:
        os.write(2, b"this kernel has no Landlock, so files could not be kept from the program")
        os._exit(REFUSED)
    if os.geteuid() == 0:
        c.capset(struct.pack("Ii", 0x20080522, 0), bytes(24))
    held = f"landlock/{abi}, " + ("own network and processes" if namespaces else "shared network")
    env = {"PATH": "/usr/bin:/bin", "HOME": order["cwd"], "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    env["SCILLM_HELD_BY"] = held
    os.chdir(order["cwd"])
    os.execve(order["argv"][0], order["argv"], env)  # noqa: S606


def main() -> int:
    """Read the order, start the program, wait for it."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65_536)
        if not piece:
            return REFUSED
        line += piece
    order = json.loads(line)
    c = libc()
    c.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    namespaces = own_namespaces(c)
    child = os.fork()
    if child == 0:
        try:
            inside(c, order, namespaces)
        except BaseException as error:  # noqa: BLE001  (it must not go on as a second parent)
            os.write(2, f"the program could not be started: {error}".encode())
        os._exit(REFUSED)
    return awaited(child, time.monotonic() + order["time_s"])


def awaited(child: int, deadline: float) -> int:
    """The program's exit code; it is killed when its time is up."""
    pause_s = 0.001
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            # With the first of its processes the kernel ends all others, before this returns.
            os.waitpid(child, 0)
            return LATE
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, MOST_PAUSE_S)


if __name__ == "__main__":
    sys.exit(main())
