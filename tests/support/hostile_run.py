"""Tries the hostile programs at one level of isolation and prints what came of each, as JSON lines.

`python hostile_run.py LEVEL [NAME…]`, as root or as an ordinary user. A process of its own, because
it becomes the parent of whatever survives a run.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
from hostile import CLEAN, CLEAN_ANSWER, CORPUS, MORE_NUMBERS, at_level, was_held
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
from scillm_codeworld.sandbox.inside.numbers import TABLES

PR_SET_CHILD_SUBREAPER = 36
LIMITS = Limits(time_s=1.0, memory_mb=256, output_bytes=100_000)
AMPLE = Limits(time_s=20.0, memory_mb=256, output_bytes=100_000)
EXPECTED = "EXPECTED-" + "ANSWER"
SECRET = "s3cret"
NOBODY = 65534


def descendants() -> set[int]:
    """Ids of all living processes below this one."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[0] != "Z":
                parents[int(folder.name)] = int(words[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


async def extra(allowed: int) -> int:
    """How many more processes there are than before any attempt, once all ends are told.

    Which ones they are changes: a sandbox makes the cell of its next run in advance.
    """
    more = len(descendants()) - allowed
    for _ in range(50):
        if more <= 0:
            return 0
        await anyio.sleep(0.02)
        more = len(descendants()) - allowed
    return more


def canaries(folder: Path) -> tuple[dict[str, object], list[object]]:
    """What a program may try to reach, and the objects that keep it there."""
    root = os.geteuid() == 0
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    name = f"codeworld-canary-{os.getpid()}"
    abstract, pathname = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{name}")
    abstract.listen(64)
    pathname.bind(str(folder / "socket"))
    pathname.listen(64)
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagram.bind(f"\0{name}-datagram")
    sleeper = subprocess.Popen(
        ["sleep", "600"],
        env={"KEY": SECRET, "PATH": os.environ.get("PATH", "/usr/bin:/bin")},
        user=NOBODY if root else None,
    )
    time.sleep(0.05)
    maps = Path(f"/proc/{sleeper.pid}/maps").read_text()
    for path in (folder / "file", folder / "victim"):
        path.write_text(SECRET)
    for path in (folder, folder / "socket", folder / "victim"):
        path.chmod(0o777)
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    told: dict[str, object] = {
        "file": str(folder / "file"),
        "victim": str(folder / "victim"),
        "folder": str(folder),
        "tcp": tcp.getsockname()[1],
        "udp": udp.getsockname()[1],
        "abstract": f"@{name}",
        "abstract_datagram": f"@{name}-datagram",
        "unix": str(folder / "socket"),
        "canary": sleeper.pid,
        "address": int(maps.split("-")[0], 16),
        "parent": os.getpid(),
        "host": socket.gethostname(),
        "numbers": {**TABLES[machine], **MORE_NUMBERS[machine]},
    }
    return told, [tcp, udp, abstract, pathname, datagram, sleeper]


async def main(level: str, names: list[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.environ["SCILLM_TEST_SECRET"] = SECRET
    with tempfile.TemporaryDirectory() as place:
        told, keep = canaries(Path(place))
        try:
            async with open_sandbox(require=level, prefer=level) as sandbox:
                assert sandbox.level == level
                await sandbox.run(Program(code=at_level(CLEAN, level)), None, AMPLE)
                await anyio.sleep(0.5)  # until every zygote has made its first cell
                allowed = descendants()
                for attempt in CORPUS:
                    if names and attempt.name not in names:
                        continue
                    started = time.monotonic()
                    # On a busy machine even an honest end takes its time.
                    limits = LIMITS if "timeout" in attempt.ends else AMPLE
                    run = await sandbox.run(
                        Program(code=at_level(attempt.code, level)), told, limits
                    )
                    took_s = time.monotonic() - started
                    survivors = await extra(len(allowed))
                    after = await sandbox.run(Program(code=at_level(CLEAN, level)), told, AMPLE)
                    words = {
                        "name": attempt.name,
                        "held": was_held(
                            attempt,
                            status=run.status,
                            output=run.output,
                            reason=run.reason,
                            wall_s=run.wall_s,
                            level=level,
                        ),
                        "status": run.status,
                        "reason": run.reason[:200],
                        "survivors": survivors,
                        "clean": after.output == CLEAN_ANSWER,
                        "took_s": round(took_s, 2),
                    }
                    print(json.dumps(words), flush=True)
        finally:
            sleeper = keep[-1]
            assert isinstance(sleeper, subprocess.Popen)
            sleeper.kill()
            sleeper.wait()
            for canary in keep[:-1]:
                assert isinstance(canary, socket.socket)
                canary.close()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2:])
