"""The self-probe: a program that tries the doors from inside, and what its findings mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.records import Limits

from scillm_codeworld.records import Program
from scillm_codeworld.sandbox.levels import L2, L3, L4

if TYPE_CHECKING:
    from scillm.records import Json

PROBE_LIMITS = Limits(time_s=20.0, memory_mb=256, output_bytes=100_000)

CODE = '''
import os, socket

def seen(attempt):
    """What came of it: `open`, or the name of the error."""
    try:
        attempt()
    except BaseException as error:
        return type(error).__name__
    return "open"

def forked():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

def written():
    name = "/var/tmp/codeworld-probe-%d" % os.getpid()
    open(name, "w").close()
    os.unlink(name)

def unshared():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) != 0:
        raise PermissionError(ctypes.get_errno())

def solve(_):
    return {
        "host files": seen(lambda: open("/etc/passwd").close()),
        "host processes": seen(lambda: open("/proc/1/status").close()),
        "system folder": seen(lambda: os.listdir("/sys/kernel")),
        "write": seen(written),
        "internet socket": seen(lambda: socket.socket(socket.AF_INET).close()),
        "unix socket": seen(lambda: socket.socket(socket.AF_UNIX).close()),
        "new process": seen(forked),
        "new namespace": seen(unshared),
        "signal the parent": seen(lambda: os.kill(os.getppid() or -1, 0)),
        "first of its processes": os.getpid() == 1,
        "uid": os.getuid(),
    }
'''

PROBE = Program(code=CODE)

WASM_CODE = '''
import os, sys, time

def seen(attempt):
    """What came of it: `open`, or the name of the error."""
    try:
        attempt()
    except BaseException as error:
        return type(error).__name__
    return "open"

def solve(_):
    return {
        "platform": sys.platform,
        "host files": seen(lambda: open("/etc/passwd").close()),
        "sockets": seen(lambda: __import__("socket")),
        "foreign functions": seen(lambda: __import__("ctypes")),
        "new process": seen(lambda: os.fork()),
        "environment": "open" if os.environ else "empty",
        "clock": "open" if time.time() > 1e6 else "its own",
    }
'''
"""At level wasm what has no answer ends the run: these are the doors a program can knock at."""
WASM_PROBE = Program(code=WASM_CODE)

CLOSED: Mapping[str, Sequence[str]] = {
    L2: (
        "host files",
        "host processes",
        "system folder",
        "write",
        "internet socket",
        "unix socket",
        "new process",
        "new namespace",
        "signal the parent",
    ),
}


def shortfall(level: str, observed: Mapping[str, Json]) -> str | None:
    """What of `observed` is less than `level` promises, or None when it keeps its word."""
    open_ones = [name for name in CLOSED[L2] if observed.get(name, "open") == "open"]
    if level in (L3, L4) and not observed.get("first of its processes"):
        open_ones.append("a process namespace of its own")
    return f"{level}: the probe found open: {', '.join(open_ones)}" if open_ones else None


def wasm_shortfall(observed: Mapping[str, Json]) -> str | None:
    """What of `observed` is less than level wasm promises, or None when it keeps its word."""
    open_ones = [name for name, found in observed.items() if found == "open"]
    if observed.get("platform") != "wasi":
        open_ones.append("the platform")
    return f"wasm: the probe found open: {', '.join(open_ones)}" if open_ones else None
