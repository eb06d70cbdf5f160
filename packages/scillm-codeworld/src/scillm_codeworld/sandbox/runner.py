"""The child's side of the conversation: confine, load the code, answer one input. Run by path.

It reads JSON lines from what was its stdin (setup, program, input) and answers each with one JSON
line on its own pipe, so that nothing a program prints can be taken for an answer. It is never told
what answer is expected.
"""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import Any

REASON_CHARS = 500
NAME = "variant"
OUT_OF_MEMORY = b'{"status": "memory", "reason": "the program used up its memory"}\n'


def send(pipe: int, line: bytes) -> None:
    """Write all of `line`."""
    view = memoryview(line)
    while view:
        view = view[os.write(pipe, view) :]


def say(pipe: int, **words: Any) -> None:
    """Send `words` as one line."""
    send(pipe, json.dumps(words).encode() + b"\n")


def told(error: BaseException) -> str:
    """Type, message and the last place in the program's own code, of an error it raised."""
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001  (the program's own class may raise anything here)
        message = "(its message cannot be shown)"
    where, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == NAME:
            where = f" (line {trace.tb_lineno})"
        trace = trace.tb_next
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text[:REASON_CHARS] + where


def loaded(pipe: int, code: str, entry: str) -> Any:
    """The function `entry` of the program, or None after saying why there is none."""
    try:
        compiled = compile(code, NAME, "exec")
    except SyntaxError as error:
        say(pipe, status="syntax_error", reason=f"{error.msg} (line {error.lineno})")
        return None
    except (ValueError, RecursionError, OverflowError) as error:
        say(pipe, status="syntax_error", reason=told(error))
        return None
    module = ModuleType(NAME)
    sys.modules[NAME] = module  # dataclasses and pickle look their module up there
    exec(compiled, module.__dict__)  # noqa: S102  (running it is the purpose)
    function = module.__dict__.get(entry)
    if callable(function):
        return function
    have = sorted(key for key, value in module.__dict__.items() if isinstance(value, type(told)))
    say(
        pipe,
        status="no_entry_point",
        reason=f"the code defines no function {entry!r}; it defines {', '.join(have) or 'none'}",
    )
    return None


def written(value: Any) -> bytes:
    """`value` as JSON; ValueError, TypeError or RecursionError when it is not plain JSON."""
    text = json.dumps(value, allow_nan=False)
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            odd = [key for key in found if not isinstance(key, str)]
            if odd:  # json would turn 1 into "1", which is another answer
                raise TypeError(f"the answer has the key {odd[0]!r}, which is not a string")
            waiting += found.values()
        elif isinstance(found, (list, tuple)):
            waiting += found
    return text.encode()


def answer(pipe: int, function: Any, value: Any) -> None:
    """Call the program and say what came out."""
    result = function(value)
    try:
        line = written(result)
    except (TypeError, ValueError, RecursionError) as error:
        say(pipe, status="unserialisable", reason=told(error))
        return
    send(pipe, b'{"status": "ok", "output": ' + line + b"}\n")


def confined(pipe: int, setup: dict[str, Any]) -> bool:
    """Put the limits on and say which; False after saying why they could not be."""
    # The folder is on the path only for this import: a program must not find our modules.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    try:
        confine = __import__("confine")
    except ImportError as error:
        say(pipe, status="sandbox_refused", reason=told(error))
        return False
    finally:
        del sys.path[0]
    try:
        say(pipe, status="ready", isolation=confine.confine(**setup))
    except (OSError, ValueError, confine.Refused) as error:
        say(pipe, status="sandbox_refused", reason=told(error))
        return False
    return True


def converse(lines: Any, pipe: int) -> None:
    """The whole conversation."""
    if not confined(pipe, json.loads(lines.readline())):
        return
    program = json.loads(lines.readline())
    try:
        function = loaded(pipe, program["code"], program["entry"])
        if function is None:
            return
        say(pipe, status="loaded")
        answer(pipe, function, json.loads(lines.readline()))
    except MemoryError:
        send(pipe, OUT_OF_MEMORY)
    except BaseException as error:  # noqa: BLE001  (whatever a program raises is its result)
        say(pipe, status="exception", reason=told(error))


def main() -> None:
    """Take the pipes over, converse, and leave without running the program's exit handlers."""
    pipe = int(sys.argv[1])
    lines = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if sys.version_info < (3, 11):  # -P keeps the script's folder off the path from 3.11 on
        del sys.path[0]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        converse(lines, pipe)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
