"""Turns a confined child into another program: settled, its pipes in place, exec."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from scillm_codeworld.sandbox import runner
from scillm_codeworld.sandbox.inside import cell

CHUNK_BYTES = 1 << 20
NO_PROGRAM = 127
"""The exit code shells have for it."""


def become(
    settle: Callable[[dict[str, Any]], dict[str, Any]], refusals: tuple[type[Exception], ...]
) -> None:
    """Settle, take the program over, and become it: input on its stdin, answer on its stdout.

    What is read is not a byte more than meant for us: the rest of the pipe is the program's input.
    """
    if not settled(settle, refusals):
        return
    order = json.loads(line())
    place = os.open(order["file"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    left = order["size"]
    while left:
        chunk = os.read(cell.INPUT, min(left, CHUNK_BYTES))
        if not chunk:
            return
        runner.send(place, chunk)
        left -= len(chunk)
    os.close(place)
    runner.say(cell.ANSWERS, status="loaded")
    start(order)


def keep(
    settle: Callable[[dict[str, Any]], dict[str, Any]], refusals: tuple[type[Exception], ...]
) -> None:
    """Settle, and become a program that is here already, for as long as it is asked."""
    if not settled(settle, refusals):
        return
    order = json.loads(line())
    # Closed by the program's start, and by that alone: who waits at its other end learns of it.
    starting = os.dup(1)
    try:
        start(order)
    except OSError as error:
        os.write(starting, f"{order['argv'][0]} cannot be started: {error.strerror}".encode())
        os._exit(NO_PROGRAM)


def settled(
    settle: Callable[[dict[str, Any]], dict[str, Any]], refusals: tuple[type[Exception], ...]
) -> bool:
    """Put on what the first line says, and tell what was put on, or that it could not be."""
    try:
        isolation = settle(json.loads(line()))
    except refusals as error:
        runner.say(cell.ANSWERS, status="sandbox_refused", reason=runner.told(error))
        return False
    runner.say(cell.ANSWERS, status="ready", isolation=isolation)
    return True


def start(order: dict[str, Any]) -> None:
    """Become the program of `order`; `OSError` when the system does not start it."""
    os.dup2(cell.INPUT, 0)
    os.dup2(cell.ANSWERS, 1)
    os.execve(order["argv"][0], order["argv"], order["environment"])  # noqa: S606


def line() -> bytes:
    """One line of the input, byte by byte."""
    found = b""
    while not found.endswith(b"\n"):
        byte = os.read(cell.INPUT, 1)
        if not byte:
            break
        found += byte
    return found
