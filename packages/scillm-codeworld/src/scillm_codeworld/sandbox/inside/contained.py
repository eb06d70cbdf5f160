"""The far end of a run in somebody's container: watches over one confined child. Run by `-c`.

It stands first in the container's processes and holds the other end of the conversation: when its
stdin is closed, or the child ends, it ends, and with it the container.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import Any

SIGNAL_CODES = 128


def main(runner: Any, confine: Any) -> None:
    """Run one conversation in a child and leave with its exit code."""
    watcher = os.getpid()
    child = os.fork()
    if child == 0:
        converse(runner, confine, watcher)
    os.close(1)
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(0, 0)  # only that its other end was closed
    if not any(number == ended for number, _ in poll.poll()):
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else SIGNAL_CODES - code)


def converse(runner: Any, confine: Any, watcher: int) -> None:
    """The child: answers on what was stdout, prints on stderr. Never returns."""
    code = 1
    try:
        lines = os.fdopen(os.dup(0), "rb")
        answers = os.dup(1)
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        runner.converse(
            lines,
            answers,
            lambda setup: confine.confine(**{**setup, "parent_pid": watcher}),
            (OSError, ValueError, confine.Refused),
        )
        sys.stdout.flush()
        sys.stderr.flush()
        code = 0
    finally:
        os._exit(code)
