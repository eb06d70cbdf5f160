"""The program's side at level `wasm`: load the code, answer one input. Built into the component.

It is compiled together with `runner.py`; nothing of it runs in the user's process. There is no
file, no socket, no process and no clock to be had here: what asks for one traps, or is told so.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from typing import Any

import runner  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
import wit_world  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

MODULES = """
abc array base64 bisect calendar cmath collections collections.abc colorsys contextlib copy csv
dataclasses datetime decimal difflib enum fractions functools hashlib heapq html io itertools json
keyword locale math numbers operator os pathlib pprint queue random re secrets shlex statistics
string struct tempfile textwrap threading time traceback types typing unicodedata uuid warnings
weakref zlib
"""
DENIED = ("open", "os.", "shutil.", "tempfile.", "glob.", "pathlib.", "_thread.start")
LEFT_OUT = []
for name in MODULES.split():
    try:
        __import__(name)
    except ImportError:
        LEFT_OUT.append(name)


class Absent:
    """Says of every module that is not loaded yet that there is none."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        """Raise `ModuleNotFoundError`."""
        raise ModuleNotFoundError(f"No module named {name!r} at level wasm", name=name)


def deny(event: str, _args: object) -> None:
    """Raise `PermissionError` for what would ask the host, before the platform traps.

    The parser looks for a program's file to show its wrong line, and must be answered too.
    """
    if event.startswith(DENIED):
        raise PermissionError(f"{event}: there are no files, processes or threads at level wasm")


def no_file(*_args: object, **_more: object) -> Any:
    """Raise `FileNotFoundError`: what asking for a file's state does here."""
    raise FileNotFoundError("there are no files at level wasm")


def no_luck(_size: int) -> bytes:
    """Raise `NotImplementedError`, as `os.urandom` does where there is no such source."""
    raise NotImplementedError("there is no source of randomness at level wasm")


class Clock:
    """Seconds that pass only by being asked for, a microsecond each time."""

    now_s = 0.0

    def read(self) -> float:
        """One microsecond more than the last time."""
        self.now_s += 1e-6
        return self.now_s

    def read_ns(self) -> int:
        """As `read`, in nanoseconds."""
        return round(self.read() * 1e9)

    def sleep(self, seconds: Any) -> None:
        """Nothing but the clock moves on."""
        self.now_s += seconds


class TooMuch(BaseException):
    """More was printed than is kept."""


class Head(io.StringIO):
    """Keeps the first characters of what is printed, one more than is allowed, and then stops."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.room = most + 1

    def write(self, text: str) -> int:
        """As `StringIO.write`; raises `TooMuch` for what goes beyond the room."""
        kept = str.__getitem__(text, slice(0, self.room))
        self.room -= len(kept)
        super().write(kept)
        if self.room == 0:
            raise TooMuch("more was printed than is allowed")
        return len(text)


def close_doors(most: int) -> None:
    """Put an answer where the platform has none, so that a program sees an error it can read."""
    clock = Clock()
    for word in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(time, word, clock.read)
        setattr(time, f"{word}_ns", clock.read_ns)
    time.sleep = clock.sleep
    os.stat = os.lstat = os.readlink = no_file
    os.getcwd = lambda: "/"
    os.urandom = no_luck
    sys.addaudithook(deny)
    sys.meta_path[:] = [Absent]
    sys.stdout, sys.stderr = Held.stdout, Held.stderr = Head(most), Head(most)
    for name in ("runner", "guest", "wit_world", "componentize_py_runtime"):
        sys.modules.pop(name, None)


class Held:
    """The program's function, between its loading and its call, and what was printed."""

    function: Any = None
    stdout: Any = None
    stderr: Any = None


def reply(**words: Any) -> str:
    """One JSON text, with what was printed so far."""
    return json.dumps({**words, "stdout": Held.stdout.getvalue(), "stderr": Held.stderr.getvalue()})


def failed(error: BaseException) -> str:
    """The reply for an error the program raised."""
    if isinstance(error, MemoryError):
        return reply(status="memory", reason="the program used up its memory")
    return reply(status="exception", reason=runner.told(error), frames=runner.frames(error))


class WitWorld(wit_world.WitWorld):  # type: ignore[misc]
    """The two functions the component offers."""

    def load(self, request: str) -> str:
        """Load the program; the reply's status is `loaded` or why it cannot be called."""
        order = json.loads(request)
        close_doors(order["output_bytes"])
        try:
            Held.function, words = runner.prepared(order["code"], order["entry"])
        except BaseException as error:  # noqa: BLE001  (whatever a program raises is its result)
            return failed(error)
        return reply(**words)

    def call(self, value: str) -> str:
        """Call the program; the reply's status is `ok` or why there is no answer."""
        try:
            result = Held.function(json.loads(value))
            try:
                line = runner.written(result).decode()
            except (TypeError, ValueError, RecursionError) as error:
                return reply(status="unserialisable", reason=runner.told(error))
            return f'{reply(status="ok")[:-1]}, "output": {line}}}'
        except BaseException as error:  # noqa: BLE001  (whatever a program raises is its result)
            return failed(error)
