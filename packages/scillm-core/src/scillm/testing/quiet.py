"""An import watched in a fresh interpreter: what it did besides defining things."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 120.0

# Runs in the child before anything else is imported; audit events are those of CPython's docs.
SCRIPT = """
import json, os, sys, threading
path, targets = json.loads(sys.stdin.read())
sys.path[:] = path
import importlib, logging
acts = []
WATCHED = {"socket.bind", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system",
           "os.fork", "os.posix_spawn", "os.remove", "os.rename", "os.mkdir"}
def watch(event, arguments):
    if not watching:
        return
    if event in WATCHED:
        acts.append(event)
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        acts.append(f"open for writing {arguments[0]!r}")
    elif event in ("os.putenv", "os.unsetenv"):
        acts.append(f"{event} {arguments[0]!r}")
watching = True
sys.addaudithook(watch)
shown = sys.stdout
class Told:
    def write(self, text):
        if text.strip():
            acts.append(f"printed {text[:80]!r}")
        return len(text)
    def flush(self):
        pass
sys.stdout = Told()
before = dict(os.environ), threading.active_count(), list(logging.getLogger().handlers)
failure = ""
try:
    for target in targets:
        importlib.import_module(target)
except BaseException:
    import traceback
    failure = traceback.format_exc()
watching = False
sys.stdout = shown
if dict(os.environ) != before[0] and not any("env" in act for act in acts):
    acts.append("changed os.environ")
if threading.active_count() != before[1]:
    acts.append("started a thread")
if logging.getLogger().handlers != before[2]:
    acts.append("configured the root logger")
print(json.dumps({"failure": failure, "acts": acts}))
"""


@frozen(kw_only=True)
class Watched:
    """What an import did: its traceback if it failed, and every act that was seen."""

    failure: str
    acts: Sequence[str]


def import_watched(modules: Sequence[str]) -> Watched:
    """Import `modules` in a fresh interpreter, with warnings as errors, and watch.

    The child looks for modules where this process does. Nothing is written to its bytecode cache.
    """
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-B", "-W", "error", "-c", SCRIPT],
        input=json.dumps([sys.path, list(modules)]),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        return Watched(failure=done.stderr or f"exit status {done.returncode}", acts=())
    return Watched(**json.loads(done.stdout.splitlines()[-1]))
